"""Every error of a catalog is one sentence with file, line and field; here their texts are held."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog, CatalogError
from dyff_dagster.catalog.problems import suggestion
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

SESSION = "kind: InferenceSession\nid: s\naccount: lab\ninferenceService: service\n"


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


# (what is wrong, documents, every problem there is)
FIELDS = [
    (
        "unknown kind",
        [changed(MODEL, "kind: Model", "kind: Modell"), SERVICE],
        ["audit.yaml:1: kind: there is no kind 'Modell'; did you mean 'Model'?"],
    ),
    (
        "unknown field",
        [
            changed(SERVICE, "endpoint: predict", "endpoint: predict\n  endpont: x").replace(
                "model: net\n", ""
            )
        ],
        [
            "audit.yaml:7: interface.endpont: InferenceInterface has no field 'endpont'; did you mean 'endpoint'?"
        ],
    ),
    ("missing field", [changed(MODEL, "name: Net\n", "")], ["audit.yaml:1: name: is missing"]),
    ("missing id", [changed(MODEL, "id: net\n", "")], ["audit.yaml:1: id: is missing"]),
    (
        "value outside of the list",
        [changed(MODEL, "medium: Mock", "medium: mok")],
        [
            "audit.yaml:6: storage.medium: must be 'Mock', 'ObjectStorage' or 'PersistentVolume'; "
            "did you mean 'Mock'?"
        ],
    ),
    (
        "quantity",
        [changed(MODEL, "1Mi", "1 MB")],
        [
            "audit.yaml:8: resources.storage: must be a quantity in Kubernetes' notation, "
            "as in '500m', '2' or '16Gi'"
        ],
    ),
    (
        "duplicate id",
        [MODEL, MODEL],
        ["audit.yaml:11: id: 'net' is used twice, first at audit.yaml:1; rename one of them"],
    ),
    (
        "bad id",
        [changed(MODEL, "id: net", "id: ../net")],
        [
            "audit.yaml:2: id: '../net' is no possible id: write 1 to 128 letters, digits, dots, hyphens and "
            "underscores, with a letter or digit first"
        ],
    ),
    (
        "number as id",
        [changed(MODEL, "id: net", "id: 007")],
        [
            "audit.yaml:2: id: `007` is read as the number 7 by YAML; write 7, or put it in quotes if it is text: '007'"
        ],
    ),
    (
        "truth value as text",
        [changed(MODEL, "name: Net", "name: no")],
        ["audit.yaml:4: name: `no` is read as a truth value by YAML; put it in quotes: 'no'"],
    ),
    (
        "number as text",
        [ALL.replace('"0.5"', "0.5")],
        ["audit.yaml:64: arguments[0].value: `0.5` is read as a number by YAML; put it in quotes: '0.5'"],
    ),
    (
        "nothing as text",
        [changed(MODEL, "name: Net", "name:")],
        ["audit.yaml:4: name: is empty; write a value"],
    ),
    (
        "time without a zone",
        [MODEL, SERVICE, SESSION + "expires: 2030-01-01 10:00:00\n"],
        ["audit.yaml:23: expires: has no time zone; add one, as in 2030-01-31T18:00:00Z"],
    ),
    (
        "no time",
        [MODEL, SERVICE, SESSION + "expires: soon\n"],
        ["audit.yaml:23: expires: must be a time with its zone, as in 2030-01-31T18:00:00Z"],
    ),
    (
        "number as a time",
        [MODEL, SERVICE, SESSION + "expires: 1900000000\n"],
        ["audit.yaml:23: expires: must be a time with its zone, as in 2030-01-31T18:00:00Z, not a number"],
    ),
    (
        "number in quotes as a time",
        [MODEL, SERVICE, SESSION + "expires: '1900000000'\n"],
        ["audit.yaml:23: expires: must be a time with its zone, as in 2030-01-31T18:00:00Z, not a number"],
    ),
    (
        "day in digits as a time",
        [MODEL, SERVICE, SESSION + "expires: '20300131'\n"],
        ["audit.yaml:23: expires: must be a time with its zone, as in 2030-01-31T18:00:00Z, not a number"],
    ),
    (
        "truth value as a time",
        [MODEL, SERVICE, SESSION + "expires: true\n"],
        ["audit.yaml:23: expires: must be a time with its zone, as in 2030-01-31T18:00:00Z"],
    ),
    (
        "truth value as a number",
        [MODEL, SERVICE, SESSION + "replicas: true\n"],
        ["audit.yaml:23: replicas: must be a whole number, not a truth value"],
    ),
    (
        "number as a truth value",
        [MODEL, SERVICE, DATASET, changed(EVALUATION, "service}", "service, useSpotPods: 0}")],
        ["audit.yaml:34: inferenceSession.useSpotPods: must be true or false, not a number"],
    ),
    (
        "truth value as a bound of a score",
        [
            MODULE,
            METHOD
            + "scores: [{name: accuracy, title: Accuracy, summary: How many are right, maximum: yes}]\n",
        ],
        ["audit.yaml:23: scores[0].maximum: must be a number, not a truth value"],
    ),
    (
        "number as a time of an entity within a revision",
        [
            "kind: Revision\nid: v1\naccount: lab\ncreationTime: 2030-01-31T18:00:00Z\nentity:\n"
            "  {kind: Module, id: m, account: lab, name: M, artifacts: [{path: a.py}], creationTime: 7}\n"
        ],
        [
            "audit.yaml:6: entity.creationTime: must be a time with its zone, "
            "as in 2030-01-31T18:00:00Z, not a number"
        ],
    ),
    (
        "name of a field in Python",
        [changed(DATASET, "schema:", "schema_:")],
        ["audit.yaml:7: schema_: Dataset has no field 'schema_'; did you mean 'schema'?"],
    ),
    (
        "name of a field in Python, below",
        [
            MODULE,
            changed(
                METHOD, "schema: {arrow: {score: string!, value: float64!}}", "schema_: {arrowSchema: x}"
            ),
        ],
        [
            "audit.yaml:22: output.measurement.schema_: "
            "MeasurementSpec has no field 'schema_'; did you mean 'schema'?"
        ],
    ),
    (
        "unknown field of a label",
        [MODEL + "labels: [{key: tier, value: a, note: b}]\n"],
        ["audit.yaml:9: labels[0].note: Label has no field 'note'; it has: key, value"],
    ),
    (
        "unknown Arrow type",
        [changed(DATASET, "string!", "strng")],
        [
            "audit.yaml:9: schema.arrow.question: 'strng' is no Arrow type: at character 1, "
            "there is no type 'strng'; did you mean 'string'?"
        ],
    ),
    (
        "unknown named schema",
        [DATASET.split("schema:")[0] + "schema: {dyffSchema: {components: [text.Txt]}}\n"],
        [
            "audit.yaml:7: schema.dyffSchema: there is no data schema named 'text.Txt'; did you mean 'text.Text'?"
        ],
    ),
    (
        "count below one",
        [MODEL, SERVICE, DATASET, EVALUATION + "replications: 0\n"],
        ["audit.yaml:35: replications: is 0; it must be 1 or more"],
    ),
    (
        "evaluation without a session",
        [MODEL, SERVICE, DATASET, changed(EVALUATION, "inferenceSession: {inferenceService: service}\n", "")],
        [
            "audit.yaml:30: inferenceSession: is missing; write inferenceSession: {inferenceService: ID}, "
            "or inferenceSessionReference: ID to use a session that runs already"
        ],
    ),
    (
        "adapter that cannot be made",
        [MODEL, changed(SERVICE, "  endpoint", "  inputPipeline: [{kind: Renam}]\n  endpoint")],
        [
            "audit.yaml:16: interface.inputPipeline[0]: the configuration of adapter Renam is wrong, at kind: "
            "there is no such adapter; did you mean 'Rename'?"
        ],
    ),
    (
        "notebook without its body",
        [MODULE, changed(METHOD, "kind: PythonFunction", "kind: JupyterNotebook")],
        ["audit.yaml:12: implementation: has kind JupyterNotebook and no field 'jupyterNotebook'"],
    ),
    (
        "documentation of nothing",
        [MODEL, "kind: Documentation\nentity: nett\n"],
        ["audit.yaml:11: entity: there is no entity 'nett' in the catalog; did you mean 'net'?"],
    ),
]
REFERENCES = [
    (
        "dangling",
        [ALL.replace("model: net", "model: nett")],
        ["audit.yaml:14: model: there is no Model 'nett' in the catalog; did you mean 'net'?"],
    ),
    (
        "wrong kind",
        [ALL.replace("model: net", "model: rows")],
        ["audit.yaml:14: model: 'rows' is a Dataset; write the id of a Model"],
    ),
    (
        "missing and surplus argument",
        [ALL.replace("keyword: cutoff, value", "keyword: cutof, value")],
        [
            "audit.yaml:64: arguments: lacks 'cutoff', a parameter of method 'count'",
            "audit.yaml:64: arguments[0].keyword: method 'count' has no parameter 'cutof'; did you mean 'cutoff'?",
        ],
    ),
    (
        "missing input",
        [ALL.replace("inputs: [{keyword: answers, entity: run}]\n", "")],
        ["audit.yaml:59: inputs: lacks 'answers', an input of method 'count'"],
    ),
    (
        "input of the wrong kind",
        [ALL.replace("entity: run", "entity: rows")],
        ["audit.yaml:65: inputs[0].entity: 'rows' is a Dataset; write the id of an Evaluation"],
    ),
    (
        "surplus input, and one that stands twice",
        [
            ALL.replace(
                "entity: run}]",
                "entity: run}, {keyword: answers, entity: run}, {keyword: rows, entity: rows}]",
            )
        ],
        [
            "audit.yaml:65: inputs[2].keyword: method 'count' has no input 'rows'; known: answers",
            "audit.yaml:65: inputs[1].keyword: 'answers' stands 2 times; keep one",
        ],
    ),
    (
        "method that makes something else",
        [ALL.replace("kind: Measurement\nid", "kind: SafetyCase\nid")],
        ["audit.yaml:62: method: method 'count' makes a Measurement, not a SafetyCase"],
    ),
    (
        "dangling everywhere",
        [EVALUATION, MEASUREMENT],
        [
            "audit.yaml:4: dataset: there is no Dataset 'rows' in the catalog; there is none",
            "audit.yaml:5: inferenceSession.inferenceService: there is no InferenceService 'service' in the catalog; "
            "there is none",
            "audit.yaml:10: method: there is no Method 'count' in the catalog; there is none",
            "audit.yaml:11: scope.inferenceService: there is no InferenceService 'service' in the catalog; "
            "there is none",
            "audit.yaml:11: scope.dataset: there is no Dataset 'rows' in the catalog; there is none",
        ],
    ),
    (
        "cycle",
        [
            MODEL,
            SERVICE,
            changed(DATASET, "annotations:", "annotations:\n  dyff-dagster/from: run"),
            EVALUATION,
        ],
        ["audit.yaml:20: id: waits for itself: rows → run → rows; remove one of these references"],
    ),
    (
        "notebook that its module lacks",
        [
            MODULE,
            METHOD.replace(
                "{kind: PythonFunction, pythonFunction: {fullyQualifiedName: score.count}}",
                "{kind: JupyterNotebook, jupyterNotebook: {notebookModule: code, notebookPath: scor.py}}",
            ),
        ],
        [
            "audit.yaml:12: implementation.jupyterNotebook.notebookPath: 'scor.py' is no artifact of module 'code'; "
            "did you mean 'score.py'?"
        ],
    ),
    (
        "session of another service",
        [
            MODEL,
            SERVICE,
            changed(SERVICE, "id: service", "id: other"),
            DATASET,
            SESSION,
            EVALUATION.replace("{inferenceService: service}", "{inferenceService: other}")
            + "inferenceSessionReference: s\n",
        ],
        [
            "audit.yaml:49: inferenceSessionReference: session 's' runs service 'service', "
            "and this asks service 'other'"
        ],
    ),
]
NOTE = "audit.yaml:9: annotations."
ANNOTATIONS = [
    (
        "reserved",
        [MODEL + "labels: {dyff.io/x: a}\nannotations: {deep.dyff.io/y: b}\n"],
        [
            "audit.yaml:9: labels.dyff.io/x: labels under dyff.io are reserved for the platform; use another domain",
            "audit.yaml:10: annotations.deep.dyff.io/y: "
            "annotations under dyff.io are reserved for the platform; use another domain",
        ],
    ),
    (
        "unknown",
        [MODEL + "annotations: {dyff-dagster/automaton: eager}\n"],
        [
            f"{NOTE}dyff-dagster/automaton: there is no annotation 'dyff-dagster/automaton'; "
            "did you mean 'automation'?"
        ],
    ),
    (
        "wrong kind",
        [MODEL + "annotations: {dyff-dagster/withhold: x}\n"],
        [f"{NOTE}dyff-dagster/withhold: 'dyff-dagster/withhold' belongs on Dataset; this is of kind Model"],
    ),
    (
        "twice",
        [MODEL + "annotations: [{key: a, value: b}, {key: a, value: c}]\n"],
        ["audit.yaml:9: annotations[1].key: the annotation 'a' stands twice; keep one"],
    ),
    (
        "automation",
        [MODEL + "annotations: {dyff-dagster/automation: sometimes}\n"],
        [
            f"{NOTE}dyff-dagster/automation: must be manual, eager or a cron line of five fields, "
            "as in '0 6 * * 1'"
        ],
    ),
    (
        "cron",
        [MODEL + "annotations: {dyff-dagster/automation: '61 * * * *'}\n"],
        [
            f"{NOTE}dyff-dagster/automation: '61' is no minute of a cron line: it lies between 0 and 59; "
            "write manual, eager or a line as in '0 6 * * 1'"
        ],
    ),
    (
        "checks",
        [ALL + "annotations: {dyff-dagster/checks: 'auc => 1'}\n"],
        [
            "audit.yaml:66: annotations.dyff-dagster/checks: 'auc => 1' is no check; write NAME OP NUMBER, "
            "as in `sensitivity >= 0.9; lower(auc) >= 0.95`"
        ],
    ),
    (
        "withhold",
        [changed(DATASET, "withhold: label", "withhold: lable")],
        [
            "audit.yaml:6: annotations.dyff-dagster/withhold: the schema has no field 'lable'; did you mean 'label'?"
        ],
    ),
    (
        "withhold not said",
        [changed(DATASET, "annotations:\n  dyff-dagster/withhold: label\n", "")],
        [
            "audit.yaml:1: annotations: must say which of the fields question, label no service may see; "
            "add 'dyff-dagster/withhold' with their names, or with '' if there are none"
        ],
    ),
    (
        "headers that are no JSON",
        [MODEL, SERVICE + 'annotations: {dyff-dagster/headers: \'{"Authorization": "sk-secret\'}\n'],
        [
            "audit.yaml:18: annotations.dyff-dagster/headers: must be a JSON object of strings, "
            'as in \'{"Authorization": "Bearer ${API_KEY}"}\''
        ],
    ),
    (
        "failed rows",
        [MODEL, SERVICE, DATASET, EVALUATION + "annotations: {dyff-dagster/max-failed-rows: 1.5}\n"],
        [
            "audit.yaml:35: annotations.dyff-dagster/max-failed-rows: must be a count of rows, as 5, "
            "or a fraction of them between 0 and 1, as 0.01"
        ],
    ),
    (
        "failed rows of all rows",
        [MODEL, SERVICE, DATASET, EVALUATION + "annotations: {dyff-dagster/max-failed-rows: 1.0}\n"],
        [
            "audit.yaml:35: annotations.dyff-dagster/max-failed-rows: must be a count of rows, as 5, "
            "or a fraction of them between 0 and 1, as 0.01"
        ],
    ),
    (
        "a class that no error can have",
        [MODEL, SERVICE, DATASET, EVALUATION + "annotations: {dyff-dagster/accept: 'truncated, not_json'}\n"],
        [
            "audit.yaml:35: annotations.dyff-dagster/accept: must be classes of errors separated by commas, "
            "as in truncated, status-451"
        ],
    ),
    (
        "a class of many statuses",
        [MODEL, SERVICE, DATASET, EVALUATION + "annotations: {dyff-dagster/accept: status-5xx}\n"],
        [
            "audit.yaml:35: annotations.dyff-dagster/accept: must be classes of errors separated by commas, "
            "as in truncated, status-451"
        ],
    ),
    (
        "a cap that is no number",
        [MODEL, SERVICE, DATASET, EVALUATION + "annotations: {dyff-dagster/max-requests: 1.5}\n"],
        ["audit.yaml:35: annotations.dyff-dagster/max-requests: must be a whole number, 0 or more"],
    ),
    (
        "a limit of memory that is no quantity",
        [MODULE, METHOD + "annotations: {dyff-dagster/max-memory: 2GB}\n"],
        [
            "audit.yaml:23: annotations.dyff-dagster/max-memory: is no quantity; write a number and, if wanted, "
            "a suffix of Kubernetes, as 500M, 2Gi or 1e9"
        ],
    ),
    (
        "a limit of memory that is in gigabytes, without saying so",
        [MODULE, METHOD + "annotations: {dyff-dagster/max-memory: 2}\n"],
        [
            "audit.yaml:23: annotations.dyff-dagster/max-memory: means 2 bytes, and an analysis takes more before "
            "it has read a row; write 128Mi or more, as in 2Gi"
        ],
    ),
    (
        "an analysis that may take no time",
        [MODULE, METHOD + "annotations: {dyff-dagster/max-seconds: 0}\n"],
        ["audit.yaml:23: annotations.dyff-dagster/max-seconds: must be a number of seconds, more than 0"],
    ),
    (
        "a limit of memory where nothing is computed",
        [MODEL, SERVICE, DATASET, EVALUATION + "annotations: {dyff-dagster/max-memory: 2Gi}\n"],
        [
            "audit.yaml:35: annotations.dyff-dagster/max-memory: 'dyff-dagster/max-memory' belongs on Measurement, "
            "SafetyCase, Report, Method; this is of kind Evaluation"
        ],
    ),
    (
        "a price that is not known",
        [MODEL, SERVICE + 'annotations: {dyff-dagster/prices: \'{"input": 0.15, "ouput": 0.6}\'}\n'],
        ["audit.yaml:18: annotations.dyff-dagster/prices: has no key 'ouput'; did you mean 'output'?"],
    ),
    (
        "rules of no preset",
        [MODEL, SERVICE + 'annotations: {dyff-dagster/answer-rules: \'{"preset": "openai"}\'}\n'],
        [
            "audit.yaml:18: annotations.dyff-dagster/answer-rules: has no such preset: "
            "write one of openai-chat, openai-completions"
        ],
    ),
    (
        "a rule that says nothing",
        [
            MODEL,
            SERVICE + "annotations: {dyff-dagster/answer-rules: "
            '\'[{"class": "short", "path": "$.text"}]\'}\n',
        ],
        [
            "audit.yaml:18: annotations.dyff-dagster/answer-rules: rule 1 needs exactly one of "
            "is, exists, empty, matches"
        ],
    ),
    (
        "truth value",
        [MODEL + "annotations: {note: yes}\n"],
        [f"{NOTE}note: `yes` is read as a truth value by YAML; put it in quotes: 'yes'"],
    ),
    (
        "annotations of a broken entity",
        [changed(MODEL, "name: Net\n", "") + "annotations: {dyff-dagster/automation: x}\n"],
        [
            "audit.yaml:1: name: is missing",
            "audit.yaml:8: annotations.dyff-dagster/automation: "
            "must be manual, eager or a cron line of five fields, as in '0 6 * * 1'",
        ],
    ),
]


@pytest.mark.parametrize(
    ("documents", "expected"),
    [pytest.param(d, e, id=i) for i, d, e in FIELDS + REFERENCES + ANNOTATIONS],
)
def test_problem(tmp_path: Path, documents: list[str], expected: list[str]) -> None:
    assert problems(write(tmp_path, *documents)) == expected


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, changed(MODEL, "name: Net\n", ""), name="b.yaml")
    write(tmp_path, changed(MODULE, "name: Code", "nam: Code"), name="a.yaml")

    assert problems(tmp_path) == [
        "a.yaml:1: name: is missing",
        "a.yaml:4: nam: Module has no field 'nam'; did you mean 'name'?",
        "b.yaml:1: name: is missing",
    ]


def test_what_refers_to_a_broken_entity_is_not_blamed(tmp_path: Path) -> None:
    assert problems(write(tmp_path, ALL.replace("name: Net\n", ""))) == ["audit.yaml:1: name: is missing"]


def test_a_broken_entity_s_own_references_are_checked_too(tmp_path: Path) -> None:
    broken = ALL.replace("dataset: rows\ninference", "dataset: row\nreplications: two\ninference")

    assert problems(write(tmp_path, broken)) == [
        "audit.yaml:33: dataset: there is no Dataset 'row' in the catalog; did you mean 'rows'?",
        "audit.yaml:34: replications: must be a whole number",
    ]


@pytest.mark.parametrize("value", ["true", "3", "text", "[[]]", "[{key: [], value: x}]"])
def test_annotations_of_the_wrong_shape_are_problems(tmp_path: Path, value: str) -> None:
    dataset = changed(DATASET, "annotations:\n  dyff-dagster/withhold: label\n", f"annotations: {value}\n")

    assert all(
        problem.startswith("audit.yaml:5: annotations") for problem in problems(write(tmp_path, dataset))
    )


def test_a_chain_may_be_500_long_and_no_longer(tmp_path: Path) -> None:
    def chain(length: int) -> Path:
        documents = [MODEL, SERVICE, MODULE, changed(METHOD, "kind: Evaluation}", "kind: Measurement}")]
        first = "kind: Measurement\nid: m0\naccount: lab\nmethod: count\narguments: [{keyword: cutoff, value: x}]\n"
        first += "scope: {evaluation: run, inferenceService: service, dataset: rows}\n"
        documents += [DATASET, EVALUATION]
        start = METHOD.replace("id: count", "id: start").replace(
            "inputs: [{keyword: answers, kind: Evaluation}]\n", ""
        )
        documents += [start, first.replace("method: count", "method: start")]
        # code, start, m0 come first, so m(n) ends a chain of n + 3.
        for number in range(1, length - 2):
            inputs = f"inputs: [{{keyword: answers, entity: m{number - 1}}}]\n"
            documents.append(first.replace("id: m0", f"id: m{number}") + inputs)
        return write(tmp_path, *documents)

    assert "m497" in Catalog.load(chain(500)).entities
    [problem] = problems(chain(501))
    assert problem.endswith(": id: ends a chain of 501 dependencies; at most 500 are allowed")


def test_ids_that_differ_in_case_are_a_warning(tmp_path: Path) -> None:
    write(tmp_path, MODEL, changed(MODEL, "id: net", "id: Net"))

    assert warnings(tmp_path) == [
        "audit.yaml:11: id: 'Net' differs from 'net' in upper and lower case only; some disks take them for one"
    ]


def test_a_wire_dataset_that_does_not_say_what_to_withhold_is_a_warning(tmp_path: Path) -> None:
    short = Catalog.load(write(tmp_path / "short", DATASET)).get("rows")
    whole = write(tmp_path / "whole")
    (whole / "audit.yaml").unlink()
    (whole / "rows.json").write_text(short.model_copy(update={"annotations": []}).model_dump_json())

    assert warnings(whole) == [
        "rows.json:1: annotations: must say which of the fields question, label no service may see; "
        "add 'dyff-dagster/withhold' with their names, or with '' if there are none"
    ]


def test_an_embedded_copy_that_differs_is_a_warning(tmp_path: Path) -> None:
    run = Catalog.load(write(tmp_path / "short", ALL)).get("run")
    whole = write(tmp_path / "whole", MODEL, SERVICE.replace("endpoint: predict", "endpoint: v2"), DATASET)
    (whole / "run.json").write_text(run.model_dump_json())

    assert warnings(whole) == [
        "run.json:1: inferenceSession.inferenceService: is a copy of 'service' that differs from the catalog's, "
        "and the copy is what is used; write the id instead to use the catalog's"
    ]


def test_an_empty_directory_is_no_catalog(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as raised:
        Catalog.load(tmp_path)
    assert str(raised.value) == f"{tmp_path}: holds no manifests: *.yaml, *.yml or *.json files with a `kind`"


def test_annotations_that_act_on_an_evaluation_are_no_warning(tmp_path: Path) -> None:
    service = SERVICE + (
        "annotations:\n"
        '  dyff-dagster/prices: \'{"input": 0.15, "currency": "EUR"}\'\n'
        '  dyff-dagster/answer-rules: \'{"preset": "openai-chat"}\'\n'
    )
    evaluation = EVALUATION + (
        "annotations:\n"
        "  dyff-dagster/accept: truncated, status-451\n"
        "  dyff-dagster/reuse: 'true'\n"
        "  dyff-dagster/max-requests: 1000\n"
        "  dyff-dagster/max-cost: 1.50\n"
        "  dyff-dagster/max-seconds: 3600\n"
    )
    assert warnings(write(tmp_path, MODEL, service, DATASET, evaluation)) == []


def test_limits_of_analyses_are_no_warning(tmp_path: Path) -> None:
    lines = "annotations: {dyff-dagster/max-seconds: 90, dyff-dagster/max-memory: 1.5Gi}\n"
    measurement = MEASUREMENT + lines
    assert (
        warnings(write(tmp_path, MODEL, SERVICE, DATASET, EVALUATION, MODULE, METHOD + lines, measurement))
        == []
    )


def test_a_cap_on_money_needs_prices(tmp_path: Path) -> None:
    capped = EVALUATION + "annotations: {dyff-dagster/max-cost: 1.50}\n"
    with pytest.raises(CatalogError) as error:
        Catalog.load(write(tmp_path, MODEL, SERVICE, DATASET, capped))
    (problem,) = error.value.problems
    assert problem.field == "annotations.dyff-dagster/max-cost"
    assert problem.message == (
        "stops nothing while nobody says what answers cost: add 'dyff-dagster/prices' to the service 'service'"
    )


def test_an_annotation_that_nothing_acts_on_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "kind: Method\nid: m\naccount: a\nname: m\nscope: Evaluation\n"
        "annotations: {dyff-dagster/automation: eager}\n"
        "implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: a.b}}\n"
        "output: {kind: SafetyCase, safetyCase: {name: m}}\n"
    )
    (warning,) = Catalog.load(path).warnings
    what = "has no effect on a Method: there is nothing to compute for it"
    assert str(warning) == f"{path}:6: annotations.dyff-dagster/automation: {what}"


@pytest.mark.parametrize("wrong", ["evl-0777", "eval-07777", "Eval-0777", "evaluation-0777"])
def test_among_thousands_of_names_the_one_that_was_meant_is_found(wrong: str) -> None:
    near = suggestion(wrong, [f"eval-{number:04}" for number in range(5000)])
    assert re.fullmatch(r"did you mean 'eval-077\d'\?", near)


def test_each_chain_that_is_too_long_is_told_at_its_end(tmp_path: Path) -> None:
    documents = [MODULE, changed(METHOD, "kind: Evaluation}", "kind: Measurement}")]
    for name in "ab":
        for number in range(500):
            entity = f"{name}{number - 1}" if number else f"{name}499"
            text = changed(MEASUREMENT, "entity: run", f"entity: {entity}").replace(
                "id: counted", f"id: {name}{number}"
            )
            if number == 0:
                text = text.replace("method: count", "method: start").partition("inputs")[0]
            documents.append(text)
    start = changed(METHOD, "id: count", "id: start").replace(
        "inputs: [{keyword: answers, kind: Evaluation}]\n", ""
    )

    found = problems(write(tmp_path, MODEL, SERVICE, DATASET, EVALUATION, start, *documents))
    assert [problem.partition(": id: ")[2] for problem in found] == [
        "ends a chain of 502 dependencies; at most 500 are allowed"
    ] * 2
