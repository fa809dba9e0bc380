"""``dyff-dagster import-eval``: what another harness has run, to be judged here."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("import-eval", short_help="Turn a log of Inspect or lm-eval into an Evaluation.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--id", "entity_id", help="Id of the Evaluation; default: the file's name.")
@click.option("--account", required=True, help="The account that owns it.")
@click.option(
    "--dataset", help="Id of the Dataset; default: ID-rows. One that is there must have the same rows."
)
@click.option("--service", help="Id of the InferenceService; default: the model's name.")
@click.option(
    "--max-failed-rows",
    type=click.IntRange(0),
    help="How many answers may be missing; default: none, and the Evaluation fails where one is.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="the current directory",
    help="The catalog to add it to: three directories are made there.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier import of the same id.")
def import_eval(
    file: Path,
    entity_id: str | None,
    account: str,
    dataset: str | None,
    service: str | None,
    max_failed_rows: int | None,
    out: Path,
    overwrite: bool,
) -> None:
    """Turn what another harness has run into a Dataset and an Evaluation that is never asked again.

    FILE is a log of Inspect (.eval or .json; needs the extra 'inspect'), or lm-eval's samples (.jsonl). Its epochs
    become replications; a sample that errored there is missing, and never wrong.
    """
    from dyff_dagster.sources import import_eval as run

    made = run(
        file,
        id=entity_id,
        account=account,
        dataset=dataset,
        service=service,
        max_failed_rows=max_failed_rows,
        out=out,
        overwrite=overwrite,
    )
    click.echo(f"{made.answered} answers: {made.rows} rows, each asked {made.replications} times")
    for kind, number in made.errors.items():
        click.echo(f"missing: {number} ({kind})")
    if made.missing and (max_failed_rows is None or made.missing > max_failed_rows):
        click.echo(f"The Evaluation will fail unless --max-failed-rows {made.missing} allows that.")
    for manifest in made.manifests:
        click.echo(f"manifest: {manifest}")
