"""What the tests fill the blanks of templates with, and what stands beside them in the catalog."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dyff_dagster.catalog.blanks import BLANK

COMPANIONS = """\
{kind: DataSource, id: source, account: me, name: Rows, sourceKind: upload, source: rows.csv}
---
kind: Dataset
id: dataset
account: me
name: Rows
artifacts: [{path: data.parquet}]
annotations: {dyff-dagster/withhold: ''}
schema: {arrow: {question: string!}}
---
{kind: Dataset, id: other-dataset, account: me, name: Rows, artifacts: [{path: data.parquet}],
 annotations: {dyff-dagster/withhold: ''}, schema: {arrow: {question: string!}}}
---
kind: Model
id: model
account: me
name: Model
source: {kind: Mock}
artifact: {kind: Mock}
storage: {medium: Mock}
resources: {storage: 1Mi}
---
kind: InferenceService
id: service
account: me
name: Service
model: model
runner: {kind: mock, resources: {storage: 1Mi}}
interface: {endpoint: generate, outputSchema: {arrow: {answer: string!}}}
---
{kind: InferenceSession, id: session, account: me, inferenceService: service}
---
{kind: Evaluation, id: evaluation, account: me, dataset: dataset, inferenceSession: {inferenceService: service}}
---
{kind: Module, id: module, account: me, name: Code, artifacts: [{path: scoring.py}]}
---
kind: Method
id: method
account: me
name: Method
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: scoring.match}}
modules: [module]
inputs: [{keyword: dataset, kind: Dataset}, {keyword: evaluation, kind: Evaluation}]
output:
  kind: Measurement
  measurement: {name: Match, level: Dataset, schema: {arrow: {score: string!, value: float64!}}}
---
kind: Method
id: method-with-threshold
account: me
name: Method
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: scoring.match}}
modules: [module]
parameters: [{keyword: threshold}]
inputs: [{keyword: dataset, kind: Dataset}, {keyword: evaluation, kind: Evaluation}]
output:
  kind: Measurement
  measurement: {name: Match, level: Dataset, schema: {arrow: {score: string!, value: float64!}}}
---
kind: Method
id: argue
account: me
name: Method
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: scoring.argue}}
modules: [module]
inputs: [{keyword: scores, kind: Measurement}]
output: {kind: SafetyCase, safetyCase: {name: Page}}
---
kind: Method
id: argue-with-threshold
account: me
name: Method
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: scoring.argue}}
modules: [module]
parameters: [{keyword: threshold}]
inputs: [{keyword: scores, kind: Measurement}]
output: {kind: SafetyCase, safetyCase: {name: Page}}
---
kind: Measurement
id: measurement
account: me
method: method
scope: {evaluation: evaluation, inferenceService: service, dataset: dataset}
inputs: [{keyword: dataset, entity: dataset}, {keyword: evaluation, entity: evaluation}]
---
{kind: AuditProcedure, id: procedure, account: me, name: Procedure}
"""
FILES = ("data.parquet", "rows.csv", "scoring.py", "rows/data.parquet", "raw/rows.csv", "weights/model.bin")
FILES_OF_CODE = ("code/scoring.py",)

VALUES = {
    "an id of your choice": "new",
    "who owns it": "me",
    "who owned it": "me",
    "a name for people": "A name",
    "its name for people": "A name",
    "path of the file": "rows.csv",
    "path of a file": "scoring.py",
    "fields that no service may see": "''",
    "id of a DataSource": "source",
    "name of a field": "answer",
    "organisation and name": "me/model",
    "version of the model": "v1",
    "id of a Model": "model",
    "path of your server": "serve.py",
    "id of an InferenceService": "service",
    "id of a Dataset": "dataset",
    "id of an InferenceSession": "session",
    "module.function in a Module": "scoring.match",
    "id of a Module": "module",
    "a name for the scores": "Scores",
    "id of an Evaluation": "evaluation",
    "id of a Measurement": "measurement",
    "id of what this is about": "dataset",
    "a short title": "Title",
    "name of a rubric": "scoring.match",
    "id of an AuditProcedure": "procedure",
    "kind of all members": "Dataset",
    "id of the first version": "dataset",
    "id of another version": "other-dataset",
    "id of the latest Revision": "first",
    "id of the entity": "dataset",
}

_COMMENTED = re.compile(r"^( *)#(?=\S)")


def write_files(directory: Path) -> None:
    """Make the files that the companions and the filled templates name; they are empty."""
    for name in FILES + FILES_OF_CODE:
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


def fill(kind: str, text: str) -> str:
    """A template with its blanks filled, also those of optional lines."""
    with_threshold = re.search(r"^arguments:", text, re.MULTILINE) is not None
    methods = {"Measurement": "method", "SafetyCase": "argue"}
    method = methods.get(kind, "method") + ("-with-threshold" if with_threshold else "")
    values = {**VALUES, "id of a Method": method}
    return BLANK.sub(lambda match: values[match[0][1:-1]], text)


def leaves(text: str) -> list[int]:
    """The numbers, from 0, of optional lines that have no optional line of their own below them."""
    lines = text.splitlines()
    return [
        number
        for number, line in enumerate(lines)
        if (found := _COMMENTED.match(line))
        and not (
            number + 1 < len(lines)
            and (below := _COMMENTED.match(lines[number + 1]))
            and len(below[1]) > len(found[1])
        )
    ]


def uncommented(text: str, chosen: Sequence[int] | None = None) -> str:
    """A template with the chosen optional lines, and those that they stand below, or (None) with all."""
    lines = text.splitlines()
    wanted = set(leaves(text) if chosen is None else chosen)
    for number in sorted(wanted):
        found = _COMMENTED.match(lines[number])
        assert found is not None
        indent = len(found[1])
        for above in range(number - 1, -1, -1):
            parent = _COMMENTED.match(lines[above])
            if parent is None:
                break
            if len(parent[1]) < indent:
                indent = len(parent[1])
                wanted.add(above)
    return "\n".join(
        _COMMENTED.sub(r"\1", line) if number in wanted else line for number, line in enumerate(lines)
    ) + "\n"  # fmt: skip
