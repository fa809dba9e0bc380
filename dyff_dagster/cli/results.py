"""What stands in the store: ``status``, ``open``, ``serve-pages``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dyff_dagster.cli.instance import open_instance
from dyff_dagster.cli.options import catalog_option, load_catalog, open_store, storage_option
from dyff_dagster.cli.terminal import table_console
from dyff_dagster.schema.errors import DyffError

if TYPE_CHECKING:
    from rich.table import Table

    from dyff_dagster.orchestration.status import EntityState
    from dyff_dagster.store import Store

_SECONDS_BETWEEN_LOOKS = 3.0


@click.command(short_help="Show where everything stands, with scores and failed checks.")
@click.argument("entity_ids", metavar="[ID]...", nargs=-1)
@catalog_option
@storage_option
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until it is interrupted.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def status(entity_ids: tuple[str, ...], catalog: str, storage: str, watch: bool, as_json: bool) -> None:
    """Show where each entity stands: status and reason, since when, its headline score with interval; and the pages.

    What has failed, and what waits for what, is read from the Dagster instance that DAGSTER_HOME names; without one,
    the storage root alone is asked, which knows what was computed and nothing else.
    """
    store = open_store(storage)
    if as_json:
        states = _states(entity_ids, catalog, store)
        click.echo(json.dumps([state.to_json() for state in states], indent=1))
        return
    console = table_console()
    if not watch:
        states = _states(entity_ids, catalog, store)
        console.print(_table(states))
        _list_pages(states)
        return
    import time

    from rich.live import Live

    with Live(console=console, screen=False, auto_refresh=False) as live:
        while True:
            live.update(_table(_states(entity_ids, catalog, store)), refresh=True)
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _states(entity_ids: tuple[str, ...], catalog: str, store: Store) -> list[EntityState]:
    from dyff_dagster.orchestration.status import entity_states, removed_states

    loaded = load_catalog(catalog)
    with open_instance() as instance:
        removed = removed_states(loaded, store, instance) if instance is not None else []
        gone = {state.id for state in removed}
        for entity_id in entity_ids:
            if entity_id not in gone:
                loaded.get(entity_id)  # says what there is, where there is no such entity
        states = entity_states(loaded, store, os.environ.get("DYFF_PAGES_URL"), instance, entity_ids or None)
    return states + [state for state in removed if not entity_ids or state.id in entity_ids]


def _list_pages(states: Sequence[EntityState]) -> None:
    """The pages, each whole on a line of its own, to be copied or clicked."""
    pages = {state.id: state.page for state in states if state.page}
    if pages:
        width = max(map(len, pages))
        click.echo("Pages:")
        for entity_id, page in pages.items():
            click.echo(f"  {entity_id:{width}}  {page}")


def _table(states: Sequence[EntityState]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("entity", style="bold", overflow="fold")
    table.add_column("kind")
    table.add_column("status")
    table.add_column("since", no_wrap=True)
    table.add_column("headline score [95 % interval]", overflow="fold")
    colours = {
        "Ready": "green",
        "Complete": "green",
        "Admitted": "cyan",
        "Created": "yellow",
        "Stale": "yellow",
        "Terminated": "dim",
        "Deleted": "dim",
    }
    for state in states:
        colour = colours.get(state.status, "red")
        failed = f" [red]✗ {', '.join(state.failed_checks)}[/red]" if state.failed_checks else ""
        why = ""
        if state.reason:
            behind = f" ({escape(state.cause)})" if state.cause else ""
            why = f"\n[dim]{state.reason}{behind}[/dim]"
        table.add_row(
            state.id,
            state.kind,
            f"[{colour}]{state.status}[/{colour}]{why}",
            f"{state.since.astimezone():%m-%d %H:%M}" if state.since else "",
            (escape(str(state.headline)) if state.headline else "") + failed,
        )
    return table


@click.command("open")
@click.argument("entity_id", metavar="ID")
@storage_option
def open_page(entity_id: str, storage: str) -> None:
    """Open an entity's page in the browser; prints where it is."""
    store = open_store(storage)
    commit = store.current(entity_id)
    if commit is None:
        raise DyffError(f"{entity_id} was never materialized in {store.root}: materialize it first")
    if commit.facts.page is None:
        raise DyffError(
            f"{entity_id} is of kind {commit.kind} and has no page: its files are in {commit.path}"
        )
    base = os.environ.get("DYFF_PAGES_URL")
    if base:
        url = f"{base.rstrip('/')}/{entity_id}/"
    else:
        url = (store.on_disk(commit) / commit.facts.page).as_uri()
    click.echo(url)
    click.launch(url)


@click.command("serve-pages", short_help="Serve safety cases, notebooks and rows, read-only.")
@storage_option
@click.option(
    "--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; loopback only.")
def serve_pages(storage: str, port: int, host: str) -> None:
    """Serve safety cases, executed notebooks and rows of tables, read-only, to browsers of this machine.

    Set DYFF_PAGES_URL to the address that it prints, and Dagster's UI links to the pages.
    """
    from dyff_dagster.analysis.page_server import PageServer

    server = PageServer(open_store(storage), host=host, port=port)
    server.run(on_start=lambda url: click.echo(f"pages at {url}"))
