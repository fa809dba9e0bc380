"""Archives: what comes out of them, and what must not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dyff_dagster.schema.platform import ArchiveFormat
from dyff_dagster.sources import archives
from dyff_dagster.sources.archives import unpack
from dyff_dagster.sources.errors import IngestError
from dyff_dagster.store import no_progress

TEXT = b"x,label\n" + b"1,a\n" * 1000


def tar(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, bytes], *, modes: dict[str, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def taken_out(tmp_path: Path, name: str, data: bytes, form: str, **more: Any) -> dict[str, bytes]:
    source = tmp_path / "source"
    target = tmp_path / "target"
    for directory in (source, target):
        directory.mkdir(exist_ok=True)
    path = source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    others = {other: source / other for other in more.pop("others", ())}
    found = unpack(
        "rows",
        {name: path, **others},
        [ArchiveFormat(name=name, format=form)],
        target,
        max_bytes=more.pop("max_bytes", None),
        progress=lambda *_: None,
    )
    assert not list(tmp_path.glob("evil*")) and not list(source.glob("evil*"))
    return {key: file.read_bytes() for key, file in found.items() if key not in others}


@pytest.mark.parametrize(
    ("form", "make"),
    [
        ("zip", lambda members: zipped(members)),
        ("tar", lambda members: tar(members)),
        ("tar.gz", lambda members: gzip.compress(tar(members))),
        ("tgz", lambda members: gzip.compress(tar(members))),
        ("tar.bz2", lambda members: bz2.compress(tar(members))),
        ("tar.xz", lambda members: lzma.compress(tar(members))),
        ("tar.zst", lambda members: zst(tar(members))),
    ],
)
def test_files_come_out_where_the_archive_lies(
    tmp_path: Path, form: str, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    members = {"a.csv": TEXT, "./sub/b.csv": b"x\n", "ünïcode.csv": b""}
    found = taken_out(tmp_path, f"raw/data.{form}", make(members), form)
    assert found == {"raw/a.csv": TEXT, "raw/sub/b.csv": b"x\n", "raw/ünïcode.csv": b""}


@pytest.mark.parametrize(
    ("form", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zst)]
)
def test_a_compressed_file_is_the_file(tmp_path: Path, form: str, compress: Callable[[bytes], bytes]) -> None:
    assert taken_out(tmp_path, f"a.csv.{form}", compress(TEXT), form) == {"a.csv": TEXT}
    whole = compress(TEXT) + compress(b"2,b\n")  # as `cat` makes one of two
    assert taken_out(tmp_path, f"b.csv.{form}", whole, form) == {"b.csv": TEXT + b"2,b\n"}


HOSTILE = ["../evil.csv", "/tmp/evil.csv", "a/../../evil.csv", "C:\\evil.csv", "..\\evil.csv", "a\x00b"]


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 300])
def test_no_name_leads_out_of_a_tar(tmp_path: Path, name: str) -> None:
    data = tar({name: b"evil"})
    if "\x00" in name:
        data = tar({"a": b"evil"})  # a tar cannot hold it: its names end there
        assert taken_out(tmp_path, "a.tar", data, "tar") == {"a": b"evil"}
        return
    with pytest.raises(IngestError, match="holds a file that must not come out of it"):
        taken_out(tmp_path, "a.tar", data, "tar")


@pytest.mark.parametrize("name", [name for name in HOSTILE if "\x00" not in name])
def test_no_name_leads_out_of_a_zip(tmp_path: Path, name: str) -> None:
    with pytest.raises(IngestError, match="holds a file that must not come out of it"):
        taken_out(tmp_path, "a.zip", zipped({name: b"evil"}), "zip")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_stay_in_the_tar(tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo()
    link.type = kind
    link.linkname = "/etc/passwd"
    with pytest.raises(IngestError, match="holds 'l', which is a link or a device"):
        taken_out(tmp_path, "a.tar", tar({"l": link, "l/evil": b"x"}), "tar")


def test_links_stay_in_the_zip(tmp_path: Path) -> None:
    data = zipped({"l": b"/etc/passwd"}, modes={"l": stat.S_IFLNK | 0o777})
    with pytest.raises(IngestError, match="holds 'l', which is a link or a device"):
        taken_out(tmp_path, "a.zip", data, "zip")


@pytest.mark.parametrize("form", ["zip", "tar.gz", "gz", "zst", "xz"])
def test_a_bomb_ends_before_it_fills_the_disk(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SMALL", 1_000_000)
    zeros = bytes(50_000_000)
    bombs: dict[str, Callable[[], bytes]] = {
        "zip": lambda: zipped({"a": zeros}),
        "tar.gz": lambda: gzip.compress(tar({"a": zeros})),
        "gz": lambda: gzip.compress(zeros),
        "zst": lambda: zst(zeros),
        "xz": lambda: lzma.compress(zeros),
    }
    data = bombs[form]()
    with pytest.raises(IngestError, match="holds more than 200 times its own size, as a bomb does"):
        taken_out(tmp_path, f"a.{form}", data, form)
    written = sum(path.stat().st_size for path in (tmp_path / "target").rglob("*") if path.is_file())
    assert written <= max(1_000_000, 200 * len(data))


def test_what_follows_the_end_of_a_tar_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL", 1_000_000)
    data = gzip.compress(tar({"a": b"x"}) + bytes(50_000_000))
    with pytest.raises(IngestError, match="as a bomb does"):
        taken_out(tmp_path, "a.tar.gz", data, "tar.gz")


def test_a_header_is_not_read_however_long_it_is(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a")
    member.pax_headers = {"comment": "x" * 30_000_000}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    with pytest.raises(IngestError, match="has a header of more than 16 MiB"):
        taken_out(tmp_path, "a.tar.gz", gzip.compress(buffer.getvalue()), "tar.gz")


def test_a_limit_of_bytes_is_one_of_all_archives(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"more than the 5000 bytes .* raise maxBytes"):
        taken_out(tmp_path, "a.zip", zipped({"a": bytes(4000), "b": bytes(2000)}), "zip", max_bytes=5000)


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "tar.xz", "tar.zst", "gz", "bz2", "xz", "zst"])
def test_what_is_cut_off_damaged_or_something_else_is_said(tmp_path: Path, form: str) -> None:
    content = random.Random(1).randbytes(100_000)
    whole: dict[str, Callable[[], bytes]] = {
        "zip": lambda: zipped({"a": content}),
        "tar": lambda: tar({"a": content}),
        "tar.gz": lambda: gzip.compress(tar({"a": content})),
        "tar.xz": lambda: lzma.compress(tar({"a": content})),
        "tar.zst": lambda: zst(tar({"a": content})),
        "gz": lambda: gzip.compress(content),
        "bz2": lambda: bz2.compress(content),
        "xz": lambda: lzma.compress(content),
        "zst": lambda: zst(content),
    }
    data = whole[form]()
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 0xFF
    bad = {"cut": data[: len(data) // 2], "other": b"<html>no archive</html>" * 100}
    if form not in ("tar", "tar.zst", "zst"):  # those have no checksum of their content
        bad["damaged"] = bytes(damaged)
    for number, (what, broken) in enumerate(bad.items()):
        (tmp_path / what).mkdir()
        with pytest.raises(IngestError, match=f"is damaged, cut off or no {form}"):
            taken_out(tmp_path / what, f"a{number}.{form}", broken, form)


def test_an_encrypted_zip_is_said(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"secret"}))
    data[6] |= 1  # the flag in the local header and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(IngestError, match="is encrypted"):
        taken_out(tmp_path, "a.zip", bytes(data), "zip")


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_an_archive_without_a_file_is_said(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.mkdir("empty")
    else:
        tarfile.open(path, "w:gz" if form == "tar.gz" else "w").close()
    (tmp_path / "out").mkdir()
    with pytest.raises(IngestError, match=rf"the archive a\.{form} holds no files: use another one"):
        unpack(
            "d", {path.name: path}, [ArchiveFormat(name="a.*", format=form)], tmp_path / "out",
            max_bytes=None, progress=no_progress,
        )  # fmt: skip


def test_hidden_files_of_an_archive_are_left_out_as_those_of_a_directory_are(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("d/a.csv", "__MACOSX/d/._a.csv", ".DS_Store"):
            archive.writestr(name, "x")
    (tmp_path / "out").mkdir()
    found = unpack(
        "d", {path.name: path}, [ArchiveFormat(name="*.zip", format="zip")], tmp_path / "out",
        max_bytes=None, progress=no_progress,
    )  # fmt: skip
    assert list(found) == ["d/a.csv"]


def test_a_name_in_an_archive_that_is_no_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        archive.addfile(tarfile.TarInfo("\udcff.csv"))
    (tmp_path / "out").mkdir()
    with pytest.raises(IngestError, match=r"the archive a\.tar holds a file whose name is not UTF-8"):
        unpack(
            "d", {path.name: path}, [ArchiveFormat(name="*.tar", format="tar")], tmp_path / "out",
            max_bytes=None, progress=no_progress,
        )  # fmt: skip


def test_a_file_is_never_written_twice(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="holds 'a', which is there already"):
        taken_out(tmp_path, "a.tar", tar({"a": b"1"})[:1024] + tar({"a": b"2"}), "tar")
    (tmp_path / "source" / "b.csv").write_text("x\n")
    with pytest.raises(IngestError, match=r"holds 'b\.csv', which is there already"):
        taken_out(tmp_path, "b.tar", tar({"b.csv": b"x"}), "tar", others=["b.csv"])
    with pytest.raises(IngestError, match="holds 'd/e' below a file"):
        taken_out(tmp_path, "c.tar", tar({"d": b"1", "d/e": b"2"}), "tar")


def test_an_archive_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"has no file \*\.zip, as archives says"):
        unpack(
            "rows",
            {"a.csv": tmp_path},
            [ArchiveFormat(name="*.zip", format="zip")],
            tmp_path,
            max_bytes=None,
            progress=lambda *_: None,
        )
