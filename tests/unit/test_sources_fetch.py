"""Bytes from outside: what is taken into the store, and what is refused with one sentence."""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.schema.platform import Annotation, DataSchema, Dataset, DataSource, Model, Module
from dyff_dagster.sources import SourceError, fetch, fingerprint, import_data
from dyff_dagster.sources.import_data import ImportRefused
from dyff_dagster.store import Commit, Inputs, Store, local_path

SCHEMA = DataSchema.make_input_schema(
    pa.schema([pa.field("x", pa.float64(), nullable=False), pa.field("label", pa.string())])
)


def dataset(
    paths: tuple[str, ...] = ("data.parquet",),
    *,
    made_from: str | None = None,
    schema: DataSchema = SCHEMA,
    **artifact: Any,
) -> Dataset:
    annotations = [Annotation(key="dyff-dagster/from", value=made_from)] if made_from else []
    return Dataset(
        id="rows",
        account="acme",
        name="rows",
        schema=schema,
        artifacts=[{"path": path, **artifact} for path in paths],
        annotations=annotations,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    directory.mkdir()
    return directory


def bring(
    store: Store, entity: Dataset | DataSource | Model | Module, files: Path, source: Path | None = None
) -> Commit:
    return fetch(entity, store, inputs=Inputs(spec="s"), files=files, source=source)


def parquet(path: Path, columns: dict[str, Any], schema: pa.Schema | None = None) -> None:
    schema = schema or pa.schema(
        [pa.field("_index_", pa.int64(), nullable=False), ("x", pa.float64()), ("label", pa.string())]
    )
    pq.write_table(pa.table(columns, schema=schema), path)


def ingest(store: Store, files: Path, name: str, text: str | bytes, schema: DataSchema = SCHEMA) -> Commit:
    """A data set made from a data source that holds one raw file."""
    raw = files / name
    raw.write_bytes(text.encode() if isinstance(text, str) else text)
    return bring(store, dataset(made_from="source", schema=schema), files, source=files)


def declared(*fields: tuple[str, pa.DataType]) -> DataSchema:
    return DataSchema.make_input_schema(pa.schema(fields))


def rows(commit: Commit) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = open_dataset(local_path(commit.path)).to_table().to_pylist()
    return found


def test_parquet_is_taken_as_it_is_and_named_by_its_content(store: Store, files: Path) -> None:
    parquet(files / "data.parquet", {"_index_": [0, 1], "x": [1.0, 2.0], "label": ["a", None]})
    commit = bring(store, dataset(), files)
    assert (commit.path / "data.parquet").read_bytes() == (files / "data.parquet").read_bytes()
    assert commit.data_version == digest_dataset(open_dataset(files))
    assert commit.facts.rows == 2
    assert [column.name for column in commit.facts.columns] == ["_index_", "x", "label"]


def test_a_changed_file_changes_the_fingerprint(files: Path) -> None:
    parquet(files / "data.parquet", {"_index_": [0], "x": [1.0], "label": ["a"]})
    before = fingerprint(dataset(), files)
    parquet(files / "data.parquet", {"_index_": [0], "x": [2.0], "label": ["a"]})
    assert fingerprint(dataset(), files) != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raw.csv", "label,x,other\na,1.5,z\n,2,z\n"),
        ("raw.jsonl", '{"x": 1.5, "label": "a", "other": 1}\n\n{"x": 2, "label": null}\n'),
    ],
)
def test_a_raw_file_becomes_numbered_rows_in_the_declared_types(
    store: Store, files: Path, name: str, text: str
) -> None:
    assert rows(ingest(store, files, name, text)) == [
        {"_index_": 0, "x": 1.5, "label": "a"},
        {"_index_": 1, "x": 2.0, "label": None},
    ]


def test_text_that_looks_like_nothing_stays_text(store: Store, files: Path) -> None:
    commit = ingest(store, files, "raw.csv", 'x,label\n1,NA\n2,null\n3,""\n4,\n5,"a\nb"\n')
    assert [row["label"] for row in rows(commit)] == ["NA", "null", "", None, "a\nb"]


