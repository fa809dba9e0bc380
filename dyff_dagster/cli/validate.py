"""``dyff-dagster validate``: is the catalog right?"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from dyff_dagster.cli.options import catalog_option, existing

if TYPE_CHECKING:
    from dyff_dagster.catalog import Catalog, Problem


@click.command(short_help="Check a catalog: all its problems at once.")
@click.argument("path", required=False)
@catalog_option
@click.option("--json", "as_json", is_flag=True, help="Problems as a JSON array.")
def validate(path: str | None, catalog: str, as_json: bool) -> None:
    """Check a catalog of manifests: all its problems at once, exit status 1 where there are any."""
    from dyff_dagster.catalog import Catalog, CatalogError

    try:
        loaded = Catalog.load(existing(catalog if path is None else path))
    except CatalogError as error:
        if as_json:
            click.echo(json.dumps([_problem(problem) for problem in error.problems], indent=1))
            sys.exit(1)
        for problem in error.problems:
            click.echo(_line(problem), err=True)
        count = len(error.problems)
        click.echo(f"{count} problem{'s' if count != 1 else ''} found.", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps([_problem(problem) for problem in loaded.warnings], indent=1))
        return
    for problem in loaded.warnings:
        click.echo(click.style("warning: ", fg="yellow") + _line(problem), err=True)
    click.echo(f"{len(loaded.entities)} entities, no problems: {_census(loaded)}.")


def _line(problem: Problem) -> str:
    """The problem as text, on a terminal with its place in bold."""
    text = str(problem)
    place = text.removesuffix(problem.message)
    return click.style(place, bold=True) + text[len(place) :] if place != text else text


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
