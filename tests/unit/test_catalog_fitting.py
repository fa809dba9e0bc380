"""Schemas, scopes and accelerators that do not fit what stands beside them; and what is deprecated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.arrow import encode_schema
from tests.unit.test_catalog_manifests import (
    ALL,
    DATASET,
    EVALUATION,
    MEASUREMENT,
    METHOD,
    MODEL,
    MODULE,
    SERVICE,
    problems,
    warnings,
    write,
)

INDEX = ("_index_", pa.int64())
CASE_METHOD = (
    METHOD.split("output:")[0].replace("id: count", "id: argue")
    + "output: {kind: SafetyCase, safetyCase: {name: Safe}}\n"
)
CASE = (
    MEASUREMENT.replace("kind: Measurement", "kind: SafetyCase")
    .replace("id: counted", "id: case")
    .replace("method: count", "method: argue")
)


def wire(*fields: tuple[str, pa.DataType] | pa.Field, **others: Any) -> str:
    return json.dumps({"arrowSchema": encode_schema(pa.schema(list(fields))), **others})


def with_schema(text: str, schema: str) -> str:
    """A Dataset or Method of the short form with another schema at its end."""
    return text.rpartition("schema:")[0] + f"schema: {schema}\n"


def answers(*fields: tuple[str, pa.DataType], replication: pa.DataType | None = None, **others: Any) -> str:
    responses = pa.list_(pa.struct(list(fields)))
    return wire(("_replication_", replication or pa.string()), INDEX, ("responses", responses), **others)


def service(output: str, *lines: str) -> str:
    head = SERVICE.partition("  outputSchema")[0]
    return head + f"  outputSchema: {output}\n" + "".join(f"  {line}\n" for line in lines)


TEXT = {"dyffSchema": {"components": ["text.Text"]}}
SCHEMA = "schema.arrowSchema"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            wire(("label", pa.string())),
            f"{SCHEMA}: has no field '_index_: int64', the number that a row is known by; add it, "
            "or write the schema as {arrow: {FIELD: TYPE}}",
        ),
        (
            wire(("_index_", pa.string()), ("label", pa.string())),
            f"{SCHEMA}: declares '_index_' as string; it is a key of rows, and must be int64",
        ),
        (
            wire(INDEX, ("label", pa.string()), ("label", pa.string())),
            f"{SCHEMA}: has the field 'label' more than once; rename one",
        ),
        (
            wire(INDEX, ("label", pa.string()), ("txt", pa.string()), **TEXT),
            "schema.dyffSchema: the arrowSchema has no field 'text' of text.Text; did you mean 'txt'?",
        ),
        (
            wire(INDEX, ("label", pa.string()), ("text", pa.int64()), **TEXT),
            "schema.dyffSchema: 'text' is string in text.Text, and in the arrowSchema it is a number; "
            "correct one of them",
        ),
    ],
)
def test_a_data_set_s_schema_that_does_not_fit(tmp_path: Path, schema: str, expected: str) -> None:
    assert problems(write(tmp_path, with_schema(DATASET, schema))) == [f"audit.yaml:7: {expected}"]


def test_a_schema_that_fits_its_named_schema_is_taken(tmp_path: Path) -> None:
    schema = wire(INDEX, ("label", pa.string()), ("text", pa.string()), **TEXT)
    assert "rows" in Catalog.load(write(tmp_path, with_schema(DATASET, schema)))


OUT = "audit.yaml:17: interface.outputSchema"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            wire(("label", pa.string())),
            f"{OUT}.arrowSchema: has no field 'responses: list<struct<…>>', which holds the answers; "
            "write it as {arrow: {FIELD: TYPE}}",
        ),
        (
            wire(("responses", pa.list_(pa.string()))),
            f"{OUT}.arrowSchema: has no field 'responses: list<struct<…>>', which holds the answers; "
            "write it as {arrow: {FIELD: TYPE}}",
        ),
        (
            answers(("label", pa.string()), replication=pa.int64()),
            f"{OUT}.arrowSchema: declares '_replication_' as int64; it is a key of rows, and must be string",
        ),
        (
            answers(("_response_index_", pa.int8()), ("label", pa.string())),
            f"{OUT}.arrowSchema: declares '_response_index_' as int8; it is a key of rows, and must be int64",
        ),
        (
            answers(("label", pa.string()), **TEXT),
            f"{OUT}.dyffSchema: the arrowSchema has no field 'text' of text.Text; known: label",
        ),
        (
            "{arrowSchema: AAAA}",
            f"{OUT}.arrowSchema: arrowSchema is not base64 of an Arrow IPC schema: write it with "
            "schema.arrow.encode_schema(), or give the schema as {arrow: {field: TYPE}}",
        ),
    ],
)
def test_an_output_schema_that_holds_no_answers(tmp_path: Path, output: str, expected: str) -> None:
    assert problems(write(tmp_path, MODEL, service(output))) == [expected]


@pytest.mark.parametrize(
    ("declared", "made", "expected"),
    [
        (
            "{arrow: {text: string!}}",
            "{txt: $.x}",
            "'text' is never null in the outputSchema, and behind the outputPipeline it is missing; "
            "correct one of them",
        ),
        (
            "{arrow: {score: float64}}",
            "{score: high}",
            "'score' is double in the outputSchema, and behind the outputPipeline it is text; correct one of them",
        ),
        (
            "{arrow: {'spans': 'list<struct<start: int64!>>'}}",
            "{spans: [{begin: $.x}]}",
            "'spans[].start' is never null in the outputSchema, and behind the outputPipeline it is missing; "
            "correct one of them",
        ),
    ],
)
def test_an_output_pipeline_that_cannot_make_what_is_declared(
    tmp_path: Path, declared: str, made: str, expected: str
) -> None:
    pipeline = f"outputPipeline: [{{kind: TransformJSON, configuration: {made}}}]"
    found = problems(write(tmp_path, MODEL, service(declared, pipeline)))
    assert found == [f"audit.yaml:18: interface.outputPipeline: {expected}"]


def test_a_field_that_no_answer_will_have_is_a_warning(tmp_path: Path) -> None:
    pipeline = "outputPipeline: [{kind: TransformJSON, configuration: {txt: $.x}}]"
    assert warnings(write(tmp_path, MODEL, service("{arrow: {text: string}}", pipeline))) == [
        "audit.yaml:18: interface.outputPipeline: makes no field 'text', which is always null in the answers then; "
        "did you mean 'txt'?"
    ]


def view(of: str, schema: str, pipeline: str = "") -> str:
    return f"[{{id: v, viewOf: {of}, schema: {schema}{pipeline}}}]\n"


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (
            view("rows", "{arrow: {answer: string!}}"),
            "views[0].schema: 'answer' is never null in the view's schema, and in what it is a view of it is missing; "
            "correct one of them",
        ),
        (
            view(
                "rows",
                "{arrow: {n: int64!}}",
                ", adapterPipeline: [{kind: Rename, configuration: {label: n}}]",
            ),
            "views[0].schema: 'n' is int64 in the view's schema, and behind its adapterPipeline it is text; "
            "correct one of them",
        ),
        (
            view(
                "rows",
                "{arrow: {n: string}}",
                ", adapterPipeline: [{kind: Rename, configuration: {lable: n}}]",
            ),
            "views[0].adapterPipeline[0]: Rename reads the field 'lable', which is not there at this step; "
            "did you mean 'label'?",
        ),
        (
            view("row", "{arrow: {label: string}}"),
            "views[0].viewOf: there is no entity 'row' in the catalog; did you mean 'rows'?",
        ),
    ],
)
def test_a_view_that_does_not_fit(tmp_path: Path, views: str, expected: str) -> None:
    assert problems(write(tmp_path, DATASET + f"views: {views}")) == [f"audit.yaml:11: {expected}"]


def test_a_data_set_is_made_of_what_its_view_offers(tmp_path: Path) -> None:
    offered = "outputViews: " + view("service", "{arrow: {_index_: int64!, anser: string, score: int64}}")
    derived = (
        "kind: Dataset\nid: derived\naccount: lab\nname: Derived\n"
        "annotations: {dyff-dagster/from: run, dyff-dagster/ingest: v, dyff-dagster/withhold: ''}\n"
        "schema: {arrow: {answer: string, score: string}}\n"
    )
    note = "audit.yaml:41: annotations.dyff-dagster/ingest: "
    plain = service("{arrow: {label: string!}}")
    assert problems(write(tmp_path, MODEL, plain + offered, DATASET, EVALUATION, derived)) == [
        note
        + "the view 'v' has no field 'answer', which this data set's schema declares; did you mean 'anser'?",
        note + "'score' is string in this data set, and in the view it is a number; correct one of them",
    ]


def test_rows_of_level_instance_have_an_index(tmp_path: Path) -> None:
    method = METHOD.replace("level: Dataset", "level: Instance")
    assert problems(write(tmp_path, MODULE, method)) == [
        "audit.yaml:22: output.measurement.schema: has no field '_index_: int64!', by which rows of level Instance "
        "belong to instances; add it"
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "level: Instance\nschema: {arrow: {_index_: int64!, score: string!, value: float64!}}\n",
            [
                "level: is Instance, and method 'count' makes rows of level Dataset; leave it out",
                "schema: has the field '_index_', which method 'count' does not make; known: score, value",
            ],
        ),
        (
            "schema: {arrow: {score: string!, valu: float64!}}\n",
            [
                "schema: has the field 'valu', which method 'count' does not make; did you mean 'value'?",
                "schema: lacks the field 'value', which method 'count' makes; add it, or leave the schema out",
            ],
        ),
        (
            "schema: {arrow: {score: string!, value: string!}}\n",
            ["schema: declares 'value' as string, and method 'count' makes double; correct one of them"],
        ),
    ],
)
def test_a_measurement_is_what_its_method_makes(tmp_path: Path, lines: str, expected: list[str]) -> None:
    found = problems(write(tmp_path, ALL + lines))
    assert [problem.partition(": ")[2] for problem in found] == expected


OTHERS = (
    MODEL.replace("id: net", "id: other-net"),
    SERVICE.replace("id: service", "id: other-service").replace("model: net", "model: other-net"),
    DATASET.replace("id: rows", "id: other-rows"),
    EVALUATION.replace("id: run", "id: other-run"),
)
SCOPE = "{evaluation: run, inferenceService: service, dataset: rows}"


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (
            "{evaluation: run, inferenceService: other-service, dataset: rows}",
            [
                "inferenceService: is 'other-service', and evaluation 'run' asks service 'service'; write service"
            ],
        ),
        (
            "{evaluation: run, inferenceService: service, dataset: other-rows}",
            ["dataset: is 'other-rows', and evaluation 'run' asks about data set 'rows'; write rows"],
        ),
        (
            "{evaluation: run, inferenceService: service, dataset: rows, model: other-net}",
            ["model: is 'other-net', and service 'service' runs model 'net'; write net"],
        ),
    ],
)
def test_a_scope_that_contradicts_its_evaluation(tmp_path: Path, scope: str, expected: list[str]) -> None:
    found = problems(write(tmp_path, ALL.replace(SCOPE, scope), *OTHERS))
    assert found == [f"audit.yaml:63: scope.{line}" for line in expected]


def test_a_scope_s_model_is_its_service_s(tmp_path: Path) -> None:
    method = METHOD.replace("scope: Evaluation", "scope: InferenceService")
    modelless = SERVICE.replace("id: service", "id: bare").replace("model: net\n", "")
    measurement = MEASUREMENT.replace(SCOPE, "{inferenceService: bare, model: net}")
    found = problems(
        write(tmp_path, MODEL, SERVICE, modelless, DATASET, EVALUATION, MODULE, method, measurement)
    )
    assert found == [
        "audit.yaml:71: scope.model: is 'net', and service 'bare' has no model; leave it out",
        "audit.yaml:71: scope.inferenceService: is 'bare', and the inputs are made of answers of 'service'; "
        "write service",
    ]


def test_a_result_about_a_service_that_gave_none_of_its_answers_is_refused(tmp_path: Path) -> None:
    other = (*OTHERS[:2], OTHERS[3].replace("inferenceService: service", "inferenceService: other-service"))
    assert "other-service" in other[2]
    about_the_run = "{evaluation: other-run, inferenceService: other-service, dataset: rows}"
    # An evaluation of another service than the input's: it agrees with itself, and not with what is read.
    assert problems(write(tmp_path / "evaluation", ALL.replace(SCOPE, about_the_run), *other)) == [
        "audit.yaml:63: scope.inferenceService: is 'other-service', and the inputs are made of answers of 'service'; "
        "write service"
    ]
    method = CASE_METHOD.replace("kind: Evaluation}", "kind: Measurement}").replace(
        "scope: Evaluation", "scope: InferenceService"
    )
    # Through a measurement, and without an evaluation in the scope.
    case = CASE.replace("entity: run}", "entity: counted}").replace(
        SCOPE, "{inferenceService: other-service}"
    )
    (found,) = problems(write(tmp_path / "case", ALL, *OTHERS[:2], method, case))
    assert found.endswith(
        "scope.inferenceService: is 'other-service', and the inputs are made of answers of 'service'; write service"
    )
    # In the wire form it is a warning.
    folder = write(tmp_path / "wire", ALL, *other)
    counted = json.loads(Catalog.load(folder).get("counted").model_dump_json())
    scope = {"evaluation": "other-run", "inferenceService": "other-service", "dataset": "rows"}
    (folder / "z.json").write_text(json.dumps({**counted, "id": "borrowed", "scope": scope}))
    assert warnings(folder) == [
        "z.json:1: scope.inferenceService: is 'other-service', and the inputs are made of answers of 'service'; "
        "write service"
    ]
    fits = case.replace("other-service", "service")
    assert warnings(write(tmp_path / "fits", ALL, *OTHERS[:2], method, fits)) == []


@pytest.mark.parametrize(
    ("of", "scope", "message"),
    [
        (
            "Evaluation",
            "{}",
            "does not name evaluation, inferenceService, dataset, which a method of scope Evaluation is about",
        ),
        (
            "InferenceService",
            "{dataset: rows}",
            "does not name inferenceService, which a method of scope InferenceService is about",
        ),
        (
            "Evaluation",
            "{evaluation: run}",
            "does not name inferenceService, dataset, which a method of scope Evaluation is about; "
            "write inferenceService: service, dataset: rows",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["Measurement", "SafetyCase"])
def test_a_scope_names_what_its_method_is_about(
    tmp_path: Path, kind: str, of: str, scope: str, message: str
) -> None:
    method, analysis = (METHOD, MEASUREMENT) if kind == "Measurement" else (CASE_METHOD, CASE)
    documents = [method.replace("scope: Evaluation", f"scope: {of}"), analysis.replace(SCOPE, scope)]
    [found] = problems(write(tmp_path, MODEL, SERVICE, DATASET, EVALUATION, MODULE, *documents))
    assert found.partition(": ")[2] == f"scope: {message}"


def test_in_the_wire_form_a_scope_that_says_too_little_is_a_warning(tmp_path: Path) -> None:
    folder = write(tmp_path, ALL)
    counted = json.loads(Catalog.load(folder).get("counted").model_dump_json())
    (folder / "z.json").write_text(json.dumps({**counted, "id": "unscoped", "scope": {"evaluation": "run"}}))
    assert warnings(folder) == [
        "z.json:1: scope: does not name inferenceService, dataset, which a method of scope Evaluation is about; "
        "write inferenceService: service, dataset: rows"
    ]


def test_a_result_about_an_evaluation_that_no_input_is_about_is_a_warning(tmp_path: Path) -> None:
    measurement = ALL.replace("entity: run}", "entity: other-run}")
    method = CASE_METHOD.replace("kind: Evaluation}", "kind: Measurement}")
    case = CASE.replace("entity: run}", "entity: counted}").replace(
        "evaluation: run", "evaluation: other-run"
    )
    assert warnings(
        write(tmp_path, measurement, EVALUATION.replace("id: run", "id: other-run"), method, case)
    ) == [
        "audit.yaml:63: scope.evaluation: is 'run', and the inputs are about 'other-run'; correct the one or the other",
        "audit.yaml:88: scope.evaluation: is 'other-run', and the inputs are about 'run'; "
        "correct the one or the other",
    ]


def gpu(*types: str, count: int = 1, **others: Any) -> str:
    return json.dumps({"kind": "GPU", "gpu": {"hardwareTypes": types, "count": count, **others}})


RUNNER = "runner: {kind: standalone, resources: {storage: 1Mi}, accelerator: %s}\n"
FOR_A100 = MODEL + f"accelerators: [{gpu('a100', 'h100', count=2)}]\n"
SESSION = "kind: InferenceSession\nid: s\naccount: lab\ninferenceService: service\n"


@pytest.mark.parametrize(
    ("accelerator", "message"),
    [
        (gpu("t4", count=2), "is 2 × t4, and model 'net' is made for 2 × a100 or h100; choose one of these"),
        (gpu("h100"), "is 1 × h100, and model 'net' is made for 2 × a100 or h100; choose one of these"),
        (
            gpu("t4", "l4", count=4),
            "is 4 × t4 or l4, and model 'net' is made for 2 × a100 or h100; choose one of these",
        ),
    ],
)
def test_an_accelerator_that_the_model_is_not_made_for_is_a_warning(
    tmp_path: Path, accelerator: str, message: str
) -> None:
    line = f"accelerator: {accelerator}\n"
    evaluation = EVALUATION.replace("service}", f"service, accelerator: {accelerator}}}")
    folder = write(tmp_path, FOR_A100, SERVICE + RUNNER % accelerator, SESSION + line, DATASET, evaluation)
    assert [warning.partition(": ")[2] for warning in warnings(folder)] == [
        f"runner.accelerator: {message}",
        f"accelerator: {message}",
        f"inferenceSession.accelerator: {message}",
    ]


@pytest.mark.parametrize("accelerator", [gpu("h100", count=2), gpu("t4", "a100", count=8)])
def test_an_accelerator_that_fits_one_of_the_model_s_is_taken(tmp_path: Path, accelerator: str) -> None:
    assert warnings(write(tmp_path, FOR_A100, SERVICE + RUNNER % accelerator)) == []


def test_a_model_that_says_nothing_of_accelerators_runs_on_any(tmp_path: Path) -> None:
    assert warnings(write(tmp_path, MODEL, SERVICE + RUNNER % gpu("t4"))) == []


@pytest.mark.parametrize(
    ("accelerator", "expected"),
    [
        ("{kind: GPUs}", "runner.accelerator.kind: 'GPUs' is no kind of accelerator; did you mean 'GPU'?"),
        (
            "{kind: GPU}",
            "runner.accelerator: has kind GPU and no field 'gpu'; add gpu: {hardwareTypes: [TYPE]}",
        ),
        (gpu("t4", count=0), "runner.accelerator.gpu.count: is 0; it must be 1 or more"),
    ],
)
def test_an_accelerator_that_is_not_whole(tmp_path: Path, accelerator: str, expected: str) -> None:
    assert problems(write(tmp_path, MODEL, SERVICE + RUNNER % accelerator)) == [f"audit.yaml:18: {expected}"]


def test_what_is_deprecated_is_a_warning_that_says_what_to_use(tmp_path: Path) -> None:
    rubric = METHOD.replace(
        "{kind: PythonFunction, pythonFunction:", "{kind: PythonRubric, pythonRubric:"
    ).replace("kind: Evaluation}", "kind: Report}")
    report = (
        "kind: Report\nid: report\naccount: lab\nrubric: score.count\nevaluation: run\ndataset: rows\n"
        "inferenceService: service\n"
    )
    memory = RUNNER % gpu("t4", memory="16Gi")
    folder = write(tmp_path, MODEL, SERVICE + memory, DATASET, EVALUATION, MODULE, rubric, report)
    assert warnings(folder) == [
        "audit.yaml:18: runner.accelerator.gpu.memory: is deprecated; choose by hardwareTypes, and leave it out",
        "audit.yaml:48: implementation.kind: PythonRubric is deprecated since 0.8.0; "
        "use PythonFunction or JupyterNotebook",
        "audit.yaml:50: inputs[0].kind: inputs of kind Report are deprecated since 0.8.0; use Measurement",
        "audit.yaml:60: kind: entities of kind Report are deprecated since 0.8.0; use a Method and a Measurement",
    ]
