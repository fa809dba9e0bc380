"""What can go wrong in an analysis. None of these sentences repeats a row or a message of the author's code."""

from __future__ import annotations

from collections.abc import Iterable

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.resources import shown_bytes
from dyff_dagster.store import Completeness


class AnalysisError(DyffError):
    """An analysis was called wrongly, failed, or made something that may not be published."""


class UnknownKeyword(AnalysisError):
    """An analysis was asked for an argument or an input that it does not have.

    Attributes:
        what: ``argument`` or ``input``.
        keyword: What was asked for.
        known: What there is.
    """

    def __init__(self, what: str, keyword: str, known: Iterable[str]) -> None:
        self.what = what
        self.keyword = keyword
        self.known = tuple(known)
        there = ", ".join(self.known) if self.known else "none"
        super().__init__(f"this analysis has no {what} {keyword!r}; it has: {there}")


class WrongRow(AnalysisError):
    """A row does not fit the declared schema.

    Attributes:
        field: The field that does not fit.
        row: How to find the row: ``_index_ 17``, or its position.
    """

    def __init__(self, field: str, row: str, why: str) -> None:
        self.field = field
        self.row = row
        super().__init__(f"field {field!r} {why}, first in the row with {row}")


class NotebookFailed(AnalysisError):
    """A notebook raised an exception, or its kernel died.

    Attributes:
        notebook: Path of the notebook in its module.
        cell: Number of the cell, the notebook's first cell being 1; None where no cell had started.
        ename: Class of the exception; ``DeadKernel`` where the kernel died.
        kept: Where the notebook lies as far as it came, or an empty string.
        log: Where the log lies.
        hint: What may be the reason and what would be right, or an empty string.
    """

    def __init__(
        self,
        analysis_id: str,
        notebook: str,
        cell: int | None,
        ename: str,
        kept: str,
        log: str,
        hint: str = "",
    ) -> None:
        self.notebook = notebook
        self.cell = cell
        self.ename = ename
        self.kept = kept
        self.log = log
        self.hint = hint
        where = f"cell {cell}" if cell is not None else "no cell had started"
        what = "its kernel died" if ename == "DeadKernel" else f"it raised {ename}"
        what += f" ({hint})" if hint else ""
        seen = f"; see it as far as it came in {kept}" if kept else ""
        super().__init__(
            f"{analysis_id}: notebook {notebook} failed ({where}): {what}{seen}; the log is {log}"
        )


class FunctionFailed(AnalysisError):
    """A method's Python function raised an exception.

    Attributes:
        function: Its dotted name.
        ename: Class of the exception.
        where: ``file.py:31``, the last place in the method's own code, or an empty string.
        log: Where the log with the traceback lies.
        hint: What may be the reason and what would be right, or an empty string.
    """

    def __init__(
        self, analysis_id: str, function: str, ename: str, where: str, log: str, hint: str = ""
    ) -> None:
        self.function = function
        self.ename = ename
        self.where = where
        self.log = log
        self.hint = hint
        at = (f" at {where}" if where else "") + (f" ({hint})" if hint else "")
        super().__init__(f"{analysis_id}: function {function} raised {ename}{at}; the traceback is in {log}")


class InputsChanged(AnalysisError):
    """A method wrote to what it was given to read.

    Attributes:
        role: ``input ID`` or ``module ID``.
        entity: ID of what was changed.
    """

    def __init__(self, analysis_id: str, role: str, entity: str) -> None:
        self.role = role
        self.entity = entity
        super().__init__(
            f"{analysis_id}: its method changed files of its {role}; they must only be read: "
            f"materialize {entity} again, with force: true"
        )


class AnalysisTimeout(AnalysisError):
    """An analysis took longer than it may, and was ended.

    Attributes:
        seconds: What it was given.
        log: Where the log lies.
    """

    def __init__(self, analysis_id: str, seconds: float, remedy: str, log: str) -> None:
        self.seconds = seconds
        self.log = log
        super().__init__(
            f"{analysis_id}: ended after {seconds:.10g} seconds, the time it was given: "
            f"{remedy}, or see in {log} what held it up"
        )


class OutOfMemory(AnalysisError):
    """The processes of an analysis held more memory together than they may, and were killed.

    Attributes:
        held: Bytes that they held when that was seen.
        limit: Bytes that they may hold.
        log: Where the log lies.
    """

    def __init__(self, analysis_id: str, held: int, limit: int, remedy: str, log: str) -> None:
        self.held = held
        self.limit = limit
        self.log = log
        super().__init__(
            f"{analysis_id}: killed when it held {shown_bytes(held)} of memory, and it may hold {shown_bytes(limit)}: "
            f"{remedy}, or let it hold less at once; the log is {log}"
        )


class IncompleteRows(AnalysisError):
    """An instance-level measurement does not have each row that it must have exactly once.

    Attributes:
        completeness: The count, with the first few rows that are missing or doubled.
    """

    def __init__(self, analysis_id: str, completeness: Completeness) -> None:
        self.completeness = completeness
        counts = [
            f"{count} {word}"
            for count, word in (
                (completeness.missing, "missing"),
                (completeness.duplicated, "more than once"),
                (completeness.unexpected, "that the input does not have"),
            )
            if count
        ]
        super().__init__(
            f"{analysis_id}: the rows of the measurement are not those of its input: "
            f"{', '.join(counts)} ({', '.join(completeness.examples)}); the method must yield one row for each"
        )
