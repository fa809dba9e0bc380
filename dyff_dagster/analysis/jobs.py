"""What an analysis is told, and what it tells back: files in a scratch directory.

The method's code can write there, too. So whatever comes back is read as if a stranger had left it: regular files
alone, no links, no more than a certain size (:func:`read_back`), and nothing but what has the expected form.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.html import Content, Origin, Page
from dyff_dagster.analysis.making import Making
from dyff_dagster.analysis.rubrics import ReportViews
from dyff_dagster.analysis.sanitizing import check_inert
from dyff_dagster.store import Score

PAGE = "index.html"
NOTEBOOK = "notebook.ipynb"

_LARGEST = 1 << 20
"""Bytes that an outcome may have, and progress that is taken in at once."""
_LARGEST_CONTENT = 1 << 30
"""Bytes of a page or a notebook: a hundred times more than a browser shows with ease."""
_SENTENCE = 2_000
"""Characters of a sentence about what went wrong."""

_CLASS = re.compile(r"[\w.:]{1,100}")


def read_back(path: Path, most: int = _LARGEST_CONTENT, start: int = 0) -> bytes | None:
    """What a file holds that a method's code may have put there; None where there is no regular file.

    A link would be followed by us with our rights, to our own environment for instance; a pipe would be waited for
    without end, and so would a device give bytes.

    Args:
        path: The file.
        most: Bytes that are read of it at most.
        start: The first of them.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        file.seek(start)
        return file.read(most)


@dataclass(frozen=True)
class Job:
    """An analysis as the worker does it.

    Attributes:
        analysis_id: The analysis.
        scratch: A directory of its own; ``root/`` in it is the storage root that the method sees.
        notebook: Path of the notebook within its module; None for a Python function.
        notebook_module: ID of that module.
        modules: IDs of the modules; they lie under the root like any entity.
        measurement: Whether it makes a Measurement (else a SafetyCase).
        arrow_schema: The declared schema of a measurement's rows, as text; None: what its rubric says.
        page: What stands around a safety case's page.
        scores: The specifications of the scores that its method declares, as JSON objects.
        views: Through what the rubric of a Report sees its inputs.
    """

    analysis_id: str
    scratch: Path
    notebook: str | None
    notebook_module: str | None
    modules: tuple[str, ...]
    measurement: bool
    arrow_schema: str | None
    page: Page
    scores: tuple[dict[str, Any], ...] = ()
    views: ReportViews | None = None

    @property
    def root(self) -> Path:
        """The storage root that the method sees."""
        return self.scratch / "root"

    @property
    def output(self) -> Path:
        """Where the analysis's artifact is made."""
        return self.root / self.analysis_id

    @property
    def path(self) -> Path:
        """Where this job is written down."""
        return self.scratch / "job.json"

    @property
    def config(self) -> Path:
        """The file that AnalysisContext reads."""
        return self.scratch / "analysis.yaml"

    @property
    def progress(self) -> Path:
        """JSON lines ``[message, done, total]``, appended as the work goes on."""
        return self.scratch / "progress.jsonl"

    @property
    def outcome(self) -> Path:
        """An :class:`Outcome` as JSON, once the work has ended."""
        return self.scratch / "outcome.json"

    @property
    def executed(self) -> Path:
        """The notebook as far as it was executed."""
        return self.scratch / "executed.ipynb"

    @property
    def content(self) -> Path:
        """The :class:`~dyff_dagster.analysis.html.Content` of a safety case's page as JSON."""
        return self.scratch / "content.json"

    def write_content(self, content: Content) -> None:
        """Write down what stands on the page."""
        self.content.write_text(json.dumps(dataclasses.asdict(content)), "utf-8")

    def read_content(self) -> Content:
        """The inverse of :meth:`write_content`, seen to neither run nor fetch anything.

        Raises:
            AnalysisError: There is none, or something that did not come out of the sanitizer.
        """
        try:
            content = Content(**json.loads(read_back(self.content) or b""))
            if not all(isinstance(text, str) for text in dataclasses.astuple(content)):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            raise AnalysisError(
                f"{self.analysis_id}: it ended without a page; let the method end by itself, and write nothing into "
                "its scratch directory"
            ) from None
        for html in (content.lead, content.scores, content.body):
            check_inert(html, self.analysis_id)
        return content

    def write(self) -> None:
        """Write the job down for the worker."""
        self.path.write_text(json.dumps(dataclasses.asdict(self), default=str), "utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        """The inverse of :meth:`write`."""
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        page = data.pop("page")
        return cls(
            **{
                **data,
                "scratch": Path(data["scratch"]),
                "modules": tuple(data["modules"]),
                "scores": tuple(data["scores"]),
                "views": None if data["views"] is None else ReportViews(**data["views"]),
                "page": Page(
                    **{
                        **page,
                        "scores": tuple(Score(**score) for score in page["scores"]),
                        "provenance": tuple(Origin(**origin) for origin in page["provenance"]),
                        "making": None if page["making"] is None else Making(**page["making"]),
                    }
                ),
            }
        )


@dataclass(frozen=True)
class Outcome:
    """How the work ended.

    Attributes:
        rows: How many rows a function wrote.
        error: A sentence of our own about what went wrong, or None.
        ename: Class of the exception that the method's code raised, or None.
        cell: Number of the notebook's cell that raised it.
        where: Place in a module that raised it, ``scoring.py:31``.
        killed: Whether its kernel was ended by SIGKILL.
        packages: Version of each package that the code uses.
    """

    rows: int | None = None
    error: str | None = None
    ename: str | None = None
    cell: int | None = None
    where: str = ""
    killed: bool = False
    packages: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether all of it was done."""
        return self.error is None and self.ename is None

    def write(self, path: Path) -> None:
        """Write it down, whole or not at all."""
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(dataclasses.asdict(self)), "utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Outcome | None:
        """The outcome, or None where the worker died before it had one.

        A class of an exception is repeated only where it looks like one: the method's code may name it after a row.
        """
        try:
            found = cls(**json.loads(read_back(path, _LARGEST) or b""))
        except (ValueError, TypeError, RecursionError):
            return None
        texts = (
            (found.error, found.ename, found.where, *found.packages) if _is_texts(found.packages) else (0,)
        )
        if not all(text is None or isinstance(text, str) for text in texts):
            return None
        if not (found.cell is None or type(found.cell) is int) or type(found.killed) is not bool:
            return None
        error, ename = found.error, found.ename
        return dataclasses.replace(
            found,
            error=None if error is None else " ".join(error.split())[:_SENTENCE],
            ename=ename if ename is None or _CLASS.fullmatch(ename) else "an exception",
        )


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
