"""Small analyses on disk: entities, inputs and modules made in a temporary directory, run for real."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster import analysis
from dyff_dagster.processes import alive, identity
from dyff_dagster.schema.arrow import encode_schema
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.platform import Measurement, SafetyCase
from dyff_dagster.store import Commit, Inputs, Store

DATASET, EVALUATION = "rows", "answers"

INSTANCE = pa.schema(
    [
        pa.field("_index_", pa.int64(), nullable=False),
        pa.field("_replication_", pa.string(), nullable=False),
        pa.field("correct", pa.bool_(), nullable=False),
    ]
)
SCORES = pa.schema(
    [
        pa.field("score", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64()),
    ]
)


@dataclass
class Bench:
    """A store, two inputs of four rows (the evaluation has two replications), and one module.

    With ``fresh=False`` it is one that lies there already.
    """

    root: Path
    fresh: bool = True
    seen: list[tuple[str, int | None, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.root / "store")
        self.module = self.root / "module"
        self.inputs = {name: self.root / name for name in (DATASET, EVALUATION)}
        if not self.fresh:
            return
        self.module.mkdir(parents=True)
        for path in self.inputs.values():
            path.mkdir()
        rows = [{"_index_": i, "label": i % 2} for i in range(4)]
        pq.write_table(pa.Table.from_pylist(rows), self.inputs[DATASET] / "data.parquet")
        answers = [
            {"_replication_": replication_id(EVALUATION, r), "_index_": i, "responses": [{"y": i % 2}]}
            for r in range(2)
            for i in range(4)
        ]
        pq.write_table(pa.Table.from_pylist(answers), self.inputs[EVALUATION] / "answers.parquet")

    def leftovers(self, name: str) -> list[Path]:
        """What is left of versions that were never finished."""
        drafts = Path(self.store.working(name) / "drafts")
        return list(drafts.iterdir()) if drafts.exists() else []

    def notebook(self, *cells: str, name: str = "case.ipynb") -> None:
        """Write a notebook into the module; a cell that begins with ``#md`` is Markdown."""
        document = nbformat.v4.new_notebook()
        document.cells = [
            nbformat.v4.new_markdown_cell(cell.removeprefix("#md").strip())
            if cell.startswith("#md")
            else nbformat.v4.new_code_cell(cell)
            for cell in cells
        ]
        # A kernel that no machine has: an analysis runs on its own.
        document.metadata["kernelspec"] = {
            "name": "somewhere-else",
            "display_name": "X",
            "language": "python",
        }
        path = self.module / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(document, path)

    def function(self, code: str) -> None:
        (self.module / "scoring_under_test.py").write_text(code)

    def safety_case(self, **changes: Any) -> SafetyCase:
        return SafetyCase.model_validate(
            {
                "id": "case",
                "account": "acme",
                "name": "Is it safe?",
                "description": "A *small* case",
                **_analysis({"kind": "SafetyCase", "safetyCase": {"name": "Is it safe?"}}, _NOTEBOOK),
                **changes,
            }
        )

    def measurement(
        self,
        schema: pa.Schema = INSTANCE,
        level: str = "Instance",
        by: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Measurement:
        spec = {"name": "Correct", "level": level, "schema": {"arrowSchema": encode_schema(schema)}}
        return Measurement.model_validate(
            {
                "id": "measured",
                "account": "acme",
                **spec,
                **_analysis({"kind": "Measurement", "measurement": spec}, by or _FUNCTION),
                **changes,
            }
        )

    def run(self, entity: Measurement | SafetyCase, **options: Any) -> Commit:
        return analysis.run(
            entity,
            self.store,
            inputs=Inputs(
                spec="5" * 64, upstream={DATASET: "d" * 64, EVALUATION: "e" * 64, "module": "a" * 64}
            ),
            input_paths=self.inputs,
            modules={"module": self.module},
            progress=lambda message, done=None, total=None: self.seen.append((message, done, total)),
            **options,
        )


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something to come to pass, and return it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return value


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it a zombie that somebody else has to collect."""
    found = identity(pid)
    return found is None or not alive(pid, found)


_NOTEBOOK = {
    "kind": "JupyterNotebook",
    "jupyterNotebook": {"notebookModule": "module", "notebookPath": "case.ipynb"},
}
_FUNCTION = {
    "kind": "PythonFunction",
    "pythonFunction": {"fullyQualifiedName": "scoring_under_test.judge"},
}
BY_NOTEBOOK = _NOTEBOOK


def _analysis(output: dict[str, Any], implementation: dict[str, Any]) -> dict[str, Any]:
    return {
        "scope": {
            "dataset": DATASET,
            "evaluation": EVALUATION,
            "inferenceService": "service",
            "model": "model",
        },
        "arguments": [{"keyword": "threshold", "value": "0.9"}],
        "inputs": [
            {"keyword": "rows", "entity": DATASET},
            {"keyword": "answers", "entity": EVALUATION},
        ],
        "method": {
            "id": "method",
            "account": "acme",
            "name": "A method",
            "scope": "Evaluation",
            "implementation": implementation,
            "parameters": [{"keyword": "threshold"}],
            "inputs": [
                {"keyword": "rows", "kind": "Dataset"},
                {"keyword": "answers", "kind": "Evaluation"},
            ],
            "output": output,
            "modules": ["module"],
        },
    }
