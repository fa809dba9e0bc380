"""A directory in the layout of Hugging Face's cache, shared by all Models and DataSources of a store.

::

    ROOT/.cache/huggingface/hub/models--ORG--NAME/
      blobs/DIGEST           the bytes of a file, by what the Hub knows them by
      blobs/DIGEST.part      those that came so far
      snapshots/COMMIT/…     links to blobs, seen to be whole by huggingface_hub.snapshot_download

What is committed is hard links to blobs: a second Model of the same bytes takes neither time nor space. The directory
can be removed whenever nothing runs, and other programs can use it as their ``HF_HUB_CACHE``.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dyff_dagster.sources.downloads import (
    Arrived,
    PartialFile,
    alone,
    bring,
    download,
    hash_file,
    partial_of,
    patiently,
)
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.hub import HubFile, Repository, endpoint, explained
from dyff_dagster.store import FileDigest, Progress, Store, local_path

WORKERS = 8
"""Files that are fetched at a time, as ``snapshot_download`` does by default."""

_XET_RANGE = 256 * 1024 * 1024
"""Bytes of a file that are asked of Xet at once: what a kill may lose, and what is in memory at most."""


@dataclass(frozen=True)
class Fetched:
    """A file of a repository, on this disk, with the bytes that the Hub says it has."""

    file: HubFile
    path: Path
    digest: FileDigest


def cache_of(store: Store) -> Path:
    """Where a store's Models share what was fetched; for one on no disk of this machine, the user's own cache."""
    if store.local:
        return local_path(store.root) / ".cache" / "huggingface" / "hub"
    return users_cache()


def fetch_files(
    repository: Repository, commit: str, files: Sequence[HubFile], cache: Path, progress: Progress
) -> list[Fetched]:
    """Have the files of a commit on this disk, each with the digest that the Hub says.

    What is in the cache already is read and not fetched; what was broken off is gone on with.

    Args:
        repository: Which repository.
        commit: Its commit.
        files: Which of its files.
        cache: Where to.
        progress: Told the bytes that are there.

    Raises:
        SourceError: The Hub refuses, a file has not the digest that the Hub says, or there is no space for them.
    """
    folder = _folder(repository, cache) / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_without_space(repository, files, folder)
    told = _Told(sum(file.size for file in files), progress)
    executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="hub")
    try:
        # By digest: two files of the same bytes are fetched once.
        jobs = {
            blob: executor.submit(_one, repository, commit, file, folder / blob, told)
            for blob, file in {file.blob: file for file in files}.items()
        }
        waiting = set(jobs.values())
        while waiting:
            with suppress(NotYet):
                for done in as_completed(list(waiting), timeout=0.5):
                    waiting.discard(done)
                    done.result()
                    told.show()
            told.show()
    finally:
        told.stop()
        executor.shutdown(wait=True, cancel_futures=True)
    return [Fetched(file, folder / file.blob, jobs[file.blob].result()) for file in files]


def snapshot(
    repository: Repository,
    commit: str,
    allow: Sequence[str] | None,
    ignore: Sequence[str] | None,
    fetched: Sequence[Fetched],
    cache: Path,
) -> Path:
    """The directory of a commit's files in the cache, as ``huggingface_hub`` has it.

    Raises:
        SourceError: The Hub refuses.
    """
    from huggingface_hub import snapshot_download

    directory = _folder(repository, cache) / "snapshots" / commit
    for item in fetched:
        _point(directory / item.file.path, item.path)
    # Of a file whose link is there the Hub is asked nothing, where it would be asked about each; what is left is its
    # listing, kept in the cache so that other programs know a snapshot that is not whole.
    with explained(repository, commit):
        found = patiently(
            lambda: snapshot_download(
                repository.name,
                repo_type=repository.kind,
                revision=commit,
                allow_patterns=None if allow is None else list(allow),
                ignore_patterns=None if ignore is None else list(ignore),
                cache_dir=cache,
                endpoint=endpoint(),
                library_name="dyff-dagster",
                tqdm_class=_no_bars(),
            )
        )
    return Path(found)


def _folder(repository: Repository, cache: Path) -> Path:
    return cache / f"{repository.kind}s--{repository.name.replace('/', '--')}"


def _point(link: Path, blob: Path) -> None:
    """Show a blob under its name in a snapshot; left to ``huggingface_hub`` where the disk has no symbolic links."""
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        link.symlink_to(os.path.relpath(blob, link.parent))


def _one(repository: Repository, commit: str, file: HubFile, blob: Path, told: _Told) -> FileDigest:
    with alone(blob, told.waiting):
        for ready in (blob, users_cache() / blob.parent.parent.name / "blobs" / blob.name):
            if (arrived := _verified(file, ready)) is not None:
                told.add(file.size)
                if ready != blob:
                    _copy(ready, blob)
                return arrived.digest
        resumed = partial_of(blob).exists()
        arrived = _fetch(repository, commit, file, blob, told)
        if resumed and not _is(file, arrived):
            # What lay there from before was damaged, as a disk without power leaves it.
            blob.unlink()
            told.add(-file.size)
            arrived = _fetch(repository, commit, file, blob, told)
        if not _is(file, arrived):
            blob.unlink()
            what = "SHA-256" if file.sha256 is not None else "git hash"
            raise SourceError(
                f"{repository.owner}: the {what} of {file.path} is not the one that the Hub says for {repository} at "
                f"{commit[:12]}: run it again, and if this stays so, tell whoever runs {endpoint() or 'the Hub'}"
            )
        return arrived.digest


def _fetch(repository: Repository, commit: str, file: HubFile, blob: Path, told: _Told) -> Arrived:
    git = file.git_blob is not None
    with explained(repository, commit, file.path):
        try:
            if file.xet is not None and _xet_streams():
                # What came of it counts, whoever sends the rest.
                with suppress(_XetFailed):
                    fetch = _from_xet(repository, commit, file)
                    return bring(fetch, blob, size=file.size, git=git, tell=told.add)
                told.add(-_size(partial_of(blob)))
            return download(
                _url(repository, commit, file),
                blob,
                headers=_headers(),
                size=file.size,
                git=git,
                tell=told.add,
            )
        except OSError as error:
            if hasattr(error, "response") or error.errno is not None:
                raise
            raise SourceError(
                f"{repository.owner}: {file.path} of {repository} came with another size than the {file.size} "
                "bytes that the Hub says: run it again"
            ) from None


def _url(repository: Repository, commit: str, file: HubFile) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(
        repository.name, file.path, repo_type=repository.kind, revision=commit, endpoint=endpoint()
    )


def _headers() -> dict[str, str]:
    from huggingface_hub.utils import build_hf_headers

    return build_hf_headers(library_name="dyff-dagster")


def _xet_streams() -> bool:
    """Whether files can be read from Xet from some byte on, and shall be."""
    if os.environ.get("HF_HUB_DISABLE_XET", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        from hf_xet import XetSession
    except ImportError:
        return False
    return hasattr(XetSession, "new_download_stream_group")


@lru_cache(maxsize=1)
def _xet_session() -> Any:
    """One for the process: it has threads and connections of its own."""
    from hf_xet import XetSession

    return XetSession()


def _from_xet(repository: Repository, commit: str, file: HubFile) -> Callable[[PartialFile], None]:
    """Appends what is missing of a file from Xet, where the Hub keeps large files in deduplicated pieces."""
    from huggingface_hub import constants

    hub = endpoint() or constants.ENDPOINT
    route = f"{hub}/api/{repository.kind}s/{repository.name}/xet-read-token/{commit}"

    def fetch(partial: PartialFile) -> None:
        while (start := partial.tell()) < file.size:
            for piece in _pieces(route, file, start, min(start + _XET_RANGE, file.size)):
                partial.write(piece)
            if partial.tell() == start:
                raise _XetFailed

    return fetch


def _pieces(route: str, file: HubFile, start: int, end: int) -> Iterator[bytes]:
    from hf_xet import XetFileInfo

    try:
        group = _xet_session().new_download_stream_group(
            token_refresh_url=route, token_refresh_headers=_headers()
        )
        stream = group.download_stream(XetFileInfo(file.xet, file.size), start=start, end=end)
    except Exception as error:
        raise _XetFailed from error
    while True:
        try:
            piece = next(stream, None)
        except Exception as error:  # it has no type of its own for most of what can happen
            raise _XetFailed from error
        if piece is None:
            return
        yield piece


class _XetFailed(Exception):
    """Xet does not send a file, or not all of it."""


def _verified(file: HubFile, path: Path) -> Arrived | None:
    """The digests of a file that is there already, or None where it is not, or is another."""
    try:
        if path.stat().st_size != file.size:
            return None
        arrived = hash_file(path, git=file.git_blob is not None)
    except OSError:
        return None
    return arrived if _is(file, arrived) else None


def _is(file: HubFile, arrived: Arrived) -> bool:
    if file.sha256 is not None:
        return arrived.digest.sha256 == file.sha256
    return arrived.git_blob == file.git_blob


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(target.name + ".copy")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def users_cache() -> Path:
    """The cache of whoever runs this, which other programs fill as well."""
    from huggingface_hub import constants

    return Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _refuse_without_space(repository: Repository, files: Sequence[HubFile], folder: Path) -> None:
    missing = 0
    for file in {file.blob: file for file in files}.values():
        blob = folder / file.blob
        if not blob.exists():
            missing += file.size - _size(partial_of(blob))
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise SourceError(
            f"{repository.owner}: {missing} bytes of {repository} are still to be fetched, and {free} are free in "
            f"{folder}: free some space, or let allowPatterns and ignorePatterns leave files out"
        )


class _Stopped(Exception):
    """Nobody waits for the file any more."""


class _Told:
    """Bytes that came in several threads; shown from the one that waits for them."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._lock = threading.Lock()
        self._done = 0
        self._last = 0.0
        self._message = "bytes fetched"
        self._stopped = False

    def add(self, count: int) -> None:
        if self._stopped:
            raise _Stopped
        with self._lock:
            self._done += count

    def stop(self) -> None:
        """End what is still being fetched at its next chunk: one file failed, or the run is broken off."""
        self._stopped = True

    def waiting(self) -> None:
        self._message = "bytes fetched, waiting for another run that fetches the same files"

    def show(self) -> None:
        now = time.monotonic()
        if now - self._last > 0.2 or self._done >= self._total:
            self._last = now
            self._progress(self._message, min(self._done, self._total), self._total)


def _no_bars() -> Any:
    """A class of bars for ``snapshot_download`` that draw nothing: by then all bytes are there."""
    from tqdm import tqdm

    class Silent(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **more: Any) -> None:
            more.pop("name", None)
            super().__init__(*arguments, **{**more, "disable": True})

    return Silent
