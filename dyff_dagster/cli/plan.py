"""What a run would do and cost: ``plan``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dyff_dagster.cli.options import catalog_option, load_catalog, open_store, storage_option
from dyff_dagster.cli.terminal import table_console

if TYPE_CHECKING:
    from dyff_dagster.orchestration.planning import Planned


@click.command(short_help="Say what a run would do and cost, before it is paid.")
@click.argument("entity_ids", metavar="[ID]...", nargs=-1)
@catalog_option
@storage_option
@click.option("--upstream", is_flag=True, help="With everything that the named entities are made of.")
@click.option("--all", "everything", is_flag=True, help="Show what would be taken over, too.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def plan(
    entity_ids: tuple[str, ...], catalog: str, storage: str, upstream: bool, everything: bool, as_json: bool
) -> None:
    """Say what materializing the named entities would do, or all of them: what is computed and why, how many requests
    are sent, and, by what earlier ones took, their tokens, cost, time and GPU hours.

    Nothing is computed, asked or written. `likely` is what is computed only if something before it comes out
    otherwise than it was; its requests are the most that there can be, and are not known where its data set changes.
    """
    from dyff_dagster.orchestration.planning import plan as plan_of
    from dyff_dagster.orchestration.selection import ancestors

    loaded = load_catalog(catalog)
    chosen: set[str] | None = None
    if entity_ids:
        chosen = {loaded.get(entity_id).id for entity_id in entity_ids}
        if upstream:
            chosen |= {up for entity_id in entity_ids for up in ancestors(loaded, entity_id)}
    found = plan_of(loaded, open_store(storage), chosen)
    if as_json:
        click.echo(json.dumps([each.to_json() for each in found], indent=1))
        return
    shown = found if everything else [each for each in found if each.action != "unchanged"]
    same = sum(each.action == "unchanged" for each in found)
    if shown:
        _print(shown)
    if same:
        click.echo(f"{same} of {len(found)} are as they were and would be taken over.")


def _print(planned: Sequence[Planned]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("entity", style="bold", overflow="fold")
    table.add_column("kind")
    table.add_column("would")
    table.add_column("because", overflow="fold")
    for name in ("requests", "tokens", "cost", "time", "GPU hours"):
        table.add_column(name, justify="right", no_wrap=True)
    colours = {"run": "yellow", "likely": "cyan", "unchanged": "dim"}
    for each in planned:
        requests = "" if each.requests is None else f"{each.requests:,} of {each.answers or 0:,}"
        most = "≤ " if each.action == "likely" and each.requests is not None else ""
        table.add_row(
            each.id,
            each.kind,
            f"[{colours[each.action]}]{each.action}[/]",
            each.why,
            most + requests,
            "" if each.tokens is None else f"{each.tokens:,}",
            "" if each.cost is None else f"{each.cost:,.2f}",
            "" if each.seconds is None else _duration(each.seconds),
            _gpus(each),
        )
    table_console().print(table)


def _gpus(each: Planned) -> str:
    if not each.gpus:
        return ""
    hours = "? h" if each.gpu_hours is None else f"{each.gpu_hours:.2f} h"
    return f"{hours} on {each.gpus}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
