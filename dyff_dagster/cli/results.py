"""What stands in the store: ``status``, ``open``, ``serve-pages``."""

from __future__ import annotations

import json
import os

import click

from dyff_dagster.cli.options import catalog_option, load_catalog, open_store, storage_option
from dyff_dagster.schema.errors import DyffError


@click.command(short_help="Show what is computed, with scores and failed checks.")
@catalog_option
@storage_option
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def status(catalog: str, storage: str, as_json: bool) -> None:
    """Show what stands: each entity, its status, its headline score with interval, and its page."""
    from dyff_dagster.orchestration.status import entity_states

    states = entity_states(load_catalog(catalog), open_store(storage), os.environ.get("DYFF_PAGES_URL"))
    if as_json:
        click.echo(json.dumps([state.to_json() for state in states], indent=1))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    # Names are what people copy: they are not cut, and what is left over is the scores'.
    for name in ("entity", "kind", "status"):
        table.add_column(name, no_wrap=True, style="bold" if name == "entity" else "")
    table.add_column("headline score [95 % interval]", overflow="fold")
    colours = {"Ready": "green", "Complete": "green", "Created": "yellow", "Stale": "yellow"}
    for state in states:
        colour = colours.get(state.status, "red")
        failed = f" [red]✗ {', '.join(state.failed_checks)}[/red]" if state.failed_checks else ""
        table.add_row(
            state.id,
            state.kind,
            f"[{colour}]{state.status}[/{colour}]",
            (str(state.headline).replace("[", "\\[") if state.headline else "") + failed,
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
    if pages := [(state.id, state.page) for state in states if state.page]:
        width = max(len(entity_id) for entity_id, _ in pages)
        click.echo("Pages:")
        for (
            entity_id,
            page,
        ) in pages:  # whole lines, however narrow the terminal: a path that is cut cannot be opened
            click.echo(f"  {entity_id:<{width}}  {page}")


@click.command("open")
@click.argument("entity_id", metavar="ID")
@storage_option
def open_page(entity_id: str, storage: str) -> None:
    """Open an entity's page in the browser; prints where it is."""
    from dyff_dagster.store import local_path

    store = open_store(storage)
    commit = store.current(entity_id)
    if commit is None:
        raise DyffError(f"{entity_id} was never materialized in {store.root}: materialize it first")
    if commit.facts.page is None:
        raise DyffError(
            f"{entity_id} is of kind {commit.kind} and has no page: its files are in {commit.path}"
        )
    base = os.environ.get("DYFF_PAGES_URL")
    page = commit.path / commit.facts.page
    if base:
        url = f"{base.rstrip('/')}/{entity_id}/"
    else:
        url = local_path(page).as_uri() if store.local else str(page)
    click.echo(url)
    click.launch(url)


@click.command("serve-pages", short_help="Serve safety cases and notebooks, read-only.")
@storage_option
@click.option(
    "--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; loopback only.")
def serve_pages(storage: str, port: int, host: str) -> None:
    """Serve safety cases and executed notebooks, read-only, to browsers of this machine.

    Set DYFF_PAGES_URL to the address that it prints, and Dagster's UI links to the pages.
    """
    from dyff_dagster.analysis.page_server import PageServer

    server = PageServer(open_store(storage), host=host, port=port)
    server.run(on_start=lambda url: click.echo(f"pages at {url}"))
