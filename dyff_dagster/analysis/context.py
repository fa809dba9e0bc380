"""What a method's code sees of its analysis: arguments, inputs, and ways to report."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dyff_dagster.analysis import display, tracing
from dyff_dagster.analysis.configuration import CONFIG_FILE, Heading, read_configuration
from dyff_dagster.analysis.errors import AnalysisError, UnknownKeyword
from dyff_dagster.analysis.recipes import Column, Scalar, TracedEstimate, derivation_of
from dyff_dagster.analysis.recipes import estimate as make_estimate
from dyff_dagster.analysis.records import (
    FIGURE,
    ScoreRecord,
    Valence,
    add_score,
    read_scores,
    write_conclusion,
    write_output,
)
from dyff_dagster.analysis.rows import write_rows
from dyff_dagster.analysis.statistics import Estimate
from dyff_dagster.schema.ids import check_id
from dyff_dagster.schema.parquet import open_dataset
from dyff_dagster.schema.platform import Analysis

if TYPE_CHECKING:
    import pyarrow.dataset
    from matplotlib.figure import Figure

STORAGE_ROOT = "DYFF_AUDIT_LOCAL_STORAGE_ROOT"


class InputKeywords(list[str]):
    """The keywords of an analysis's inputs; called with one of them, it opens the data behind it."""

    def __init__(self, context: AnalysisContext, keywords: Iterable[str]) -> None:
        super().__init__(keywords)
        self._context = context

    def __call__(self, keyword: str) -> pyarrow.dataset.Dataset:
        """The data behind ``keyword``, as :meth:`AnalysisContext.open_input_dataset`."""
        return self._context.open_input_dataset(keyword)


