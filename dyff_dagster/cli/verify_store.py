"""``dyff-dagster verify-store``: is every byte as it was committed?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from dyff_dagster.cli.options import open_store, storage_option
from dyff_dagster.cli.terminal import counted
from dyff_dagster.schema.errors import DyffError


@click.command("verify-store", short_help="Read every committed file again, and compare its digests.")
@click.argument("entity_ids", metavar="[ID]...", nargs=-1)
@storage_option
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@click.pass_context
def verify_store(context: click.Context, entity_ids: tuple[str, ...], storage: str, as_json: bool) -> None:
    """Read every file of every committed version again, and compare it with the SHA-256, the MD5 and the size that it
    was committed with; name each that is missing, surplus, or differs. Nothing is written.

    The exit status is 0 only where all is as it was committed.
    """
    from dyff_dagster.store.verification import verify

    store = open_store(storage)
    known = set(store.entity_ids())
    for entity_id in entity_ids:
        if entity_id not in known:
            raise DyffError(
                f"{store.root} has nothing of {entity_id}: name an entity that was materialized there"
            )
    with _bar() as tell:
        verified = verify(store, entity_ids or None, tell)
    if not verified.versions and not verified.findings:
        raise DyffError(f"{store.root} has no committed version: name the storage with --storage")
    if as_json:
        click.echo(json.dumps(verified.to_json(), indent=1))
    else:
        for finding in verified.findings:
            click.echo(str(finding))
        counts = (
            counted(verified.entities, "entity", "entities"),
            counted(verified.versions, "version", "versions"),
            counted(verified.files, "file", "files"),
        )
        wrong = len(verified.findings)
        said = f"{wrong} not as committed" if wrong else "all as committed"
        click.echo(f"{', '.join(counts)}, {verified.bytes:,} bytes: {said}")
    if verified.findings:
        context.exit(1)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, on standard error; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("verify", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
