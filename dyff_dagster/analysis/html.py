"""Pages: one HTML file each that needs nothing else, runs nothing and fetches nothing.

nbconvert turns a notebook's cells into HTML, everything in it is sanitized, and a shell of our own goes
around it. Formulas stay in TeX: what would set them is a script.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from dyff_dagster.analysis.display import conclusion_card
from dyff_dagster.analysis.making import Making
from dyff_dagster.analysis.sanitizing import sanitize
from dyff_dagster.analysis.score_table import score_table
from dyff_dagster.analysis.templating import environment
from dyff_dagster.store import Score

if TYPE_CHECKING:
    from nbconvert.exporters.html import HTMLExporter
    from upath import UPath


FORMS = (
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/latex",
    "text/plain",
)
"""Forms of an output that need no script; of several the first is shown."""


PAGE_FORMAT = "2"
"""Count it up when the look of pages changes: pages that were made before are then out of date."""

_KINDS = {"SafetyCase": "Safety case"}

_TITLE_CARD = re.compile(
    r'<div class="dyff-title"><h1>([^<]*)</h1>(?:<p class="dyff-subtitle">([^<]*)</p>)?</div>'
)
_FIRST_HEADING = re.compile(r"<h1\b[^<>]*>([^<]*)</h1>")


@dataclass(frozen=True)
class Origin:
    """A line of a page's provenance: ``role`` of an ``entity``, its ``name``, and the ``version`` that was read."""

    role: str
    entity: str
    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class Page:
    """What a page says around its notebook.

    Attributes:
        title: Name of the entity.
        kind: Its kind, ``SafetyCase``.
        entity_id: Its id.
        account: Who owns it.
        description: What it is about, as Markdown.
        conclusion: What it comes to; shown before everything else.
        holds: Whether what was claimed holds; None where that is open.
        verdict: That in a word or two, where it is not the usual one.
        scores: Numbers for the table beside the conclusion.
        about: What each score measures, by its name.
        provenance: Everything that the page was made from.
        making: What differs from run to run; None: not shown.
    """

    title: str
    kind: str = "SafetyCase"
    entity_id: str = ""
    account: str = ""
    description: str = ""
    conclusion: str = ""
    holds: bool | None = None
    verdict: str = ""
    scores: tuple[Score, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    provenance: tuple[Origin, ...] = ()
    making: Making | None = None


@dataclass(frozen=True)
class Content:
    """What stands within a page's frame; sanitized HTML, but for the title and subtitle, which are text.

    Attributes:
        title: Of the page; empty: the entity's name.
        subtitle: Below it, or empty.
        lead: What the entity is about.
        scores: The table of scores, or empty.
        body: The argument.
    """

    title: str = ""
    subtitle: str = ""
    lead: str = ""
    scores: str = ""
    body: str = ""


@dataclass(frozen=True)
class Entry:
    """A line of the list of pages."""

    entity_id: str
    title: str
    kind: str
    committed: str
    score: str


def render_page(notebook: Any, page: Page, base: Path | None = None) -> str:
    """A safety case's page: text and outputs of an executed notebook, without the code.

    Args:
        notebook: The executed notebook (nbformat 4).
        page: What stands around it.
        base: Directory in which images that the notebook's text names are found, to be embedded.
    """
    return frame(content_of_notebook(notebook, page, base), page)


def content_of_notebook(notebook: Any, page: Page, base: Path | None = None) -> Content:
    """What :func:`render_page` puts within the page's frame."""
    return _content(_cells(notebook, base, code=False), page, code=False)


def render_notebook(path: Path | UPath, page: Page | None = None) -> str:
    """An executed notebook with its code, as a page of the same kind.

    Args:
        path: The ``.ipynb`` file.
        page: What stands around it; default: the file's name.
    """
    import nbformat

    notebook = nbformat.reads(path.read_text("utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    page = page or Page(title=path.name, kind="Notebook")
    return frame(_content(_cells(notebook, None, code=True), page, code=True), page, code=True)


def render_body(body: str, page: Page) -> str:
    """A page around HTML that was not made by a notebook; scripts and what is fetched are taken out of it.

    Args:
        body: What stands on it.
        page: What stands around it.
    """
    return frame(content_of_body(body, page), page)


def content_of_body(body: str, page: Page) -> Content:
    """What :func:`render_body` puts within the page's frame."""
    return _content(body, page, code=False)


def render_index(entries: Iterable[Entry]) -> str:
    """The list of all pages."""
    return environment().get_template("index.html.j2").render(entries=list(entries))


def _content(body: str, page: Page, *, code: bool) -> Content:
    from nbconvert.filters import markdown2html

    title, subtitle, body = _take_title(body)
    return Content(
        title=title,
        subtitle=subtitle,
        lead=sanitize(markdown2html(page.description), headings=2) if page.description else "",
        scores=score_table(page.scores, page.about) if page.scores else "",
        body=sanitize(body, headings=2, scrolled=not code),
    )


def frame(content: Content, page: Page, *, code: bool = False) -> str:
    """A page: its content, and around it who it is of and what it was made from.

    Args:
        content: What stands within.
        page: What stands around it.
        code: Whether code is shown in colours.
    """
    from markupsafe import Markup

    kicker = _KINDS.get(page.kind, page.kind)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            kicker=f"{kicker} · executed notebook" if code and page.kind != "Notebook" else kicker,
            title=content.title or page.title,
            subtitle=content.subtitle,
            # These come out of the sanitizer, or are made here.
            lead=Markup(content.lead),  # noqa: S704
            conclusion=Markup(conclusion_card(page.conclusion, page.holds, page.verdict)),  # noqa: S704
            scores=Markup(content.scores),  # noqa: S704
            body=Markup(content.body),  # noqa: S704
            making=Markup("" if page.making is None else page.making.to_html()),  # noqa: S704
            code_style=Markup(_code_style()) if code else "",  # noqa: S704
        )
    )


def prepare_pages() -> None:
    """Load and compile all that :func:`render_page` needs, so that it need not when its notebook is there."""
    import nbformat

    empty = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    sanitize(_cells(empty, Path(), code=False))
    environment().get_template("page.html.j2")


def _take_title(body: str) -> tuple[str, str, str]:
    """The title and subtitle that a body begins with, and the rest of it.

    What a page is about stands above everything else on it, and each page has one heading of the first rank.
    """
    first = re.search(r"<h[1-6]\b", body)
    card, heading = _TITLE_CARD.search(body), _FIRST_HEADING.search(body)
    if first is None:
        return "", "", body
    if card is not None and card.start() <= first.start() < card.end():
        return unescape(card[1]), unescape(card[2] or ""), body[: card.start()] + body[card.end() :]
    if heading is not None and heading.start() == first.start():
        return unescape(heading[1]), "", body[: heading.start()] + body[heading.end() :]
    return "", "", body


def _cells(notebook: Any, base: Path | None, code: bool) -> str:
    if not code:
        # A cell that shows nothing leaves an empty box, and between a heading and its figure a page may break there.
        seen = [cell for cell in notebook.cells if cell.cell_type != "code" or cell.outputs]
        notebook = type(notebook)({**notebook, "cells": seen})
    resources = {"metadata": {"path": str(base)}} if base is not None else {}
    with _CONVERTING:
        body, _ = _exporter(code, base is not None).from_notebook_node(notebook, resources=resources)
    return str(body)


_CONVERTING = Lock()
"""An exporter is for one notebook at a time."""


@cache
def _exporter(code: bool, embed_images: bool) -> HTMLExporter:
    """What makes HTML of cells; compiling its templates takes longer than most notebooks."""
    from nbconvert.exporters.html import HTMLExporter
    from traitlets.config import Config

    return HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="basic",
        exclude_input=not code,
        exclude_input_prompt=not code,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        embed_images=embed_images,
        # As configuration, because the filter that chooses is not the exporter.
        config=Config({"NbConvertBase": {"display_data_priority": list(FORMS)}}),
    )


@cache
def _code_style() -> str:
    """Colours of code, for light and for dark, that can be read on the page's own background."""
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

    def rules(style: str) -> str:
        lines = HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight").splitlines()
        return "\n".join(line for line in lines if line.startswith(".highlight ."))

    return f"{rules('xcode')}\n@media (prefers-color-scheme: dark) {{\n{rules('lightbulb')}\n}}"
