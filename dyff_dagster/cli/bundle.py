"""Results for others to check: ``bundle``, ``verify``, ``keygen``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dyff_dagster.cli.options import catalog_option, load_catalog, open_store, storage_option
from dyff_dagster.cli.terminal import table_console

if TYPE_CHECKING:
    from dyff_dagster.audits.bundle import Verification

_passphrase_option = click.option(
    "--passphrase-env",
    metavar="NAME",
    help="Environment variable with the passphrase of the private key.",
)


@click.command()
@click.argument("entity_id", metavar="ID")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: ID.bundle.zip in the current directory]",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Private key to sign with (see keygen). Without one the bundle proves nothing.",
)
@_passphrase_option
@click.option(
    "--with-data",
    is_flag=True,
    help="Put in rows, answers, models and sources too, also what is withheld from services.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already.")
@catalog_option
@storage_option
@click.option("--json", "as_json", is_flag=True, help="What was written as a JSON object.")
def bundle(
    entity_id: str,
    out: Path | None,
    key: Path | None,
    passphrase_env: str | None,
    with_data: bool,
    overwrite: bool,
    catalog: str,
    storage: str,
    as_json: bool,
) -> None:
    """Write an entity and everything upstream of it into one signed file that others can check.

    ID may be FAMILY@MEMBER, as in manifests. In the file are entities, commits, digests, measurements, scores, pages
    and code. Raw data stay where they are, unless --with-data is said.
    """
    from dyff_dagster.audits.bundle import open_to_others, read_private_key, write_bundle

    private = None
    if key is not None:
        private = read_private_key(key, passphrase_env)
        if open_to_others(key) and passphrase_env is None:
            click.echo(f"warning: other accounts may read {key}; chmod 600 it", err=True)
    loaded = load_catalog(catalog)
    entity_id = loaded.id_of(entity_id)
    written = write_bundle(
        entity_id,
        loaded,
        open_store(storage),
        out or Path(f"{entity_id}.bundle.zip"),
        key=private,
        with_data=with_data,
        overwrite=overwrite,
    )
    if not written.signed:
        click.echo("warning: it is not signed, so it proves nothing; sign it with --key", err=True)
    if as_json:
        made = {
            "path": str(written.path),
            "sha256": written.sha256,
            "size": written.size,
            "files": written.files,
            "entities": written.entities,
            "signed": written.signed,
            "leftOut": {
                name: {"files": list(item.files), "why": item.why} for name, item in written.left_out.items()
            },
        }
        click.echo(json.dumps(made, indent=1, ensure_ascii=False))
        return
    click.echo(
        f"{written.path}: {written.entities} entities, {written.files} files, {written.size:,} bytes, "
        f"SHA-256 {written.sha256}"
    )
    for name, item in written.left_out.items():
        count = "1 file" if len(item.files) == 1 else f"{len(item.files)} files"
        click.echo(f"left out: {count} of {name}: {item.why}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key of whoever you trust to have signed it, from elsewhere than the bundle.",
)
@click.option(
    "--execute",
    is_flag=True,
    help="Run the code in it as well. It runs as you: do so only if you trust its author.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds for each analysis that is run."
)
@click.option("--json", "as_json", is_flag=True, help="All findings as a JSON object.")
def verify(file: Path, key: Path, execute: bool, timeout: float | None, as_json: bool) -> None:
    """Check a bundle: signature, digests, provenance, and the scores, which are made again.

    Needs no catalog, no storage and no network. The exit status is 0 only where all holds.
    """
    from dyff_dagster.audits.bundle import read_public_key, verify_bundle

    found = verify_bundle(file, read_public_key(key), execute=execute, timeout=timeout)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        _print(found)
    if not found.holds:
        sys.exit(1)


@click.command()
@click.option(
    "--out",
    "name",
    required=True,
    type=click.Path(path_type=Path),
    help="NAME makes NAME.pem, the private key, and NAME.pub.pem, the public one.",
)
@_passphrase_option
def keygen(name: Path, passphrase_env: str | None) -> None:
    """Make a pair of Ed25519 keys: the private one signs bundles, the public one verifies them."""
    from dyff_dagster.audits.bundle import fingerprint, make_keys, read_public_key

    private, public = make_keys(name, passphrase_env)
    click.echo(f"private key {private}: keep it, and let nobody read it")
    click.echo(f"public key {public}: give it to whoever is to verify, by another way than your bundles")
    click.echo(f"fingerprint {fingerprint(read_public_key(public))}")


def _print(found: Verification) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = table_console(highlight=False)
    colours = {"holds": "green", "recomputed": "green", "skipped": "yellow", "asserted": "yellow"}
    checks = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "result", "of what"):
        checks.add_column(heading, overflow="fold")
    for check in found.checks:
        checks.add_row(
            check.name, Text(check.state, style=colours.get(check.state, "red")), Text(check.summary)
        )
    console.print(checks)
    for check in found.checks:
        for sentence in check.faults:
            console.print(Text(f"✗ {sentence}", style="red"), soft_wrap=True)
        for sentence in check.notes:
            console.print(Text(f"· {sentence}"), soft_wrap=True)
    if found.scores:
        scores = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("entity", "score", "value [interval]", "n", "result", "why"):
            scores.add_column(Text(heading), overflow="fold")
        for score in found.scores:
            value = "undefined" if score.value is None else f"{score.value:.6g}"
            if score.low is not None and score.high is not None:
                value += f" [{score.low:.6g}, {score.high:.6g}]"
            scores.add_row(
                Text(score.entity),
                Text(score.name),
                Text(value),
                "" if score.n is None else str(score.n),
                Text(score.verdict, style=colours.get(score.verdict, "red")),
                Text(score.why),
            )
        console.print(scores)
    for name, why in found.left_out.items():
        console.print(Text(f"· left out of {name}: {why}"), soft_wrap=True)
    console.print(Text(f"key {found.key}"), soft_wrap=True)
    subject = found.subject or found.path
    asserted = sum(score.verdict == "asserted" for score in found.scores)
    if found.holds:
        but = f", and {asserted} of {len(found.scores)} scores are asserted only" if asserted else ""
        console.print(Text(f"{subject}: all holds{but}", style="bold green"), soft_wrap=True)
    else:
        console.print(Text(f"{subject}: does not hold", style="bold red"), soft_wrap=True)
