"""A bundle checked on a machine that has nothing else: no catalog, no storage, no network."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from dyff_dagster.audits.bundle.archive import Archive
from dyff_dagster.audits.bundle.errors import NotABundle
from dyff_dagster.audits.bundle.findings import Check, CheckedScore, State, Verification
from dyff_dagster.audits.bundle.keys import fingerprint, is_signature
from dyff_dagster.audits.bundle.manifest import LARGEST_JSON, MANIFEST, SIGNATURE, Manifest
from dyff_dagster.audits.bundle.provenance import Chain, read_chain
from dyff_dagster.audits.bundle.recomputing import CheckedRows, check_rows, check_scores
from dyff_dagster.audits.bundle.trusted import TrustedFiles, file_faults

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_LATER = {
    "provenance": "what each version was made from",
    "rows": "rows against their versions",
    "scores": "scores made again",
}


def verify_bundle(
    path: Path, key: Ed25519PublicKey, *, execute: bool = False, timeout: float | None = None
) -> Verification:
    """Check a bundle: container, signature, files, provenance, rows, scores.

    Content is read only where the signature and every digest hold: until then it is a stranger's. Nothing is
    written but below a temporary directory, which is removed.

    Args:
        path: The file.
        key: The public key that the caller trusts; one in the bundle would prove nothing.
        execute: Run the bundle's code as well, if all else holds.
        timeout: Seconds that each analysis may take; None: any.

    Raises:
        OSError: There is no such file, or it cannot be read.
    """
    trusted = fingerprint(key)
    try:
        with Archive(path) as archive, tempfile.TemporaryDirectory(prefix="dyff-verify-") as scratch:
            return _verify(archive, key, trusted, Path(scratch).resolve(), execute, timeout)
    except NotABundle as error:
        check = Check("container", "fails", "the zip file is as dyff-dagster writes it", (str(error),))
        skipped = [
            Check(name, "skipped", summary)
            for name, summary in {"signature": "by the key given", "files": "digests", **_LATER}.items()
        ]
        return Verification(str(path), "", trusted, (check, *skipped))


def _verify(
    archive: Archive,
    key: Ed25519PublicKey,
    trusted: str,
    scratch: Path,
    execute: bool,
    timeout: float | None,
) -> Verification:
    sizes = archive.sizes
    if MANIFEST not in sizes:
        raise NotABundle(f"{archive.path}: there is no {MANIFEST} in it: this is a zip file, and no bundle")
    data = archive.read(MANIFEST, LARGEST_JSON)
    signature = archive.read(SIGNATURE, 64) if sizes.get(SIGNATURE) == 64 else b""
    checks = [Check("container", "holds", f"{len(sizes)} files, none compressed, linked, doubled or hidden")]
    checks.append(_signature(is_signature(signature, data, key), SIGNATURE in sizes))
    try:
        manifest = Manifest.from_bytes(data)
    except NotABundle as error:
        checks.append(Check("files", "fails", "files against the manifest", (str(error),)))
        return _unread(archive, "", trusted, checks)
    faults = file_faults(archive, manifest)
    checks.append(
        _check("files", f"{len(manifest.files)} files against the manifest, and nothing beside them", faults)
    )
    if any(check.state != "holds" for check in checks):
        return _unread(archive, manifest.subject, trusted, checks)

    files = TrustedFiles(archive, manifest, scratch / "files")
    chain = read_chain(files)
    summary = f"{len(chain.entities)} entities, {len(chain.commits)} of them committed"
    checks.append(_check("provenance", summary, chain.faults))
    if chain.faults:
        return _unread(archive, manifest.subject, trusted, checks)
    rows = check_rows(files, chain)
    summary = f"{len(rows.data)} tables against their versions"
    checks.append(_check("rows", summary, rows.faults, rows.notes))
    scores, faults = check_scores(files, chain, rows)
    checks.append(_scores(scores, faults))
    if execute:
        checks.append(_code(checks, files, chain, rows, scratch, timeout))
    return Verification(
        path=str(archive.path),
        subject=manifest.subject,
        key=trusted,
        checks=tuple(checks),
        scores=tuple(scores),
        left_out={name: item.why for name, item in manifest.left_out.items()},
    )


def _unread(archive: Archive, subject: str, trusted: str, checks: list[Check]) -> Verification:
    """What is found where the rest is not worth reading."""
    done = {check.name for check in checks}
    rest = [Check(name, "skipped", summary) for name, summary in _LATER.items() if name not in done]
    return Verification(str(archive.path), subject, trusted, (*checks, *rest))


def _signature(holds: bool, there: bool) -> Check:
    summary = f"{MANIFEST} was signed with the key given"
    if holds:
        return Check("signature", "holds", summary)
    if not there:
        fault = f"there is no {SIGNATURE}: the bundle is not signed, and anybody can have made it"
    else:
        fault = (
            f"{SIGNATURE} was not made of this {MANIFEST} with this key: the manifest or the signature was changed or "
            "exchanged, or somebody else signed it"
        )
    return Check("signature", "fails", summary, (fault,))


def _check(name: str, summary: str, faults: list[str], notes: list[str] | None = None) -> Check:
    state: State = "fails" if faults else "holds"
    return Check(name, state, summary, tuple(faults), tuple(notes or ()))


def _scores(scores: list[CheckedScore], faults: list[str]) -> Check:
    counted = Counter(score.verdict for score in scores)
    differing = [
        f"{score.entity}: {score.name}: {score.why}" for score in scores if score.verdict == "differs"
    ]
    summary = f"{counted['recomputed']} of {len(scores)} made again, {counted['asserted']} asserted"
    return _check("scores", summary, faults + differing)


def _code(
    checks: list[Check],
    files: TrustedFiles,
    chain: Chain,
    rows: CheckedRows,
    scratch: Path,
    timeout: float | None,
) -> Check:
    if any(check.state != "holds" for check in checks):
        return Check("code", "skipped", "not run: something else does not hold")
    from dyff_dagster.audits.bundle.executing import execute

    return execute(files, chain, rows, scratch, timeout)
