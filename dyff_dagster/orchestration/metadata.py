"""What a committed version looks like on its asset's page."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from dyff_dagster.analysis.row_pages import has_rows
from dyff_dagster.store import Column, Commit, Score

_IMAGE_LIMIT = 200_000
"""Bytes of a plot that may go into the event log, where every reader of the page loads it."""


_KEYS = {
    "_index_": "Which row of the data set this is",
    "_replication_": "Which replication this belongs to",
    "responses": "What the service answered",
}
"""What columns are that every table of their kind has."""

_MOST_FILES = 100
"""Files that are listed with their digests; the commit's record has all of them."""


def commit_metadata(
    commit: Commit,
    *,
    reused: bool,
    pages_url: str | None,
    references: Mapping[str, str] | None = None,
    lineage: dg.TableColumnLineage | None = None,
) -> dict[str, Any]:
    """Metadata of a materialization: scores as plain numbers, counts, columns, digests, links, a plot.

    Args:
        commit: The version.
        reused: Whether it was there before this run.
        pages_url: Where pages are served, or None: then paths are shown.
        references: Where its manifest names members of families, and which, by field.
        lineage: From which columns upstream its columns may come.
    """
    facts = commit.facts
    metadata: dict[str, Any] = {}
    # In the order that a reader wants them: Dagster keeps it.
    if facts.conclusion:
        metadata["dyff/conclusion"] = dg.MetadataValue.text(
            facts.conclusion
        )  # not Markdown: it could load images
    metadata.update(_links(commit, pages_url))
    if facts.scores:
        metadata["dyff/scores"] = dg.MetadataValue.md(score_table(facts.scores))
    if facts.figure is not None and (plot := _plot(commit, facts.figure, pages_url)):
        metadata["dyff/plot"] = dg.MetadataValue.md(plot)
    if facts.rows is not None:
        metadata["dagster/row_count"] = facts.rows
    if facts.completeness is not None:
        metadata["dyff/answered"] = facts.completeness.answered
        metadata["dyff/asked"] = facts.completeness.expected
    if facts.sent_fields is not None:
        metadata["dyff/sent_fields"] = ", ".join(facts.sent_fields) or "(none)"
    if facts.withheld is not None:
        metadata["dyff/withheld_fields"] = ", ".join(facts.withheld) or "(none)"
    for name, value in facts.notes.items():
        if isinstance(value, dict | list):
            metadata[f"dyff/{name}"] = dg.MetadataValue.json(value)
        elif value is not None:
            metadata[f"dyff/{name}"] = value
    for score in facts.scores:
        metadata.update(_score(score))
    metadata.update(_latency(facts.notes.get("latency")))
    if facts.columns:
        metadata["dagster/column_schema"] = dg.TableSchema(
            columns=[_column(column) for column in facts.columns]
        )
        if lineage is not None:
            metadata["dagster/column_lineage"] = lineage
    metadata["dyff/reused"] = reused
    metadata["dyff/commit"] = commit.sequence
    metadata["dyff/data_version"] = commit.data_version
    metadata["dyff/input_digest"] = commit.input_digest
    if references:
        metadata["dyff/references"] = dg.MetadataValue.json(dict(references))
    metadata["dyff/inputs"] = dg.MetadataValue.json(dict(commit.inputs))
    metadata["dagster/uri"] = str(commit.path)
    if commit.files:
        metadata["dagster/size_bytes"] = sum(digest.size for digest in commit.files.values())
        metadata["dyff/files"] = dg.MetadataValue.json(
            {
                name: {"sha256": digest.sha256, "md5": digest.md5, "bytes": digest.size}
                for name, digest in sorted(commit.files.items())[:_MOST_FILES]
            }
        )
    return metadata


def score_table(scores: tuple[Score, ...]) -> str:
    """Scores with their intervals as a Markdown table."""
    partial = any(score.asked is not None or score.worst_low is not None for score in scores)
    more = (" asked | at worst |", "---:|---|") if partial else ("", "")
    lines = [f"| score | value | 95 % interval | n |{more[0]}", f"|---|---:|---|---:|{more[1]}"]
    for score in scores:
        # Titles, units and formats are the author's: none may be Markdown, which could load an image.
        name = _plain(score.label)
        value = _plain(score.shown(score.value, 4)) if math.isfinite(score.value) else "undefined"
        interval = ""
        if score.low is not None and score.high is not None:
            interval = f"{_plain(score.shown(score.low, 4))} to {_plain(score.shown(score.high, 4))}"
            interval += score.level_note
        line = f"| {name} | {value} | {interval} | {'' if score.n is None else score.n} |"
        lines.append(line + (_missing(score) if partial else ""))
    return "\n".join(lines)


def _missing(score: Score) -> str:
    """How many were asked, and what those that gave no answer could have changed."""
    worst = ""
    if score.worst_low is not None and score.worst_high is not None:
        worst = f"{_plain(score.shown(score.worst_low, 4))} to {_plain(score.shown(score.worst_high, 4))}"
    return f" {'' if score.asked is None else score.asked} | {worst} |"


def _plain(text: str) -> str:
    return re.sub(r"[^\w .,:/@%°+-]", "_", text)


def page_links(commit: Commit, pages_url: str | None) -> Mapping[str, str]:
    """URLs of the page, the rows and the executed notebook, by name; where no pages are served, paths of pages and
    notebooks."""
    links: dict[str, str] = {}
    base = _base(commit, pages_url) if pages_url else None
    if commit.facts.page:
        links["page"] = f"{base}/" if base else str(commit.path / commit.facts.page)
    if base and has_rows(commit):
        links["rows_page"] = f"{base}/rows"
    if commit.facts.notebook:
        links["notebook"] = f"{base}/notebook" if base else str(commit.path / commit.facts.notebook)
    return links


def _base(commit: Commit, pages_url: str) -> str:
    return f"{pages_url.rstrip('/')}/{commit.entity_id}/{commit.data_version[:16]}"


def _links(commit: Commit, pages_url: str | None) -> dict[str, Any]:
    make = dg.MetadataValue.url if pages_url else dg.MetadataValue.path
    return {f"dyff/{name}": make(link) for name, link in page_links(commit, pages_url).items()}


def _score(score: Score) -> dict[str, float]:
    numbers = {f"score/{score.name}": score.value}
    if score.low is not None:
        numbers[f"score/{score.name}/low"] = score.low
    if score.high is not None:
        numbers[f"score/{score.name}/high"] = score.high
    # A score that the data do not define is no number to plot, and JSON has none for it.
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _latency(quantiles: object) -> dict[str, float]:
    """Quantiles of latency as numbers of their own, which Dagster plots."""
    found = quantiles if isinstance(quantiles, dict) else {}
    return {
        f"latency/{name}": float(value) for name, value in found.items() if isinstance(value, float | int)
    }


def _column(column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        name=column.name,
        type=column.type,
        description=column.description or _KEYS.get(column.name),
        constraints=dg.TableColumnConstraints(nullable=column.nullable),
    )


def _plot(commit: Commit, name: str, pages_url: str | None) -> str | None:
    """The figure as Markdown: by its URL, where pages are served, and then Dagster shows it; else its bytes."""
    if pages_url:
        return f"![{Path(name).stem}]({_base(commit, pages_url)}/figure.png)"
    path = commit.path / name
    data = path.read_bytes()
    if len(data) > _IMAGE_LIMIT:
        return None
    return f"![{Path(name).stem}](data:image/png;base64,{base64.b64encode(data).decode('ascii')})"
