"""Cards, figures and tables as HTML: what an analysis shows in its notebook and on its page.

The fragments carry classes that the page's style sheet knows, and read well without it too. All text is
escaped. No fragment has a script or refers to anything outside itself.
"""

from __future__ import annotations

import base64
import io
import math
import numbers
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dyff_dagster.analysis.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dyff_dagster.analysis.records import ScoreRecord

FIGURE_DPI = 144
"""Pixels per inch of figures on a page: sharp on a dense screen at the figure's own size."""

HEADLINE_WIDTH = 640
"""Pixels across of the small figure that is shown beside the scores."""

WIDE = 4
"""Columns from which a table may be wider than a telephone's screen."""

TABLE_ROWS = 200
"""Rows of a table that are shown; of the others their number is."""


_COLLECTED: list[list[str]] = []


@contextmanager
def collected() -> Iterator[list[str]]:
    """The fragments that are shown meanwhile, in a list, instead of in a notebook."""
    fragments: list[str] = []
    _COLLECTED.append(fragments)
    try:
        yield fragments
    finally:
        _COLLECTED.pop()


def show(html: str, text: str) -> None:
    """Display a fragment where there is a notebook to display it in, or somebody who collects them."""
    if _COLLECTED:
        _COLLECTED[-1].append(html)
        return
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        return
    from IPython.display import display

    display({"text/html": html, "text/plain": text}, raw=True)  # type: ignore[no-untyped-call]


def title_card(title: str, subtitle: str) -> str:
    """The head of a page."""
    below = f'<p class="dyff-subtitle">{escape(subtitle)}</p>' if subtitle else ""
    return f'<div class="dyff-title"><h1>{escape(title)}</h1>{below}</div>'


def score_card(record: ScoreRecord) -> str:
    """One score with its interval."""
    interval = (
        f'<span class="dyff-interval">{escape(record.interval_string)}</span>'
        if record.interval_string
        else ""
    )
    text = f'<span class="dyff-text">{escape(record.text)}</span>' if record.text else ""
    return (
        f'<div class="dyff-score"><span class="dyff-name">{escape(record.title or record.name)}</span> '
        f'<span class="dyff-value">{escape(record.quantity_string)}</span> {interval} {text}</div>'
    )


def conclusion_card(text: str, holds: bool | None, verdict: str = "") -> str:
    """What the page comes to, in a colour and in a word, so that it needs no colour to be read."""
    kind, word = {True: ("holds", "Holds"), False: ("fails", "Does not hold"), None: ("open", "Open")}[holds]
    return (
        f'<div class="dyff-conclusion dyff-{kind}"><p class="dyff-verdict">{escape(verdict or word)}</p>'
        f'<p class="dyff-claim">{escape(text)}</p></div>'
    )


def figure_png(figure: Figure, *, dpi: int = FIGURE_DPI, width: int | None = None) -> bytes:
    """A matplotlib figure as PNG, the same bytes whenever it is the same figure.

    Args:
        figure: The figure.
        dpi: Pixels per inch.
        width: Pixels across, instead of ``dpi``.
    """
    buffer = io.BytesIO()
    resolution = dpi if width is None else width / float(figure.get_size_inches()[0])
    cut: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.08} if width is None else {}
    # Without this, matplotlib writes its version into the file.
    figure.savefig(
        buffer, format="png", dpi=resolution, facecolor="white", metadata={"Software": None}, **cut
    )
    return buffer.getvalue()


def figure_block(png: bytes, caption: str, alt: str = "") -> str:
    """An image with what it shows, no wider than the page and no wider than it was drawn.

    Args:
        png: The image.
        caption: What it shows, below it.
        alt: What is seen on it, for those who do not see it; default the caption.
    """
    width = round(int.from_bytes(png[16:20], "big") * 96 / FIGURE_DPI)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure class="dyff-figure"><img alt="{escape(alt or caption or "Figure")}" width="{width}" '
        f'src="data:image/png;base64,{data}">{below}</figure>'
    )


def table_block(rows: Any, caption: str) -> str:
    """A table; numbers stand to the right, an absent value is a dash.

    Args:
        rows: An Arrow table or record batch, a pandas DataFrame, or mappings from a column's name to a value.
        caption: What it shows, or an empty string.

    Raises:
        AnalysisError: ``rows`` is none of these.
    """
    columns, records = _columns_and_rows(rows)
    # One pass over what is shown decides how a column stands: text beats numbers.
    shown = records[:TABLE_ROWS]
    numeric = [
        any(row[i] is not None for row in shown)
        and all(row[i] is None or _stands_right(row[i]) for row in shown)
        for i in range(len(columns))
    ]

    def cells(tag: str, values: Sequence[str]) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        marks = (' class="dyff-number"' if number else "" for number in numeric)
        return "".join(
            f"<{tag}{scope}{mark}>{escape(value)}</{tag}>" for value, mark in zip(values, marks, strict=True)
        )

    head = f"<thead><tr>{cells('th', columns)}</tr></thead>"
    body = "".join(f"<tr>{cells('td', [format_value(value) for value in row])}</tr>" for row in shown)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    more = len(records) - len(shown)
    rest = f'<p class="dyff-more">and {more:,} more rows</p>' if more > 0 else ""
    return table_frame(f"<table>{title}{head}<tbody>{body}</tbody></table>{rest}", caption, len(columns))


def table_frame(table: str, caption: str, columns: int) -> str:
    """What stands around a table: on a narrow screen a wide one is pushed sideways, by the keyboard too."""
    reached = (
        f' tabindex="0" role="group" aria-label="{escape(caption or "Table")}"' if columns >= WIDE else ""
    )
    return f'<div class="dyff-table"{reached}>{table}</div>'


def format_value(value: Any) -> str:
    """A value for people: numbers to four significant digits, whole ones in full, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not _is_number(value):
        return str(value)
    number = float(value)
    if not math.isfinite(number):
        return "–"
    return str(int(value)) if number == int(number) else f"{number:.4g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


_WRITTEN = re.compile(r"[-+\u2212]?[0-9][0-9,]*(?:\.[0-9]+)?(?: ?%)?")


def _stands_right(value: Any) -> bool:
    """Numbers, and words that are numbers: their digits stand below each other."""
    return _is_number(value) or (isinstance(value, str) and _WRITTEN.fullmatch(value) is not None)


def _columns_and_rows(rows: Any) -> tuple[list[str], list[list[Any]]]:
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, pa.Table):
        rest = max(0, rows.num_rows - TABLE_ROWS)
        values = [column.slice(0, TABLE_ROWS).to_pylist() for column in rows.columns]
        return list(rows.column_names), [*map(list, zip(*values, strict=True)), *([[]] * rest)]
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas is not imported for this
        columns = [str(column) for column in rows.columns]
        return columns, [list(row) for row in rows.itertuples(index=False, name=None)]
    if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        names = list(dict.fromkeys(str(name) for row in rows for name in row))
        return names, [[row.get(name) for name in names] for row in rows]
    raise AnalysisError(
        f"a table cannot be made of {type(rows).__name__}; give an Arrow table or a list of mappings "
        "from a column's name to its value"
    )
