"""Sessions that run on this machine: ``terminate``."""

from __future__ import annotations

import click

from dyff_dagster.cli.options import open_store, storage_option
from dyff_dagster.schema.errors import DyffError


@click.command(short_help="End a session that runs on this machine.")
@click.argument("entity_id", metavar="ID")
@storage_option
def terminate(entity_id: str, storage: str) -> None:
    """End the InferenceSession ID that runs on this machine, before its deadline."""
    from dyff_dagster.sessions import end_session
    from dyff_dagster.store import local_path

    store = open_store(storage)
    if not store.local:
        raise DyffError(f"{store.root} is no local directory: a session is ended where it was started")
    ended = end_session(local_path(store.working(entity_id)) / "session")
    click.echo(f"{entity_id}: ended" if ended else f"{entity_id}: no session runs")
