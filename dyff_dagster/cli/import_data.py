"""``dyff-dagster import-data``: your own rows into a catalog."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("import-data", short_help="Turn your own rows into a Dataset.")
@click.argument("source")
@click.option("--id", "entity_id", help="Id of the data set; default: the file's name.")
@click.option("--name", help="A name for people; default: the file's name.")
@click.option("--account", required=True, help="The account that owns the data set.")
@click.option(
    "--withhold",
    help="Fields that no service may see (labels, names), comma separated; '' for none.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="the current directory",
    help="The catalog to add it to: a directory named after the id is made there.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier import of the same id.")
def import_data(
    source: str,
    entity_id: str | None,
    name: str | None,
    account: str,
    withhold: str | None,
    out: Path,
    overwrite: bool,
) -> None:
    """Turn your own rows (CSV, JSON Lines or Parquet) into a Dataset: Parquet, and a manifest beside it.

    SOURCE is a file, a directory or an archive of files of one kind, a URL, hf:ORG/NAME@REVISION/PATTERN for files of a
    data set on the Hugging Face Hub, or zenodo:DOI/files/PATTERN for files of a record of Zenodo.
    """
    from dyff_dagster.sources import import_data as run

    imported = run(
        source,
        id=entity_id,
        account=account,
        name=name,
        withhold=None if withhold is None else [part.strip() for part in withhold.split(",") if part.strip()],
        out=out,
        overwrite=overwrite,
    )
    click.echo(f"{imported.rows} rows in {imported.parquet}")
    click.echo(f"manifest: {imported.manifest}")
