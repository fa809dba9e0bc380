"""The signed bundle: one file with a result and everything that it rests on, which others can check.

:func:`write_bundle` writes one, :func:`verify_bundle` checks one on a machine that has nothing else, against a key
that its caller trusts.
"""

from __future__ import annotations

from dyff_dagster.audits.bundle.errors import BundleError, KeyFileError, NotABundle
from dyff_dagster.audits.bundle.findings import Check, CheckedScore, Verification
from dyff_dagster.audits.bundle.keys import (
    fingerprint,
    make_keys,
    open_to_others,
    read_private_key,
    read_public_key,
)
from dyff_dagster.audits.bundle.verifying import verify_bundle
from dyff_dagster.audits.bundle.writing import WrittenBundle, write_bundle

__all__ = [
    "BundleError",
    "Check",
    "CheckedScore",
    "KeyFileError",
    "NotABundle",
    "Verification",
    "WrittenBundle",
    "fingerprint",
    "make_keys",
    "open_to_others",
    "read_private_key",
    "read_public_key",
    "verify_bundle",
    "write_bundle",
]
