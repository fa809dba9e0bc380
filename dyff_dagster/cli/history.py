"""``dyff-dagster history``: who changed what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dyff_dagster.cli.options import open_store, storage_option
from dyff_dagster.schema.errors import DyffError

if TYPE_CHECKING:
    from dyff_dagster.store import RecordedRevision

_MOST_FIELDS = 3
_SHORTEST_ID = 4
_LONG_ID = 16


@click.command(short_help="Show what an entity said over time, and who changed it.")
@click.argument("entity_id", metavar="ID")
@click.argument("old", metavar="[A]", required=False)
@click.argument("new", metavar="[B]", required=False)
@click.option(
    "--diff", is_flag=True, help="The last two revisions; the same as `history ID previous latest`."
)
@storage_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def history(
    entity_id: str, old: str | None, new: str | None, diff: bool, storage: str, as_json: bool
) -> None:
    """Show what the entity ID said over time, and who had it computed; with A and B, what changed between them.

    A revision is recorded when something is committed under a changed manifest. A and B are numbers,
    revisions' ids (or how they begin), `latest` or `previous`; without B it is the latest.
    """
    store = open_store(storage)
    revisions = store.revisions.of(entity_id)
    if not revisions:
        raise DyffError(
            f"{entity_id} has no history in {store.root}: revisions are recorded when it, or what is computed from it, "
            "is materialized"
        )
    if old is None and not diff:
        _list(revisions, as_json)
        return
    first = _find(revisions, old or "previous")
    second = _find(revisions, new or "latest")
    _compare(revisions, first, second, as_json)


def _find(revisions: Sequence[RecordedRevision], named: str) -> RecordedRevision:
    """The revision of that number, id or name."""
    latest = revisions[-1]
    if named == "latest":
        return latest
    if named == "previous":
        if len(revisions) < 2:
            raise DyffError(f"{latest.entity_id} has one revision, and nothing before it to compare it with")
        return revisions[-2]
    found = [revision for revision in revisions if str(revision.number) == named]
    if not found and len(named) >= _SHORTEST_ID:
        found = [revision for revision in revisions if revision.id.startswith(named)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DyffError(
            f"{len(found)} revisions of {latest.entity_id} begin with '{named}': write more of the id"
        )
    known = "1" if latest.number == 1 else f"1 to {latest.number}"
    raise DyffError(
        f"{latest.entity_id} has no revision '{named}': write a number ({known}), an id, latest or previous"
    )


def _list(revisions: Sequence[RecordedRevision], as_json: bool) -> None:
    from dyff_dagster.store import changes

    befores = [None, *revisions[:-1]]
    changed = [
        None if before is None else [change.field for change in changes(before.whole, revision.whole)]
        for before, revision in zip(befores, revisions, strict=True)
    ]
    if as_json:
        found = [
            {**_to_json(revision), "changed": fields}
            for revision, fields in zip(revisions, changed, strict=True)
        ]
        click.echo(json.dumps(found, indent=1))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    console = Console()
    narrow = console.is_terminal
    if not narrow:
        console = Console(width=200)
    table.add_column("revision", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True)
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("who", overflow="fold")
    table.add_column("run", no_wrap=True)
    table.add_column("with commit", overflow="fold")
    table.add_column("changed", overflow="fold")
    for revision, fields in zip(revisions, changed, strict=True):
        table.add_row(
            str(revision.number),
            revision.id[:12],
            _when(revision),
            Text(revision.user or "unknown"),
            Text(revision.run_id[:8]),
            Text(_short(revision) if narrow else revision.commit),
            Text(_shown(fields)),
        )
    console.print(table)


def _short(revision: RecordedRevision) -> str:
    """The commit, of the entity itself without a long id, which is what was asked for."""
    entity_id, _, number = revision.commit.rpartition("/")
    return f"…/{number}" if entity_id == revision.entity_id and len(entity_id) > _LONG_ID else revision.commit


def _shown(fields: Sequence[str] | None) -> str:
    if fields is None:
        return "(the first)"
    more = len(fields) - _MOST_FIELDS
    return "\n".join([*fields[:_MOST_FIELDS], *([f"and {more} more"] if more > 0 else [])])


def _compare(
    revisions: Sequence[RecordedRevision], old: RecordedRevision, new: RecordedRevision, as_json: bool
) -> None:
    from dyff_dagster.store import changes, unified_diff

    lines = unified_diff(
        old.whole,
        new.whole,
        f"{old.entity_id} revision {old.number}",
        f"{new.entity_id} revision {new.number}",
    )
    if as_json:
        found = {
            "old": _to_json(old),
            "new": _to_json(new),
            "changed": [vars(change) for change in changes(old.whole, new.whole)],
            "diff": lines,
        }
        click.echo(json.dumps(found, indent=1))
        return
    low, high = sorted((old.number, new.number))
    for revision in revisions[low - 1 : high] if low != high else [new]:
        click.echo(_sentence(revision))
    if not lines:
        click.echo("They say the same.")
    for line in lines:
        click.echo(_coloured(line))


def _sentence(revision: RecordedRevision) -> str:
    said = f"revision {revision.number}: {_when(revision)} UTC, by {revision.user or 'somebody unknown'}"
    if revision.commit:
        said += f", with commit {revision.commit}"
    return said + (f", in run {revision.run_id}" if revision.run_id else "")


def _coloured(line: str) -> str:
    """The line in the colours of a diff, which click leaves out where no terminal reads it."""
    if line.startswith(("---", "+++")):
        return click.style(line, bold=True)
    colour = {"-": "red", "+": "green", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line


def _when(revision: RecordedRevision) -> str:
    return f"{revision.created:%Y-%m-%d %H:%M:%S}"


def _to_json(revision: RecordedRevision) -> dict[str, Any]:
    return {
        "entity": revision.entity_id,
        "number": revision.number,
        "id": revision.id,
        "created": revision.created.isoformat(),
        "user": revision.user,
        "run": revision.run_id,
        "commit": revision.commit,
    }
