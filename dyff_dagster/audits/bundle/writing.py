"""A result with everything that it rests on, written into one file that others can check."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from dyff_dagster.analysis.recipes import Derivation, top_level
from dyff_dagster.analysis.records import ESTIMATORS
from dyff_dagster.audits.bundle.archive import Source, write_archive
from dyff_dagster.audits.bundle.collecting import Content, collect
from dyff_dagster.audits.bundle.errors import BundleError
from dyff_dagster.audits.bundle.manifest import (
    MANIFEST,
    README,
    SIGNATURE,
    LeftOut,
    Listed,
    Manifest,
    entity_path,
    version_path,
)
from dyff_dagster.audits.bundle.projection import project
from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.canonical import canonical_json
from dyff_dagster.schema.content import sort_keys
from dyff_dagster.schema.interchange import full_form
from dyff_dagster.schema.parquet import open_dataset
from dyff_dagster.schema.platform import (
    Dataset,
    DataSource,
    Evaluation,
    Measurement,
    MeasurementLevel,
    Model,
    Report,
    SafetyCase,
)
from dyff_dagster.store import Commit, Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_RAW = "raw data, which a bundle has only if it was asked for (--with-data)"
_ROWS = "rows of which a bundle shows only the columns that scores were made of (--with-data shows all)"

_README = """This file is a bundle of dyff-dagster: the result {subject}, with everything that it rests on.

To check it, get the public key of whoever published it by another way than this file, and run

    pip install 'dyff-dagster[bundle]'
    dyff-dagster verify BUNDLE.zip --key KEY.pub.pem

manifest.json lists every file with its SHA-256; manifest.json.sig is the Ed25519 signature over it.
Unpacking this file and looking at its pages proves nothing.
"""


@dataclass(frozen=True)
class WrittenBundle:
    """A bundle as it was written.

    Attributes:
        path: The file.
        sha256: Of the whole file, in hexadecimal.
        size: Bytes.
        files: How many files are in it.
        entities: How many entities it has.
        signed: Whether it is signed; an unsigned one proves nothing.
        left_out: What is not in it, by entity.
    """

    path: Path
    sha256: str
    size: int
    files: int
    entities: int
    signed: bool
    left_out: Mapping[str, LeftOut]


def write_bundle(
    entity_id: str,
    catalog: Catalog,
    store: Store,
    out: Path,
    *,
    key: Ed25519PrivateKey | None = None,
    with_data: bool = False,
    overwrite: bool = False,
) -> WrittenBundle:
    """Write an entity's bundle, whole or not at all; the same store and key make the same bytes.

    Args:
        entity_id: What it is about: a SafetyCase, a Measurement, or anything that was computed.
        catalog: Where it and what is upstream of it are declared.
        store: Where they are committed.
        out: The file.
        key: Whose signature it gets.
        with_data: Put in raw data too: rows of Datasets and Evaluations, files of Models and DataSources, every
            column of measurements. Anything that was withheld from a service is then in it.
        overwrite: Replace a file that is there.

    Raises:
        EntityNotFound: There is no such entity.
        BundleError: Something was never computed, does not fit together, or was changed in the store.
        StoreError: A store elsewhere does not answer, or something was changed there.
        FileExistsError: ``out`` is there.
    """
    content = collect(entity_id, catalog, store)
    sources = [_from_bytes(README, _README.format(subject=entity_id).encode())]
    left_out: dict[str, LeftOut] = {}
    used = {} if with_data else _columns_used(content, store)
    withheld = frozenset[str]().union(*(catalog.withheld(name) or () for name in content.entities))
    for name, entity in content.entities.items():
        sources.append(_from_bytes(entity_path(name, "entity.json"), canonical_json(full_form(entity))))
        commit = content.commits.get(name)
        if commit is None:
            continue
        sources.append(_from_bytes(entity_path(name, "commit.json"), canonical_json(commit.to_json())))
        kept = list(commit.files)
        if not with_data and (reason := _left_out(entity)):
            rows_only = reason is _ROWS
            kept = [file for file in kept if rows_only and not _is_row_file(file)]
            missing = tuple(file for file in commit.files if file not in kept)
            if missing:
                left_out[name] = LeftOut(missing, reason)
            if rows_only:
                sources += _shown_columns(store, commit, used.get(name, frozenset()), withheld)
        sources += [_from_version(store, commit, file) for file in kept]
    sources.sort(key=lambda source: source.name.encode())
    manifest = Manifest(
        subject=entity_id,
        files={source.name: Listed(source.sha256, source.size) for source in sources},
        left_out=left_out,
        software={"dyff-dagster": version("dyff-dagster")},
    ).to_bytes()
    head = [_from_bytes(MANIFEST, manifest)]
    if key is not None:
        head.append(_from_bytes(SIGNATURE, key.sign(manifest)))
    write_archive(out, [*head, *sources], overwrite=overwrite)
    with out.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return WrittenBundle(
        path=out,
        sha256=digest,
        size=out.stat().st_size,
        files=len(head) + len(sources),
        entities=len(content.entities),
        signed=key is not None,
        left_out=left_out,
    )


def _left_out(entity: object) -> str:
    """Why an entity's rows or files stay where they are; empty where they do not."""
    if isinstance(entity, Dataset | Evaluation | Model | DataSource):
        return _RAW
    if isinstance(entity, Report) or (
        isinstance(entity, Measurement) and entity.level == MeasurementLevel.Instance
    ):
        return _ROWS
    return ""


def _is_row_file(name: str) -> bool:
    return name.endswith(".parquet")


def _columns_used(content: Content, store: Store) -> dict[str, frozenset[str]]:
    """The fields that the scores in the bundle were made of, by the entity that has them."""
    used: dict[str, frozenset[str]] = {}
    for name, commit in content.commits.items():
        entity = content.entities[name]
        if not isinstance(entity, Measurement | SafetyCase) or ESTIMATORS not in commit.files:
            continue
        inputs = {item.keyword: item.entity for item in entity.inputs}
        recorded = json.loads((store.on_disk(commit) / ESTIMATORS).read_bytes())
        for item in recorded.values():
            rows = Derivation.from_json(item).rows
            if rows is not None and rows.input in inputs:
                target = inputs[rows.input]
                used[target] = used.get(target, frozenset()) | rows.fields
    return used


def _shown_columns(
    store: Store, commit: Commit, used: frozenset[str], withheld: frozenset[str]
) -> list[Source]:
    """The columns that scores were made of, without those that bear the name of something withheld."""
    if not used:
        return []
    table = open_dataset(store.on_disk(commit)).to_table()
    wanted = {top_level(field, table.column_names) for field in used}
    wanted -= {top_level(field, table.column_names) for field in withheld}
    described, rows = project(table, wanted | set(sort_keys(table.schema)))
    return [
        _from_bytes(entity_path(commit.entity_id, "rows.json"), described),
        _from_bytes(entity_path(commit.entity_id, "rows.arrow"), rows),
    ]


def _from_bytes(name: str, data: bytes) -> Source:
    return Source.read(name, lambda: io.BytesIO(data))


def _from_version(store: Store, commit: Commit, name: str) -> Source:
    path = store.on_disk(commit) / name
    source = Source.read(version_path(commit.entity_id, name), lambda: path.open("rb"))
    if source.sha256 != commit.files[name].sha256:
        raise BundleError(
            f"{commit.entity_id}: {name} in {commit.path} is not what was committed: materialize {commit.entity_id} "
            "again"
        )
    return source
