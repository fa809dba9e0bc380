"""docs/sources.md: every manifest and every command on it is run as it stands, against servers on loopback.

Of the page two things are changed: the names of the web server and of the git server are those on loopback.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import lzma
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dyff_dagster.catalog import Catalog
from dyff_dagster.catalog.ingest import ARCHIVES, KINDS, kind_of, parse_ingest
from dyff_dagster.cli import main
from dyff_dagster.schema.annotations import annotation
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.platform import (
    Dataset,
    DataSource,
    DataSources,
    InferenceService,
    Model,
    ModelSourceKinds,
)
from dyff_dagster.sessions import local_servers, open_session
from dyff_dagster.sources import SourceError, import_data
from dyff_dagster.store import Commit, local_path
from tests.git_server import GitRepository, has_git_lfs, serve_git
from tests.hub import Content, Hub, Large, Repository, serve_hub
from tests.integration.model_support import safetensors
from tests.integration.sessions_support import post, programs_that_serve
from tests.integration.small_audit import Place
from tests.pages import ROOT, blocks, commands, manifest, parts
from tests.web import serve_web

PAGE = "docs/sources.md"
WEIGHTS = safetensors(("a", "F32", (10, 10)))
HELD = {"config.json": b"{}", "README.md": b"# Small", "model.safetensors": Large(WEIGHTS)}
PICKLE = b"\x80\x04N."
SQUAD = base64.b64decode(
    "H4sIAAAAAAACA42OMQvCQAyF/0rIXAR1c3FzcuggOIhDuEYvUO/au1SU4n+311YRqiCZkpfvvdfilUMU73AFOMcMsCClbjm0qKIlp/su3SsKdA5U2TioxjvlmyZ9"
    "KxcCiaCWwVAlSiX4E+QcmllCaxoZKd4xdcNRx9y9Jf3Br/GRwQtcTEExFoxvnIZ7chiauI469txHyZxC9zBN2QRyhr/1XP7Zc3DoM9M8AeR6EBlTAQAA"
)
"""Three questions about two paragraphs, compressed once: another release of zlib would make other bytes of them."""


def csv(*numbers: int) -> bytes:
    return ("question,answer\n" + "".join(f"q{n},a{n}\n" for n in numbers)).encode()


def parquet(columns: dict[str, list[str]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def png(shade: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (4, 4), shade).save(buffer, "PNG")
    return buffer.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "zip": lambda data: zip_of({"in/zip.csv": data}),
    "tar": lambda data: tar_of("in/tar.csv", data),
    "tar.gz": lambda data: gzip.compress(tar_of("in/gz.csv", data)),
    "tar.bz2": lambda data: bz2.compress(tar_of("in/bz2.csv", data)),
    "tar.xz": lambda data: lzma.compress(tar_of("in/xz.csv", data)),
    "tar.zst": lambda data: zstd(tar_of("in/zst.csv", data)),
    "csv.gz": gzip.compress,
    "csv.bz2": bz2.compress,
    "csv.xz": lzma.compress,
    "csv.zst": zstd,
}


def own_file(name: str) -> bytes:
    """What lies under a name beside the page's manifests: a table of two rows, unless its name wants more."""
    made = {
        "weights/model.safetensors": WEIGHTS,
        "notes/a.csv": b"text,language\none,en\n",
        "notes/b.json": b'[{"text": "two", "language": "en"}]',
        "notes/c.jsonl": b'{"text": "three", "language": "en"}\n',
        "notes/d.parquet": parquet({"text": ["four"], "language": ["en"]}),
        "notes/lines.dat": b"text,language\nfive,en\n",
        "notes/de/e.txt": "sechs Töne".encode(),
    }
    if name in made:
        return made[name]
    number = 2 * (ord(Path(name).name[0]) - ord("a"))
    pack = PACK.get(Path(name).name.partition(".")[2], bytes)
    return pack(csv(number, number + 1))


@dataclass(frozen=True)
class Page:
    """The page's catalogs beside their files, computed, and every server that they name.

    Attributes:
        root: Where the catalogs lie.
        names: What stands for a server on the page, and where it is.
    """

    root: Path
    names: dict[str, str]

    def catalog_of(self, name: str) -> Place:
        return Place(self.root / name)

    def text(self, text: str) -> str:
        for shown, there in self.names.items():
            text = text.replace(shown, there)
        return text


def holds(repository: Repository, commit: str, files: dict[str, Content]) -> None:
    """Have a commit of the page's hash: those of the real Hub are no digests of files either."""
    repository.commits[commit] = files


def fill(hub: Hub) -> None:
    text = (ROOT / PAGE).read_text("utf-8")
    for name, kind, files in (
        ("acme/small-model", "models", {**HELD, "onnx/model.onnx": b"left out"}),
        ("acme/old-model", "models", {"config.json": b"{}", "pytorch_model.bin": Large(PICKLE)}),
        (
            "acme/questions",
            "datasets",
            {
                "data/test-0.parquet": parquet({"question": ["q0"], "answer": ["a0"]}),
                "data/test-1.parquet": parquet({"question": ["q1"], "answer": ["a1"]}),
                "data/train-0.parquet": parquet({"question": ["no"], "answer": ["no"]}),
            },
        ),
    ):
        repository = hub.repository(name, kind)
        for commit in set(_commits(text, name)):
            holds(repository, commit, files)


