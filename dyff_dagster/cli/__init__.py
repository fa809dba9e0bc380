"""The ``dyff-dagster`` command: every verb a call into a room below."""

from __future__ import annotations

import click

from dyff_dagster.cli.bundle import bundle, keygen, verify
from dyff_dagster.cli.catalogs import graph, new, schema, show
from dyff_dagster.cli.delete import delete
from dyff_dagster.cli.errors import Commands
from dyff_dagster.cli.exchange import export, import_entities
from dyff_dagster.cli.history import history
from dyff_dagster.cli.import_data import import_data
from dyff_dagster.cli.import_eval import import_eval
from dyff_dagster.cli.plan import plan
from dyff_dagster.cli.purge import purge
from dyff_dagster.cli.results import open_page, serve_pages, status
from dyff_dagster.cli.sessions import sessions, terminate
from dyff_dagster.cli.validate import validate
from dyff_dagster.cli.verify_store import verify_store


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dyff-dagster")
def main() -> None:
    """AI audits as Dagster assets.

    Write models, data sets, services, evaluations, methods and safety cases as YAML; check them here; run
    them with Dagster's UI and command line.
    """


for verb in (
    validate,
    graph,
    show,
    new,
    schema,
    import_data,
    import_eval,
    plan,
    status,
    open_page,
    serve_pages,
    sessions,
    terminate,
    delete,
    purge,
    verify_store,
    history,
    import_entities,
    export,
    bundle,
    verify,
    keygen,
):
    main.add_command(verb)
