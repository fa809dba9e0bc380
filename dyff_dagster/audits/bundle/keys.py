"""Ed25519 keys in files, and signatures made with them.

Sources: RFC 8032 (Ed25519), RFC 8410 (its keys in PKCS #8 and SubjectPublicKeyInfo), RFC 7468 (PEM). A key is of no
use where it came with what it is to prove: whoever verifies names the key that he trusts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyff_dagster.audits.bundle.errors import KeyFileError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_LARGEST = 1 << 16
"""Bytes of a key's file; a larger one is something else."""


def make_keys(
    name: Path, passphrase_env: str | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[Path, Path]:
    """Make a pair of keys, and return the paths of the private and of the public one.

    Args:
        name: ``keys/audits`` makes ``keys/audits.pem`` (mode 0600) and ``keys/audits.pub.pem``.
        passphrase_env: Name of the environment variable with the passphrase that encrypts the private key; None:
            it is not encrypted.
        environment: Where the variable is looked up.

    Raises:
        KeyFileError: The variable is not set, or the package ``cryptography`` is missing.
        FileExistsError: One of them is there already; nothing was written.
    """
    _require()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    passphrase = _passphrase(passphrase_env, environment)
    private, public = Path(f"{name}.pem"), Path(f"{name}.pub.pem")
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise FileExistsError(17, os.strerror(17), str(path))
    key = Ed25519PrivateKey.generate()
    encryption: Any = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    _create(private, pem, 0o600)
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _create(public, pem, 0o644)
    return private, public


def read_private_key(
    path: Path, passphrase_env: str | None = None, environment: Mapping[str, str] = os.environ
) -> Ed25519PrivateKey:
    """A private key to sign with.

    Raises:
        KeyFileError: The file holds none, it is encrypted and the passphrase is missing or wrong, or the package
            ``cryptography`` is missing.
    """
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data = _read(path)
    passphrase = _passphrase(passphrase_env, environment)
    if b"-----BEGIN PUBLIC KEY-----" in data:
        raise KeyFileError(f"{path} is a public key, and signing takes the private one")
    if passphrase is None and b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data:
        raise KeyFileError(
            f"{path} is encrypted: put its passphrase into an environment variable, and name that variable with "
            "--passphrase-env"
        )
    try:
        # A passphrase for a key that is not encrypted is an error of its own (TypeError).
        key = serialization.load_pem_private_key(data, passphrase)
    except TypeError:
        raise KeyFileError(f"{path} is not encrypted; leave out --passphrase-env") from None
    except (ValueError, UnsupportedAlgorithm):
        wrong = "" if passphrase is None else ", or the passphrase is not its own"
        raise KeyFileError(
            f"{path} holds no private key in PEM{wrong}; `dyff-dagster keygen` makes one"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is no Ed25519 key; `dyff-dagster keygen` makes one")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """A public key to verify with.

    Raises:
        KeyFileError: The file holds none, or the package ``cryptography`` is missing.
    """
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    data = _read(path)
    if b"PRIVATE KEY-----" in data:
        raise KeyFileError(
            f"{path} is a private key: give the public one, and keep the private one where it is"
        )
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(
            f"{path} holds no public key in PEM; take the *.pub.pem of whoever signed"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path} is no Ed25519 key; bundles are signed with no other")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the 32 bytes of a public key, in hexadecimal: to be compared by another way than the bundle's."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def is_signature(signature: bytes, data: bytes, key: Ed25519PublicKey) -> bool:
    """Whether ``signature`` was made of ``data`` with the private key that belongs to ``key``."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def open_to_others(path: Path) -> bool:
    """Whether other accounts of this machine may read a file."""
    return bool(path.stat().st_mode & 0o077)


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise KeyFileError(
            "signing and verifying need the package cryptography: pip install 'dyff-dagster[bundle]'"
        ) from None


def _passphrase(name: str | None, environment: Mapping[str, str]) -> bytes | None:
    if name is None:
        return None
    value = environment.get(name, "")
    if not value:
        raise KeyFileError(
            f"the environment variable {name} is not set or empty; it is to hold the passphrase"
        )
    return value.encode("utf-8", "surrogateescape")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise KeyFileError(f"{path} is too large for a key; name a PEM file")
    return data


def _create(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
