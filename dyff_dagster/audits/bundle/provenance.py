"""Does each version in a bundle say what it was made from, and is that there?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from upath import UPath

from dyff_dagster.analysis.making import page_version
from dyff_dagster.audits.bundle.errors import NotABundle, shown
from dyff_dagster.audits.bundle.manifest import README, entity_path, read_object, version_path
from dyff_dagster.audits.bundle.trusted import TrustedFiles
from dyff_dagster.schema.canonical import spec_digest
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.ids import is_id
from dyff_dagster.schema.interchange import read_entity
from dyff_dagster.schema.platform import (
    Dataset,
    DataSource,
    DyffEntity,
    Evaluation,
    InferenceSession,
    Measurement,
    Model,
    Module,
    SafetyCase,
)
from dyff_dagster.store import Commit, Inputs
from dyff_dagster.store.digests import tree_digest

PAGE = "index.html"

_ABOUT = ("entity.json", "commit.json", "rows.json", "rows.arrow")


@dataclass
class Chain:
    """What a bundle has, read.

    Attributes:
        entities: Every entity by id.
        commits: Every commit by entity; ``path`` leads nowhere.
        faults: What does not fit together, one sentence each.
    """

    entities: dict[str, DyffEntity] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read_chain(files: TrustedFiles) -> Chain:
    """Read entities and commits, and hold them against each other."""
    chain = Chain()
    present: dict[str, set[str]] = {}
    for name in files.manifest.files:
        parts = name.split("/")
        if name == README:
            continue
        fits = (len(parts) == 3 and parts[2] in _ABOUT) or (len(parts) > 3 and parts[2] == "files")
        if parts[0] != "entities" or not fits or not is_id(parts[1]):
            chain.faults.append(f"{shown(name)} is nothing that a bundle of this format has")
            continue
        present.setdefault(parts[1], set()).add("/".join(parts[2:]))
    for entity_id, names in present.items():
        try:
            _read(files, chain, entity_id, names)
        except DyffError as error:
            chain.faults.append(f"{entity_id}: {shown(str(error))}")
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            chain.faults.append(
                f"{entity_id}: entity.json or commit.json is damaged ({type(error).__name__})"
            )
    _check_subject(files, chain)
    for entity_id in chain.commits:
        _check_inputs(chain, entity_id)
        _check_files(files, chain, entity_id, present[entity_id])
    for entity_id, entity in chain.entities.items():
        chain.faults += [
            f"{entity_id} depends on {name}, which is not in the bundle"
            for name in entity.dependencies()
            if name not in chain.entities
        ]
    chain.faults += [
        f"{shown(name)} has files that are left out, and nothing of it was committed"
        for name in files.manifest.left_out
        if name not in chain.commits
    ]
    return chain


def has_rows(entity: DyffEntity, files: Mapping[str, object]) -> bool:
    """Whether the data version of an entity is the digest of rows, and not of files."""
    if isinstance(entity, Dataset | Evaluation | Measurement):
        return True
    if isinstance(entity, Model | Module | DataSource | SafetyCase | InferenceSession):
        return False
    return any(name.endswith(".parquet") for name in files)


def _read(files: TrustedFiles, chain: Chain, entity_id: str, names: set[str]) -> None:
    if "entity.json" not in names:
        raise NotABundle("entity.json is not in the bundle")
    path = entity_path(entity_id, "entity.json")
    entity = read_entity(read_object(path, files.read(path))).entity
    if entity.id != entity_id:
        raise NotABundle(f"entity.json is that of {entity.id}")
    chain.entities[entity_id] = entity
    if "commit.json" not in names:
        return
    path = entity_path(entity_id, "commit.json")
    commit = Commit.from_json(files.read(path).decode("utf-8"), UPath(entity_id), path)
    if commit.entity_id != entity_id or commit.kind != entity.kind:
        raise NotABundle(f"commit.json is that of the {commit.kind} {commit.entity_id}")
    inputs = Inputs(**commit.inputs)
    if inputs.digest != commit.input_digest or inputs.spec != commit.code_version:
        raise NotABundle("commit.json says two things of what the version was made from")
    chain.commits[entity_id] = commit
    if spec_digest(entity) != commit.code_version:
        chain.faults.append(
            f"{entity_id} was committed as an entity of digest {commit.code_version}, and entity.json has "
            f"{spec_digest(entity)}"
        )


def _check_subject(files: TrustedFiles, chain: Chain) -> None:
    subject = files.manifest.subject
    if subject not in chain.commits:
        chain.faults.append(f"the bundle is about {subject}, and has no version of it")


def _check_inputs(chain: Chain, entity_id: str) -> None:
    commit = chain.commits[entity_id]
    for name, version in commit.inputs["upstream"].items():
        other = chain.commits.get(name)
        if other is None:
            chain.faults.append(
                f"{entity_id} was made from version {version} of {shown(name)}, of which the bundle has no commit"
            )
        elif other.data_version != version:
            chain.faults.append(
                f"{entity_id} was made from version {version} of {name}, and the bundle has version "
                f"{other.data_version}"
            )


def _check_files(files: TrustedFiles, chain: Chain, entity_id: str, present: set[str]) -> None:
    commit, entity = chain.commits[entity_id], chain.entities[entity_id]
    left_out = files.manifest.left_out.get(entity_id)
    missing = set(left_out.files) if left_out is not None else set()
    for name, digest in commit.files.items():
        path = version_path(entity_id, name)
        listed = files.manifest.files.get(path)
        if listed is None:
            if name not in missing:
                chain.faults.append(
                    f"{entity_id}: {shown(name)} is neither in the bundle nor stated as left out"
                )
        elif name in missing:
            chain.faults.append(f"{entity_id}: {shown(name)} is stated as left out, and is in the bundle")
        elif listed.sha256 != digest.sha256:
            chain.faults.append(
                f"{entity_id}: {shown(name)} has SHA-256 {listed.sha256}, and was committed with {digest.sha256}"
            )
    known = set(commit.files)
    chain.faults += [
        f"{entity_id}: {shown(name)} is in the bundle, and was not committed"
        for name in sorted(path.removeprefix("files/") for path in present if path.startswith("files/"))
        if name not in known
    ]
    chain.faults += [
        f"{entity_id}: {shown(name)} is stated as left out, and was not committed"
        for name in sorted(missing - known)
    ]
    if isinstance(entity, InferenceSession):
        made = commit.input_digest
    elif has_rows(entity, commit.files):
        return  # its rows are counted for themselves
    else:
        made = tree_digest(commit.files)
        if (page := version_path(entity_id, PAGE)) in files and PAGE in commit.files:
            try:
                # How a page was made is no part of its version.
                made = page_version(commit.files, PAGE, files.read(page))
            except NotABundle as error:
                chain.faults.append(f"{entity_id}: {error}")
    if made != commit.data_version:
        chain.faults.append(
            f"{entity_id}: its files make the version {made}, and its commit says {commit.data_version}"
        )
