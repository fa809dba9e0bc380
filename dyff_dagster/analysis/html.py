"""Pages: one HTML file each that needs nothing else, runs nothing and fetches nothing.

nbconvert turns a notebook's cells into HTML, everything in it is sanitized, and a shell of our own goes
around it. Formulas stay in TeX: what would set them is a script.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from dyff_dagster.analysis.sanitizing import sanitize
from dyff_dagster.store import Score

if TYPE_CHECKING:
    from jinja2 import Environment
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


PAGE_FORMAT = "1"
"""Count it up when the look of pages changes: pages that were made before are then out of date."""


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
        scores: Numbers for the table at the foot.
        provenance: Everything that the page was made from.
    """

    title: str
    kind: str = "SafetyCase"
    entity_id: str = ""
    account: str = ""
    description: str = ""
    scores: tuple[Score, ...] = ()
    provenance: tuple[Origin, ...] = ()


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
    return _render(notebook, page, base=base, code=False)


def render_notebook(path: Path | UPath, page: Page | None = None) -> str:
    """An executed notebook with its code, as a page of the same kind.

    Args:
        path: The ``.ipynb`` file.
        page: What stands around it; default: the file's name.
    """
    import nbformat

    notebook = nbformat.reads(path.read_text("utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    return _render(notebook, page or Page(title=path.name, kind="Notebook"), base=None, code=True)


def render_body(body: str, page: Page) -> str:
    """A page around HTML that was not made by a notebook; scripts and what is fetched are taken out of it.

    Args:
        body: What stands on it.
        page: What stands around it.
    """
    return _shell(sanitize(body), page, code=False)


def render_index(entries: Iterable[Entry]) -> str:
    """The list of all pages."""
    return _templates().get_template("index.html.j2").render(entries=list(entries))


def _render(notebook: Any, page: Page, *, base: Path | None, code: bool) -> str:
    return _shell(sanitize(_cells(notebook, base, code)), page, code=code)


def _shell(body: str, page: Page, *, code: bool) -> str:
    from markupsafe import Markup
    from nbconvert.filters import markdown2html

    lead = sanitize(markdown2html(page.description)) if page.description else ""
    kicker = {"SafetyCase": "Safety case"}.get(page.kind, page.kind)
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            page=page,
            kicker=f"{kicker} · executed notebook" if code and page.kind != "Notebook" else kicker,
            # A page has one heading of the first rank: the notebook's, where it has one.
            name_tag="p" if "<h1" in body else "h1",
            # Both come out of the sanitizer.
            lead=Markup(lead),  # noqa: S704
            body=Markup(body),  # noqa: S704
            code_style=Markup(_code_style()) if code else "",  # noqa: S704
        )
    )


def prepare_pages() -> None:
    """Load and compile all that :func:`render_page` needs, so that it need not when its notebook is there."""
    import nbformat

    empty = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    sanitize(_cells(empty, Path(), code=False))
    _templates().get_template("page.html.j2")


def _cells(notebook: Any, base: Path | None, code: bool) -> str:
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
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("dyff_dagster.analysis"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    return environment


@cache
def _code_style() -> str:
    """Colours of code, for light and for dark; the background is the page's own."""
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

    def rules(style: str) -> str:
        lines = HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight").splitlines()
        return "\n".join(line for line in lines if line.startswith(".highlight ."))

    return f"{rules('friendly')}\n@media (prefers-color-scheme: dark) {{\n{rules('github-dark')}\n}}"


def _number(value: float, score: Score) -> str:
    return score.shown(value) if math.isfinite(value) else "undefined"
