"""Keys: made, read, and refused where they are something else."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from dyff_dagster.audits.bundle import (
    KeyFileError,
    fingerprint,
    make_keys,
    open_to_others,
    read_private_key,
    read_public_key,
)
from dyff_dagster.audits.bundle.keys import is_signature


def pem(key: ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey) -> tuple[bytes, bytes]:
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


def test_a_pair_belongs_together_and_the_private_one_is_for_its_owner_only(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "audits.v1")
    assert (private.name, public.name) == ("audits.v1.pem", "audits.v1.pub.pem")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert not open_to_others(private)
    key = read_private_key(private)
    assert fingerprint(key.public_key()) == fingerprint(read_public_key(public))
    assert is_signature(key.sign(b"x"), b"x", read_public_key(public))
    assert not is_signature(key.sign(b"x"), b"y", read_public_key(public))


def test_two_pairs_differ(tmp_path: Path) -> None:
    _, one = make_keys(tmp_path / "one")
    _, other = make_keys(tmp_path / "other")
    assert fingerprint(read_public_key(one)) != fingerprint(read_public_key(other))


def test_keys_that_are_there_are_never_replaced(tmp_path: Path) -> None:
    _, public = make_keys(tmp_path / "k")
    before = public.read_bytes()
    with pytest.raises(FileExistsError):
        make_keys(tmp_path / "k")
    (tmp_path / "k.pem").unlink()
    with pytest.raises(FileExistsError):
        make_keys(tmp_path / "k")
    assert public.read_bytes() == before
    assert not (tmp_path / "k.pem").exists()


def test_a_passphrase_comes_from_the_environment_and_stays_there(tmp_path: Path) -> None:
    environment = {"PHRASE": "correct horse"}
    private, _ = make_keys(tmp_path / "k", "PHRASE", environment)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in private.read_bytes()
    read_private_key(private, "PHRASE", environment)
    with pytest.raises(KeyFileError, match="is encrypted: put its passphrase into an environment variable"):
        read_private_key(private)
    with pytest.raises(KeyFileError, match="or the passphrase is not its own") as caught:
        read_private_key(private, "PHRASE", {"PHRASE": "battery staple"})
    assert "battery" not in str(caught.value)


@pytest.mark.parametrize("environment", [{}, {"PHRASE": ""}])
def test_a_passphrase_that_is_not_there_is_missed_before_a_key_is_made(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with pytest.raises(KeyFileError, match="the environment variable PHRASE is not set or empty"):
        make_keys(tmp_path / "k", "PHRASE", environment)
    assert list(tmp_path.iterdir()) == []


def test_a_passphrase_for_a_key_without_one_is_refused(tmp_path: Path) -> None:
    private, _ = make_keys(tmp_path / "k")
    with pytest.raises(KeyFileError, match="is not encrypted; leave out --passphrase-env"):
        read_private_key(private, "PHRASE", {"PHRASE": "x"})


def test_the_one_of_a_pair_is_not_the_other(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "k")
    with pytest.raises(KeyFileError, match="is a private key: give the public one"):
        read_public_key(private)
    with pytest.raises(KeyFileError, match="is a public key, and signing takes the private one"):
        read_private_key(public)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), x25519.X25519PrivateKey.generate()])
def test_keys_of_another_kind_are_refused(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey
) -> None:
    private, public = tmp_path / "a", tmp_path / "b"
    for path, data in zip((private, public), pem(key), strict=True):
        path.write_bytes(data)
    with pytest.raises(KeyFileError, match="is no Ed25519 key"):
        read_private_key(private)
    with pytest.raises(KeyFileError, match="is no Ed25519 key"):
        read_public_key(public)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----", b"x" * 1_000_000]
)
def test_what_is_no_key_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    with pytest.raises(KeyFileError):
        read_public_key(path)
    with pytest.raises(KeyFileError):
        read_private_key(path)


def test_a_key_that_others_may_read_is_noticed(tmp_path: Path) -> None:
    private, _ = make_keys(tmp_path / "k")
    private.chmod(0o640)
    assert open_to_others(private)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for attempt in (make_keys, read_private_key, read_public_key):
        with pytest.raises(KeyFileError, match=r"pip install 'dyff-dagster\[bundle\]'"):
            attempt(tmp_path / "k")  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []
