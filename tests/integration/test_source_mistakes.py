"""Mistakes that people make with sources elsewhere: each is one sentence, and what there was before stays."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog, CatalogError
from dyff_dagster.schema.platform import DataSource
from dyff_dagster.sources import SourceError, fetch, fingerprint, import_data
from dyff_dagster.sources.import_data import ImportRefused
from dyff_dagster.store import Commit, Inputs, Store
from tests.hub import Hub, serve_hub
from tests.integration import model_support
from tests.integration.model_support import hub_model
from tests.web import Web, ZenodoRecord, serve_web

CSV = b"x\n1\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "users-own-cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        hub.repository("acme/tiny").commit({"config.json": b"{}"})
        hub.repository("acme/rows", "datasets").commit({"dä ta/x #1.csv": CSV})
        yield hub


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with serve_web() as web:
        monkeypatch.setenv("DYFF_ZENODO_URL", web.url)
        monkeypatch.delenv("ZENODO_TOKEN", raising=False)
        web.files = {"/rows.csv": CSV}
        web.record(7, {"a.csv": CSV, "räum lich #1.csv": CSV}, concept=6)
        yield web


def source(kind: str, text: str) -> DataSource:
    return DataSource(id="source", account="acme", name="source", sourceKind=kind, source=text)


def bring(entity: DataSource, store: Store) -> Commit:
    return fetch(entity, store, inputs=Inputs(spec="s", extras=fingerprint(entity, Path())), files=Path())


@pytest.mark.parametrize(
    ("repository", "revision", "sentence"),
    [
        ("acme/tinny", "main", "shows no model acme/tinny: there is none of that name, or it is private"),
        ("acme/rows", "main", "shows no model acme/rows"),
        ("acme/tiny/x", "main", "'acme/tiny/x' is no name of a repository: write ORG/NAME"),
        ("https://huggingface.co/acme/tiny", "main", "is no name of a repository: write ORG/NAME"),
        ("acme/tiny", "v9", "has no revision v9: name a branch, a tag or a commit that it has"),
        ("acme/tiny", "0" * 40, "has no revision 0000"),
        (
            "acme/tiny",
            "",
            "names no revision of model acme/tiny: name a commit, a tag or a branch such as main",
        ),
    ],
)
def test_a_model_that_is_not_there_leaves_the_one_that_is(
    hub: Hub, store: Store, repository: str, revision: str, sentence: str
) -> None:
    before = model_support.bring(hub_model(), store)
    with pytest.raises(SourceError) as refused:
        model_support.bring(hub_model(repository=repository, revision=revision), store)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)
    current = store.current("tiny")
    assert current is not None and current.data_version == before.data_version and store.intact(current)


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("zenodo", "10.5281/zenodo.99", "record 99 of Zenodo is not there: correct the source"),
        ("zenodo", "10.5281/zenodo", "Zenodo has 0 records of the DOI 10.5281/zenodo: correct it"),
        ("zenodo", "zenodo.7", "is no record of Zenodo: write a DOI"),
        ("zenodo", "7/files/nope.csv", "has no file nope.csv: its files are a.csv, räum lich #1.csv"),
        (
            "zenodo",
            "https://elsewhere.example/records/7",
            "its source is at elsewhere.example, and records are",
        ),
        ("zenodo", "https://doi.org/7", "is no record of Zenodo: write a DOI"),
        ("huggingface", "acme/tiny", "shows no dataset acme/tiny"),
        ("huggingface", "acme/rows@nope/**", "has no revision nope"),
        ("huggingface", "acme/rows@main/dä ta", "none of the 1 files of dataset acme/rows at main is dä ta"),
        ("upload", "{web}/nope.csv", "/nope.csv is not there: correct the source"),
        ("upload", "http://[::1/x", "its source is no whole URL: write https://HOST/PATH"),
        ("upload", "http://host:port/x", "its source is no whole URL"),
        ("upload", "https:///x.csv", "its source is no whole URL"),
        ("upload", "file:///etc", "its source is a URL of the kind file: write the path itself"),
        ("upload", "s3://bucket/x.csv", "its source is a URL of the kind s3, which is not read here"),
        ("upload", "no such directory", "there is no no such directory in"),
    ],
)
def test_data_that_are_not_there_are_one_sentence(
    hub: Hub, web: Web, store: Store, kind: str, text: str, sentence: str
) -> None:
    before = bring(source("upload", f"{web.url}/rows.csv"), store)
    with pytest.raises(SourceError) as refused:
        bring(source(kind, text.format(web=web.url)), store)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)
    current = store.current("source")
    assert current is not None and current.data_version == before.data_version and store.intact(current)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file:///etc", "source: is a URL of the kind file: write the path itself"),
        ("gs://bucket/x.csv", "source: is a URL of the kind gs, which is not read here"),
        ("http://host:port/x", "source: is no whole URL"),
    ],
)
def test_a_source_that_nothing_reads_is_found_before_anything_runs(
    tmp_path: Path, text: str, sentence: str
) -> None:
    manifest = {
        "kind": "DataSource",
        "id": "s",
        "account": "me",
        "name": "s",
        "sourceKind": "upload",
        "source": text,
    }
    (tmp_path / "audit.yaml").write_text(json.dumps(manifest))
    with pytest.raises(CatalogError, match=sentence):
        Catalog.load(tmp_path)


@pytest.mark.parametrize("text", ["file:///etc/passwd", "s3://bucket/x.csv"])
def test_what_import_data_does_not_read_is_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImportRefused, match=rf"^{text} is a URL of the kind {text.partition(':')[0]}"):
        import_data(text, account="me", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names_with_spaces_and_letters_of_all_kinds_are_kept(hub: Hub, web: Web, store: Store) -> None:
    web.files["/a b/räum #1.csv"] = CSV
    url = f"{web.url}/{urllib.parse.quote('a b/räum #1.csv')}"
    assert list(bring(source("upload", url), store).files) == ["räum _1.csv"]
    assert list(bring(source("zenodo", "7"), store).files) == ["a.csv", "räum lich #1.csv"]
    link = "https://zenodo.org/records/7/files/r%C3%A4um%20lich%20%231.csv?download=1"
    assert list(bring(source("zenodo", link), store).files) == ["räum lich #1.csv"]
    assert list(bring(source("huggingface", "acme/rows@main/**"), store).files) == ["dä ta/x #1.csv"]


class _Elsewhere(ZenodoRecord):
    """A record whose files its listing says are at another host."""

    host = ""

    def listing(self, url: str) -> dict[str, object]:
        found = super().listing(url)
        for file in found["files"]:
            file["links"]["self"] = f"{self.host}/{urllib.parse.quote(file['key'])}"
        return found


def test_no_token_leaves_the_host_that_it_is_for(
    web: Web, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENODO_TOKEN", "zenodo-secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serve_web() as other:
        other.files = {"/rows.csv": CSV, "/elsewhere/rows.csv": CSV}
        web.records[8] = _Elsewhere(8, {"rows.csv": CSV}, concept=80)
        monkeypatch.setattr(_Elsewhere, "host", other.url)
        assert list(bring(source("zenodo", "8"), store).files) == ["rows.csv"]
        # Zenodo itself sends whoever asks for a file to another host: that one is not told either.
        web.record(9, {"rows.csv": CSV}, concept=90)
        sent_on = "/api/records/9/files/rows.csv/content"
        web.redirects = {sent_on: f"http://localhost:{other.url.rpartition(':')[2]}/elsewhere/rows.csv"}
        assert list(bring(source("zenodo", "9"), store).files) == ["rows.csv"]
        assert [asked.path for asked in other.asked if asked.method == "GET"] == [
            "/rows.csv",
            "/elsewhere/rows.csv",
        ]
        assert not any("secret" in f"{dict(asked.headers)}" for asked in other.asked)
    asked = {asked.path: asked.headers.get("Authorization") for asked in web.asked}
    assert asked[sent_on] == "Bearer zenodo-secret"
    bring(source("upload", f"{web.url}/rows.csv"), store)
    assert web.asked[-1].headers.get("Authorization") is None