def test_an_index_that_the_raw_file_has_is_kept(store: Store, files: Path) -> None:
    commit = ingest(store, files, "raw.csv", "_index_,x,label\n7,1,a\n3,2,b\n")
    assert [row["_index_"] for row in rows(commit)] == [7, 3]


SECRET = "patient-4711"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("raw.csv", f"x,label\n1,a\n{SECRET},b\n", "field x in row 1 of raw.csv does not fit double"),
        ("raw.csv", f"x,label\n1,a\n,{SECRET}\n", "field x in row 1 of raw.csv is empty"),
        ("raw.csv", f"label\n{SECRET}\n", "raw.csv has no field x"),
        ("raw.csv", f"_index_,x,label\n5,1,a\n5,2,{SECRET}\n", "_index_ 5 stands more than once"),
        ("raw.csv", f"x,label\n1,a,{SECRET}\n", "row 2 has 3 columns instead of 2"),
        (
            "raw.jsonl",
            f'{{"x": 1, "label": "a"}}\n{{"x": "{SECRET}"}}\n',
            "field x about line 2 of raw.jsonl",
        ),
        ("raw.jsonl", f'{{"x": 1}}\n{{"x": {SECRET}}}\n', "raw.jsonl:2: is no JSON"),
        ("raw.jsonl", '{"x": 1}\n{"x": ' + "7" * 5000 + "}\n", "raw.jsonl:2: has a number of thousands"),
        ("raw.jsonl", "[" * 100_000 + "]" * 100_000, "raw.jsonl:1: is nested too deep"),
        (
            "raw.jsonl",
            '{"x": 1, "label": "a"}\n{"x": 1, "label": "\\ud800"}\n',
            "field label about line 2 of raw.jsonl does not fit string",
        ),
        ("raw.jsonl", '{"x": NaN}\n', "raw.jsonl:1: has a NaN or Infinity"),
        ("raw.jsonl", f'["{SECRET}"]\n', "raw.jsonl:1: must be a JSON object"),
        ("raw.parquet", SECRET, "raw.parquet cannot be read as Parquet"),
        ("raw.xyz", SECRET, "must end in one of .csv"),
        ("raw.csv", "x,label\n", "has no rows"),
    ],
)
def test_a_wrong_raw_file_is_one_sentence_that_shows_no_content(
    store: Store, files: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(SourceError) as caught:
        ingest(store, files, name, text)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert store.current("rows") is None


def test_raw_files_of_several_kinds_need_steps(store: Store, files: Path) -> None:
    (files / "a.csv").write_text("x,label\n1,a\n")
    with pytest.raises(
        SourceError, match=r"files of 2 kinds \(a\.csv, b\.jsonl\): say in dyff-dagster/ingest"
    ):
        ingest(store, files, "b.jsonl", '{"x": 1}')


def test_raw_files_of_one_kind_are_one_data_set(store: Store, files: Path) -> None:
    (files / "a.csv").write_text("x,label\n1,a\n")
    (files / "README.md").write_text("what this is")
    assert rows(ingest(store, files, "b.csv", "label,x\nb,2\n")) == [
        {"_index_": 0, "x": 1.0, "label": "a"},
        {"_index_": 1, "x": 2.0, "label": "b"},
    ]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pa.schema([("_index_", pa.int64()), ("x", pa.float64())]), "has no field label"),
        (
            pa.schema([("_index_", pa.int64()), ("x", pa.int64()), ("label", pa.string())]),
            "field x of data.parquet is",
        ),
        (
            pa.schema(
                [("_index_", pa.int64()), ("x", pa.float64()), ("label", pa.string()), ("y", pa.int8())]
            ),
            "has the field y, which the schema does not declare",
        ),
    ],
)
def test_parquet_of_another_schema_is_refused(
    store: Store, files: Path, schema: pa.Schema, message: str
) -> None:
    pq.write_table(schema.empty_table(), files / "data.parquet")
    with pytest.raises(SourceError, match=message):
        bring(store, dataset(), files)


def test_a_missing_artifact_is_named(store: Store, files: Path) -> None:
    with pytest.raises(SourceError, match=r"its artifact data\.parquet is not in"):
        bring(store, dataset(), files)


