"""What a catalog is, and how to add to it: ``graph``, ``show``, ``new``, ``schema``."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dyff_dagster.cli.options import catalog_option, load_catalog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dyff_dagster.catalog.description import Description
    from dyff_dagster.catalog.drawing import Drawing

_MARGIN = 13
"""Columns for the names of what stands above the wire form."""


@click.command()
@click.argument("entity_ids", metavar="[ID]...", nargs=-1)
@catalog_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "mermaid", "dot", "json"]),
    default="tree",
    show_default=True,
    help="A tree for people, Mermaid for Markdown pages, dot for Graphviz, JSON for programs.",
)
@click.option("--downstream", is_flag=True, help="Follow what is made from an entity instead.")
def graph(entity_ids: tuple[str, ...], catalog: str, form: str, downstream: bool) -> None:
    """Draw what is made from what.

    Without an ID the whole catalog: what nothing else is made from comes first, and below each entity
    stands what it is made from. With IDs only these, and all that they are made from. An ID may be
    FAMILY@MEMBER, as in manifests.
    """
    from dyff_dagster.catalog import drawing

    loaded = load_catalog(catalog)
    drawn = drawing.select(loaded, [loaded.id_of(name) for name in entity_ids], downstream=downstream)
    if form == "mermaid":
        click.echo(drawing.mermaid(drawn), nl=False)
    elif form == "dot":
        click.echo(drawing.dot(drawn), nl=False)
    elif form == "json":
        click.echo(json.dumps(drawing.as_json(drawn), indent=1))
    else:
        _print_tree(drawn)


def _print_tree(drawn: Drawing) -> None:
    from rich.console import Console

    from dyff_dagster.catalog.drawing import tree

    drawing, width = tree(drawn)
    console = Console()
    # A deep tree is wider than any terminal: lines go on, and the terminal breaks them.
    console.width = max(console.width, width) if console.is_terminal else width
    console.print(drawing, crop=False, overflow="ignore", no_wrap=True)


@click.command(short_help="Show one entity, and what it has to do with others.")
@click.argument("entity_id", metavar="ID")
@catalog_option
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def show(entity_id: str, catalog: str, as_json: bool) -> None:
    """Show one entity: where it is defined, what it is made from, what is made from it, and its wire form.

    ID may be FAMILY@MEMBER, as in manifests. Environment variables that the entity names, as ${NAME}, are shown as
    they are written.
    """
    from dyff_dagster.catalog.description import describe

    loaded = load_catalog(catalog)
    description = describe(loaded, loaded.id_of(entity_id))
    if as_json:
        click.echo(json.dumps(description.to_json(), indent=1))
    else:
        _print_description(description)


def _print_description(description: Description) -> None:
    import yaml
    from rich.console import Console
    from rich.syntax import Syntax
    from rich.text import Text

    console = Console()
    for name, value in _facts(description):
        # On a terminal long values go on below where they began; elsewhere each is one line.
        for part in _wrapped(value, console.width - _MARGIN) if console.is_terminal else [value]:
            line = Text(f"{name:<{_MARGIN}}", style="bold")
            line.append(part, style="not bold")
            console.print(line, soft_wrap=True)
            name = ""
    wire = description.whole
    wire = {name: wire.pop(name) for name in ("kind", "id", "account")} | wire
    # PyYAML ends a line after the word that passes the width.
    width = max(console.width - 20, 40) if console.is_terminal else 100
    text = yaml.safe_dump(wire, sort_keys=False, allow_unicode=True, width=width).rstrip("\n")
    click.echo()
    if console.is_terminal:
        console.print(Syntax(text, "yaml", theme="ansi_dark", background_color="default", word_wrap=True))
    else:
        click.echo(text)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a text, broken at spaces; related entities are kept together with their kinds."""
    kept = text.replace(" (", "\0(")
    lines = textwrap.wrap(kept, max(width, 20), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines] or [""]


def _facts(description: Description) -> Iterable[tuple[str, str]]:
    """What stands above the wire form: a name and a text on one line each."""
    entity = description.entity
    yield "id", entity.id
    yield "kind", entity.kind
    if description.name is not None:
        yield "name", _one_line(description.name)
    yield "account", _one_line(entity.account)
    yield "defined", _one_line(str(description.origin))
    for name, related in (("made from", description.upstream), ("makes", description.downstream)):
        yield name, ", ".join(f"{entity_id} ({kind})" for entity_id, kind in related) or "nothing"
    for key, value in description.annotations.items():
        yield "annotation", f"{key}: {_one_line(value)}"
    if description.documentation is not None:
        for name in ("title", "summary", "fullPage"):
            text = getattr(description.documentation, name)
            if text is not None:
                yield name, _one_line(text)
    for problem in description.warnings:
        yield (
            "warning",
            _one_line(f"{problem.field}: {problem.message}" if problem.field else problem.message),
        )
    yield "spec digest", description.spec_digest


def _one_line(text: str) -> str:
    """``text`` as a terminal can be trusted with: lines joined, control characters left out."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


@click.command(short_help="Begin a manifest, with blanks to fill in.")
@click.argument("kind")
@click.option("--id", "entity_id", help="Its id. Of a Documentation: the id of what it is about.")
@click.option("--account", help="Who owns it.")
@click.option("--out", type=click.Path(path_type=Path), help="A new file to write. Default: print it.")
def new(kind: str, entity_id: str | None, account: str | None, out: Path | None) -> None:
    """Begin a manifest of KIND: what must be said as blanks, what may be said commented out.

    KIND is Dataset, Evaluation, Method and so on, in upper or lower case. Fill in every <...>, and validate.
    """
    from dyff_dagster.catalog.new_manifest import new_manifest

    text = new_manifest(kind, entity_id, account)
    if out is None:
        click.echo(text, nl=False)
        return
    with out.open("x", encoding="utf-8") as stream:  # never over a file that is there
        stream.write(text)
    click.echo(f"manifest: {out}")


@click.command(short_help="Print the JSON Schema of manifests, for editors.")
@click.option("--out", type=click.Path(path_type=Path), help="A file to write. Default: print it.")
def schema(out: Path | None) -> None:
    """Print the JSON Schema of manifests, with which an editor completes and checks them as you type."""
    from dyff_dagster.catalog.manifest_schema import manifest_schema

    text = json.dumps(manifest_schema(), indent=1, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    click.echo(f"JSON Schema: {out}")
