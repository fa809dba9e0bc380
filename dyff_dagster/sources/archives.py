"""Archives, unpacked so that whoever made one gains nothing by it.

Names stay inside, links and devices are refused, and what comes out is counted while it comes out, whatever the archive
says of its sizes: a bomb ends when its bytes exceed what was allowed.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import pyarrow as pa

from dyff_dagster.catalog.ingest import ARCHIVES
from dyff_dagster.schema.platform import ArchiveFormat
from dyff_dagster.sources.errors import IngestError
from dyff_dagster.sources.local_files import hidden
from dyff_dagster.sources.patterns import Pattern
from dyff_dagster.store import Progress
from dyff_dagster.store.paths import PathOutside, resolve_inside

MAX_BYTES = 100 * 1024**3
"""Bytes that the archives of one data source may hold, unless ``maxBytes`` says otherwise."""

MAX_RATIO = 200
"""How many times its own size an archive may hold, once that is more than :data:`SMALL` bytes."""

SMALL = 100 * 1024**2
MAX_FILES = 1_000_000

_BLOCK = 1 << 20
_LONGEST_HEADER = 16 * 1024**2
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    pa.ArrowException,
    NotImplementedError,
    UnicodeDecodeError,
)


def unpack(
    owner: str,
    files: Mapping[str, Path],
    archives: Sequence[ArchiveFormat],
    target: Path,
    *,
    max_bytes: int | None,
    progress: Progress,
) -> dict[str, Path]:
    """Unpack those files that are archives, each into the directory that it lies in.

    Args:
        owner: Id of the data set, for messages.
        files: Paths by name.
        archives: Which of them are archives, by patterns of their names.
        target: An empty directory for what is in them.
        max_bytes: How many bytes that may be; None: :data:`MAX_BYTES`.
        progress: Told the bytes that came out.

    Returns:
        The files that are no archives, and those that were in archives, by name.

    Raises:
        IngestError: An archive is damaged, of another format, or holds what must not come out of it.
    """
    found = dict(files)
    taken = 0
    for archive in archives:
        pattern = Pattern(archive.name)
        names = [name for name in found if pattern.captures(name) is not None]
        if not names:
            raise IngestError(
                f"{owner}: its data source has no file {archive.name}, as archives says: correct it; there are "
                f"{', '.join(sorted(found)[:5])}"
            )
        for name in sorted(names):
            path = found.pop(name)
            unpacker = _Unpacker(
                owner, name, path.stat().st_size, target, found, max_bytes or MAX_BYTES, taken, progress
            )
            unpacker.unpack(path, ARCHIVES[archive.format.lower()])
            # As of a directory: a zip made on a Mac has a hidden double of every file.
            shown = {inner: where for inner, where in unpacker.files.items() if not hidden(inner)}
            if not shown:
                raise IngestError(f"{owner}: the archive {name} holds no files: use another one")
            found.update(shown)
            taken = unpacker.taken
    return found


class _Unpacker:
    """Takes one archive apart."""

    def __init__(
        self,
        owner: str,
        name: str,
        size: int,
        target: Path,
        others: Mapping[str, Path],
        max_bytes: int,
        taken: int,
        progress: Progress,
    ) -> None:
        self._owner, self._name, self._size = owner, name, size
        self._target, self._others = target, others
        self._most, self._progress = max_bytes, progress
        self._own = 0
        self.taken = taken
        self.files: dict[str, Path] = {}

    def unpack(self, path: Path, form: str) -> None:
        try:
            if form == "zip":
                self._zip(path)
            elif form.startswith("tar"):
                with _opened(path, form.removeprefix("tar").lstrip(".")) as stream:
                    self._tar(stream)
            else:
                self._one(path, form)
        except _DAMAGED as error:
            raise self._refused(f"is damaged, cut off or no {form} ({type(error).__name__})") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._refused(f"is damaged, cut off or no {form}") from None

    def _zip(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise self._refused(f"holds {_quoted(member.filename)}, which is a link or a device")
                if member.flag_bits & 0x1:
                    raise self._refused(f"is encrypted ({_quoted(member.filename)})")
                if member.is_dir():
                    self._place(member.filename.rstrip("/") or "/")
                    continue
                target = self._place(member.filename)
                with archive.open(member) as stream:
                    self._write(member.filename, stream, target)

    def _tar(self, stream: IO[bytes]) -> None:
        source = _Headers(
            stream, lambda: self._refused("has a header of more than 16 MiB, as no tool writes it")
        )
        with tarfile.open(fileobj=cast(IO[bytes], source), mode="r|") as archive:
            while True:
                source.begin()
                member = archive.next()
                if member is None:
                    break
                source.end()
                self._member(archive, member)
        # What follows the end of the archive is read, too: a checksum stands there.
        while block := stream.read(_BLOCK):
            self._count(len(block))

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.isdir():
            self._place(member.name.rstrip("/") or "/", directory=True)
            return
        content = archive.extractfile(member) if member.isreg() else None
        if content is None:
            raise self._refused(f"holds {_quoted(member.name)}, which is a link or a device")
        with content:
            self._write(member.name, content, self._place(member.name))

    def _one(self, path: Path, form: str) -> None:
        name = PurePosixPath(self._name).name
        inner = PurePosixPath(name).stem if "." in name.lstrip(".") else f"{name}.data"
        with _opened(path, form) as stream:
            self._write(inner, stream, self._place(inner))

    def _place(self, name: str, *, directory: bool = False) -> Path:
        """Where a member goes; the name is one of the archive's making."""
        try:
            name.encode()
        except UnicodeEncodeError:
            raise self._refused("holds a file whose name is not UTF-8") from None
        plain = name.removeprefix("./") or "."
        if plain == "." and directory:
            return self._target
        try:
            resolve_inside(self._target, plain)
            whole = str(PurePosixPath(self._name).parent / plain)
            return resolve_inside(self._target, whole)
        except PathOutside as error:
            raise self._refused(f"holds a file that must not come out of it: {error}") from None

    def _write(self, name: str, stream: IO[bytes], target: Path) -> None:
        key = target.relative_to(self._target.resolve()).as_posix()
        if key in self._others or key in self.files or target.exists():
            raise self._refused(f"holds {_quoted(name)}, which is there already")
        if len(self.files) >= MAX_FILES:
            raise self._refused(f"holds more than {MAX_FILES} files")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self._refused(f"holds {_quoted(name)} below a file") from None
        with target.open("xb") as file:
            while block := stream.read(_BLOCK):
                self._count(len(block))
                file.write(block)
        self.files[key] = target

    def _count(self, size: int) -> None:
        self.taken += size
        self._own += size
        if self.taken > self._most:
            raise self._refused(
                f"holds more than the {self._most} bytes that may come out: if that is meant, raise maxBytes in "
                "dyff-dagster/ingest",
                "",
            )
        if self._own > max(SMALL, MAX_RATIO * self._size):
            raise self._refused(f"holds more than {MAX_RATIO} times its own size, as a bomb does")
        self._progress("bytes unpacked", self.taken, None)

    def _refused(
        self, problem: str, advice: str = ": use another archive, or unpack it yourself"
    ) -> IngestError:
        return IngestError(f"{self._owner}: the archive {self._name} {problem}{advice}")


class _Headers:
    """A stream whose headers are bounded: ``tarfile`` reads each of them into memory, however long it says it is."""

    def __init__(self, stream: IO[bytes], refuse: Callable[[], IngestError]) -> None:
        self._stream, self._refuse = stream, refuse
        self._left: int | None = _LONGEST_HEADER

    def begin(self) -> None:
        self._left = _LONGEST_HEADER

    def end(self) -> None:
        self._left = None

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise self._refuse()
        return data


def _opened(path: Path, compression: str) -> Any:
    """A file as a stream of what was compressed; all of these read several streams behind one another."""
    if compression == "zst":
        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    openers: dict[str, Callable[[Path, Any], Any]] = {
        "": Path.open,
        "gz": gzip.open,
        "bz2": bz2.open,
        "xz": lzma.open,
    }
    return openers[compression](path, "rb")


def _quoted(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:100] + "…")
