"""Sessions that run, here or on a cluster: ``sessions``, ``terminate``."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dyff_dagster.cli.instance import open_instance
from dyff_dagster.cli.options import open_store, storage_option
from dyff_dagster.cli.terminal import table_console

if TYPE_CHECKING:
    from dyff_dagster.store import Store


@click.command(short_help="List sessions that run, here or on the cluster.")
@storage_option
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def sessions(storage: str, as_json: bool) -> None:
    """List the sessions that run: whose they are, what they take, and when they end by themselves.

    On this machine those of the storage root; with DYFF_SESSIONS=kubernetes also those on the cluster, with the ones
    that have just ended.
    """
    found = _sessions(open_store(storage))
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    if not found:
        click.echo("no session runs")
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("session of", "kind", "account", "phase", "replicas", "takes", "ends", "where"):
        table.add_column(column, overflow="fold")
    colours = {"serving": "green", "starting": "yellow", "queued": "yellow"}
    for one in found:
        colour = colours.get(one["phase"], "red")
        table.add_row(
            f"[bold]{one['id']}[/bold]",
            one["kind"],
            one["account"],
            f"[{colour}]{one['phase']}[/{colour}]",
            f"{one['ready']}/{one['replicas']}",
            one["takes"],
            _shown(one["ends"]),
            one["where"],
        )
    table_console().print(table)


@click.command(short_help="End a session, here or on the cluster.")
@click.argument("entity_id", metavar="ID")
@storage_option
def terminate(entity_id: str, storage: str) -> None:
    """End the session of the InferenceSession or Evaluation ID before its deadline.

    On this machine, and with DYFF_SESSIONS=kubernetes on the cluster. An evaluation that is asking fails; its answers
    are kept.
    """
    from dyff_dagster.orchestration.resources import DyffSessions
    from dyff_dagster.orchestration.terminating import note_termination

    store = open_store(storage)
    resource = DyffSessions.from_environment(os.environ, Path.cwd())
    ended = resource.terminate(store, entity_id)
    click.echo(f"{entity_id}: ended" if ended else f"{entity_id}: no session runs")
    with open_instance() as instance:
        if instance is not None:
            note_termination(instance, store, resource, entity_id, ended)
        elif ended:
            click.echo("DAGSTER_HOME names no directory, so Dagster's records do not say so", err=True)


def _sessions(store: Store) -> list[dict[str, Any]]:
    """Sessions of this machine that are alive, then the cluster's."""
    from dyff_dagster.orchestration.resources import DyffSessions
    from dyff_dagster.sessions import read_session

    found: list[dict[str, Any]] = []
    for entity_id in store.entity_ids():
        directory = store.scratch(entity_id) / "session"
        state = read_session(directory) if (directory / "session.json").exists() else None
        if state is not None and state.alive():
            known = store.entity_json(entity_id) or {}
            count = len(state.replicas)
            found.append(
                {
                    "id": entity_id,
                    "kind": "InferenceSession",
                    "account": known.get("account", ""),
                    "phase": "serving",
                    "ready": count,
                    "replicas": count,
                    "takes": "",
                    "ends": state.deadline.isoformat(),
                    "where": f"this machine ({state.host})",
                }
            )
    cluster = DyffSessions.from_environment(os.environ, Path.cwd()).cluster(store)
    for session in cluster.sessions() if cluster is not None else []:
        namespace = cluster.api.namespace if cluster is not None else ""
        found.append(
            {
                "id": session.entity_id,
                "kind": session.kind,
                "account": session.account,
                "phase": session.phase,
                "ready": session.ready,
                "replicas": session.replicas,
                "takes": session.gpus,
                "ends": session.expires.isoformat() if session.expires else None,
                "where": f"{namespace}/{session.name}",
            }
        )
    return found


def _shown(moment: str | None) -> str:
    return "" if moment is None else f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S} UTC"
