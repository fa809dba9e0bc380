"""The Hugging Face Hub: which commit a name stands for, what files it has, and what may go wrong there.

``HF_ENDPOINT``, ``HF_TOKEN`` and the other variables of ``huggingface_hub`` are read from the environment when they are
needed. A token goes into requests and nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dyff_dagster.sources.downloads import patiently
from dyff_dagster.sources.errors import SourceError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST = 300


class NoFiles(SourceError):
    """The patterns leave none of a commit's files; ``listed`` is how many it has."""

    def __init__(self, message: str, listed: int) -> None:
        self.listed = listed
        super().__init__(message)


@dataclass(frozen=True)
class Repository:
    """A repository on the Hub.

    Attributes:
        name: ``ORG/NAME``.
        kind: What it holds.
        owner: Id of the entity that wants it, for messages.
    """

    name: str
    kind: Literal["model", "dataset"]
    owner: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class HubFile:
    """A file of a commit.

    Attributes:
        path: Within the repository.
        size: Bytes.
        sha256: Of its bytes, where it is kept as a large file.
        git_blob: Git's hash of its bytes, where it is not.
        xet: Its hash on Xet, where it is kept there.
    """

    path: str
    size: int
    sha256: str | None
    git_blob: str | None
    xet: str | None = None

    @property
    def blob(self) -> str:
        """What the Hub, and its clients' cache, know its bytes by."""
        return self.sha256 or self.git_blob or ""


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit's hash, which always stands for the same files."""
    return _COMMIT.fullmatch(revision) is not None


def endpoint() -> str | None:
    """Where the Hub is; None: where ``huggingface_hub`` has it."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def api() -> HfApi:
    """The Hub's API, as whoever the environment says."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint(), library_name="dyff-dagster")


def commit_of(repository: Repository, revision: str) -> str:
    """The commit that a revision stands for now; a commit stands for itself and nobody is asked.

    Raises:
        SourceError: There is no such repository or revision, it may not be read, or the Hub cannot be reached.
    """
    if is_commit(revision):
        return revision
    if not revision.strip():
        raise SourceError(
            f"{repository.owner}: it names no revision of {repository}: name a commit, a tag or a branch such as main"
        )
    with explained(repository, revision):
        found = patiently(
            lambda: api().repo_info(repository.name, revision=revision, repo_type=repository.kind)
        ).sha
    if found is None or not is_commit(found):
        raise SourceError(
            f"{repository.owner}: the Hub names no commit for {revision} of {repository}: name a commit"
        )
    return found


def files_of(
    repository: Repository, commit: str, allow: Sequence[str] | None, ignore: Sequence[str] | None
) -> list[HubFile]:
    """The files of a commit that the patterns let through, sorted by path.

    Raises:
        NoFiles: There are none.
        SourceError: As :func:`commit_of`.
    """
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils import filter_repo_objects

    with explained(repository, commit):
        tree = patiently(
            lambda: list(
                api().list_repo_tree(
                    repository.name, recursive=True, revision=commit, repo_type=repository.kind
                )
            )
        )
    listed = [entry for entry in tree if isinstance(entry, RepoFile)]
    for entry in listed:
        if not {"", ".", ".."}.isdisjoint(entry.path.split("/")):
            raise SourceError(
                f"{repository.owner}: a file of {repository} has a name that leads out of it, or is none: use another"
            )
    wanted = set(
        filter_repo_objects(
            [entry.path for entry in listed],
            allow_patterns=None if allow is None else list(allow),
            ignore_patterns=None if ignore is None else list(ignore),
        )
    )
    if not wanted:
        raise NoFiles(
            f"{repository.owner}: the patterns leave none of the {len(listed)} files of {repository} at {commit[:12]}: "
            "correct allowPatterns and ignorePatterns",
            len(listed),
        )
    return sorted((_file(entry) for entry in listed if entry.path in wanted), key=lambda file: file.path)


def _file(entry: Any) -> HubFile:
    sha256 = None if entry.lfs is None else entry.lfs.sha256
    git_blob = entry.blob_id if entry.lfs is None else None
    size = entry.size if entry.lfs is None else entry.lfs.size
    return HubFile(entry.path, size, sha256, git_blob, getattr(entry, "xet_hash", None))


@contextmanager
def explained(repository: Repository, revision: str, path: str = "") -> Generator[None, None, None]:
    """Say in one sentence what the Hub refused; neither URLs nor answers of it are repeated.

    Raises:
        SourceError: Instead of what ``huggingface_hub`` raises.
    """
    from huggingface_hub.errors import (
        DisabledRepoError,
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = f"{path} of {repository}" if path else str(repository)
    where = endpoint() or "the Hugging Face Hub"
    try:
        yield
    except GatedRepoError:
        who = "the token in HF_TOKEN has no access" if _has_token() else "HF_TOKEN is not set"
        sentence = (
            f"{what} is gated, and {who}: accept its terms on its page at {where}, and set HF_TOKEN to a token of "
            "that account"
        )
    except RevisionNotFoundError:
        sentence = f"{repository} has no revision {revision}: name a branch, a tag or a commit that it has"
    except RepositoryNotFoundError as error:
        if _status(error) == 401 and _has_token():
            sentence = f"{where} does not accept the token in HF_TOKEN: set it to a valid one, or unset it"
        else:
            who = (
                "the token in HF_TOKEN may not read it"
                if _has_token()
                else "it is private and HF_TOKEN is not set"
            )
            sentence = (
                f"{where} shows no {repository}: there is none of that name, or {who}; correct name or token"
            )
    except DisabledRepoError:
        sentence = f"{repository} was disabled on {where}: use another one"
    except HFValidationError:
        sentence = f"{repository.name!r} is no name of a repository: write ORG/NAME"
    except OfflineModeIsEnabled:
        sentence = (
            f"{what} has to be fetched, and HF_HUB_OFFLINE keeps this machine from {where}: unset it, or upload the "
            "files yourself"
        )
    except LocalEntryNotFoundError:
        sentence = f"{where} could not be reached for {what}: run it again; what came already is kept"
    except EntryNotFoundError:
        sentence = f"there is no {path or 'such file'} in {repository} at {revision}: correct its name"
    except HTTPError as error:
        sentence = _refused(error, what, where)
    else:
        return
    raise SourceError(f"{repository.owner}: {sentence}") from None


def _refused(error: Exception, what: str, where: str) -> str:
    status = _status(error)
    if status == 401:
        return f"{where} does not accept the token in HF_TOKEN: set it to a valid one, or unset it"
    if status == 403:
        return f"{where} refuses {what} to the token in HF_TOKEN: use one that may read it"
    if status == 429:
        return f"{where} answers {what} with 429, too many requests, time and again: wait, or set HF_TOKEN"
    if status is not None:
        return f"{where} answers {what} with status {status}: run it again; what came already is kept"
    return f"{where} could not be reached for {what} ({type(error).__name__}): run it again; what came already is kept"


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None
