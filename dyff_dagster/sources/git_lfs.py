"""Models in a git repository whose large files are kept with Git LFS.

``git`` and ``git-lfs`` do the work; both check every object's hash. The clone stays in the store's cache, so that a
later commit of the same repository, or one that was broken off, fetches what is new alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path

from dyff_dagster.sources.downloads import alone
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.store import Progress

_SETTINGS = (
    # Neither a repository's hooks nor its odd transports run here.
    *("-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "core.autocrlf=false"),
    *("-c", "core.symlinks=true", "-c", "advice.detachedHead=false"),
)
_HEXADECIMAL = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LAST_WORDS = 300


def is_pinned(url: str) -> bool:
    """Whether a URL ends in ``#COMMIT``: then it always stands for the same files."""
    return _HEXADECIMAL.fullmatch(_split(url)[1]) is not None


def commit_of(owner: str, url: str) -> str:
    """The commit that a URL stands for: that behind ``#``, or what the branch or tag there, or HEAD, is now.

    Raises:
        SourceError: git is not installed, or the repository or the revision is not there.
    """
    repository, revision = _split(url)
    if _HEXADECIMAL.fullmatch(revision):
        return revision
    _need(owner, "git")
    names = (
        [f"refs/heads/{revision}", f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}"]
        if revision
        else ["HEAD"]
    )
    listed = _git(
        owner, ["ls-remote", "--", repository, *names], f"no repository can be read at {shown(url)}"
    )
    found = {
        name: commit for commit, name in (line.split("\t") for line in listed.splitlines() if "\t" in line)
    }
    for name in names:
        if name in found:
            return found[name]
    raise SourceError(
        f"{owner}: {shown(repository)} has no branch or tag {revision or 'HEAD'}: correct what stands behind #"
    )


def fetch_repository(
    owner: str,
    url: str,
    commit: str,
    cache: Path,
    target: Path,
    progress: Progress,
    look: Callable[[Sequence[str]], None] = lambda names: None,
) -> dict[str, str | None]:
    """Put the files of a commit, large ones as they are, into a directory.

    Args:
        owner: Id of the entity that wants it, for messages.
        url: The repository; what stands behind ``#`` is not looked at.
        commit: Which commit.
        cache: Where clones lie.
        target: An empty directory, or one that is not there yet, on the same disk as the cache.
        progress: Told what is being done.
        look: Given the names of the files before large ones are fetched; may raise.

    Returns:
        The files by relative path: of a large one the SHA-256 that its bytes must have, else None.

    Raises:
        SourceError: A program is missing, the repository cannot be read, an object is missing there or damaged, or it
            holds a symbolic link or a submodule.
    """
    _need(owner, "git")
    _need(owner, "git-lfs")
    repository = _split(url)[0]
    clone = cache / hashlib.sha256(repository.encode()).hexdigest()[:32]
    with alone(
        clone, lambda: progress("waiting for another run that fetches the same repository", None, None)
    ):
        progress("fetching the repository", None, None)
        if not (clone / "HEAD").is_file():
            # Only what git completed has a HEAD here: the first step of a clone is made apart.
            fresh = clone.with_name(clone.name + ".new")
            shutil.rmtree(fresh, ignore_errors=True)
            _git(owner, ["init", "--bare", "--quiet", "--template=", str(fresh)], "no clone could be made")
            fresh.rename(clone)
        inside = ["--git-dir", str(clone)]
        _git(owner, [*inside, "config", "remote.origin.url", repository], "the clone cannot be written")
        if not _has(clone, commit):
            fetch = [*inside, "fetch", "--quiet", "--no-tags"]
            try:
                _git(owner, [*fetch, "--depth=1", "origin", commit], "it cannot be fetched by itself")
            except SourceError:
                # Some servers give out branches and tags only.
                names = ["+refs/heads/*:refs/fetched/heads/*", "+refs/tags/*:refs/fetched/tags/*"]
                _git(owner, [*fetch, "origin", *names], f"{shown(repository)} cannot be fetched")
        if not _has(clone, commit):
            raise SourceError(
                f"{owner}: {shown(repository)} has no commit {commit[:12]}: correct what stands behind #"
            )
        names = _names(owner, inside, commit)
        look(names)
        progress("fetching large files", None, None)
        _git(
            owner,
            [*inside, "lfs", "fetch", "origin", commit],
            f"the large files of {shown(repository)} cannot be fetched",
        )
        target.mkdir(parents=True, exist_ok=True)
        index = clone / f"index-{os.getpid()}"
        try:
            tree = [*inside, "--work-tree", str(target)]
            smudge = [
                "-c",
                "filter.lfs.process=git-lfs filter-process",
                "-c",
                "filter.lfs.smudge=git-lfs smudge -- %f",
            ]
            _git(
                owner,
                [*smudge, "-c", "filter.lfs.required=true", *tree, "read-tree", "--reset", "-u", commit],
                f"the files of {shown(repository)} cannot be written",
                GIT_INDEX_FILE=str(index),
                GIT_LFS_SKIP_SMUDGE="0",
            )
        finally:
            index.unlink(missing_ok=True)
        large = _large(owner, inside, commit)
    return {name: large.get(name) for name in names}