def _commits(text: str, name: str) -> list[str]:
    return re.findall(rf"{name}(?:@|,? *(?:\n *)?(?:revision|modelVersion): )([0-9a-f]{{40}})", text)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not has_git_lfs():
        pytest.skip("git or git-lfs is not installed")
    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch, serve_hub() as hub, serve_web() as web:
        # So that the commit is the page's.
        patch.setenv("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
        patch.setenv("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
        repository = GitRepository.make(root / "git")
        repository.commit({"config.json": b"{}", "model.safetensors": WEIGHTS})
        fill(hub)
        web.files = {
            "/squad.json.gz": SQUAD,
            "/questions.jsonl": b'{"question": "q", "answer": "a"}\n' * 3,
        }
        pictures = {f"images/{number}.png": png(number) for number in range(3)}
        labels = b"id,label\n2,c\n0,a\n1,b\n"
        web.record(
            1234567, {"images.zip": zip_of({**pictures, "labels.csv": labels}), "questions.csv": csv(0, 1)}
        )
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HUB_CACHE", str(root / "home" / "hub"))
        patch.setenv("DYFF_ZENODO_URL", web.url)
        for name in ("HF_TOKEN", "ZENODO_TOKEN"):
            patch.delenv(name, raising=False)
        with serve_git(repository.bare.parent) as git:
            found = Page(
                root,
                {
                    "https://data.example.org": web.url,
                    "https://git.example.org/acme/small-model.git": f"{git.url}/model.git",
                },
            )
            for (kind, name), catalog in parts(PAGE).items():
                assert kind == "catalog"
                place = found.catalog_of(name)
                place.directory.mkdir(parents=True)
                for file in {file for block in catalog for file in block.files}:
                    path = place.directory / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(own_file(file))
                place.add("audit.yaml", found.text(manifest(catalog)))
                place.compute_all()
            yield found


def held(page: Page, catalog: str, name: str) -> Commit:
    commit = page.catalog_of(catalog).store.current(name)
    assert commit is not None
    return commit


def rows(page: Page, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = open_dataset(held(page, "data", name).path).to_table().to_pylist()
    return found


def test_the_page_has_every_source_every_archive_every_step_and_every_kind_of_file(page: Page) -> None:
    models = [
        entity
        for entity in page.catalog_of("models").catalog().entities.values()
        if isinstance(entity, Model)
    ]
    assert {entity.source.kind for entity in models} == set(ModelSourceKinds)
    assert {entity.storage.medium.value for entity in models} == {"ObjectStorage", "PersistentVolume", "Mock"}
    data = page.catalog_of("data").catalog().entities.values()
    assert {entity.sourceKind for entity in data if isinstance(entity, DataSource)} == set(DataSources)
    said = [parse_ingest(annotation(entity, "ingest")) for entity in data if isinstance(entity, Dataset)]
    assert {archive.format for one in said for archive in one.archives} == set(ARCHIVES.values())
    steps = [step for one in said for step in one.steps]
    assert {step.action for step in steps} == {"load", "rename", "join", "explode"}
    assert {step.type or kind_of(step.name or "") for step in steps if step.action == "load"} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "place", "files"),
    [
        (
            "hub-model",
            "models--acme--small-model/snapshots/2617ab1c31fcedc2f89a1750e6e5c4e7a69fb77c",
            set(HELD),
        ),
        (
            "git-model",
            "models--acme--small-model/snapshots/v1",
            {".gitattributes", "config.json", "model.safetensors"},
        ),
        ("openllm-model", "models--acme--small-model/snapshots/v1", {*HELD, "onnx/model.onnx"}),
        ("old-model", "models--acme--old-model/snapshots/v1", {"config.json", "pytorch_model.bin"}),
        ("own-model", "models--me--own-model/snapshots/v1", {"model.safetensors"}),
        ("mock-model", "", set()),
    ],
)
def test_a_model_is_the_files_of_its_source(page: Page, name: str, place: str, files: set[str]) -> None:
    commit = held(page, "models", name)
    assert set(commit.files) == {f"{place}/{file}" for file in files}
    for file in {"model.safetensors", "pytorch_model.bin"} & files:
        wanted = hashlib.sha256(WEIGHTS if file == "model.safetensors" else PICKLE).hexdigest()
        assert commit.files[f"{place}/{file}"].sha256 == wanted
    if "model.safetensors" in files:
        assert commit.facts.notes["parameters"] == 100


def test_a_pickle_is_refused_as_the_page_says_unless_it_is_allowed(page: Page, tmp_path: Path) -> None:
    copy = page.catalog_of("models").copy(tmp_path / "copy")
    copy.edit("audit.yaml", "annotations: {dyff-dagster/allow-pickle: 'true'}\n", "")
    before = copy.store.current("old-model")
    with pytest.raises(SourceError) as refused:
        copy.compute("old-model")
    shown = [block.text for block in blocks(PAGE) if block.text.startswith("old-model: ")]
    assert shown == [f"{refused.value}\n"]
    assert copy.store.current("old-model") == before


@pytest.mark.parametrize(("name", "gpus"), [("small-chat", None), ("large-chat", "4,5")])
def test_a_model_is_served_by_the_command_that_the_page_shows(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, gpus: str | None
) -> None:
    monkeypatch.setenv("PATH", str(programs_that_serve(tmp_path / "programs")), prepend=":")
    monkeypatch.setattr(local_servers, "BESIDE", tmp_path / "elsewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    catalog = page.catalog_of("models").catalog()
    model = catalog.get_as("hub-model", Model).artifact.huggingFaceCache
    assert model is not None
    files = local_path(held(page, "models", "hub-model").path) / model.snapshot_path()
    service = catalog.get_as(name, InferenceService)
    assert service.runner is not None
    with open_session(
        service, session_id="s", replicas=1, cwd=tmp_path, model_path=files, directory=tmp_path / "logs"
    ) as session:
        (url,) = session.urls
        reply = post(url, {})
    port = url.split(":")[2].split("/")[0]
    (shown,) = (block.text for block in blocks(PAGE) if block.text.startswith("transformers serve"))
    lines = {line[0]: line for line in map(shlex.split, shown.splitlines())}
    program = {"huggingface": "transformers", "vllm": "vllm"}[service.runner.kind]
    assert reply["arguments"] == [part.format(model=files, port=port) for part in lines[program]]
    assert reply["path"] == "/v1/chat/completions"
    if gpus is not None:
        assert reply["environment"]["CUDA_VISIBLE_DEVICES"] == gpus


def test_rows_come_from_the_hub_zenodo_and_the_web(page: Page) -> None:
    assert [row["answer"] for row in rows(page, "hub-questions-rows")] == ["a0", "a1"]
    assert rows(page, "images") == [
        {"_index_": number, "bytes": png(number), "format": "png", "label": "abc"[number]}
        for number in range(3)
    ]
    assert [(row["context"][:4], row["question"]) for row in rows(page, "squad")] == [
        ("Lima", "What is the capital of Peru?"),
        ("Lima", "Which country is Lima in?"),
        ("Pari", "What is the capital of France?"),
    ]
    assert list(held(page, "data", "own-files").files) == ["a.csv"]


def test_files_of_every_kind_are_rows(page: Page) -> None:
    assert [(row["text"], row["language"]) for row in rows(page, "notes")] == [
        ("one", "en"), ("two", "en"), ("three", "en"), ("four", "en"), ("five", "en"), ("sechs Töne", "de"),
    ]  # fmt: skip


def test_archives_of_every_kind_are_unpacked(page: Page) -> None:
    found = rows(page, "unpacked")
    assert sorted(int(row["answer"][1:]) for row in found) == list(range(20))
    assert all(row["question"][1:] == row["answer"][1:] for row in found)


def test_the_commands_do_what_the_page_shows(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(page.catalog_of("data").directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / "audit.yaml").unlink()
    line = [sys.executable, "-m", "tests.integration.inspect_run", str(tmp_path / "logs"), "eval"]
    (tmp_path / "logs").mkdir()
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    Path(done.stdout.split()[-1]).rename(tmp_path / "logs" / "sums.eval")
    shutil.copytree(ROOT / "tests" / "data" / "lm_eval", tmp_path / "lm-eval")
    our_root(tmp_path / "dyff-root", tmp_path / "capitals")
    monkeypatch.chdir(tmp_path)
    consoles = [block for block in blocks(PAGE) if block.language == "console"]
    run = 0
    for command, printed in (one for console in consoles for one in commands(console)):
        program, *arguments = shlex.split(page.text(command))
        assert program == "dyff-dagster"
        result = CliRunner().invoke(main, arguments)
        assert (result.exit_code, result.output.splitlines()) == (0, printed), command
        run += 1
    assert run == 9
    found = Catalog.load(tmp_path / "imported")
    assert not found.warnings
    assert pq.read_table("imported/raw/data.parquet")["answer"].to_pylist() == ["a0", "a1"]
    assert pq.read_table("imported/packed/data.parquet")["answer"].to_pylist() == ["a10", "a11"]
    assert pq.read_table("imported/hub-rows/data.parquet")["question"].to_pylist() == ["q0", "q1"]
    assert found.files("capitals").resolve() == (tmp_path / "dyff-root" / "capitals").resolve()


def our_root(root: Path, scratch: Path) -> None:
    """A storage root of ours with one data set, in which every entity lies as in one of the local platform."""
    scratch.mkdir()
    (scratch / "capitals.csv").write_bytes(csv(0, 1))
    import_data(scratch / "capitals.csv", account="me", withhold=["answer"], out=scratch / "catalog")
    place = Place(scratch)
    place.compute_all()
    shutil.copytree(scratch / "store", root)
    shutil.rmtree(scratch)
