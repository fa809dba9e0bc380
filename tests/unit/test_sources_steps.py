"""Extractor steps: files of every kind made into rows, and what cannot be made into rows."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dyff_dagster.catalog.ingest import IngestFault, parse_ingest
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.platform import DataSchema, Dataset
from dyff_dagster.sources import SourceError, fetch
from dyff_dagster.sources.patterns import Pattern, PatternError
from dyff_dagster.store import Commit, Inputs, Store, local_path

SECRET = "patient-4711"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    directory = tmp_path / "raw"
    directory.mkdir()
    return directory


def ingest(
    store: Store,
    raw: Path,
    fields: dict[str, pa.DataType | pa.Field],
    *steps: dict[str, str],
    archives: tuple[dict[str, str], ...] = (),
    **more: Any,
) -> Commit:
    said = json.dumps({"archives": archives, "steps": steps, **more})
    schema = pa.schema([f if isinstance(f, pa.Field) else pa.field(n, f) for n, f in fields.items()])
    entity = Dataset(
        id="rows",
        account="acme",
        name="rows",
        schema=DataSchema.make_input_schema(schema),
        artifacts=[{"path": "data.parquet"}],
        annotations=[
            {"key": "dyff-dagster/from", "value": "source"},
            {"key": "dyff-dagster/ingest", "value": said},
        ],
    )
    return fetch(entity, store, inputs=Inputs(spec="s"), files=raw, source=raw)


def rows(commit: Commit) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = open_dataset(local_path(commit.path)).to_table().to_pylist()
    return found


def load(name: str, kind: str | None = None) -> dict[str, str]:
    return {"action": "load", "name": name, **({} if kind is None else {"type": kind})}


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), shade).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (100, 100), (1, 2, 3)).save(buffer, "JPEG")
    return buffer.getvalue()


def twice(name: str) -> bytes:
    """A Parquet file with two columns of one name."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=[name, name]), buffer)
    return buffer.getvalue()


def write(raw: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_files_of_each_kind_are_rows(store: Store, raw: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([5], pa.int32()), "other": ["z"]}), raw / "e.parquet")
    write(
        raw,
        {
            "a.csv": "other,x\nz,1\n",
            "b.jsonl": '{"x": 2}\n',
            "c.json": '\ufeff [{"x": 3, "other": {"deep": [1]}}, {"x": 4}]',
            "d.ndjson": '{"x": null}',
            "f.json": '{"x": 6}',
            "notes.weird": "x\n7\n",
        },
    )
    # By what they are read as: the first kind first, each by name.
    found = rows(ingest(store, raw, {"x": pa.int64()}, load("?.*"), load("notes.weird", "csv")))
    assert [row["x"] for row in found] == [1, 2, None, 3, 4, 6, 5, 7]
    assert [row["_index_"] for row in found] == list(range(8))


def test_images_in_directories_have_their_labels_from_their_paths(store: Store, raw: Path) -> None:
    write(raw, {"cat/1.png": png(1), "dog/2.png": png(2), "dog/3.png": png(3), "README.md": "what this is"})
    fields = {"bytes": pa.binary(), "format": pa.string(), "label": pa.string(), "path": pa.string()}
    assert rows(ingest(store, raw, fields, load("{label}/*.png"))) == [
        {"_index_": 0, "bytes": png(1), "format": "png", "label": "cat", "path": "cat/1.png"},
        {"_index_": 1, "bytes": png(2), "format": "png", "label": "dog", "path": "dog/2.png"},
        {"_index_": 2, "bytes": png(3), "format": "png", "label": "dog", "path": "dog/3.png"},
    ]


def test_texts_are_rows_and_rows_of_a_table_have_fields_of_its_path(store: Store, raw: Path) -> None:
    write(raw, {"en/a.txt": "one", "de/b.txt": "\ufeffzwei", "tables/2024.csv": "text\nthree\n"})
    fields = {"text": pa.string(), "language": pa.string()}
    found = rows(ingest(store, raw, fields, load("{language}/*.txt"), load("{language}/*.csv")))
    assert [(row["text"], row["language"]) for row in found] == [
        ("zwei", "de"),
        ("one", "en"),
        ("three", "tables"),
    ]


