"""Files made into Datasets."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.arrow import decode_schema
from dyff_dagster.schema.platform import Dataset
from dyff_dagster.sources import fetch
from dyff_dagster.sources import import_data as import_file
from dyff_dagster.sources.import_data import ImportedData, ImportRefused
from dyff_dagster.store import Inputs, Store


def run(tmp_path: Path, file: str, content: str | bytes, **arguments: Any) -> ImportedData:
    source = tmp_path / file
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    arguments = {"account": "lab", "withhold": [], "out": tmp_path / "out"} | arguments
    return import_file(source, **arguments)


def refused(tmp_path: Path, file: str, content: str | bytes, **arguments: Any) -> str:
    with pytest.raises(ImportRefused) as raised:
        run(tmp_path, file, content, **arguments)
    out = tmp_path / "out"
    assert not out.exists() or not any(path.name.startswith(".") for path in out.iterdir())
    return str(raised.value).replace(f"{tmp_path}/", "")


def rows(imported: ImportedData) -> list[dict[str, Any]]:
    return pq.read_table(imported.parquet).to_pylist()


def lines(*objects: Any) -> str:
    return "".join(json.dumps(item) + "\n" for item in objects)


def test_csv_becomes_parquet_with_an_index_and_a_manifest(tmp_path: Path) -> None:
    imported = run(tmp_path, "my rows.csv", 'question,count,score\nWhy?,1,0.5\n"a\nb",2,1\n', id="rows")

    assert rows(imported) == [
        {"_index_": 0, "question": "Why?", "count": 1, "score": 0.5},
        {"_index_": 1, "question": "a\nb", "count": 2, "score": 1.0},
    ]
    assert imported.rows == 2
    assert imported.parquet == tmp_path / "out" / "rows" / "data.parquet"
    assert imported.schema == pq.read_schema(imported.parquet)
    assert not imported.schema.field("_index_").nullable


@pytest.mark.parametrize("withhold", [["answer"], []])
def test_the_manifest_loads_without_warnings_and_fits_the_file(tmp_path: Path, withhold: list[str]) -> None:
    text = lines(
        {"no": "x", "answer": ["a"], "deep": {"b": 1, "c d": [{"e": None}]}, "mixed": 1}, {"mixed": 2.5}
    )
    imported = run(tmp_path, "rows.jsonl", text, withhold=withhold, name="Räume: 1")

    catalog = Catalog.load(tmp_path / "out")

    assert catalog.warnings == []
    dataset = catalog.get_as("rows", Dataset)
    assert dataset.name == "Räume: 1"
    assert catalog.withheld("rows") == frozenset(withhold)
    declared = decode_schema(dataset.schema_.arrowSchema)
    found = pq.read_schema(imported.parquet)
    assert declared.equals(found)


def test_json_lines_types_hold_for_the_whole_file(tmp_path: Path) -> None:
    imported = run(
        tmp_path,
        "rows.ndjson",
        "\ufeff"
        + lines({"a": 1, "b": None, "when": "2024-01-01"}, {"a": 1.5, "b": {"x": []}}, {"c": True})
        + "\n\n",
    )

    assert imported.schema.field("a").type == pa.float64()
    assert imported.schema.field("when").type == pa.string()
    assert imported.schema.field("b").type == pa.struct([("x", pa.list_(pa.string()))])
    assert rows(imported)[2] == {"_index_": 2, "a": None, "b": None, "when": None, "c": True}


def test_csv_types_hold_for_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small blocks, so that what is inferred from the first does not hold for a later one.
    monkeypatch.setattr("dyff_dagster.sources.readers._BLOCK", 64)
    body = "".join(f"{number},{number},{number}\n" for number in range(50)) + "0.5,x,9\n" + "," * 2 + "\n"
    imported = run(tmp_path, "rows.csv", "a,b,c\n" + body)

    assert [str(imported.schema.field(name).type) for name in "abc"] == ["double", "string", "int64"]
    assert rows(imported)[50] == {"_index_": 50, "a": 0.5, "b": "x", "c": 9}
    assert rows(imported)[51]["a"] is None


def test_csv_rows_longer_than_a_block_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyff_dagster.sources.readers._BLOCK", 64)
    imported = run(tmp_path, "rows.csv", f"a,b\n1,x\n2,{'y' * 1000}\n")

    assert rows(imported)[1]["b"] == "y" * 1000


def test_leading_zeros_are_kept(tmp_path: Path) -> None:
    imported = run(tmp_path, "rows.csv", "zip,n\n10115,0\n01067,-1\n")

    assert [row["zip"] for row in rows(imported)] == ["10115", "01067"]
    assert imported.schema.field("n").type == pa.int64()


def test_a_column_without_values_is_text(tmp_path: Path) -> None:
    assert run(tmp_path, "rows.csv", "a,b\n1,\n").schema.field("b").type == pa.string()


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when": pa.array([datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)], pa.timestamp("us", "UTC")),
            "kind": pa.array(["a"]).dictionary_encode(),
            "name": pa.array(["x"], pa.large_string()),
        },
    ).replace_schema_metadata({"pandas": "{}"})
    pq.write_table(table, tmp_path / "raw.parquet")
    imported = run(tmp_path, "raw.parquet", (tmp_path / "raw.parquet").read_bytes())

    assert [str(field.type) for field in imported.schema] == [
        "int64",
        "timestamp[us, tz=UTC]",
        "string",
        "string",
    ]
    assert imported.schema.metadata is None
    assert Catalog.load(tmp_path / "out").warnings == []


@pytest.mark.parametrize("order", [[7, 9, 3], [1, 2, 3]])
def test_an_index_of_the_file_is_kept_and_put_first(tmp_path: Path, order: list[int]) -> None:
    imported = run(tmp_path, "rows.csv", "a,_index_\n" + "".join(f"x,{number}\n" for number in order))

    assert imported.schema.names == ["_index_", "a"]
    assert [row["_index_"] for row in rows(imported)] == order


def test_an_index_must_be_a_key(tmp_path: Path) -> None:
    assert refused(tmp_path, "rows.csv", "a,_index_\nx,5\ny,4\nz,5\n") == (
        "rows.csv: _index_ 5 stands more than once; every row needs a number of its own"
    )
    assert (
        refused(tmp_path, "rows.csv", "a,_index_\nx,1\ny,\n")
        == "rows.csv: row 2 has no _index_; every row needs one"
    )
    assert refused(tmp_path, "rows.jsonl", lines({"a": 1, "_index_": "x"})) == (
        "rows.jsonl: _index_ must be whole numbers, one of its own for each row"
    )


def test_rows_stream_in_bounded_row_groups(tmp_path: Path) -> None:
    imported = run(tmp_path, "rows.csv", "a\n" + "".join(f"{number}\n" for number in range(150_000)))

    metadata = pq.read_metadata(imported.parquet)
    assert metadata.num_rows == imported.rows == 150_000
    assert max(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) <= 65_536
    assert pq.read_table(imported.parquet)["_index_"].to_pylist() == list(range(150_000))


@pytest.mark.parametrize("name", ["label", "Answer", "ground-truth", "y", "Expected Answer", "diagnosis"])
def test_a_field_that_looks_like_a_label_must_be_mentioned(tmp_path: Path, name: str) -> None:
    text = refused(tmp_path, "rows.csv", f"question,{name}\na,b\n", withhold=None)

    assert text == (
        f"rows.csv: {name} may be what a service is to find out; say --withhold {name} to keep it from every service, "
        "or --withhold '' to send it"
    )
    assert run(tmp_path, "rows.csv", f"question,{name}\na,b\n", withhold=[""]).rows == 1


def test_nothing_is_withheld_where_nothing_looks_like_a_label(tmp_path: Path) -> None:
    run(tmp_path, "rows.csv", "question,topic\na,b\n", withhold=None)

    assert Catalog.load(tmp_path / "out").withheld("rows") == frozenset()


def test_a_withheld_field_must_exist(tmp_path: Path) -> None:
    assert refused(tmp_path, "rows.csv", "question,answer\na,b\n", withhold=["anwser"]) == (
        "rows.csv has no field 'anwser' to withhold; did you mean 'answer'?"
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "r.jsonl",
            lines({"a": 1}, {"a": "secret"}),
            "r.jsonl:2: a: is text here and a number before; make it one type in every line",
        ),
        (
            "r.jsonl",
            lines({"a": {"b": [1]}}, {"a": {"b": [{"secret": 1}]}}),
            "r.jsonl:2: a.b[]: is an object here and a number before; make it one type in every line",
        ),
        ("r.jsonl", lines({"a": 1}) + "{secret\n", "r.jsonl:2: is no JSON at character 2"),
        ("r.jsonl", lines(["secret"]), 'r.jsonl:1: must be a JSON object, as in {"question": "…"}'),
        ("r.jsonl", '{"a": NaN}\n', "r.jsonl:1: has a NaN or Infinity, which JSON does not know"),
        (
            "r.jsonl",
            lines({"a": 2**63}),
            "r.jsonl:1: a: is a whole number that does not fit into 64 bits; write it as text",
        ),
        (
            "r.jsonl",
            lines({"a": {}}),
            "r.jsonl:1: a: is an object without fields, which has no type; leave it out or write null",
        ),
        ("r.jsonl", '{"a": ' + "7" * 5000 + "}", "r.jsonl:1: has a number of thousands of digits"),
        (
            "r.jsonl",
            '{"a": {"\\ud800": 1}}',
            "r.jsonl:1: a: has a field whose name holds half of a surrogate pair, which is no text",
        ),
        (
            "r.jsonl",
            '{"\\ud800": 1}',
            "r.jsonl:1: has a field whose name holds half of a surrogate pair, which is no text",
        ),
        (
            "r.jsonl",
            '{"a": {"b": ' + "[" * 300 + "]" * 300 + "}}",
            "r.jsonl:1: a: is nested more than 32 levels deep; write it as text",
        ),
        ("r.jsonl", b'{"a": "\xff"}\n', "r.jsonl:1: is not UTF-8 text; save the file as UTF-8"),
        ("r.jsonl", "", "r.jsonl has no rows; there would be nothing to evaluate"),
        ("r.jsonl", '{"_index_": 1}', "r.jsonl has no fields besides _index_; a data set needs one"),
        ("r.jsonl", '{"a": 1, "a": 2}\n', "r.jsonl:1: has an object with the same field twice"),
        ("r.csv", "", "r.csv is empty; its first row must name the columns"),
        ("r.csv", "a,b\n", "r.csv has no rows; there would be nothing to evaluate"),
        ("r.csv", "a,b\n1,2\nsecret\n", "r.csv: row 3 has 1 columns instead of 2 (the header is row 1)"),
        ("r.csv", "a,a\n1,2\n", "r.csv has more than one column 'a'; every column needs a name of its own"),
        ("r.csv", "a,\n1,2\n", "r.csv has a column without a name; every column needs a name of its own"),
        ("r.csv", "a,b\n1,2\n".encode("utf-16"), "r.csv is UTF-16; save the file as UTF-8"),
        ("r.csv", "a;b\n1;2\n", "r.csv has its columns between semicolons; separate them by commas"),
        ("r.csv", "a\tb\n1\t2\n", "r.csv has its columns between tabs; separate them by commas"),
        ("r.csv", b"a\n\xffsecret\n", "r.csv: row 2 is not UTF-8 text; save the file as UTF-8"),
        ("r.parquet", "secret", "r.parquet is no Parquet file, or is damaged"),
        ("r.xlsx", "", "r.xlsx is no *.csv, *.jsonl, *.ndjson or *.parquet file; convert it to one of these"),
    ],
)
def test_what_cannot_be_imported_is_explained_without_content(
    tmp_path: Path, name: str, content: str | bytes, expected: str
) -> None:
    text = refused(tmp_path, name, content)

    assert text == expected
    assert "secret" not in text


def test_an_import_is_not_overwritten_unasked(tmp_path: Path) -> None:
    run(tmp_path, "rows.csv", "a\n1\n")

    assert refused(tmp_path, "rows.csv", "a\n2\n") == (
        "out/rows/dataset.yaml is there already; import under another id, or say --overwrite"
    )
    (tmp_path / "out" / "rows" / "notes.txt").touch()
    assert rows(run(tmp_path, "rows.csv", "a\n2\n", overwrite=True)) == [{"_index_": 0, "a": 2}]
    assert (tmp_path / "out" / "rows" / "notes.txt").exists()


def test_a_failed_overwrite_leaves_the_old_import(tmp_path: Path) -> None:
    imported = run(tmp_path, "rows.csv", "a\n1\n")

    refused(tmp_path, "rows.csv", "a,b\n1\n", overwrite=True)

    assert rows(imported) == [{"_index_": 0, "a": 1}]
    assert imported.manifest.exists()


def test_a_crash_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "rows.csv", "a\n1\n")

    assert list((tmp_path / "out").iterdir()) == []


def test_the_id_is_made_from_the_file_s_name(tmp_path: Path) -> None:
    assert run(tmp_path, "My Questions (v2).csv", "a\n1\n").manifest.parent.name == "My-Questions-v2"


def test_rows_as_deep_as_the_limit_are_imported_and_pass_the_checks(tmp_path: Path) -> None:
    imported = run(tmp_path, "rows.jsonl", '{"a": ' + "[" * 32 + "1" + "]" * 32 + "}")

    assert Catalog.load(tmp_path / "out").warnings == []
    assert imported.rows == 1


def test_times_of_csv_files_have_the_types_that_parquet_keeps(tmp_path: Path) -> None:
    imported = run(
        tmp_path,
        "rows.csv",
        "moment,zoned,clock,day\n2024-01-01 10:00:00,2024-01-01T10:00:00Z,10:00:00,2024-01-01\n",
    )

    assert imported.schema == pq.read_schema(imported.parquet)
    assert [str(field.type) for field in imported.schema][1:] == [
        "timestamp[ms]",
        "timestamp[ms, tz=UTC]",
        "time32[ms]",
        "date32[day]",
    ]
    dataset = Catalog.load(tmp_path / "out").get_as("rows", Dataset)
    commit = fetch(
        dataset, Store(tmp_path / "store"), inputs=Inputs(spec="s"), files=imported.manifest.parent
    )
    assert commit.facts.rows == 1


def test_a_type_that_parquet_would_change_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyff_dagster.sources.readers.stored_schema", lambda schema: schema)

    assert refused(tmp_path, "rows.csv", "when\n2024-01-01 10:00:00\n") == (
        "rows.csv: the column when is timestamp[s] and becomes timestamp[ms] in Parquet; "
        "convert it to another type first"
    )


@pytest.mark.parametrize("account", ["", "  ", "lab\n", "a\x1bb"])
def test_an_account_must_be_named(tmp_path: Path, account: str) -> None:
    assert "account is empty or has control characters" in refused(
        tmp_path, "rows.csv", "a\n1\n", account=account
    )


@pytest.mark.parametrize("failing", ["data.parquet", "dataset.yaml"])
def test_a_disk_that_fails_amid_an_overwrite_leaves_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    imported = run(tmp_path, "rows.csv", "a\n1\n")
    before = imported.manifest.read_bytes()
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if path.name == failing:
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)

    assert refused(tmp_path, "rows.csv", "a\n2\n", overwrite=True) == (
        "out/rows cannot be written: No space left on device"
    )
    assert imported.manifest.read_bytes() == before
