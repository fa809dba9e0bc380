"""DataSources from the Hub, from Zenodo and from web servers, and the data sets that are made of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import lzma
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.platform import DataSchema, Dataset, DataSource
from dyff_dagster.sources import SourceError, fetch, fingerprint, import_data
from dyff_dagster.sources.import_data import ImportRefused
from dyff_dagster.store import Commit, Inputs, Store, local_path
from tests.hub import Faults, Hub, Large, serve_hub
from tests.web import Web, serve_web

CHUNK = 10 * 1024 * 1024


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    with serve_web() as web:
        monkeypatch.setenv("DYFF_ZENODO_URL", web.url)
        monkeypatch.delenv("ZENODO_TOKEN", raising=False)
        yield web


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "users-own-cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def source(kind: str, text: str) -> DataSource:
    return DataSource(id="source", account="acme", name="source", sourceKind=kind, source=text)


def bring(entity: DataSource, store: Store) -> Commit:
    inputs = Inputs(spec="s", extras=fingerprint(entity, Path()))
    return fetch(entity, store, inputs=inputs, files=Path())


def made(version: Commit, store: Store, **ingest: Any) -> list[dict[str, Any]]:
    """The rows of a data set with the field ``x`` that is made from a DataSource's version."""
    entity = Dataset(
        id="rows",
        account="acme",
        name="rows",
        schema=DataSchema.make_input_schema(pa.schema([pa.field("x", pa.int64())])),
        artifacts=[{"path": "data.parquet"}],
        annotations=[
            {"key": "dyff-dagster/from", "value": "source"},
            {"key": "dyff-dagster/ingest", "value": json.dumps(ingest)},
        ],
    )
    commit = fetch(entity, store, inputs=Inputs(spec="s"), files=Path(), source=local_path(version.path))
    found: list[dict[str, Any]] = open_dataset(local_path(commit.path)).to_table().to_pylist()
    return found


def parquet(*values: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": pa.array(values, pa.int32())}), buffer)
    return buffer.getvalue()


# ---- Hugging Face Hub


def test_a_data_set_of_the_hub_is_its_parquet(hub: Hub, store: Store) -> None:
    repository = hub.repository("acme/rows", "datasets")
    commit = repository.commit(
        {
            "README.md": b"# Rows",
            "data/train-00000-of-00002.parquet": Large(parquet(1, 2)),
            "data/train-00001-of-00002.parquet": Large(parquet(3)),
        }
    )
    version = bring(source("huggingface", "acme/rows"), store)
    assert sorted(version.files) == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert version.inputs["extras"] == {"commit": commit}
    assert version.facts.notes["revision"] == commit and version.facts.notes["requestedRevision"] == "main"
    assert [row["x"] for row in made(version, store)] == [1, 2, 3]


def test_a_revision_and_a_pattern_choose_files(hub: Hub, store: Store) -> None:
    repository = hub.repository("acme/rows", "datasets")
    pinned = repository.commit({"data/a.csv": b"x\n1\n", "data/b.csv": b"x\n2\n", "c.json": b"[]"})
    repository.commit({"d.parquet": parquet(9)}, branch="refs/convert/parquet")
    before = len(hub.asked)
    assert fingerprint(source("huggingface", f"acme/rows@{pinned}/data/*.csv"), Path()) == {"commit": pinned}
    assert len(hub.asked) == before
    version = bring(source("huggingface", f"hf://datasets/acme/rows@{pinned}/data/b.*"), store)
    assert list(version.files) == ["data/b.csv"]
    version = bring(source("huggingface", "acme/rows@refs/convert/parquet"), store)
    assert list(version.files) == ["d.parquet"]
    with pytest.raises(SourceError, match=r"none of the 3 files of dataset acme/rows at main is \*\.parquet"):
        bring(source("huggingface", "acme/rows"), store)
    with pytest.raises(SourceError, match="its source is no data set on the Hub"):
        bring(source("huggingface", "acme rows"), store)


# ---- Zenodo

CSV = b"x\n1\n2\n"


def test_a_record_of_zenodo_is_its_files_by_their_checksums(web: Web, store: Store) -> None:
    web.record(7, {"rows.csv": CSV, "paper.pdf": b"%PDF"}, concept=6)
    version = bring(source("zenodo", "10.5281/zenodo.7"), store)
    assert version.files["rows.csv"].sha256 == hashlib.sha256(CSV).hexdigest()
    assert version.facts.notes == {
        "doi": "10.5281/zenodo.7",
        "record": "7",
        "title": "Some questions",
        "licence": "cc-by-4.0",
        "fileCount": 2,
        "bytes": len(CSV) + 4,
    }
    assert [row["x"] for row in made(version, store)] == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "10.5281/zenodo.7/files/rows.csv",
        "https://doi.org/10.5281/zenodo.7/files/*.csv",
        "https://zenodo.org/records/7/files/rows.csv",
        "7/files/r*",
        "10.1234/own.doi/files/*.csv",
    ],
)
def test_some_files_of_a_record_are_chosen(web: Web, store: Store, text: str) -> None:
    web.record(
        7, {"rows.csv": CSV, "huge.tar": b"x"}, concept=6, doi="10.1234/own.doi" if "own" in text else ""
    )
    assert list(bring(source("zenodo", text), store).files) == ["rows.csv"]
    assert not any("huge" in path for path in web.paths())


