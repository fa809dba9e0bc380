"""Bundles that somebody tampered with: what was done is named, and nothing lies outside afterwards."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import zipfile
from pathlib import Path

import pytest

from dyff_dagster.audits.bundle import NotABundle, Verification
from dyff_dagster.audits.bundle.archive import Archive, Source, write_archive
from dyff_dagster.audits.bundle.headers import (
    LIMIT_32,
    Member,
    central_header,
    end_records,
    local_header,
)
from tests.unit.bundled_audit import (
    KEY,
    OTHER_KEY,
    BundledAudit,
    faults,
    members,
    offset_of,
    repacked,
    resigned,
    verified,
)


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> BundledAudit:
    return BundledAudit(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def bundle(audit: BundledAudit, tmp_path: Path) -> Path:
    return audit.bundle(tmp_path / "bundle.zip").path


def container_fault(found: Verification) -> str:
    """The one sentence about a zip file that is none of ours; everything else must not have been looked at."""
    assert not found.holds
    assert {check.state for check in found.checks if check.name != "container"} == {"skipped"}
    (fault,) = faults(found)["container"]
    return fault


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


# Content


@pytest.mark.parametrize(
    "name",
    [
        "README.txt",
        "entities/case/files/index.html",
        "entities/case/commit.json",
        "entities/case/files/.dyff/scores.json",
        "entities/code/files/functions.py",
        "entities/code/files/größe 名.txt",
        "entities/judged/rows.arrow",
    ],
)
def test_a_changed_byte_is_named_with_what_it_should_be(bundle: Path, name: str) -> None:
    right = hashlib.sha256(members(bundle)[name]).hexdigest()
    flip(bundle, offset_of(bundle, name) + 3)
    found = verified(bundle)
    assert not found.holds
    (fault,) = faults(found)["files"]
    assert fault.startswith(f"{name} was changed: ")
    assert f"and should have {len(members_raw(bundle, name))} bytes and SHA-256 {right}" in fault.replace(
        ",", ""
    )


def members_raw(path: Path, name: str) -> bytes:
    """The bytes of a file whose check sum is wrong by now."""
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo(name).file_size
    with path.open("rb") as file:
        file.seek(offset_of(path, name))
        return file.read(size)


def test_a_changed_manifest_is_no_longer_what_was_signed(bundle: Path) -> None:
    content = members(bundle)
    content["manifest.json"] = content["manifest.json"].replace(b'"subject":"case"', b'"subject":"cose"')
    found = verified(repacked(bundle, content))
    assert faults(found)["signature"][0].startswith("manifest.json.sig was not made of this manifest.json")
    assert not found.holds


def test_a_changed_byte_of_the_manifest_is_told_from_another_key(bundle: Path) -> None:
    flip(bundle, offset_of(bundle, "manifest.json") + 30)
    found = verified(bundle)
    assert "signature" in faults(found)
    assert not found.holds


def test_the_manifest_and_signature_of_another_bundle_fit_no_file(
    audit: BundledAudit, bundle: Path, tmp_path: Path
) -> None:
    other = members(audit.bundle(tmp_path / "other.zip", with_data=True).path)
    content = members(bundle)
    for name in ("manifest.json", "manifest.json.sig"):
        content[name] = other[name]
    found = verified(repacked(bundle, content))
    assert "signature" not in faults(found)
    assert any("entities/rows/files/part.parquet is missing" in fault for fault in faults(found)["files"])
    assert not found.holds


def test_the_signature_of_another_bundle_is_none(audit: BundledAudit, bundle: Path, tmp_path: Path) -> None:
    other = members(audit.bundle(tmp_path / "other.zip", "scores").path)
    content = {**members(bundle), "manifest.json.sig": other["manifest.json.sig"]}
    assert list(faults(verified(repacked(bundle, content)))) == ["signature"]


def test_another_key_does_not_do(bundle: Path) -> None:
    found = verified(bundle, key=OTHER_KEY)
    assert list(faults(found)) == ["signature"]
    assert not found.holds


def test_a_public_key_inside_proves_nothing(audit: BundledAudit, tmp_path: Path) -> None:
    path = audit.bundle(tmp_path / "b.zip", key=OTHER_KEY).path
    content = members(path)
    content["key.pub.pem"] = OTHER_KEY.public_key().public_bytes_raw()
    found = verified(repacked(path, content), key=KEY)
    assert set(faults(found)) == {"signature", "files"}


@pytest.mark.parametrize("signature", [None, b"", b"0" * 63, b"0" * 64, b"0" * 65, b"0" * 100_000])
def test_no_signature_is_no_signature(bundle: Path, signature: bytes | None) -> None:
    content = members(bundle)
    del content["manifest.json.sig"]
    if signature is not None:
        content["manifest.json.sig"] = signature
    found = verified(repacked(bundle, content))
    assert not found.holds
    assert list(faults(found)) == ["signature"]


def test_an_unsigned_bundle_does_not_hold(audit: BundledAudit, tmp_path: Path) -> None:
    found = verified(audit.bundle(tmp_path / "b.zip", key=None).path)
    assert faults(found)["signature"] == [
        "there is no manifest.json.sig: the bundle is not signed, and anybody can have made it"
    ]
    assert not found.holds


def test_a_removed_file_is_missed(bundle: Path) -> None:
    content = members(bundle)
    del content["entities/case/files/index.html"]
    found = verified(repacked(bundle, content))
    (fault,) = faults(found)["files"]
    assert fault.startswith("entities/case/files/index.html is missing; it should be there with ")
    assert not found.holds


@pytest.mark.parametrize("name", ["more.txt", "entities/case/files/more.html", "Ünï/\u202etxt.exe"])
def test_an_added_file_is_named(bundle: Path, name: str) -> None:
    found = verified(repacked(bundle, {**members(bundle), name: b"more"}))
    (fault,) = faults(found)["files"]
    assert fault.endswith("is there, and the manifest does not list it; it should not be there")
    assert "\u202e" not in fault
    assert not found.holds


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"format":"dyff-dagster bundle 2"}',
        b'{"format": "dyff-dagster bundle 1"}',
        b'{"files":{},"format":"dyff-dagster bundle 1","leftOut":{},"software":{},"subject":"../x"}',
        b'{"files":{},"format":"dyff-dagster bundle 1","leftOut":{},"more":1,"software":{},"subject":"x"}',
        b'{"files":{"a":{"sha256":"x","size":1}},"format":"dyff-dagster bundle 1",'
        b'"leftOut":{},"software":{},"subject":"x"}',
        b'{"files":{"a":1},"files":{},"format":"dyff-dagster bundle 1","leftOut":{},"software":{},"subject":"x"}',
    ],
)
def test_a_manifest_that_is_none_is_refused_though_it_is_signed(bundle: Path, manifest: bytes) -> None:
    content = {**members(bundle), "manifest.json": manifest, "manifest.json.sig": KEY.sign(manifest)}
    found = verified(repacked(bundle, content))
    assert list(faults(found)) == ["files"]
    assert "manifest.json" in faults(found)["files"][0]
    assert not found.holds


def test_a_manifest_that_lists_itself_is_refused(bundle: Path) -> None:
    content = members(bundle)
    listed = {"sha256": "0" * 64, "size": 1}
    found = verified(resigned(bundle, content, files={"manifest.json": listed}))
    assert any("in its own list" in fault for fault in faults(found)["files"])


def test_a_zip_file_without_a_manifest_is_no_bundle(bundle: Path) -> None:
    content = members(bundle)
    del content["manifest.json"]
    assert "there is no manifest.json" in container_fault(verified(repacked(bundle, content)))


# The container


UNSAFE = [
    "/etc/passwd",
    "../outside.txt",
    "entities/../../outside.txt",
    "a//b",
    "./a",
    "a/.",
    "a/",
    "",
    "C:/outside.txt",
    "a\\..\\outside.txt",
    "a\nb",
    "a\x00b",
    "a\x7f",
    "x" * 300,
    "a/" * 1200 + "b",
]


@pytest.mark.parametrize("name", UNSAFE, ids=range(len(UNSAFE)))
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_written(
    tmp_path: Path, bundle: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    sources = [
        Source.read(known, lambda data=data: io.BytesIO(data)) for known, data in members(bundle).items()
    ]
    data = b"outside"
    sources.append(Source(name, lambda: io.BytesIO(data), len(data), 0, hashlib.sha256(data).hexdigest()))
    write_archive(bundle, sources, overwrite=True)
    before = sorted(os.listdir(tmp_path))
    fault = container_fault(verified(bundle))
    assert "its path" in fault
    assert "\n" not in fault and "\x00" not in fault
    assert sorted(os.listdir(tmp_path)) == before
    assert list(scratch.iterdir()) == []


def test_such_a_name_is_not_written_either() -> None:
    from dyff_dagster.audits.bundle import BundleError

    with pytest.raises(BundleError, match="cannot go into a bundle"):
        Source.read("../outside.txt", lambda: io.BytesIO(b""))


def test_a_file_that_is_in_it_twice_is_refused(bundle: Path) -> None:
    sources = [
        Source.read(name, lambda data=data: io.BytesIO(data)) for name, data in members(bundle).items()
    ]
    write_archive(bundle, [*sources, sources[-1]], overwrite=True)
    assert "is in it twice" in container_fault(verified(bundle))


def with_zipfile(path: Path, content: dict[str, bytes], **options: int) -> Path:
    """The same files packed by somebody else's program."""
    path.unlink()
    with zipfile.ZipFile(path, "w", **options) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def test_a_zip_bomb_is_refused_unread(bundle: Path) -> None:
    content = {**members(bundle), "entities/bomb": bytes(50 << 20)}
    path = with_zipfile(bundle, content, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    assert "is compressed, and a bundle's files are not" in container_fault(verified(path))


def test_a_bundle_that_was_packed_again_is_refused(bundle: Path) -> None:
    assert "packed by something else" in container_fault(verified(with_zipfile(bundle, members(bundle))))


def test_a_symbolic_link_is_refused(bundle: Path) -> None:
    content = members(bundle)
    bundle.unlink()
    with zipfile.ZipFile(bundle, "w") as archive:
        link = zipfile.ZipInfo("a-link", (1980, 1, 1, 0, 0, 0))
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        for name, data in content.items():
            archive.writestr(name, data)
    assert "a-link is no regular file but a symbolic link" in container_fault(verified(bundle))


def test_members_that_share_their_bytes_are_refused(bundle: Path) -> None:
    data = b"shared" * 100
    first = Member("a", len(data), 0, 0)
    second = Member("b", len(data), 0, 0)
    directory = central_header(first) + central_header(second)
    body = local_header(first) + data
    bundle.write_bytes(body + directory + end_records(2, len(directory), len(body)))
    assert "b does not begin where the one before it ends" in container_fault(verified(bundle))


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_bytes_that_belong_to_no_file_are_refused(bundle: Path, place: str) -> None:
    data = bundle.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    cut = {"before": 0, "between": start, "after": len(data)}[place]
    bundle.write_bytes(data[:cut] + b"hidden" + data[cut:])
    assert "this is no bundle as dyff-dagster writes it" in container_fault(verified(bundle))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.95, 0.999])