class AnalysisContext:
    """The analysis that this code is run for.

    Without arguments, as a notebook makes it, it is configured by two environment variables:
    ``DYFF_AUDIT_LOCAL_STORAGE_ROOT``, an absolute path with one directory per entity, and
    ``DYFF_AUDIT_ANALYSIS_CONFIG_FILE``, a YAML file ``{spec: {id: ID, ...fields of Analysis}}``.

    Args:
        analysis: For tests and for work in an editor: the analysis itself, instead of the file.
        id: Its id, where ``analysis`` is given.
        local_storage_root: The storage root, instead of the variable's.

    Raises:
        AnalysisError: A variable is missing, the root is not absolute, or the file holds no analysis.
    """

    def __init__(
        self,
        *,
        analysis: Analysis | None = None,
        id: str | None = None,
        local_storage_root: str | os.PathLike[str] | None = None,
    ) -> None:
        root = local_storage_root if local_storage_root is not None else _variable(STORAGE_ROOT)
        self._root = Path(root)
        if not self._root.is_absolute():
            raise AnalysisError(f"{STORAGE_ROOT} must be an absolute path, and {str(self._root)!r} is none")
        if analysis is None:
            configuration = read_configuration(Path(_variable(CONFIG_FILE)))
            self._id, self._analysis = configuration.id, configuration.analysis
            self._heading = configuration.heading
        elif id is None:
            raise AnalysisError("AnalysisContext(analysis=...) needs id=..., the analysis's id, too")
        else:
            self._id, self._analysis = check_id(id), analysis
            self._heading = Heading(analysis.method.name)
        self._arguments = {item.keyword: item.value for item in self._analysis.arguments}
        self._inputs = {item.keyword: item.entity for item in self._analysis.inputs}
        self._written = False

    @property
    def id(self) -> str:
        """The analysis's id."""
        return self._id

    @property
    def analysis(self) -> Analysis:
        """The analysis: its method, scope, arguments and inputs."""
        return self._analysis

    @property
    def local_storage_root(self) -> Path:
        """The directory with one directory for each entity that the analysis uses."""
        return self._root

    @property
    def output_path(self) -> Path:
        """The analysis's own directory: what lies here afterwards is its artifact."""
        return self._root / self._id

    @property
    def arguments(self) -> dict[str, str]:
        """Every argument by keyword; always strings."""
        return dict(self._arguments)

    @property
    def inputs(self) -> InputKeywords:
        """The keywords of the inputs; ``ctx.inputs("dataset")`` opens one."""
        return InputKeywords(self, self._inputs)

    def get_argument(self, keyword: str) -> str:
        """The argument of that keyword.

        Raises:
            UnknownKeyword: There is none; the message names those that there are.
        """
        try:
            return self._arguments[keyword]
        except KeyError:
            raise UnknownKeyword("argument", keyword, self._arguments) from None

    def args(self, keyword: str) -> str:
        """The argument of that keyword, as :meth:`get_argument`."""
        return self.get_argument(keyword)

    def open_input_dataset(self, keyword: str) -> pyarrow.dataset.Dataset:
        """The rows of the input of that keyword, not yet read.

        Its ``to_batches`` reads as the batches are taken, in constant memory.

        Raises:
            UnknownKeyword: There is none; the message names those that there are.
            DatasetPathError: Its directory holds no Parquet files.
        """
        try:
            entity = self._inputs[keyword]
        except KeyError:
            raise UnknownKeyword("input", keyword, self._inputs) from None
        from dyff_dagster.schema.streaming import streamed

        return streamed(open_dataset(self._root / check_id(entity)))

    # Reporting

    def score(
        self,
        name: str,
        value: float | Estimate | None,
        low: float | None = None,
        high: float | None = None,
        n: int | None = None,
        *,
        interval: tuple[float | None, float | None] | None = None,
        title: str | None = None,
        summary: str | None = None,
        text: str | None = None,
        unit: str | None = None,
        format: str = "{quantity:.3f}",
        valence: Valence = "neutral",
        minimum: float | None = None,
        maximum: float | None = None,
        primary: bool = False,
        display_card: bool = True,
    ) -> None:
        """Report a number: it is recorded with the result, and shown here.

        The first score reported is the one shown where there is room for one, unless another says
        ``primary=True``.

        Args:
            name: A Python identifier, by which thresholds name the score.
            value: The number; None where the data do not define it; or an Estimate, which brings its
                interval and n along.
            low: Lower bound of the 95 % interval.
            high: Upper bound of it.
            n: How many independent observations it rests on.
            interval: ``(low, high)``, instead of the two.
            title: Its name for people.
            summary: What it measures, in a sentence.
            text: What this value means, in a sentence.
            unit: Unit of measure.
            format: Python format with ``quantity`` and, if wanted, ``unit``.
            valence: ``positive`` where more is better, ``negative`` where less is.
            minimum: The least possible value.
            maximum: The greatest possible value.
            primary: Show this one where there is room for one.
            display_card: Show it here.

        Raises:
            AnalysisError: The name is taken or unusable, a number is not finite, or the interval is given
                twice.
        """
        level = 0.95
        given = sum((low is not None or high is not None, interval is not None, isinstance(value, Estimate)))
        if given > 1 or (isinstance(value, Estimate) and n is not None):
            raise AnalysisError(
                f"score {name!r} is given its interval twice; give low and high, or interval, or an Estimate"
            )
        if interval is not None:
            low, high = interval
        derivation = derivation_of(value) if isinstance(value, Estimate) else None
        asked = worst_low = worst_high = None
        if isinstance(value, Estimate):
            asked, worst_low, worst_high = value.asked, value.worst_low, value.worst_high
            low, high, n, level, value = value.low, value.high, value.n, value.level, value.value
        record = ScoreRecord(
            name=name,
            value=None if value is None else float(value),
            low=None if low is None else float(low),
            high=None if high is None else float(high),
            n=None if n is None else int(n),
            level=level,
            title=title,
            summary=summary,
            text=text,
            format=format,
            unit=unit,
            valence=valence,
            minimum=minimum,
            maximum=maximum,
            asked=asked,
            worst_low=worst_low,
            worst_high=worst_high,
            estimator=None if derivation is None else derivation.to_json(),
        )
        add_score(
            self.output_path,
            record,
            analysis_id=self._id,
            method=self._analysis.method.id,
            scope=self._analysis.scope,
            primary=primary,
        )
        if display_card:
            said = ", ".join(part for part in (record.quantity_string, record.interval_string) if part)
            display.show(display.score_card(record), f"{name}: {said}")

    def estimate(
        self,
        estimator: str,
        input: str,
        columns: Mapping[str, Column],
        *,
        where: Mapping[str, Scalar] | None = None,
        **parameters: Any,
    ) -> TracedEstimate:
        """An estimate of columns of an input that says of what it was made, so that others can make it again.

        ``ctx.score("sensitivity", ctx.estimate("rate", "instances", {"outcomes": "correct", "clusters": "_index_"},
        where={"label": "malignant"}))``

        Args:
            estimator: Name of an estimator, ``rate``; ``quoted`` takes a score over from a measurement.
            input: Keyword of the input.
            columns: Which column each of the estimator's arrays is: a field's name, or ``{"column": NAME,
                "equals": VALUE}``.
            where: Values that rows must have, by field.
            parameters: The estimator's settings.

        Raises:
            UnknownKeyword: There is no such input.
            AnalysisError: There is no such estimator or column, or what the estimator raises.
        """
        rows = self.open_input_dataset(input)
        return make_estimate(estimator, rows, columns, input=input, where=where, **parameters)

    def title(self, title: str | None = None, subtitle: str | None = None) -> None:
        """Show the head of the page.

        Args:
            title: Default: the title in the entity's Documentation, else its name.
            subtitle: Default: the summary in its Documentation, where the title is from there too; else nothing.
        """
        if subtitle is None:
            subtitle = self._heading.summary if title is None else ""
        title = self._heading.title if title is None else title
        display.show(display.title_card(title, subtitle), f"{title}\n{subtitle}".strip())

    def figure(self, fig: Figure, caption: str = "", *, alt: str = "", headline: bool = False) -> None:
        """Show a matplotlib figure with what it shows, and close it.

        The image is the same bytes whenever the figure is the same.

        Args:
            fig: The figure, or axes in it.
            caption: What it shows, below it.
            alt: What is seen on it, in words, for those who do not see it; default the caption.
            headline: Keep a small copy, which Dagster's UI shows beside the scores.
        """
        fig = getattr(fig, "figure", None) or fig
        png = display.figure_png(fig)
        if headline:
            write_output(self.output_path / FIGURE, display.figure_png(fig, width=display.HEADLINE_WIDTH))
        display.show(display.figure_block(png, caption, alt), caption or "Figure")
        import matplotlib.pyplot as plt

        # Left open, the notebook would show it a second time at the end of the cell.
        plt.close(fig)

    def table(self, rows: pa.Table | pa.RecordBatch | Iterable[Mapping[str, Any]], caption: str = "") -> None:
        """Show a table of up to 200 rows.

        Args:
            rows: An Arrow table, a pandas DataFrame, or mappings from a column's name to a value.
            caption: What it shows.

        Raises:
            AnalysisError: ``rows`` is none of these.
        """
        if not isinstance(rows, pa.Table | pa.RecordBatch) and not hasattr(rows, "to_dict"):
            rows = list(rows)
        display.show(display.table_block(rows, caption), caption or "Table")

    def trace(
        self,
        score: str,
        instances: str,
        *,
        outcome: str,
        where: Mapping[str, Scalar] | None = None,
        dataset: str | None = None,
        fields: Sequence[str] | None = None,
        evaluation: str | None = None,
        order: tracing.Order = "lowest",
        limit: int = 20,
    ) -> None:
        """Show the rows that a score rests on, the worst first, with what was asked and what was answered.

        What it shows goes on the page, and nowhere else.

        Args:
            score: A score that was reported.
            instances: Keyword of the input with what each answer came to.
            outcome: Its field that the score averages: true or false, or a number.
            where: Values that rows must have, by field.
            dataset: Keyword of the data set that was asked about; None: what was asked is not shown.
            fields: Its fields that are shown; default all.
            evaluation: Keyword of the answers; None: they are not shown.
            order: ``highest`` where less is better.
            limit: Rows that are shown at most.

        Raises:
            UnknownKeyword: There is no such input.
            AnalysisError: There is no such score or field.
        """
        reported = {known.name: known for known in read_scores(self.output_path)}
        if score not in reported:
            raise AnalysisError(
                f"there is no score {score!r} to trace; reported before were: {', '.join(reported) or 'none'}"
            )
        rows = self.open_input_dataset(instances)
        found = tracing.trace_rows(rows, outcome=outcome, where=where or {}, order=order, limit=limit)
        if dataset is not None:
            found = tracing.with_questions(found, self.open_input_dataset(dataset), fields)
        if evaluation is not None:
            found = tracing.with_answers(found, self.open_input_dataset(evaluation), self._inputs[evaluation])
        caption = tracing.caption_of(found, str(reported[score]), where or {})
        display.show(tracing.trace_table(found, caption), caption)

    def conclusion(self, text: str, holds: bool | None = None) -> None:
        """Say what the analysis comes to, once; it is recorded as the safety case's conclusion, and shown.

        Args:
            text: One sentence.
            holds: Whether what was claimed holds; None where it stays open.

        Raises:
            AnalysisError: A conclusion was drawn already.
        """
        holds = None if holds is None else bool(holds)
        write_conclusion(self.output_path, text, holds)
        display.show(display.conclusion_card(text, holds), text)

    def write(self, data: pa.Table | pa.RecordBatch | Iterable[pa.RecordBatch]) -> None:
        """Write the rows of the measurement that this notebook makes, once, all of them.

        Raises:
            WrongRow: A row does not fit the declared schema.
            AnalysisError: The method makes no measurement, or its rows were written already.
        """
        measurement = self._analysis.method.output.measurement
        if measurement is None:
            raise AnalysisError(f"{self._id}: its method makes no Measurement, so there are no rows to write")
        if self._written:
            raise AnalysisError(
                f"{self._id}: its rows are written already; pass all batches to one ctx.write"
            )
        write_rows(data, measurement.schema_.decode(), self.output_path)
        self._written = True


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise AnalysisError(
            f"{name} is not set: AnalysisContext() works inside an analysis that dyff-dagster runs; "
            "elsewhere give it analysis=, id= and local_storage_root="
        )
    return value
