"""What the process that runs an analysis is told, and what it tells back: three files in a scratch directory."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyff_dagster.analysis.html import Origin, Page
from dyff_dagster.analysis.making import Making
from dyff_dagster.analysis.rubrics import ReportViews
from dyff_dagster.store import Score

PAGE = "index.html"
NOTEBOOK = "notebook.ipynb"


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
        """The outcome, or None where the worker died before it had one."""
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
