"""A small audit committed by hand, nothing of it run: what bundles are written from in unit tests."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dyff_dagster.analysis.recipes import estimate
from dyff_dagster.analysis.records import ScoreRecord, add_score, read_scores, write_conclusion
from dyff_dagster.analysis.rows import record_scores
from dyff_dagster.audits.bundle import Verification, WrittenBundle, verify_bundle, write_bundle
from dyff_dagster.audits.bundle.archive import Source, write_archive
from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.canonical import canonical_json, spec_digest
from dyff_dagster.schema.content import digest_table
from dyff_dagster.store import Commit, Facts, Inputs, Store
from dyff_dagster.store.digests import digest_file, list_files, tree_digest

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))

PROMPT = "prompt that must not leave"

MANIFESTS = """
kind: Dataset
id: rows
account: acme
name: Rows
annotations: {dyff-dagster/withhold: label, dyff-dagster/files: .}
artifacts: [{path: data.parquet}]
schema: {arrow: {x: int64!, label: int64!}}
---
kind: InferenceService
id: service
account: acme
name: Service
interface: {endpoint: "https://example.org/answer", outputSchema: {arrow: {y: int64!}}}
---
kind: Evaluation
id: answers
account: acme
dataset: rows
inferenceSession: {inferenceService: service}
---
kind: Module
id: code
account: acme
name: Code
annotations: {dyff-dagster/files: .}
artifacts: [{path: functions.py}]
---
kind: Method
id: judge
account: acme
name: Judge
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: functions.judge}}
modules: [code]
inputs: [{keyword: rows, kind: Dataset}, {keyword: answers, kind: Evaluation}]
output:
  kind: Measurement
  measurement:
    name: Judged
    level: Instance
    schema:
      arrow:
        {_index_: int64!, correct: bool!, seconds: float64!, group: string!, label: int64!, prompt: string!}
---
kind: Measurement
id: judged
account: acme
method: judge
scope: {evaluation: answers, inferenceService: service, dataset: rows}
inputs: [{keyword: rows, entity: rows}, {keyword: answers, entity: answers}]
---
kind: Method
id: score
account: acme
name: Score
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: functions.score}}
modules: [code]
inputs: [{keyword: instances, kind: Measurement}]
output:
  kind: Measurement
  measurement:
    name: Scores
    level: Dataset
    schema: {arrow: {score: string!, value: float64, low: float64, high: float64, n: int64, recipe: string}}