def test_an_archive_of_images_is_joined_with_its_table(store: Store, raw: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(3):
            archive.writestr(f"images/{number}.png", png(number))
    write(raw, {"images.zip": buffer.getvalue(), "labels.csv": "id,label\n2,c\n0,a\n1,b\n7,z\n"})
    found = rows(
        ingest(
            store,
            raw,
            {"picture": pa.binary(), "label": pa.string()},
            load("images/{number}.png"),
            {"action": "rename", "name": "bytes", "type": "picture"},
            {"action": "join", "name": "labels.csv", "type": "number=id"},
            archives=({"name": "*.zip", "format": "zip"},),
        )
    )
    assert [(row["picture"], row["label"]) for row in found] == [(png(0), "a"), (png(1), "b"), (png(2), "c")]


def test_nested_json_is_taken_apart(store: Store, raw: Path) -> None:
    """As questions about paragraphs of articles are often published."""
    content = {
        "version": "1",
        "data": [
            {
                "title": "T",
                "paragraphs": [
                    {"context": "C1", "qas": [{"id": "1", "question": "Q1"}, {"id": "2", "question": "Q2"}]},
                    {"context": "C2", "qas": [{"id": "3", "question": "Q3"}]},
                    {"context": "C3", "qas": []},
                ],
            }
        ],
    }
    write(raw, {"squad.json": json.dumps(content)})
    found = rows(
        ingest(
            store,
            raw,
            {"context": pa.string(), "question": pa.string(), "title": pa.string()},
            load("squad.json"),
            {"action": "explode", "name": "data"},
            {"action": "rename", "name": "data.title", "type": "title"},
            {"action": "rename", "name": "data.paragraphs", "type": "paragraph"},
            {"action": "explode", "name": "paragraph"},
            {"action": "rename", "name": "paragraph.context", "type": "context"},
            {"action": "rename", "name": "paragraph.qas", "type": "qa"},
            {"action": "explode", "name": "qa"},
            {"action": "rename", "name": "qa.question", "type": "question"},
        )
    )
    assert [(row["_index_"], row["context"], row["question"], row["title"]) for row in found] == [
        (0, "C1", "Q1", "T"),
        (1, "C1", "Q2", "T"),
        (2, "C2", "Q3", "T"),
    ]


def test_lists_of_one_length_are_exploded_together(store: Store, raw: Path) -> None:
    write(
        raw,
        {"a.jsonl": '{"k": "p", "x": [1, 2], "y": ["a", "b"]}\n{"k": "q", "x": [], "y": []}\n{"k": "r"}\n'},
    )
    fields = {"k": pa.string(), "x": pa.int64(), "y": pa.string()}
    explode = {"action": "explode", "name": "x, y"}
    assert rows(ingest(store, raw, fields, load("a.jsonl"), explode)) == [
        {"_index_": 0, "k": "p", "x": 1, "y": "a"},
        {"_index_": 1, "k": "p", "x": 2, "y": "b"},
    ]
    write(raw, {"a.jsonl": '{"k": "p", "x": [1, 2], "y": ["a"]}\n'})
    with pytest.raises(
        SourceError, match="step 2 of dyff-dagster/ingest: the lists x, y of a row are not of the same"
    ):
        ingest(store, raw, fields, load("a.jsonl"), explode)


def test_a_field_that_some_rows_of_json_lack_is_null_there(
    store: Store, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dyff_dagster.sources.raw_files._LINES", 1)
    write(raw, {"a.jsonl": '{"x": 1}\n{"x": 2, "y": "b"}\n', "b.jsonl": '{"x": 3}\n'})
    fields = {"x": pa.int64(), "y": pa.string(), "z": pa.string()}
    found = rows(ingest(store, raw, fields, load("*.jsonl"), {"action": "rename", "name": "x", "type": "x"}))
    assert [(row["x"], row["y"], row["z"]) for row in found] == [
        (1, None, None),
        (2, "b", None),
        (3, None, None),
    ]


def test_numbers_of_a_table_are_partners_of_numbers_of_json(store: Store, raw: Path) -> None:
    write(raw, {"a.jsonl": '{"id": 2}\n{"id": 1}\n', "b.csv": "id,when\n1,2024-05-01\n2,2024-06-01\n"})
    join = {"action": "join", "name": "b.csv", "type": "id"}
    found = rows(ingest(store, raw, {"id": pa.int16(), "when": pa.date32()}, load("*.jsonl"), join))
    assert [(row["id"], str(row["when"])) for row in found] == [(2, "2024-06-01"), (1, "2024-05-01")]


@pytest.mark.parametrize(
    ("files", "steps", "message"),
    [
        ({}, [load("*.json")], r"step 1 .*: no file of its data source fits \*\.json: there are a\.csv"),
        ({"a.weird": "x"}, [load("a.*")], "step 1 .*: a.weird has none of the suffixes"),
        (
            {},
            [load("a.csv"), {"action": "rename", "name": "nope", "type": "y"}],
            "step 2 .*: there is no one field nope",
        ),
        (
            {},
            [load("a.csv"), {"action": "rename", "name": "x.y", "type": "y"}],
            "step 2 .*: x.y is no field: x is string",
        ),
        (
            {},
            [load("a.csv"), {"action": "explode", "name": "x"}],
            "step 2 .*: field x is string, and only lists have",
        ),
        (
            {"b.csv": f"x,z\n1,{SECRET}\n"},
            [load("a.csv"), {"action": "join", "name": "b.csv", "type": "x"}],
            "step 2 .*: row 1 has no partner in b.csv",
        ),
        (
            {"b.csv": f"x,z\n1,{SECRET}\n1,{SECRET}\n"},
            [load("a.csv"), {"action": "join", "name": "b.csv", "type": "x"}],
            "step 2 .*: x stands twice in b.csv",
        ),
        ({}, [load("{l}/{l}.csv")], "step 1 .*: the pattern .* has the field l twice"),
        ({"c.csv": f"x\n{SECRET}\n"}, [load("c.csv")], "field x in row 0 does not fit int64"),
        (
            {"c.csv": f"_index_,x\n5,1\n8,{SECRET}\n"},
            [load("c.csv")],
            r"field x in row 1 \(_index_ 8\) does not fit",
        ),
        ({"c.csv": f"y\n{SECRET}\n"}, [load("c.csv")], "what the steps make has no field x"),
        ({"c.csv": f"_index_,x\n5,1\n5,{SECRET}\n"}, [load("c.csv")], "does not fit int64"),
        (
            {"c.csv": "_index_,x\n5,1\n", "d.csv": "x\n1\n"},
            [load("[cd].csv"), load("?.csv")],
            "fits|others have not",
        ),
        ({"c.json": '[{"x": 1}, 5]'}, [load("c.json")], "c.json:2: is no JSON object"),
        ({"c.json": '[{"x": 1}'}, [load("c.json")], "c.json:2: is no JSON: mend"),
        ({"c.png": SECRET}, [load("c.png")], "c.png is no image, or a damaged one"),
        ({"c.png": png(1)[:50]}, [load("c.png")], "c.png is"),
        ({"c.jpg": jpeg()[: len(jpeg()) // 2]}, [load("c.jpg")], "c.jpg is a damaged image"),
        ({"c.txt": b"\xff\xfe"}, [load("c.txt")], "c.txt is not UTF-8 text"),
        ({"c.csv": "x\n1\n".encode("utf-16")}, [load("c.csv")], "rows: c.csv is UTF-16; save"),
        ({"c.csv": b"x\xff\n1\n"}, [load("c.csv")], "rows: c.csv: row 1 is not UTF-8 text"),
        (
            {"d/c.csv": f"x,y\n1,2\n{SECRET}\n"},
            [load("d/c.csv")],
            "rows: d/c.csv: row 3 has 1 columns instead of 2",
        ),
        ({"c.csv": ""}, [load("c.csv")], "rows: c.csv is empty; its first row must name the columns"),
        (
            {"c.jsonl": '{"x": 1, "x": 2}\n'},
            [load("c.jsonl")],
            "c.jsonl:1: has an object with the same field twice",
        ),
        (
            {"c.jsonl": '{"x": 1, "y": {"a": 1, "a": 2}}\n'},
            [load("c.jsonl"), {"action": "rename", "name": "y.a", "type": "z"}],
            "c.jsonl:1: has an object with the same field twice",
        ),
        (
            {"c.json": '[{"x": 0}, {"x": 1, "x": 2}]'},
            [load("c.json")],
            "c.json has an object with the same field twice",
        ),
        ({"c.json": '[{"x": NaN}]'}, [load("c.json")], "c.json:1: is no JSON"),
        ({"c.jsonl": '{"x": NaN}\n'}, [load("c.jsonl")], "c.jsonl:1: has a NaN or Infinity"),
        ({"c.csv": "x\nNaN\n"}, [load("c.csv")], "field x in row 0 does not fit int64"),
        ({"c.parquet": twice("x")}, [load("c.parquet")], "c.parquet has more than one column x"),
        (
            {"c.csv": f"x,y\n1,{SECRET}\n"},
            [load("c.csv"), {"action": "rename", "name": "y", "type": "x"}],
            "step 2 .*: there is a field x already: give y another name",
        ),
        (
            {"k.csv": "k,x\n1,2\n", "c.csv": f"k,x\n1,{SECRET}\n"},
            [load("k.csv"), {"action": "join", "name": "c.csv", "type": "k"}],
            "step 2 .*: c.csv has a field x, and so have the rows: rename that of the rows before",
        ),
        ({"c.parquet": SECRET}, [load("c.parquet")], "c.parquet cannot be read as Parquet"),
    ],
)
def test_what_cannot_become_rows_is_one_sentence_that_shows_no_content(
    store: Store, raw: Path, files: dict[str, str | bytes], steps: list[dict[str, str]], message: str
) -> None:
    write(raw, {"a.csv": "x\n1\n2\n", **files})
    with pytest.raises(SourceError, match=message) as refused:
        ingest(store, raw, {"x": pa.int64()}, *steps)
    assert SECRET not in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith("rows: ")
    assert store.current("rows") is None


def test_marks_at_the_beginning_nulls_and_names_with_spaces_lose_nothing(store: Store, raw: Path) -> None:
    inner = pa.struct({"a": pa.int64(), "b": pa.list_(pa.struct({"c": pa.string()}))})
    write(
        raw,
        {
            "dä ta/1 #100%.jsonl": (
                '\ufeff{"x": null, "größe": 5}\n{"x": {"a": null, "b": [null, {"c": null}, {"c": "z"}]}}\n'
            ),
            "dä ta/2.csv": "x\n",
        },
    )
    found = rows(ingest(store, raw, {"x": inner, "größe": pa.string()}, load("{größe}/*.jsonl")))
    assert [row["x"] for row in found] == [None, {"a": None, "b": [None, {"c": None}, {"c": "z"}]}]
    assert [row["größe"] for row in found] == ["dä ta", "dä ta"]


def test_a_field_of_an_object_may_take_its_name(store: Store, raw: Path) -> None:
    write(raw, {"a.json": '[{"x": {"x": 1}}, {"x": {"x": 2}}]'})
    step = {"action": "rename", "name": "x.x", "type": "x"}
    assert [row["x"] for row in rows(ingest(store, raw, {"x": pa.int64()}, load("a.json"), step))] == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be a JSON object"),
        ("{", "must be a JSON object"),
        ('{"step": []}', "has a field 'step', which there is not; did you mean 'steps'?"),
        ('{"steps": {}}', "has steps that are no list"),
        ('{"steps": [{"name": "x"}]}', "has steps[0] where action: field required"),
        (
            '{"steps": [{"action": "lod"}]}',
            "has a step 1 that does 'lod', which there is not; did you mean 'load'?",
        ),
        (
            '{"steps": [{"action": "explode", "name": "x"}]}',
            "begins with explode; the first step must be load",
        ),
        (
            '{"steps": [{"action": "load", "type": "cvs"}]}',
            "loads files as 'cvs', which there is not; did",
        ),
        (
            '{"steps": [{"action": "load"}, {"action": "join", "name": "x"}]}',
            "is a join without a type",
        ),
        (
            '{"steps": [{"action": "load"}, {"action": "rename", "name": "x"}]}',
            "is a rename without a type",
        ),
        ('{"steps": [{"action": "load"}, {"action": "explode"}]}', "step 2 that is without a name"),
        (
            '{"archives": [{"name": "x", "format": "rar"}]}',
            "names the format 'rar' for archive 1, which is not known",
        ),
        ('{"maxBytes": -1}', "has a maxBytes that is no whole number"),
    ],
)
def test_an_annotation_that_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(IngestFault) as refused:
        parse_ingest(text)
    assert message in str(refused.value)


def test_patterns_of_paths() -> None:
    assert Pattern("a/*.csv").captures("a/b.csv") == {}
    assert Pattern("a/*.csv").captures("a/b/c.csv") is None
    assert Pattern("**/*.csv").captures("c.csv") == {}
    assert Pattern("**/*.csv").captures("a/b/c.csv") == {}
    assert Pattern("a/**").captures("a/b/c.csv") == {}
    assert Pattern("{split}/{label}-?.png").captures("train/cat-1.png") == {"split": "train", "label": "cat"}
    assert Pattern("a+b.(csv)").captures("a+b.(csv)") == {}
    with pytest.raises(PatternError, match="has the field a twice"):
        Pattern("{a}/{a}")


def test_rows_are_put_into_groups_that_read_well(store: Store, raw: Path) -> None:
    write(raw, {f"{n}.csv": "x\n" + "1\n" * 30_000 for n in range(4)})
    commit = ingest(store, raw, {"x": pa.int64()}, load("*.csv"))
    metadata = pq.read_metadata(local_path(commit.path) / "data.parquet")
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [65_536, 120_000 - 65_536]
    digest = commit.files["data.parquet"]
    assert len(digest.sha256) == 64 and len(digest.md5) == 24
