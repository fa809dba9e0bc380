"""What README.md and docs/ say is true: manifests validate, errors read as printed, links lead somewhere.

The marks of blocks are those of :mod:`tests.pages`; of files that a catalog names only their being there is looked at.

A ``yaml`` block with a ``kind:`` and without a comment is a catalog of its own. In docs/adapters.md a ``json``
block is an adapter, and the ``text`` block after it has what goes ``in:`` and comes ``out:`` (or is the
``error:``). A ``python`` block compiles; one with ``print(…)  # OUTPUT`` that needs no store prints that.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dyff_dagster.catalog import Catalog
from dyff_dagster.cli import main
from dyff_dagster.schema.adapters import ADAPTERS, create_adapter
from dyff_dagster.schema.annotations import ANNOTATIONS, PREFIX
from dyff_dagster.schema.enumerations import Entities
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.priorities import PRIORITY
from dyff_dagster.sessions.kubernetes import names
from dyff_dagster.sources import import_data
from tests.pages import FENCE, PAGES, ROOT, Block, blocks

NOT_YET = ("entities of kind Report", "PythonRubric is deprecated", "has no effect in this release")
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?:^|[\s/'\"`])dyff-dagster +([a-z][a-z-]*)")


def catalogs() -> dict[str, list[Block]]:
    """The blocks of each catalog that must be valid, by page and name (or line)."""
    found: dict[str, list[Block]] = {}
    for page in PAGES:
        for block in blocks(page):
            if (
                block.language == "yaml"
                and re.search(r"^\s*kind:", block.text, re.MULTILINE)
                and block.kind != "refused"
            ):
                found.setdefault(f"{page}#{block.name or block.line}", []).append(block)
    return found


def refusals() -> dict[str, tuple[Block, Block]]:
    """Each refused catalog with the block that shows what is printed."""
    return {
        block.place: (block, following)
        for page in PAGES
        for block, following in itertools.pairwise(blocks(page))
        if block.kind == "refused"
    }


def write_files(directory: Path, parts: list[Block]) -> None:
    for block in parts:
        for name in block.files:
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


CATALOGS, REFUSALS = catalogs(), refusals()


def test_the_readme_and_the_manifests_page_have_catalogs() -> None:
    assert {place.partition("#")[0] for place in CATALOGS} >= {"README.md", "docs/manifests.md"}
    assert REFUSALS


@pytest.mark.parametrize("place", CATALOGS)
def test_manifests_on_the_pages_are_valid(place: str, tmp_path: Path) -> None:
    parts = CATALOGS[place]
    write_files(tmp_path, parts)
    if place.startswith("README.md"):
        # The page goes on from this import.
        import_data(
            ROOT / "examples/own_endpoint/questions.jsonl", account="me", withhold=["answer"], out=tmp_path
        )
    (tmp_path / "audit.yaml").write_text("\n---\n".join(block.text for block in parts))
    warnings = [
        problem for problem in Catalog.load(tmp_path).warnings if not problem.message.startswith(NOT_YET)
    ]
    assert warnings == []


def test_the_manifests_page_has_every_kind(tmp_path: Path) -> None:
    text = "\n".join(block.text for block in CATALOGS["docs/manifests.md#audit"])
    shown = set(re.findall(r"^kind: (\w+)$", text, re.MULTILINE))
    assert shown == {str(kind) for kind in Entities} - {"Account", "Analysis"}


@pytest.mark.parametrize("place", REFUSALS)
def test_errors_on_the_pages_are_those_that_are_printed(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, console = REFUSALS[place]
    write_files(tmp_path, [manifest])
    (tmp_path / "audit.yaml").write_text(manifest.text)
    monkeypatch.chdir(tmp_path)
    command, _, shown = console.text.partition("\n")
    assert command == "$ dyff-dagster validate audit.yaml"
    result = CliRunner().invoke(main, ["validate", "audit.yaml"])
    assert result.exit_code == 1
    assert shown.splitlines() == result.output.splitlines()


def test_every_annotation_is_on_the_manifests_page() -> None:
    text = PAGES["docs/manifests.md"].read_text("utf-8")
    table = text.partition("## Annotations")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in _CODE.findall(row)) == sorted(ANNOTATIONS)


@pytest.mark.parametrize("page", PAGES)
def test_annotations_that_a_page_names_are_there(page: str) -> None:
    named = re.findall(rf"(?<![\w/.]){PREFIX}([a-z][a-z-]*)", PAGES[page].read_text("utf-8"))
    # `dyff-dagster/wdbc-logreg` is a model's repository in the example.
    labels = {label.removeprefix(PREFIX) for label in vars(names).values() if isinstance(label, str)}
    assert set(named) - {"wdbc-logreg", PRIORITY.removeprefix(PREFIX)} <= (
        ANNOTATIONS | labels if page == "docs/kubernetes.md" else ANNOTATIONS
    )


def test_every_adapter_is_on_its_page() -> None:
    headings = re.findall(r"^## (\w+)$", PAGES["docs/adapters.md"].read_text("utf-8"), re.MULTILINE)
    assert set(ADAPTERS) <= set(headings)


def adapter_examples() -> list[tuple[Block, Block]]:
    page = blocks("docs/adapters.md")
    return [(a, b) for a, b in itertools.pairwise(page) if a.language == "json" and b.language == "text"]


@pytest.mark.parametrize("example", adapter_examples(), ids=lambda example: example[0].place)
def test_adapters_do_what_their_page_shows(example: tuple[Block, Block]) -> None:
    specification, shown = example
    adapter = create_adapter(json.loads(specification.text))
    said: list[str] = []
    for line in shown.text.splitlines():
        if line.startswith("in:"):
            said.append(line)
            try:
                said += [f"out: {json.dumps(made)}" for made in adapter([json.loads(line[3:])])]
            except DyffError as error:
                said.append(f"error: {error}")
    assert said == shown.text.splitlines()


def test_the_index_has_every_page_and_every_room() -> None:
    text = PAGES["docs/index.md"].read_text("utf-8")
    linked = {target.partition("#")[0] for target in _LINK.findall(text)}
    assert linked >= {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    rooms = {path.parent.name for path in (ROOT / "dyff_dagster").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == rooms
    assert rooms <= set(re.findall(r"\b(\w+)\[\"", text))


def test_every_verb_is_on_the_page_of_the_command() -> None:
    headings = re.findall(r"^## ([\w-]+)$", PAGES["docs/command.md"].read_text("utf-8"), re.MULTILINE)
    assert set(headings) == set(main.commands)


PYTHON = {block.place: block for page in PAGES for block in blocks(page) if block.language == "python"}


@pytest.mark.parametrize("place", PYTHON)
def test_python_on_the_pages_does_what_it_says(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PYTHON[place].text
    code = compile(text, place, "exec", dont_inherit=True)
    expected = re.findall(r"^print\(.*\)  # (.+)$", text, re.MULTILINE)
    if not expected or "dyff-storage" in text:
        return
    monkeypatch.chdir(ROOT)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {"__name__": "page"})
    assert out.getvalue().splitlines() == expected


def commands(page: str) -> list[str]:
    """Everything on a page that is written as code and may be a command line of ours."""
    text = PAGES[page].read_text("utf-8")
    prose = FENCE.sub("", text)
    lines = [
        line for block in blocks(page) if block.language == "console" for line in block.text.splitlines()
    ]
    return _CODE.findall(prose) + [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_pages_exist(page: str) -> None:
    for line in commands(page):
        for verb in _COMMAND.findall(line):
            assert verb in main.commands, f"{page}: `{line}` has no such verb"
            rest = shlex.split(line.partition(verb)[2].partition(" #")[0])
            known = {name for option in _options(main.commands[verb]) for name in option.opts}
            assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= known, (
                f"{page}: `{line}`"
            )


def _options(command: click.Command) -> list[click.Parameter]:
    return command.get_params(click.Context(command))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: Counter[str] = Counter()
    names = set()
    text = FENCE.sub("", page.read_text("utf-8"))
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return names


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in _LINK.findall(FENCE.sub("", PAGES[page].read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), f"{page} links to {target}, which is not there"
        assert not anchor or anchor in anchors(file), (
            f"{page} links to {target}, and there is no such heading"
        )