---
kind: Measurement
id: scores
account: acme
method: score
scope: {evaluation: answers, inferenceService: service, dataset: rows}
inputs: [{keyword: instances, entity: judged}]
---
kind: Method
id: argue
account: acme
name: Argue
scope: Evaluation
implementation: {kind: JupyterNotebook, jupyterNotebook: {notebookModule: code, notebookPath: functions.py}}
modules: [code]
inputs: [{keyword: scores, kind: Measurement}]
output: {kind: SafetyCase, safetyCase: {name: Case}}
---
kind: SafetyCase
id: case
account: acme
method: argue
scope: {evaluation: answers, inferenceService: service, dataset: rows}
inputs: [{keyword: scores, entity: scores}]
"""

UPSTREAM = {
    "rows": (), "code": (), "answers": ("rows",), "judged": ("code", "rows", "answers"),
    "scores": ("code", "judged"), "case": ("code", "scores"),
}  # fmt: skip


@dataclass
class BundledAudit:
    """The audit in a directory: its catalog and its store."""

    directory: Path
    store: Store = field(init=False)
    catalog: Catalog = field(init=False)

    def __post_init__(self) -> None:
        source = self.directory / "catalog"
        source.mkdir(parents=True)
        (source / "audit.yaml").write_text(MANIFESTS)
        (source / "functions.py").write_text("# judge and score\n")
        (source / "data.parquet").touch()
        self.store = Store(self.directory / "store")
        self.catalog = Catalog.load(source)
        for name in UPSTREAM:
            self.commit(name)

    def commit(self, name: str, extras: dict[str, str] | None = None, **changes: str) -> Commit:
        """Commit what an entity is made of here; ``changes`` are data versions that it says it was made from."""
        entity = self.catalog.get(name)
        versions = {other: self.store.current(other) for other in UPSTREAM[name]}
        upstream = {other: commit.data_version for other, commit in versions.items() if commit is not None}
        with self.store.draft(name) as draft:
            version = getattr(self, f"_make_{name}")(draft.path)
            if version is None:
                files = {file: digest_file(draft.path / file) for file in list_files(draft.path)}
                version = tree_digest(files)
            return draft.commit(
                entity=entity,
                data_version=version,
                inputs=Inputs(spec_digest(entity), {**upstream, **changes}, extras or {}),
                facts=Facts(scores=read_scores(draft.path), page="index.html" if name == "case" else None),
            )

    def _make_rows(self, path: Path) -> str:
        return _write(path, pa.table({"_index_": range(20), "x": range(20), "label": [7] * 20}))

    def _make_answers(self, path: Path) -> str:
        responses = [[{"_response_index_": 0, "y": i}] for i in range(20)]
        return _write(
            path, pa.table({"_replication_": ["0"] * 20, "_index_": range(20), "responses": responses})
        )

    def _make_code(self, path: Path) -> None:
        (path / "functions.py").write_text("# judge and score\n")
        (path / "größe 名.txt").write_text("a name that is no ASCII")

    def _make_judged(self, path: Path) -> str:
        return _write(path, judged())

    def _make_scores(self, path: Path) -> str:
        made = {
            "accuracy": estimate(
                "rate", judged(), {"outcomes": "correct", "clusters": "_index_"}, input="instances"
            ),
            "accuracy_a": estimate(
                "rate", judged(), {"outcomes": "correct"}, input="instances", where={"group": "a"}
            ),
            "share_a": estimate(
                "rate", judged(), {"outcomes": {"column": "group", "equals": "a"}}, input="instances"
            ),
            "seconds": estimate("mean", judged(), {"values": "seconds"}, input="instances", level=0.9),
            "labels": estimate("mean", judged(), {"values": "label"}, input="instances"),
        }
        rows = [item.row(name) for name, item in made.items()]
        rows.append({"score": "by_hand", "value": 0.5, "low": None, "high": None, "n": 3, "recipe": None})
        table = pa.Table.from_pylist(rows, self.catalog.get("scores").schema_.decode())  # type: ignore[attr-defined]
        entity: Any = self.catalog.get("scores")
        version = _write(path, table)
        record_scores(path, table.schema, analysis_id="scores", method="score", scope=entity.scope)
        return version

    def _make_case(self, path: Path) -> None:
        entity: Any = self.catalog.get("case")
        commit = self.store.current("scores")
        assert commit is not None
        quoted = estimate(
            "quoted",
            pq.read_table(str(commit.path / "part.parquet")),
            {"value": "value", "low": "low", "high": "high", "n": "n"},
            input="scores",
            where={"score": "accuracy"},
        )
        assert quoted.derivation is not None
        record = ScoreRecord(
            "accuracy",
            quoted.value,
            quoted.low,
            quoted.high,
            quoted.n,
            estimator=quoted.derivation.to_json(),
        )
        add_score(path, record, analysis_id="case", method="argue", scope=entity.scope, primary=True)
        write_conclusion(path, "It is accurate.", True)
        (path / "index.html").write_text("<p>It is accurate.")

    def bundle(self, out: Path | None = None, subject: str = "case", **options: Any) -> WrittenBundle:
        return write_bundle(
            subject,
            self.catalog,
            self.store,
            out or self.directory / "bundle.zip",
            **{"key": KEY, **options},
        )


def judged() -> pa.Table:
    """Judged answers; ``label`` has the name of what is withheld, ``prompt`` is nobody's business."""
    return pa.table(
        {
            "_index_": range(20),
            "correct": [i % 4 > 0 for i in range(20)],
            "seconds": [0.1 * i for i in range(20)],
            "group": ["a" if i % 3 else "b" for i in range(20)],
            "label": [i % 2 for i in range(20)],
            "prompt": [f"{PROMPT} {i}" for i in range(20)],
        }
    )


def _write(path: Path, table: pa.Table) -> str:
    pq.write_table(table, path / "part.parquet")
    return digest_table(table)


def verified(path: Path, **options: Any) -> Verification:
    """The bundle checked with the key of whoever signed it."""
    return verify_bundle(path, options.pop("key", KEY).public_key(), **options)


def faults(found: Verification) -> dict[str, list[str]]:
    """What does not hold, by check."""
    return {check.name: list(check.faults) for check in found.checks if check.state == "fails"}


def members(path: Path) -> dict[str, bytes]:
    """Every file of a bundle."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repacked(path: Path, content: dict[str, bytes]) -> Path:
    """A bundle of other files, well formed; the manifest is left as it is."""
    write_archive(
        path, [Source.read(name, lambda data=data: io.BytesIO(data)) for name, data in content.items()],
        overwrite=True,
    )  # fmt: skip
    return path


def resigned(path: Path, content: dict[str, bytes], **manifest: Any) -> Path:
    """A bundle of other files that its own signer vouches for: what only an honest mistake, or he, can make."""
    said = json.loads(content["manifest.json"])
    rest = {name: data for name, data in content.items() if not name.startswith("manifest.json")}
    said["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in rest.items()
    }
    said.update(manifest)
    data = canonical_json(said)
    return repacked(path, {"manifest.json": data, "manifest.json.sig": KEY.sign(data), **rest})


def offset_of(path: Path, name: str) -> int:
    """Where the bytes of a file in a zip begin."""
    with zipfile.ZipFile(path) as archive:
        header = archive.getinfo(name).header_offset
    with path.open("rb") as file:
        file.seek(header + 26)
        length, extra = struct.unpack("<2H", file.read(4))
    return header + 30 + length + extra
