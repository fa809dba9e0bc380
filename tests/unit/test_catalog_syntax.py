"""Files that are no YAML or JSON, or not the YAML that people mean; the rest of the catalog is checked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from dyff_dagster.catalog import Catalog
from tests.unit.test_catalog_manifests import (
    ALL,
    DATASET,
    EVALUATION,
    MODEL,
    SERVICE,
    problems,
    write,
)
from tests.unit.test_catalog_problems import changed

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
    [pytest.param(documents, expected, id=name) for name, documents, expected in SYNTAX],
)
def test_syntax(tmp_path: Path, documents: list[str], expected: list[str]) -> None:
    assert problems(write(tmp_path, *documents)) == expected


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


@pytest.mark.parametrize("several", [False, True])
def test_json_may_name_the_schema_that_editors_check_it_by(tmp_path: Path, several: bool) -> None:
    model = {"$schema": "../schema.json", **yaml.safe_load(MODEL)}
    (tmp_path / "net.json").write_text(json.dumps([model] if several else model))
    assert list(Catalog.load(tmp_path).entities) == ["net"]


def test_only_at_the_top_and_only_in_json(tmp_path: Path) -> None:
    model = yaml.safe_load(MODEL)
    model["storage"]["$schema"] = "../schema.json"
    (tmp_path / "net.json").write_text(json.dumps(model))
    (tmp_path / "other.yaml").write_text(MODEL.replace("id: net", "id: other") + "$schema: ../schema.json\n")
    first, second = problems(tmp_path)
    assert first.startswith("net.json:1: storage.$schema: ModelStorage has no field '$schema'; ")
    assert second.startswith("other.yaml:9: $schema: Model has no field '$schema'; ")


def test_what_stands_before_a_syntax_error_is_checked_too(tmp_path: Path) -> None:
    assert problems(
        write(tmp_path, changed(MODEL, "name: Net\n", ""), "kind: Dataset\nid: d\nname: @\n")
    ) == [
        "audit.yaml:1: name: is missing",
        "audit.yaml:11: is no YAML: a value begins with a character that is reserved; put the text in quotes",
    ]


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("model.yaml", changed(MODEL, "name: Net", "name: @Net").encode()),
        ("model.json", b'{"kind": "Model", "id": "net", "account": "lab", }'),
        ("model.yaml", changed(MODEL, "name: Net", "name: N\xe9t").encode("latin-1")),
        ("model.yaml", (b"account: lab\nkind: [Model\nid: 'net'\n")),
    ],
)
def test_what_refers_to_a_file_that_cannot_be_read_is_not_blamed(
    tmp_path: Path, name: str, broken: bytes
) -> None:
    rest = ALL.removeprefix(MODEL + "---\n").replace("dataset: rows\ninf", "dataset: row\ninf")
    write(tmp_path, rest)
    (tmp_path / name).write_bytes(broken)

    found = problems(tmp_path)
    assert (
        found[0] == "audit.yaml:24: dataset: there is no Dataset 'row' in the catalog; did you mean 'rows'?"
    )
    assert [problem.partition(":")[0] for problem in found] == ["audit.yaml", name]


def test_an_escape_sequence_hides_no_reference_to_a_family(tmp_path: Path) -> None:
    service = changed(SERVICE, "model: net", 'model: "nets\\x40first"')
    assert problems(write(tmp_path, MODEL, service)) == [
        "audit.yaml:14: model: there is no Family 'nets' in the catalog; there is none"
    ]
