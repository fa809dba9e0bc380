"""``dyff-dagster delete``: an entity is Deleted from now on; its artifacts stay until they are purged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dyff_dagster.cli.instance import require_instance
from dyff_dagster.cli.options import catalog_option, load_catalog, open_store, storage_option
from dyff_dagster.cli.terminal import agree

if TYPE_CHECKING:
    from dyff_dagster.orchestration.deletion import Deletion

_MOST = 10


@click.command(short_help="Have entities be Deleted; their artifacts stay until they are purged.")
@click.argument("entity_ids", metavar="ID...", nargs=-1, required=True)
@catalog_option
@storage_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(entity_ids: tuple[str, ...], catalog: str, storage: str, yes: bool) -> None:
    """Have entities be Deleted. What is made from them is named first, and what a run is working on is refused.

    It is recorded in the Dagster instance that DAGSTER_HOME names. Nothing is removed from the storage: `purge` does
    that. Whoever materializes a deleted entity makes it anew, and it is not Deleted any more.
    """
    from dyff_dagster.orchestration.deletion import delete as delete_entity
    from dyff_dagster.orchestration.deletion import plan_deletion

    loaded, store = load_catalog(catalog), open_store(storage)
    with require_instance("what is deleted is written down") as instance:
        deletions = plan_deletion(loaded, store, instance, entity_ids)
        _say(deletions)
        todo = [deletion for deletion in deletions if not deletion.done]
        if not todo:
            return
        named = todo[0].id if len(todo) == 1 else f"these {len(todo)}"
        if not agree(f"Delete {named}?", yes):
            click.echo("nothing was deleted")
            return
        for deletion in todo:
            delete_entity(store, instance, deletion)
            click.echo(f"{deletion.id}: Deleted")


def _say(deletions: Sequence[Deletion]) -> None:
    together = {deletion.id for deletion in deletions}
    for deletion in deletions:
        if deletion.done:
            click.echo(f"{deletion.id}: is Deleted already")
            continue
        click.echo(f"{deletion.id}  {deletion.kind}")
        if below := [name for name in deletion.downstream if name not in together]:
            more = f" and {len(below) - _MOST} more" if len(below) > _MOST else ""
            click.echo(f"  made from it, and staying as they are: {', '.join(below[:_MOST])}{more}")
        if deletion.automation:
            click.echo(
                f"  its manifest says automation: {deletion.automation}; that would make it anew, so take it away too"
            )
