"""The ``dyff-dagster`` command: every verb a call into a room below."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dyff_dagster.schema.errors import DyffError

if TYPE_CHECKING:
    from dyff_dagster.catalog import Catalog
    from dyff_dagster.store import Store


class _Commands(click.Group):
    """Says in one sentence what a user can mend, without a traceback, and exits with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DyffError as error:
            click.echo(str(error), err=True)
            ctx.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output went away; click knows what to do
                raise
            click.echo(_sentence(error), err=True)
            ctx.exit(1)


_catalog_option = click.option(
    "--catalog",
    "catalog",
    envvar="DYFF_CATALOG",
    default="examples/breast_cancer",
    show_default=True,
    help="Directory or file of manifests, a .py file with `catalog`, or a dotted module name.",
)
_storage_option = click.option(
    "--storage",
    "storage",
    envvar="DYFF_STORAGE_ROOT",
    default="dyff-storage",
    show_default=True,
    help="Where artifacts live: a directory or an fsspec URL.",
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dyff-dagster")
def main() -> None:
    """AI audits as Dagster assets.

    Write models, data sets, services, evaluations, methods and safety cases as YAML; check them here; run
    them with Dagster's UI and command line.
    """


@main.command()
@click.argument("path", required=False)
@_catalog_option
@click.option("--json", "as_json", is_flag=True, help="Problems as a JSON array.")
def validate(path: str | None, catalog: str, as_json: bool) -> None:
    """Check a catalog of manifests: all its problems at once, exit status 1 where there are any."""
    from dyff_dagster.catalog import Catalog, CatalogError

    try:
        loaded = Catalog.load(_existing(path or catalog))
    except CatalogError as error:
        if as_json:
            click.echo(json.dumps([_problem(problem) for problem in error.problems], indent=1))
            sys.exit(1)
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        click.echo(f"{count} problem{'s' if count != 1 else ''} found.", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps([_problem(problem) for problem in loaded.warnings], indent=1))
        return
    for problem in loaded.warnings:
        click.echo(f"warning: {problem}", err=True)
    click.echo(f"{len(loaded.entities)} entities, no problems: {_census(loaded)}.")


@main.command("import-data")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
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
    file: Path,
    entity_id: str | None,
    name: str | None,
    account: str,
    withhold: str | None,
    out: Path,
    overwrite: bool,
) -> None:
    """Turn your own rows (CSV, JSON Lines or Parquet) into a Dataset: Parquet, and a manifest beside it."""
    from dyff_dagster.sources import import_data as run

    imported = run(
        file,
        id=entity_id,
        account=account,
        name=name,
        withhold=None if withhold is None else [part.strip() for part in withhold.split(",") if part.strip()],
        out=out,
        overwrite=overwrite,
    )
    click.echo(f"{imported.rows} rows in {imported.parquet}")
    click.echo(f"manifest: {imported.manifest}")


@main.command()
@_catalog_option
@_storage_option
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def status(catalog: str, storage: str, as_json: bool) -> None:
    """Show what stands: each entity, its status, its headline score with interval, and its page."""
    from dyff_dagster.orchestration.status import entity_states

    states = entity_states(_load(catalog), _store(storage), os.environ.get("DYFF_PAGES_URL"))
    if as_json:
        click.echo(json.dumps([state.to_json() for state in states], indent=1))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("entity", style="bold", overflow="fold")
    table.add_column("kind")
    table.add_column("status")
    table.add_column("headline score [95 % interval]", overflow="fold")
    table.add_column("page", overflow="fold")
    colours = {"Ready": "green", "Complete": "green", "Created": "yellow", "Stale": "yellow"}
    for state in states:
        colour = colours.get(state.status, "red")
        failed = f" [red]✗ {', '.join(state.failed_checks)}[/red]" if state.failed_checks else ""
        table.add_row(
            state.id,
            state.kind,
            f"[{colour}]{state.status}[/{colour}]",
            (str(state.headline).replace("[", "\\[") if state.headline else "") + failed,
            state.page or "",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


@main.command("open")
@click.argument("entity_id", metavar="ID")
@_storage_option
def open_page(entity_id: str, storage: str) -> None:
    """Open an entity's page in the browser; prints where it is."""
    from dyff_dagster.store import local_path

    store = _store(storage)
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


@main.command()
@click.argument("entity_id", metavar="ID")
@_storage_option
def terminate(entity_id: str, storage: str) -> None:
    """End the InferenceSession ID that runs on this machine, before its deadline."""
    from dyff_dagster.sessions import end_session
    from dyff_dagster.store import local_path

    store = _store(storage)
    if not store.local:
        raise DyffError(f"{store.root} is no local directory: a session is ended where it was started")
    ended = end_session(local_path(store.working(entity_id)) / "session")
    click.echo(f"{entity_id}: ended" if ended else f"{entity_id}: no session runs")


@main.command("serve-pages")
@_storage_option
@click.option(
    "--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; loopback only.")
def serve_pages(storage: str, port: int, host: str) -> None:
    """Serve safety cases and executed notebooks, read-only, to browsers of this machine.

    Set DYFF_PAGES_URL to the address that it prints, and Dagster's UI links to the pages.
    """
    from dyff_dagster.analysis.page_server import PageServer

    server = PageServer(_store(storage), host=host, port=port)
    server.run(on_start=lambda url: click.echo(f"pages at {url}"))


_REMEDIES = {
    errno.EACCES: "take the permission, or name another place",
    errno.EPERM: "take the permission, or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.ENOENT: "name one that is there",
    errno.ENOTDIR: "name a directory, and none below a file",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "mend the symbolic link",
    errno.ENOSPC: "make room on the disk",
    errno.EADDRINUSE: "choose another port",
}


def _sentence(error: OSError) -> str:
    """``PATH: what the system said; what would be right``."""
    name = "" if error.filename is None else str(error.filename)
    name = f"{name[:200]}…" if len(name) > 200 else name
    said = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0)
    return (f"{name}: " if name else "") + said + (f"; {remedy}" if remedy else "")


def _load(catalog: str) -> Catalog:
    from dyff_dagster.catalog import Catalog

    return Catalog.load(_existing(catalog))


def _store(storage: str) -> Store:
    from dyff_dagster.store import Store

    return Store(storage)


def _existing(named: str) -> Path | str:
    """A path where there is one, else what may be a module's name."""
    path = Path(named)
    return path if path.exists() or os.sep in named else named


def _problem(problem: Any) -> dict[str, Any]:
    return {
        "path": None if problem.path is None else str(problem.path),
        "line": problem.line,
        "field": problem.field,
        "message": problem.message,
        "entity": problem.entity_id,
    }


def _census(catalog: Catalog) -> str:
    """``3 Method, 2 Measurement``: how many of each kind."""
    from collections import Counter

    kinds = Counter(entity.kind for entity in catalog.entities.values())
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
