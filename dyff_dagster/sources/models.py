"""Models: from the Hugging Face Hub, a git repository with Git LFS, or files of one's own, into a store.

Wherever they come from, their files lie at ``snapshot_path()`` below the version where the artifact is a Hugging Face
cache, and every file has the bytes that its source says it has.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dyff_dagster.schema.annotations import annotation
from dyff_dagster.schema.platform import Model, ModelSourceKinds
from dyff_dagster.sources import git_lfs, hub
from dyff_dagster.sources.downloads import hash_file
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.hub import Repository
from dyff_dagster.sources.hub_cache import cache_of, fetch_files, snapshot
from dyff_dagster.sources.model_facts import card_facts, config_facts, parameter_facts, pickles
from dyff_dagster.store import Draft, Facts, FileDigest, Inputs, Progress, Store
from dyff_dagster.store.paths import PathOutside, resolve_inside

COMMIT = "commit"
"""Name among a version's inputs of the commit that its files are of."""

_REMOTE = (ModelSourceKinds.HuggingFaceHub, ModelSourceKinds.OpenLLM, ModelSourceKinds.GitLFS)


@dataclass(frozen=True)
class FromHub:
    """Which files of which repository: what a Model's source says, whichever kind it is of."""

    repository: Repository
    revision: str
    allow: Sequence[str] | None = None
    ignore: Sequence[str] | None = None


@dataclass
class Taken:
    """Files in a draft: their digests, and what is known of where they come from."""

    digests: dict[str, FileDigest] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def is_remote(entity: Model) -> bool:
    """Whether a Model's files come from elsewhere."""
    return entity.source.kind in _REMOTE


def moves(entity: Model) -> bool:
    """Whether its source can stand for other files tomorrow: a branch, not a commit."""
    wanted = _from_hub(entity)
    if wanted is not None:
        return not hub.is_commit(wanted.revision)
    return is_remote(entity) and not git_lfs.is_pinned(_git_url(entity))


def model_commit(entity: Model) -> str:
    """The commit that a remote Model's source stands for now; the net is asked only where it can move.

    Raises:
        SourceError: There is none, or it cannot be read.
    """
    wanted = _from_hub(entity)
    if wanted is not None:
        return hub.commit_of(wanted.repository, wanted.revision)
    return git_lfs.commit_of(entity.id, _git_url(entity))


def take_model(entity: Model, store: Store, draft: Draft, inputs: Inputs, progress: Progress) -> Taken:
    """Put a remote Model's files into a draft.

    Args:
        entity: The Model.
        store: Whose cache is used.
        draft: Where to.
        inputs: They say which commit, where they were made by :func:`model_commit`.
        progress: Told the bytes that came.

    Raises:
        SourceError: A file cannot be had, is not what its source says, or must not be taken.
    """
    commit = inputs.extras.get(COMMIT) or model_commit(entity)
    target = draft.path / snapshot_path(entity)
    wanted = _from_hub(entity)
    if wanted is not None:
        return _from_the_hub(entity, wanted, commit, cache_of(store), target, progress)
    return _from_git(entity, commit, cache_of(store).parent / "git", target, progress)


def model_facts(
    entity: Model, root: Path, digests: Mapping[str, FileDigest], notes: Mapping[str, Any]
) -> Facts:
    """What there is to say about a Model whose files are in place.

    Args:
        entity: The Model.
        root: The draft.
        digests: Of its files, by their path below ``root``.
        notes: What is known of where they come from.
    """
    prefix = snapshot_path(entity)
    start = len(prefix) + 1 if prefix else 0
    names = [name[start:] for name in digests]
    directory = root / prefix
    found: dict[str, Any] = {
        **notes,
        "fileCount": len(digests),
        "bytes": sum(digest.size for digest in digests.values()),
        **parameter_facts({name: directory / name for name in names}),
        **config_facts(directory / "config.json"),
        **card_facts(directory / "README.md"),
    }
    if risky := pickles(names):
        found["pickles"] = risky
        found["warning"] = (
            f"{_listed(risky)} can run code of whoever made them when they are loaded: prefer safetensors"
        )
    return Facts(notes=found)