def shown(url: str) -> str:
    """A URL for messages: without a user and a password."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(
        parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    )


def _split(url: str) -> tuple[str, str]:
    repository, _, revision = url.partition("#")
    return repository, revision


def _has(clone: Path, commit: str) -> bool:
    done = subprocess.run(
        ["git", "--git-dir", str(clone), "cat-file", "-e", f"{commit}^{{commit}}"],
        env=_environment(),
        capture_output=True,
    )
    return done.returncode == 0


def _names(owner: str, inside: Sequence[str], commit: str) -> list[str]:
    """Paths of a commit; only regular files may be there."""
    listed = _git(
        owner, [*inside, "ls-tree", "-r", "-z", "--full-tree", commit], "its files cannot be listed"
    )
    names = []
    for entry in listed.split("\0"):
        if not entry:
            continue
        mode, _, rest = entry.partition(" ")
        name = rest.partition("\t")[2]
        if mode not in ("100644", "100755"):
            what = {"120000": "a symbolic link", "160000": "a submodule"}.get(mode, f"of mode {mode}")
            raise SourceError(
                f"{owner}: {name} in the repository is {what}, which no model is made of: use one without"
            )
        names.append(name)
    return names


def _large(owner: str, inside: Sequence[str], commit: str) -> dict[str, str]:
    """SHA-256 of the large files of a commit, by path."""
    listed = _git(owner, [*inside, "lfs", "ls-files", "--long", commit], "its large files cannot be listed")
    found = {}
    for line in listed.splitlines():
        digest, _, rest = line.partition(" ")
        found[rest[2:]] = digest
    return found


def _need(owner: str, program: str) -> None:
    if shutil.which(program) is None:
        raise SourceError(
            f"{owner}: models from Git LFS need the program {program}, which is not installed here: install the "
            f"package {program} of your system"
        )


def _git(owner: str, arguments: Sequence[str], problem: str, **variables: str) -> str:
    """Run git; what it wrote to stdout.

    Raises:
        SourceError: It failed; its last line says why, without addresses that may hold a password.
    """
    done = subprocess.run(
        ["git", *_SETTINGS, *arguments],
        env=_environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        words = lines[-1] if lines else f"exit code {done.returncode}"
        words = re.sub(r"\S*://\S*", lambda match: shown(match[0].strip("'\"")), words)[:_LAST_WORDS]
        raise SourceError(f"{owner}: {problem} ({words}): correct the URL, or run it again")
    return done.stdout


def _environment(**variables: str) -> dict[str, str]:
    """The environment for git: it asks nobody, and takes nothing from a repository around it."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name
        not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
    }
    return {
        **inherited,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "LC_ALL": "C",
        **variables,
    }