def test_a_declared_md5_must_be_that_of_the_file(store: Store, files: Path) -> None:
    parquet(files / "data.parquet", {"_index_": [0], "x": [1.0], "label": ["a"]})
    right = base64.b64encode(hashlib.md5((files / "data.parquet").read_bytes()).digest()).decode()
    bring(store, dataset(digest={"md5": right}), files)
    with pytest.raises(SourceError, match="MD5 digest of its artifact"):
        bring(store, dataset(digest={"md5": base64.b64encode(bytes(16)).decode()}), files)


@pytest.mark.parametrize("path", ["../outside.parquet", "/etc/passwd"])
def test_an_artifact_never_leaves_its_directory(store: Store, files: Path, path: str) -> None:
    with pytest.raises(SourceError, match="stay inside"):
        bring(store, dataset((path,)), files)


def test_an_artifact_behind_a_link_that_leads_out_is_refused(
    store: Store, files: Path, tmp_path: Path
) -> None:
    parquet(tmp_path / "outside.parquet", {"_index_": [0], "x": [1.0], "label": ["a"]})
    (files / "data.parquet").symlink_to(tmp_path / "outside.parquet")
    with pytest.raises(SourceError, match="symbolic link"):
        bring(store, dataset(), files)


def model(**source: Any) -> Model:
    return Model(
        id="m",
        account="acme",
        name="m",
        source=source or {"kind": "Upload"},
        artifact={"kind": "HuggingFaceCache", "huggingFaceCache": {"repoID": "acme/m", "revision": "v1"}},
        storage={"medium": "ObjectStorage"},
        resources={"storage": "1Mi"},
    )


def test_an_uploaded_model_lies_at_its_snapshot_path(store: Store, files: Path) -> None:
    (files / "weights.json").write_text("{}")
    (files / ".hidden").write_text("no")
    commit = bring(store, model(), files)
    assert list(commit.files) == ["models--acme--m/snapshots/v1/weights.json"]


def test_a_module_is_its_files(store: Store, files: Path) -> None:
    (files / "pkg").mkdir()
    (files / "pkg" / "a.py").write_text("x = 1\n")
    module = Module(id="m", account="acme", name="m", artifacts=[{"path": "pkg/a.py"}])
    assert list(bring(store, module, files).files) == ["pkg/a.py"]


def test_a_data_source_is_its_file_or_directory(store: Store, files: Path) -> None:
    (files / "raw").mkdir()
    (files / "raw" / "a.csv").write_text("x\n1\n")
    one = DataSource(id="one", account="acme", name="one", sourceKind="upload", source="raw/a.csv")
    whole = DataSource(id="whole", account="acme", name="whole", sourceKind="upload", source="raw")
    assert list(bring(store, one, files).files) == ["a.csv"]
    assert list(bring(store, whole, files).files) == ["a.csv"]


TIMES = declared(
    ("moment", pa.timestamp("us")),
    ("zoned", pa.timestamp("s", "UTC")),
    ("day", pa.date32()),
    ("clock", pa.time32("s")),
    ("deep", pa.struct([("all", pa.list_(pa.timestamp("ms")))])),
)
MOMENT = datetime.datetime(2024, 1, 31, 10, 30)


def dangling(raw: Path) -> None:
    (raw / "b.csv").symlink_to("annex/object")


def elsewhere(raw: Path) -> None:
    (raw.parent.parent / "other").mkdir()
    (raw / "more").symlink_to(raw.parent.parent / "other")


def not_text(raw: Path) -> None:
    Path(os.fsdecode(os.fsencode(raw) + b"/\xff.csv")).touch()


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (dangling, r"^source: the link b\.csv in .* leads nowhere: fetch what it stands for, or remove it"),
        (elsewhere, r"^source: the link more in .* leads to a directory elsewhere, which would be left out"),
        (not_text, r"^source: a file in .* has a name that is not UTF-8: rename it"),
    ],
)
def test_no_file_of_a_directory_is_passed_over(
    store: Store, files: Path, add: Callable[[Path], None], message: str
) -> None:
    raw = files / "raw"
    raw.mkdir()
    (raw / "a.csv").write_text("x\n1\n")
    (raw / ".git").symlink_to("nowhere")  # hidden: nothing of a data set
    (raw / "again").symlink_to(".")
    entity = DataSource(id="source", account="acme", name="s", sourceKind="upload", source="raw")
    assert list(bring(store, entity, files).files) == ["a.csv"]
    add(raw)
    with pytest.raises(SourceError, match=message):
        bring(store, entity, files)
    with pytest.raises(ImportRefused, match=message.replace("^source: ", "^")):
        import_data(raw, account="acme", out=files / "out")