def snapshot_path(entity: Model) -> str:
    """Where the files lie within the version; empty: at its top."""
    cache = entity.artifact.huggingFaceCache
    return cache.snapshot_path() if cache is not None else ""


def _from_the_hub(
    entity: Model, wanted: FromHub, commit: str, cache: Path, target: Path, progress: Progress
) -> Taken:
    files = hub.files_of(wanted.repository, commit, wanted.allow, wanted.ignore)
    _refuse_pickles(entity, [file.path for file in files], "ignorePatterns")
    fetched = fetch_files(wanted.repository, commit, files, cache, progress)
    directory = snapshot(wanted.repository, commit, wanted.allow, wanted.ignore, fetched, cache)
    taken = Taken(notes={"repository": wanted.repository.name, "revision": commit})
    if wanted.revision != commit:
        taken.notes["requestedRevision"] = wanted.revision
    for item in fetched:
        path = item.file.path
        place = _inside(entity, target, path)
        if not (directory / path).is_file():
            raise SourceError(
                f"{entity.id}: {path} of {wanted.repository} is not in its snapshot: run it again"
            )
        _link(item.path, place)
        taken.digests[_name(entity, path)] = item.digest
    return taken


def _from_git(entity: Model, commit: str, cache: Path, target: Path, progress: Progress) -> Taken:
    url = _git_url(entity)
    files = git_lfs.fetch_repository(
        entity.id, url, commit, cache, target, progress, lambda names: _refuse_pickles(entity, names, "")
    )
    taken = Taken(notes={"repository": git_lfs.shown(url), "revision": commit})
    for done, (path, expected) in enumerate(sorted(files.items()), 1):
        digest = hash_file(target / path).digest
        if expected is not None and digest.sha256 != expected:
            raise SourceError(
                f"{entity.id}: the SHA-256 of {path} is not the one that the repository says for it: run it again, and "
                "if this stays so, remove the clone in the store's .cache"
            )
        taken.digests[_name(entity, path)] = digest
        progress("checking files", done, len(files))
    return taken


def _refuse_pickles(entity: Model, names: Sequence[str], patterns: str) -> None:
    """Refuse files that run code when they are loaded, before their bytes are paid for."""
    risky = pickles(names)
    if risky and annotation(entity, "allow-pickle") != "true":
        how = (
            f"leave them out ({patterns}: [{', '.join(_globs(risky))}])"
            if patterns
            else "use a repository without them"
        )
        raise SourceError(
            f"{entity.id}: {_listed(risky)} can run code of whoever made them when they are loaded: {how}, or, "
            "if you trust them, set the annotation dyff-dagster/allow-pickle to 'true'"
        )


def _globs(names: Sequence[str]) -> list[str]:
    return sorted({f"'*{Path(name).suffix}'" for name in names})


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _from_hub(entity: Model) -> FromHub | None:
    """What a Model takes from the Hub, if it takes it from there."""
    source = entity.source
    if source.kind == ModelSourceKinds.HuggingFaceHub and source.huggingFaceHub is not None:
        said = source.huggingFaceHub
        repository = Repository(said.repoID, "model", entity.id)
        return FromHub(repository, said.revision, said.allowPatterns, said.ignorePatterns)
    if source.kind == ModelSourceKinds.OpenLLM and source.openLLM is not None:
        return FromHub(Repository(source.openLLM.modelID, "model", entity.id), source.openLLM.modelVersion)
    return None


def _git_url(entity: Model) -> str:
    if entity.source.gitLFS is None:
        raise SourceError(
            f"{entity.id}: its source is of kind {entity.source.kind.value} and names no repository"
        )
    return str(entity.source.gitLFS.url)


def _name(entity: Model, path: str) -> str:
    prefix = snapshot_path(entity)
    return f"{prefix}/{path}" if prefix else path


def _inside(entity: Model, target: Path, path: str) -> Path:
    """Where a file of a repository goes; one whose name leads out of it goes nowhere."""
    target.mkdir(parents=True, exist_ok=True)
    try:
        return resolve_inside(target, path)
    except PathOutside as error:
        raise SourceError(f"{entity.id}: {error}") from error


def _link(source: Path, target: Path) -> None:
    """Show a blob in a draft: no second copy of it where the disk has hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
