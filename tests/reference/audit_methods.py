"""Methods written for dyff-audit, run by it and by this project: ``python -m tests.reference.audit_methods DIR``.

It is run by the Python of the environment that has both. What each made of the same files is printed as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
import pyarrow as pa
import pyarrow.dataset
import yaml

from dyff_dagster.analysis.subjects import NOBODY, Subjects, subjects_data, subjects_of
from dyff_dagster.schema.arrow import encode_schema
from dyff_dagster.schema.interchange import full_form
from dyff_dagster.schema.platform import (
    Documentation,
    InferenceService,
    Measurement,
    Method,
    Model,
    SafetyCase,
)
from tests.integration.analysis_support import DATASET, EVALUATION, Bench

CODE = '''
from typing import Iterable

import pyarrow
import pyarrow.dataset
import pydantic

from dyff.audit.analysis import AnalysisContext
from dyff.audit.scoring import Rubric
from dyff.schema.base import int32
from dyff.schema.dataset import ReplicatedItem
from dyff.schema.dataset.arrow import arrow_schema, schema_function


class Judged(ReplicatedItem):
    total: int32() = pydantic.Field(description="Sum of what was answered")


def judge(arguments: dict[str, str], **inputs: pyarrow.dataset.Dataset) -> Iterable[pyarrow.RecordBatch]:
    ctx = AnalysisContext()
    assert ctx.arguments == arguments and arguments["threshold"] == "0.9"
    assert set(ctx.inputs) == set(inputs) == {"rows", "answers"}
    assert ctx.output_path == ctx.local_storage_root / ctx.id
    labels = {row["_index_"]: row["label"] for row in inputs["rows"].to_table().to_pylist()}
    for batch in ctx.open_input_dataset("answers").to_batches():
        judged = [
            Judged(
                _index_=item["_index_"],
                _replication_=item["_replication_"],
                total=item["responses"][0]["y"] + labels[item["_index_"]],
            ).dict()
            for item in batch.to_pylist()
        ]
        yield pyarrow.RecordBatch.from_pylist(judged, schema=arrow_schema(Judged))


class Total(Rubric):
    """The same as a rubric."""

    @property
    def name(self) -> str:
        return "for_dyff.Total"

    @property
    @schema_function(arrow_schema(Judged))
    def schema(self) -> pyarrow.Schema:
        """Of a row."""

    def apply(self, task_data, predictions):
        labels = {row["_index_"]: row["label"] for row in task_data.to_table().to_pylist()}
        for batch in predictions.to_batches(columns=["_index_", "_replication_", "responses"]):
            judged = [
                Judged(
                    _index_=item["_index_"],
                    _replication_=item["_replication_"],
                    total=item["responses"][0]["y"] + labels[item["_index_"]],
                ).dict()
                for item in batch.to_pylist()
            ]
            yield pyarrow.RecordBatch.from_pylist(judged, schema=self.schema)
'''

CELLS = (
    """
import os
from dyff.audit.analysis import AnalysisContext

ctx = AnalysisContext()
threshold = float(ctx.get_argument("threshold"))
labels = {row["_index_"]: row["label"] for row in ctx.open_input_dataset("rows").to_table().to_pylist()}
answers = ctx.open_input_dataset("answers").to_table().to_pylist()
right = [answer["responses"][0]["y"] == labels[answer["_index_"]] for answer in answers]
""",
    """
ctx.TitleCard(
    headline="Does it copy?",
    author="The lab",
    summary_phrase="It does.",
    summary_text="Every label comes back.",
    system_title=ctx.analysis.scope.inferenceService,
    system_summary="A service",
    usecase_title=ctx.analysis.method.id,
    usecase_summary="Copying",
)
""",
    """
ctx.Score(output="accuracy", quantity=100 * sum(right) / len(right), text="How many came back")
ctx.Score(quantity=len(right), text="How many were asked", format="{quantity:.0f}")
ctx.Conclusion(text="It copies.", indicator="Information")
(ctx.output_path / "whose.txt").write_text(f"{ctx.id} {sorted(ctx.inputs)} {sorted(ctx.arguments)}")
""",
)
UNTITLED = (
    """
from dyff.audit.analysis import AnalysisContext