def test_iso_8601_in_json_lines_fits_declared_times(store: Store, files: Path) -> None:
    text = (
        '{"moment": "2024-01-31T10:30:00", "zoned": "2024-01-31T12:30:00+02:00", "day": "2024-01-31", '
        '"clock": "10:30:00", "deep": {"all": ["2024-01-31 10:30", null]}}\n{"moment": null}\n'
    )
    first, second = rows(ingest(store, files, "raw.jsonl", "\ufeff" + text, TIMES))
    assert first == {
        "_index_": 0,
        "moment": MOMENT,
        "zoned": MOMENT.replace(tzinfo=datetime.UTC),
        "day": MOMENT.date(),
        "clock": MOMENT.time(),
        "deep": {"all": [MOMENT, None]},
    }
    assert second["moment"] is None


def test_times_of_day_are_read_from_csv(store: Store, files: Path) -> None:
    schema = declared(("clock", pa.time32("s")))
    commit = ingest(store, files, "raw.csv", "clock,x\n10:30:00,1\n,1\n", schema)
    assert [row["clock"] for row in rows(commit)] == [MOMENT.time(), None]


@pytest.mark.parametrize(
    ("field", "text", "kind"),
    [
        ("moment", "2024-01-31T10:30:00Z", r"timestamp\[us\]"),
        ("zoned", "2024-01-31T10:30:00", r"timestamp\[ms, tz=UTC\]"),
        ("day", "31.1.2024", "date32"),
        ("clock", "10:30:00.5001", r"time32\[ms\]"),
    ],
)
def test_a_text_that_is_no_such_time_is_refused(
    store: Store, files: Path, field: str, text: str, kind: str
) -> None:
    with pytest.raises(SourceError, match=f"field {field} about line 1 of raw.jsonl does not fit {kind}"):
        ingest(store, files, "raw.jsonl", f'{{"{field}": "{text}"}}\n', TIMES)


@pytest.mark.parametrize(
    "kind", [pa.timestamp("s"), pa.time32("s"), pa.date64(), pa.list_(pa.timestamp("s"))], ids=str
)
def test_a_declared_type_that_parquet_keeps_in_another_unit_is_taken(
    store: Store, files: Path, kind: pa.DataType
) -> None:
    table = pa.table({"_index_": [0], "when": pa.nulls(1, kind)})
    pq.write_table(table, files / "data.parquet")
    assert bring(store, dataset(schema=declared(("when", kind))), files).facts.rows == 1


def test_a_type_that_parquet_cannot_hold_is_named(store: Store, files: Path) -> None:
    schema = declared(("empty", pa.struct([])))
    with pytest.raises(SourceError, match="field empty is struct<>, which Parquet cannot hold"):
        ingest(store, files, "raw.jsonl", '{"empty": {}}\n', schema)


@pytest.mark.parametrize(
    ("first", "later", "message"),
    [
        ('{"_index_": 5, "x": 1}', '{"x": 1}', "has no _index_"),
        ('{"x": 1}', '{"_index_": 5, "x": 1}', "has an _index_"),
    ],
)
def test_an_index_is_on_every_line_or_on_none(
    store: Store, files: Path, monkeypatch: pytest.MonkeyPatch, first: str, later: str, message: str
) -> None:
    monkeypatch.setattr("dyff_dagster.sources.raw_files._LINES", 1)  # so that they are in two batches
    with pytest.raises(SourceError, match=f"raw.jsonl:2 {message}, unlike the lines before"):
        ingest(store, files, "raw.jsonl", f"{first}\n{later}\n")