def test_a_bundle_that_is_cut_short_is_refused(bundle: Path, share: float) -> None:
    data = bundle.read_bytes()
    bundle.write_bytes(data[: int(share * len(data))])
    assert re.search("cut short|no zip file", container_fault(verified(bundle)))


def test_every_byte_of_the_container_counts(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    content = {"a": b"1", "entities/größe": b"22", "c": b"333"}
    repacked(path, content)
    data = path.read_bytes()
    own = {
        position
        for name, value in content.items()
        for position in range(offset_of(path, name), offset_of(path, name) + len(value))
    }
    for position in range(len(data)):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[position] ^= bit
            path.write_bytes(changed)
            if position in own:
                with Archive(path) as archive:
                    assert not all(archive.digest(name)[1] for name in archive.sizes)
                continue
            with pytest.raises(NotABundle):
                Archive(path)


def test_a_check_sum_that_was_changed_in_both_places_is_found(bundle: Path) -> None:
    data = bytearray(bundle.read_bytes())
    name = b"README.txt"
    for signature, field, length in ((b"PK\x03\x04", 14, 30), (b"PK\x01\x02", 16, 46)):
        place = next(
            at
            for at in (match.start() - length for match in re.finditer(name, bytes(data)))
            if data[at : at + 4] == signature
        )
        data[place + field] ^= 1
    bundle.write_bytes(data)
    found = verified(bundle)
    assert faults(found)["files"] == [
        "README.txt is as it should be, and its check sum in the zip file is not"
    ]
    assert not found.holds


def test_other_programs_can_read_it(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}
    with Archive(bundle) as ours:
        assert {name: ours.read(name, 1 << 20) for name in ours.sizes} == members(bundle)


def test_more_than_65535_files_are_read_by_us_and_by_others(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    nothing = hashlib.sha256().hexdigest()
    write_archive(path, (Source(f"f{number}", io.BytesIO, 0, 0, nothing) for number in range(66_000)))
    with Archive(path) as ours, zipfile.ZipFile(path) as theirs:
        assert list(ours.sizes) == theirs.namelist()
        assert len(ours.sizes) == 66_000


def test_files_beyond_four_gigabytes_are_read_by_us_and_by_others(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    large = Member("large", LIMIT_32 + 5, 0, 0)
    second = Member("second", 3, 0, large.end)
    directory = central_header(large) + central_header(second)
    with path.open("wb") as file:
        # A file with holes: nothing of the large member is on the disk.
        file.write(local_header(large))
        file.seek(second.offset)
        file.write(local_header(second) + b"abc" + directory)
        file.write(end_records(2, len(directory), second.end))
    with Archive(path) as ours, zipfile.ZipFile(path) as theirs:
        assert ours.sizes == {info.filename: info.file_size for info in theirs.infolist()}
        assert ours.read("second", 10) == b"abc"
        with pytest.raises(NotABundle, match="has more than 10 bytes"):
            ours.read("large", 10)


def test_names_that_look_alike_are_two_files(tmp_path: Path) -> None:
    path = repacked(tmp_path / "b.zip", {"é": b"composed", "e\u0301": b"decomposed", "É": b"upper"})
    with Archive(path) as archive:
        assert len(archive.sizes) == 3


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = repacked(tmp_path / "b.zip", {"é": b""})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(NotABundle, match="no UTF-8"):
        Archive(path)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"x" * 1000, b"{}"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(data)
    assert container_fault(verified(path))


def test_verifying_leaves_nothing_behind(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert verified(bundle).holds
    assert list(scratch.iterdir()) == []