def test_a_doi_of_all_versions_is_the_newest(web: Web, store: Store) -> None:
    web.record(7, {"rows.csv": CSV}, concept=6)
    entity = source("zenodo", "10.5281/zenodo.6")
    first = bring(entity, store)
    assert first.facts.notes["record"] == "7"
    same = fingerprint(entity, Path())
    assert same == first.inputs["extras"]
    web.record(8, {"rows.csv": b"x\n5\n"}, concept=6)
    assert fingerprint(entity, Path()) != same
    assert fingerprint(entity, Path(), recorded=same) == same
    assert bring(entity, store).facts.notes["record"] == "8"


def test_what_zenodo_refuses_is_said(web: Web, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    web.record(7, {"rows.csv": CSV}, concept=6, restricted=True)
    web.record(9, {"rows.csv": CSV}, concept=8)
    for text, sentence in (
        ("nonsense", "its source is no record of Zenodo: write a DOI"),
        ("10.5281/zenodo.404", "record 404 of Zenodo is not there: correct the source"),
        ("10.5281/zenodo.7", "may not be read by whoever asks"),
        ("10.1234/nobody", "Zenodo has 0 records of the DOI 10.1234/nobody"),
        ("9/files/*.json", r"record 9 of Zenodo has no file *.json: its files are rows.csv"),
    ):
        with pytest.raises(SourceError) as refused:
            bring(source("zenodo", text), store)
        assert sentence in str(refused.value)
    monkeypatch.setenv("ZENODO_TOKEN", "zenodo-secret")
    version = bring(source("zenodo", "10.5281/zenodo.7"), store)
    assert b"zenodo-secret" not in (local_path(store.working("source")) / "commit.json").read_bytes()
    assert list(version.files) == ["rows.csv"]


def test_a_file_whose_checksum_is_not_the_records_is_refused(web: Web, store: Store) -> None:
    web.record(7, {"rows.csv": CSV}, concept=6)
    old = bring(source("zenodo", "7"), store)
    web.record(8, {"rows.csv": b"x\n3\n"}, concept=6)
    web.damaged = {"rows.csv"}
    with pytest.raises(SourceError, match=r"the MD5 of rows\.csv is not the one that is said for it"):
        bring(source("zenodo", "8"), store)
    current = store.current("source")
    assert current is not None and current.sequence == old.sequence and store.intact(current)


# ---- URLs


def test_a_url_is_its_file(web: Web, store: Store) -> None:
    web.files = {"/data/rows.csv.gz": gzip.compress(CSV)}
    version = bring(source("upload", f"{web.url}/moved/data/rows.csv.gz?token=secret"), store)
    assert list(version.files) == ["rows.csv.gz"]
    assert version.facts.notes["url"] == f"{web.url}/moved/data/rows.csv.gz"
    archive = {"name": "*.gz", "format": "gz"}
    assert [row["x"] for row in made(version, store, archives=[archive])] == [1, 2]


def test_a_url_with_its_checksum_is_looked_up_nowhere(web: Web, store: Store) -> None:
    web.files = {"/rows.csv": CSV}
    digest = hashlib.sha256(CSV).hexdigest()
    entity = source("upload", f"{web.url}/rows.csv#sha256={digest}")
    assert fingerprint(entity, Path()) == {"content": digest}
    assert web.asked == []
    bring(entity, store)
    with pytest.raises(SourceError, match=r"the SHA-256 of rows\.csv is not the one"):
        bring(source("upload", f"{web.url}/rows.csv#sha256={'0' * 64}"), store)
    with pytest.raises(SourceError, match=r"the MD5 of rows\.csv is not the one"):
        bring(source("upload", f"{web.url}/rows.csv#md5={'0' * 32}"), store)
    with pytest.raises(SourceError, match="is no checksum: write #sha256=HEX"):
        bring(source("upload", f"{web.url}/rows.csv#sha256=abc"), store)


def test_a_url_without_a_checksum_is_asked_whether_it_changed(web: Web, store: Store) -> None:
    web.files = {"/rows.csv": CSV}
    entity = source("upload", f"{web.url}/rows.csv")
    before = fingerprint(entity, Path())
    assert fingerprint(entity, Path()) == before
    assert web.sent("rows.csv") == 0
    web.files = {"/rows.csv": b"x\n3\n"}
    assert fingerprint(entity, Path()) != before
    assert fingerprint(entity, Path(), recorded=before) == before
    web.etags = False  # a server that says nothing of the kind may have changed its file at any time
    assert fingerprint(entity, Path()) != fingerprint(entity, Path())
    web.heads = False
    assert fingerprint(entity, Path()) != fingerprint(entity, Path())
    assert [row["x"] for row in made(bring(entity, store), store)] == [3]


def test_what_a_web_server_refuses_is_said(web: Web, store: Store) -> None:
    for url, sentence in (
        (f"{web.url}/none.csv?key=secret", f"{web.url}/none.csv is not there: correct the source"),
        ("http://me:hunter2@127.0.0.1/x.csv", "holds a user or a password, which belong in no manifest"),
    ):
        with pytest.raises(SourceError) as refused:
            bring(source("upload", url), store)
        assert sentence in str(refused.value)
        assert "secret" not in str(refused.value) and "hunter2" not in str(refused.value)


def test_a_file_that_changes_while_it_is_fetched_is_never_two_halves(web: Web, store: Store) -> None:
    first, second = os.urandom(3 * CHUNK), os.urandom(3 * CHUNK)
    web.files = {"/a.bin": first}
    web.stops_after = {"/a.bin": 2 * CHUNK + 5}

    entity = source("upload", f"{web.url}/a.bin")
    original = web.stops_after

    class Swapped(dict[str, int]):
        def pop(self, key: str, default: Any = None) -> Any:
            found = original.pop(key, default)
            if found is not None:
                web.files = {"/a.bin": second}
            return found

    web.stops_after = Swapped()
    version = bring(entity, store)
    assert (local_path(version.path) / "a.bin").read_bytes() == second


CHILD = """
import sys
from pathlib import Path
from dyff_dagster.store import Store
from tests.integration.test_data_sources import bring, source
bring(source("upload", sys.argv[1]), Store(sys.argv[2]))
"""


def test_a_killed_download_of_a_url_is_gone_on_with(web: Web, store: Store) -> None:
    data = os.urandom(4 * CHUNK + 17)
    web.files = {"/a.bin": data}
    web.bytes_per_second = 30e6
    line = [sys.executable, "-c", CHILD, f"{web.url}/a.bin", str(store.root)]
    child = subprocess.Popen(line, cwd=Path(__file__).parents[2])
    end = time.monotonic() + 60
    cache = Path(str(store.root)) / ".cache"
    while sum(path.stat().st_size for path in cache.rglob("*.part")) < CHUNK:
        assert time.monotonic() < end and child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    web.bytes_per_second = None
    version = bring(source("upload", f"{web.url}/a.bin"), store)
    assert (local_path(version.path) / "a.bin").read_bytes() == data
    ranges = [asked.headers["Range"] for asked in web.asked if "Range" in asked.headers]
    assert ranges and all(int(text[6:-1]) >= CHUNK for text in ranges)


def test_faults_are_got_over_and_queries_are_not_logged(
    web: Web, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    web.files = {"/a.bin": os.urandom(100_000)}
    web.faults = Faults(seed=5, dropped=0.2, too_many=0.2, unavailable=0.2)
    with caplog.at_level(logging.DEBUG):
        version = bring(source("upload", f"{web.url}/a.bin?key=secret"), store)
    assert (local_path(version.path) / "a.bin").read_bytes() == web.files["/a.bin"]
    ours = [
        record.getMessage() for record in caplog.records if record.name == "huggingface_hub.file_download"
    ]
    assert not any("secret" in line for line in ours)


# ---- dyff-dagster import-data


def imported(source: str | Path, tmp_path: Path, **more: Any) -> tuple[list[int], dict[str, Any]]:
    done = import_data(source, account="acme", out=tmp_path / "out", overwrite=True, **more)
    table = pq.read_table(done.parquet)
    return table["x"].to_pylist(), yaml.safe_load(done.manifest.read_text())


def test_rows_are_imported_from_wherever_they_are(
    web: Web, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    web.files = {
        "/rows.csv": CSV,
        "/all.zip": zip_of({"a.csv": CSV, "b/c.csv": b"x\n0.5\n", "README.md": b"r"}),
    }
    web.record(7, {"rows.jsonl": b'{"x": 7}\n', "other.csv": CSV})
    commit = hub.repository("acme/rows", "datasets").commit(
        {"d/a.parquet": parquet(1), "d/b.parquet": parquet(2)}
    )
    assert imported(f"{web.url}/rows.csv?key=secret", tmp_path)[0] == [1, 2]
    values, manifest = imported(f"{web.url}/all.zip", tmp_path)
    assert values == [1.0, 2.0, 0.5] and manifest["id"] == "all"
    assert manifest["annotations"]["imported-from"] == f"{web.url}/all.zip"
    values, manifest = imported("zenodo:10.5281/zenodo.7/files/*.jsonl", tmp_path, id="seven")
    assert values == [7] and manifest["annotations"]["imported-from"] == "10.5281/zenodo.7@7"
    values, manifest = imported("hf:acme/rows/d/*.parquet", tmp_path, id="hub")
    assert values == [1, 2] and manifest["annotations"]["imported-from"] == f"acme/rows@{commit}"
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "rows.csv.xz").write_bytes(lzma.compress(CSV))
    values, manifest = imported(tmp_path / "local", tmp_path)
    assert values == [1, 2] and "imported-from" not in manifest["annotations"]
    assert {catalog.id for catalog in Catalog.load(tmp_path / "out").entities.values()} >= {
        "all",
        "hub",
        "seven",
    }
    left = [path for path in (tmp_path / "home" / "dyff-dagster").iterdir() if not path.name.startswith(".")]
    assert left == []


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("none.csv", "there is no file none.csv"),
        ("hf:acme/none", "shows no dataset acme/none"),
        ("zenodo:5", "record 5 of Zenodo is not there"),
        ("{web}/none.csv", "is not there: correct the source"),
        ("{web}/two.zip", "holds files of several kinds: write a DataSource"),
        ("{web}/different.zip", "do not have the same columns (y)"),
        ("{web}/bad.zip", "is damaged, cut off or no zip"),
        ("{web}/rows.csv#sha256=1", "has behind its # what is no checksum"),
    ],
)
def test_what_cannot_be_imported_is_said(
    web: Web, hub: Hub, tmp_path: Path, source: str, sentence: str
) -> None:
    web.files = {
        "/two.zip": zip_of({"a.csv": CSV, "b.jsonl": b"{}"}),
        "/different.zip": zip_of({"a.csv": CSV, "b.csv": b"x,y\n1,2\n"}),
        "/bad.zip": b"PK",
    }
    with pytest.raises(ImportRefused) as refused:
        imported(source.format(web=web.url), tmp_path, id="rows")
    assert sentence in str(refused.value) and "import-" not in str(refused.value).replace("import-data", "")


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()
