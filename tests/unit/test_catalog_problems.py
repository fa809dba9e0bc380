"""Every error of a catalog is one sentence with file, line and field; here their texts are held."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog, CatalogError
from tests.unit.test_catalog_manifests import (
    ALL,
    DATASET,
    EVALUATION,
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
SYNTAX = [
    (
        "duplicate key",
        [MODEL + "name: Again\n"],
        ["audit.yaml:9: name: stands twice in the same mapping, first on line 4; keep one of the two"],
    ),
    ("tab", [changed(MODEL, "Net", "\n\tx: 1")], ["audit.yaml:5: is indented with a tab; YAML wants spaces"]),
    (
        "colon",
        [changed(MODEL, "Net", "Net: x")],
        [
            "audit.yaml:4: is no YAML: a second `:` on the line; put text that holds a colon in quotes, "
            "or mend the indentation"
        ],
    ),
    (
        "reserved character",
        [changed(MODEL, "Net", "@x")],
        [
            "audit.yaml:4: is no YAML: a value begins with a character that is reserved; put the text in quotes"
        ],
    ),
    (
        "control character",
        [changed(MODEL, "Net", "\x01")],
        ["audit.yaml:4: holds a control character that YAML does not allow"],
    ),
    (
        "billion laughs",
        [
            "kind: Model\n"
            + "l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 9))
        ],
        ["audit.yaml:6: the aliases of this file expand to more than 100000 values"],
    ),
    (
        "alias of itself",
        ["kind: Model\na: &a [*a]\n"],
        ["audit.yaml:2: a[0]: *a stands inside the value that it names"],
    ),
    ("alias of nothing", ["kind: Model\na: *b\n"], ["audit.yaml:2: a: *b has no &b before it"]),
    (
        "depth",
        ["kind: Model\na: " + "[" * 5000 + "]" * 5000 + "\n"],
        ["audit.yaml:2: is nested more than 100 levels deep"],
    ),
    (
        "tag",
        [changed(MODEL, "Net", "!!python/object:os.system Net")],
        [
            "audit.yaml:4: name: has the YAML tag !python/object:os.system, which manifests do not know; "
            "leave it out"
        ],
    ),
    (
        "key that is no text",
        [MODEL + "labels: {on: x}\n"],
        ["audit.yaml:9: labels: the key `on` is read as a truth value by YAML; put it in quotes: 'on'"],
    ),
    (
        "octal",
        [MODEL, SERVICE, DATASET, EVALUATION + "replications: 010\n"],
        [
            "audit.yaml:35: replications: `010` is read as the number 8 by YAML; "
            "write 8, or put it in quotes if it is text: '010'"
        ],
    ),
    (
        "no mapping",
        [MODEL, "- a\n"],
        ["audit.yaml:10: a document must be a mapping that begins with `kind: …`"],
    ),
]


@pytest.mark.parametrize(
    ("documents", "expected"),
    [pytest.param(d, e, id=i) for i, d, e in FIELDS + REFERENCES + ANNOTATIONS + SYNTAX],
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


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "../score.py",
            "the path '../score.py' has '..' in it: it must be relative and stay inside {folder}",
        ),
        ("/etc/hosts", "the path '/etc/hosts' is absolute: it must be relative and stay inside {folder}"),
        (
            "link.py",
            "the path 'link.py' leads outside through a symbolic link: it must be relative and stay inside {folder}",
        ),
        ("scor.py", "there is no file 'scor.py' in {folder}"),
    ],
)
def test_artifacts_stay_inside_and_exist(tmp_path: Path, path: str, message: str) -> None:
    folder = write(tmp_path / "catalog", changed(MODULE, "score.py", path))
    (tmp_path / "outside.py").touch()
    (folder / "link.py").symlink_to(tmp_path / "outside.py")

    assert problems(folder) == ["audit.yaml:5: artifacts[0].path: " + message.format(folder=folder)]


def test_an_uploaded_source_stays_inside_its_directory(tmp_path: Path) -> None:
    source = "kind: DataSource\nid: raw\naccount: lab\nname: Raw\nsourceKind: upload\nsource: ../x.csv\n"

    assert problems(write(tmp_path, source)) == [
        f"audit.yaml:6: source: the path '../x.csv' has '..' in it: it must be relative and stay inside {tmp_path}"
    ]


@pytest.mark.parametrize("path", ["x" * 5000, "x/" * 2500 + "y", "loop/x", "loop"])
@pytest.mark.parametrize("where", ["artifact", "files", "source", "notebook"])
def test_paths_that_no_disk_can_follow_are_problems(tmp_path: Path, path: str, where: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "score.py").touch()
    documents = {
        "artifact": [changed(MODULE, "score.py", path)],
        "files": [MODULE + f"annotations: {{dyff-dagster/files: {path}}}\n"],
        "source": [f"kind: DataSource\nid: d\naccount: lab\nname: D\nsourceKind: upload\nsource: {path}\n"],
        "notebook": [
            MODULE,
            METHOD.split("implementation")[0]
            + "implementation: {kind: JupyterNotebook, jupyterNotebook: {notebookModule: code, notebookPath: "
            + path
            + "}}\nmodules: [code]\n"
            + "output: {kind: SafetyCase, safetyCase: {name: S}}\n",
        ],
    }[where]

    [found] = problems(write(tmp_path, *documents))
    assert len(found) < 600
    expected = (
        "there is no directory"
        if where == "files"
        else "loop of symbolic links"
        if "loop" in path
        else "too long"
    )
    assert expected in found


@pytest.mark.parametrize("where", ["Dataset", "Module"])
def test_an_endless_name_of_a_directory_to_look_into_is_a_problem(tmp_path: Path, where: str) -> None:
    text = (
        DATASET
        if where == "Dataset"
        else changed(MODULE, "artifacts: [{path: score.py}]\n", "annotations:\n")
    )
    text = changed(text, "annotations:\n", f"annotations:\n  dyff-dagster/files: {'x' * 5000}\n")

    assert any("there is no directory" in problem for problem in problems(write(tmp_path, text)))


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("http://[::1", "is no URL"),
        ("http://h:99999/", "is no URL"),
        ("http://h:s3cret/", "is no URL"),
        ("http://a..b/", "is a URL without a host that can be"),
        ("http://" + "a" * 64 + "/s3cret", "is a URL without a host that can be"),
        ("https:s3cret", "is a URL without a host that can be"),
        ("http://u:s3cret@h/", "carries a user name or password"),
        ("http://s3cret@h/", "carries a user name or password"),
        ("file:", "must be a path on the session"),
        ("localhost:8000/s3cret", "must be a path on the session"),
        ("gen\\nerate", "has white space or control characters"),
        ("http://h/s3cret\\x7f", "has white space or control characters"),
    ],
)
def test_an_endpoint_that_cannot_be_asked_is_a_problem(tmp_path: Path, endpoint: str, message: str) -> None:
    service = changed(SERVICE, "endpoint: predict", f'endpoint: "{endpoint}"')

    [found] = problems(write(tmp_path, MODEL, service))
    assert found.startswith(f"audit.yaml:16: interface.endpoint: {message}")
    assert "s3cret" not in found


@pytest.mark.parametrize(
    "endpoint",
    [
        "generate",
        "/v1/models/m:predict",
        "http://[::1]:8000/x",
        "https://api.example./v1?x=1",
        "http://bücher.example",
    ],
)
def test_an_endpoint_is_a_path_or_a_url(tmp_path: Path, endpoint: str) -> None:
    service = changed(SERVICE, "endpoint: predict", f'endpoint: "{endpoint}"')

    assert "service" in Catalog.load(write(tmp_path, MODEL, service))


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ('{"X-Key": "s3cret\\nX: y"}', "has control characters in the value of X-Key; write it on one line"),
        (
            '{"X-Key: s3cret": "y"}',
            "has a header's name with characters that no name has; write letters, digits and hyphens",
        ),
        (
            '{"": "s3cret"}',
            "has a header's name with characters that no name has; write letters, digits and hyphens",
        ),
        *(
            (f'{{"{name}": "s3cret"}}', f"sets {name}, which is set for each request; leave it out")
            for name in ("Content-Length", "TRANSFER-ENCODING", "host", "content-type", "Connection")
        ),
    ],
)
def test_headers_that_break_a_request_are_problems(tmp_path: Path, headers: str, message: str) -> None:
    service = SERVICE + f"annotations: {{dyff-dagster/headers: '{headers}'}}\n"

    assert problems(write(tmp_path, MODEL, service)) == [
        f"audit.yaml:18: annotations.dyff-dagster/headers: {message}"
    ]


def test_a_directory_of_files_must_be_there_and_relative(tmp_path: Path) -> None:
    annotated = MODULE + "annotations: {dyff-dagster/files: %s}\n"
    at = "audit.yaml:6: annotations.dyff-dagster/files: "

    assert problems(write(tmp_path, annotated % "gone")) == [at + "there is no directory gone"]
    assert problems(write(tmp_path, annotated % "/tmp")) == [
        at + "must be relative to the manifest, not an absolute path"
    ]


@pytest.mark.parametrize("value", ["true", "3", "text", "[[]]", "[{key: [], value: x}]"])
def test_annotations_of_the_wrong_shape_are_problems(tmp_path: Path, value: str) -> None:
    dataset = changed(DATASET, "annotations:\n  dyff-dagster/withhold: label\n", f"annotations: {value}\n")

    assert all(
        problem.startswith("audit.yaml:5: annotations") for problem in problems(write(tmp_path, dataset))
    )


def test_a_dataset_without_files_says_how_to_name_them(tmp_path: Path) -> None:
    write(tmp_path, DATASET)
    (tmp_path / "data.parquet").unlink()

    assert problems(tmp_path) == [
        f"audit.yaml:1: artifacts: there is no *.parquet file in {tmp_path}; list the artifacts, "
        "or name their directory with the annotation 'dyff-dagster/files'"
    ]


def test_unreadable_files_are_problems(tmp_path: Path) -> None:
    write(tmp_path, MODEL)
    (tmp_path / "latin.yaml").write_bytes(b"kind: Model\nname: Z\xfcrich\n")
    (tmp_path / "large.yaml").write_bytes(b"# kind" + b" " * (10 * 1024 * 1024))
    (tmp_path / "broken.yaml").symlink_to(tmp_path / "gone")

    assert problems(tmp_path) == [
        "broken.yaml: cannot be read: it is no regular file, or a broken link",
        "large.yaml: is larger than 10 MB, which no manifest is; move it out of the catalog, "
        "or into a folder whose name begins with a dot",
        "latin.yaml:2: is not UTF-8 text; save the file as UTF-8",
    ]


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_a_pipe_does_not_block_loading(tmp_path: Path) -> None:
    os.mkfifo(write(tmp_path, MODEL) / "pipe.yaml")

    assert problems(tmp_path) == ["pipe.yaml: cannot be read: it is no regular file, or a broken link"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"kind": "Model",\n "id": }', "a.json:2: is no JSON: a value is expected here"),
        ('{"kind": "Model"\n "id": 1}', "a.json:2: is no JSON: `,` or `}` is expected here"),
        ('{"kind": "Model"} x', "a.json:1: is no JSON: something follows the first value"),
        (
            '{"kind": "\\ud800"}',
            "a.json:1: is no JSON: a string with half of a surrogate pair, which is no text",
        ),
        (
            '{"kind": "x", "a": "\\q"}',
            "a.json:1: is no JSON: a string that does not end, or a bad escape in it",
        ),
        ('{"kind": ' + "[" * 200, "a.json:1: is nested more than 100 levels deep"),
    ],
)
def test_json_syntax(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "a.json").write_text(text)

    assert problems(tmp_path) == [expected]


def test_json_duplicate_keys(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"kind": "Model",\n"id": "a",\n"id": "b"}')

    assert "a.json:3: id: stands twice in the same mapping, first on line 2; keep one of the two" in problems(
        tmp_path
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


def test_a_scope_that_does_not_say_enough_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, ALL.replace("scope: {evaluation: run, inferenceService: service, dataset: rows}\n", ""))

    assert warnings(tmp_path) == [
        "audit.yaml:59: scope: does not name evaluation, inferenceService, dataset, "
        "which a method of scope Evaluation is about"
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


def test_header_values_never_reach_a_message(tmp_path: Path) -> None:
    for value in ('\'{"a": "sk-secret\'', "[sk-secret]", '\'{"a": ["sk-secret"]}\''):
        write(tmp_path, MODEL, SERVICE + f"annotations: {{dyff-dagster/headers: {value}}}\n")
        assert not any("sk-secret" in problem for problem in problems(tmp_path))


def test_an_annotation_that_nothing_acts_on_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "kind: Method\nid: m\naccount: a\nname: m\nscope: Evaluation\n"
        "annotations: {dyff-dagster/automation: eager}\n"
        "implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: a.b}}\n"
        "output: {kind: SafetyCase, safetyCase: {name: m}}\n"
    )
    (warning,) = Catalog.load(path).warnings
    assert (
        str(warning)
        == f"{path}:6: annotations.dyff-dagster/automation: has no effect in this release; do not rely on it"
    )