ctx = AnalysisContext()
ctx.TitleCard(headline="Untitled", author="The lab", summary_phrase="A phrase", summary_text="A text")
said = [ctx.system.spec.kind, ctx.system.spec.id, ctx.system.documentation.title, ctx.system.documentation.summary]
said += [ctx.usecase.spec.kind, ctx.usecase.spec.id, ctx.usecase.documentation.title, ctx.usecase.documentation.summary]
said += [ctx.analysis.method.id, ctx.get_argument("threshold")]
(ctx.output_path / "told.txt").write_text(" | ".join(said))
ctx.Score(output="accuracy", quantity=50, text="Half")
ctx.Curve(output="roc", points={"x": [0.0, 0.5, 1.0], "y": [0.0, 0.75, 1.0]}, text="Of two thresholds")
""",
)
"""It leaves to the platform what the system and the method are called."""
SCORES = [
    {
        "name": "accuracy",
        "title": "Accuracy",
        "summary": "How many labels came back",
        "minimum": 0,
        "maximum": 100,
        "format": "{quantity:.1f}{unit}",
        "unit": "%",
    },
    {
        "name": "roc",
        "title": "ROC",
        "summary": "True against false positives",
        "dimensions": {
            name: {"name": name, "title": name, "summary": name, "priority": "secondary"}
            for name in ("x", "y")
        },
    },
]


def main(directory: Path) -> None:
    from dyff.schema.dataset.arrow import arrow_schema

    bench = Bench(directory)
    (bench.module / "for_dyff.py").write_text(CODE)
    for name, cells in (("case.ipynb", CELLS), ("untitled.ipynb", UNTITLED)):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, bench.module / name)
    sys.path.insert(0, str(bench.module))
    import for_dyff

    schema: pa.Schema = arrow_schema(for_dyff.Judged)
    function = {"kind": "PythonFunction", "pythonFunction": {"fullyQualifiedName": "for_dyff.judge"}}
    rubric = {"kind": "PythonRubric", "pythonRubric": {"fullyQualifiedName": "for_dyff.Total"}}
    judged = bench.measurement(schema=schema, by=function, id="judged")
    totals = bench.measurement(schema=schema, by=rubric, id="totals", arguments=[]).model_copy(deep=True)
    totals.method.parameters = []
    for items in (totals.inputs, totals.method.inputs):
        items[0].keyword, items[1].keyword = "task_data", "predictions"
    case = bench.safety_case()
    case = SafetyCase.model_validate(
        {**json.loads(case.model_dump_json()), "method": {**full_form(case.method), "scores": SCORES}}
    )
    results = {entity.id: compare(bench, entity) for entity in (judged, totals, case)}
    untitled = case.model_copy(update={"id": "untitled", "method": case.method.model_copy(deep=True)})
    notebook_of = untitled.method.implementation.jupyterNotebook
    assert notebook_of is not None
    notebook_of.notebookPath = "untitled.ipynb"
    for name, with_model in (("of a service", False), ("of a model", True)):
        results[name] = compare(bench, untitled, about(untitled, with_model))
    print(json.dumps(results))


def about(case: SafetyCase, with_model: bool) -> Subjects:
    """What is told of the system, documented or not, and of the method."""
    service = InferenceService.model_validate(
        {
            "id": "service",
            "account": "acme",
            "name": "The service",
            "labels": {"team": "red"},
            "annotations": [{"key": "dyff-dagster/x", "value": "y"}],
            "runner": {"kind": "mock", "resources": {"storage": "1Mi"}},
            "interface": {
                "endpoint": "answer",
                "outputSchema": {"arrowSchema": encode_schema(pa.schema([("y", pa.int64())]))},
            },
            **({"model": {name: MODEL[name] for name in FOREIGN}} if with_model else {}),
        }
    )
    model = Model.model_validate({**MODEL, "kind": "Model"})
    method = Method.model_validate({**json.loads(json.dumps(full_form(case.method))), "kind": "Method"})
    documentation = {"service": Documentation(title="The documented service", summary="It *copies*.")}
    return subjects_of(
        case,
        {entity.id: entity for entity in (service, method, *([model] if with_model else []))},
        documentation,
    )


def compare(bench: Bench, entity: Measurement | SafetyCase, subjects: Subjects = NOBODY) -> dict[str, Any]:
    commit = bench.run(entity, subjects=subjects)
    theirs = run_by_dyff_audit(bench, entity, subjects)
    return {"ours": made(Path(commit.path)), "theirs": made(theirs), "page": page(Path(commit.path))}


MODEL = {
    "id": "model",
    "account": "acme",
    "name": "The model",
    "storage": {"medium": "ObjectStorage"},
    "source": {"kind": "HuggingFaceHub", "huggingFaceHub": {"repoID": "acme/model", "revision": "0" * 40}},
    "artifact": {
        "kind": "HuggingFaceCache",
        "huggingFaceCache": {"repoID": "acme/model", "revision": "0" * 40},
    },
    "resources": {"storage": "1Gi"},
}
FOREIGN = ("id", "account", "name", "artifact", "storage")


def run_by_dyff_audit(bench: Bench, entity: Measurement | SafetyCase, subjects: Subjects) -> Path:
    """The same method on a storage root as dyff-audit lays it out; returns the analysis's directory."""
    from dyff.audit.analysis import run_analysis
    from dyff.schema.platform import ForeignMethod

    root = bench.root / "theirs" / f"{entity.id}-{len(list(bench.root.glob('theirs/*')))}"
    for name, path in {**bench.inputs, "module": bench.module}.items():
        shutil.copytree(path, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    assert {DATASET, EVALUATION} == set(bench.inputs)
    # Through JSON: dyff-audit's reader of YAML has no place for Python's own objects.
    form = json.loads(json.dumps(full_form(entity)))
    fields = {name: form[name] for name in ("scope", "arguments", "inputs", "method") if name in form}
    if subjects:
        fields["data"] = subjects_data(subjects)
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump({"spec": {"id": entity.id, **fields}}))
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run_analysis(ForeignMethod.model_validate(form["method"]), storage_root=root, config_file=config)
    return root / entity.id


def made(directory: Path) -> dict[str, Any]:
    """The rows, in order, or what a safety case reported and wrote."""
    parquet = sorted(directory.glob("*.parquet"))
    if parquet:
        table = pyarrow.dataset.dataset([str(path) for path in parquet]).to_table()
        return {"rows": table.sort_by([(name, "ascending") for name in table.column_names]).to_pylist()}
    scores = json.loads((directory / ".dyff" / "scores.json").read_text())["scores"]
    names = ("name", "title", "summary", "quantity", "quantityString", "text", "unit", "format", "priority")
    curves = directory / ".dyff" / "curves.json"
    return {
        "curves": json.loads(curves.read_text())["curves"] if curves.exists() else [],
        "scores": [{name: score[name] for name in names} for score in scores],
        "files": {path.name: path.read_text() for path in directory.glob("*.txt")},
    }


def page(directory: Path) -> str:
    path = directory / "index.html"
    return path.read_text("utf-8") if path.exists() else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
