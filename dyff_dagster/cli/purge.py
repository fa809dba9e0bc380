"""``dyff-dagster purge``: room on the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from dyff_dagster.cli.instance import open_instance, require_instance
from dyff_dagster.cli.options import DEFAULT_CATALOG, load_catalog, open_store, storage_option
from dyff_dagster.cli.terminal import agree, counted, size, table_console
from dyff_dagster.schema.errors import DyffError

if TYPE_CHECKING:
    from dyff_dagster.orchestration.purging import Found, Purge
    from dyff_dagster.store.purging import Removal

_MOST_KEPT = 20


@click.command(short_help="Remove what was deleted, old versions, and what crashes left.")
@click.option(
    "--catalog",
    "catalogs",
    multiple=True,
    help="The catalog; say it for each, where several use the storage. Default: DYFF_CATALOG, else the example.",
)
@storage_option
@click.option("--deleted", is_flag=True, help="What is Deleted. The default, where nothing else is said.")
@click.option("--strays", is_flag=True, help="What is in no catalog that is named.")
@click.option("--versions", is_flag=True, help="Old versions that no current result was computed from.")
@click.option("--partial", is_flag=True, help="What crashed writes left; first parts of downloads.")
@click.option(
    "--answers", is_flag=True, help="Answers of services that no evaluation asks as they were then."
)
@click.option("--even-used", is_flag=True, help="Also what current results were computed from.")
@click.option(
    "--older-than",
    metavar="DAYS",
    type=click.FloatRange(0, 36500),
    default=1.0,
    show_default=True,
    help="Versions that were replaced, and files that were written to, so long ago.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object; with --dry-run or --yes.")
@click.pass_context
def purge(
    context: click.Context,
    /,
    catalogs: tuple[str, ...],
    storage: str,
    older_than: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **chosen: bool,
) -> None:
    """Show what can be removed from the storage and how many bytes that frees, ask, and remove it.

    What a run is writing or may be reading is never touched, nor is what current results were computed from, nor
    anything behind a symbolic link. The history of an entity stays.
    """
    if not any(chosen[name] for name in ("deleted", "strays", "versions", "partial", "answers")):
        chosen["deleted"] = True
    if as_json and not (dry_run or yes):
        raise DyffError("--json asks nobody: say --dry-run or --yes with it")
    store = open_store(storage)
    loaded = [
        load_catalog(catalog) for catalog in catalogs or (os.environ.get("DYFF_CATALOG") or DEFAULT_CATALOG,)
    ]
    opened = (
        require_instance("what was deleted is written down")
        if chosen["deleted"] or chosen["strays"]
        else open_instance()
    )
    from dyff_dagster.orchestration.purging import Purge

    before = datetime.now(UTC) - timedelta(days=older_than)
    with opened as instance:
        wanted = Purge(loaded, store, instance, before, **chosen)
        found = wanted.find()
        if not as_json:
            _show(found)
        left: list[tuple[Removal, str]] = []
        if found.removals and not dry_run:
            if not agree(f"Remove {_things(found.removals)}?", yes):
                click.echo("nothing was removed")
                return
            left = _remove(wanted, found)
        if as_json:
            click.echo(json.dumps(_to_json(found, left, dry_run), indent=1))
        elif found.removals and not dry_run:
            gone = len(found.removals) - len(left)
            click.echo(f"removed {gone} of {len(found.removals)}")
        for removal, why in left:
            click.echo(f"{_name(removal)} stays: {why}", err=True)
    if left:
        context.exit(1)


def _remove(wanted: Purge, found: Found) -> list[tuple[Removal, str]]:
    """Remove what was shown, as far as it is still to be found; what is left, and why."""
    from dyff_dagster.store.purging import agreed

    still = agreed(found.removals, wanted.find().removals)
    left = [(removal, why) for removal, why in wanted.carry_out(still) if why]
    known = {(removal.entity_id, removal.what, path) for removal in still for path in removal.paths}
    changed = [
        removal
        for removal in found.removals
        if not any((removal.entity_id, removal.what, path) in known for path in removal.paths)
    ]
    return left + [(removal, "it is not to be removed any more") for removal in changed]


def _show(found: Found) -> None:
    from dyff_dagster.store.trees import bytes_freed, bytes_of

    if not found.removals:
        click.echo("nothing is to be removed")
    else:
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("of", style="bold", overflow="fold")
        table.add_column("removed", no_wrap=True)
        table.add_column("because", overflow="fold")
        table.add_column("files", justify="right", no_wrap=True)
        table.add_column("size", justify="right", no_wrap=True)
        for removal in found.removals:
            table.add_row(
                escape(removal.entity_id or removal.paths[0].name),
                removal.what,
                escape(removal.why),
                f"{len(removal.found):,}",
                size(bytes_of(removal.found)),
            )
        table_console().print(table)
        freed = bytes_freed(entry for removal in found.removals for entry in removal.found)
        click.echo(
            f"{_things(found.removals)}: frees {freed:,} bytes"
            + (f" ({size(freed)})" if freed >= 1000 else "")
        )
    for clause in found.stay[:_MOST_KEPT]:
        click.echo(f"stays: {clause}")
    if len(found.stay) > _MOST_KEPT:
        click.echo(f"stays: {len(found.stay) - _MOST_KEPT} more (--json names them)")


def _things(removals: Sequence[Removal]) -> str:
    files = len({entry.path for removal in removals for entry in removal.found})
    return f"{counted(len(removals), 'thing', 'things')} with {counted(files, 'file', 'files')}"


def _name(removal: Removal) -> str:
    return f"{removal.entity_id} ({removal.why})" if removal.entity_id else str(removal.paths[0])


def _to_json(found: Found, left: Sequence[tuple[Removal, str]], dry_run: bool) -> dict[str, Any]:
    from dyff_dagster.store.trees import bytes_freed, bytes_of

    stays = {(removal.entity_id, removal.why): why for removal, why in left}
    return {
        "removed": not dry_run,
        "bytes": bytes_freed(entry for removal in found.removals for entry in removal.found),
        "removals": [
            {
                "entity": removal.entity_id or None,
                "what": removal.what,
                "why": removal.why,
                "paths": [str(path) for path in removal.paths],
                "files": len(removal.found),
                "bytes": bytes_of(removal.found),
                "left": stays.get((removal.entity_id, removal.why)),
            }
            for removal in found.removals
        ],
        "stays": found.stay,
    }
