"""Records of Zenodo: by DOI, through its REST API, each file by its checksum.

The API: https://developers.zenodo.org/#records
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dyff_dagster.catalog.origins import ZenodoOrigin
from dyff_dagster.schema.canonical import canonical_json, sha256_text
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.web import get_json


@dataclass(frozen=True)
class ZenodoFile:
    """A file of a record: its name, its size in bytes, its checksum as ``(md5, HEX)``, and where it is."""

    name: str
    size: int
    checksum: tuple[str, str]
    url: str


@dataclass(frozen=True)
class Record:
    """A record, which always has the same files: a new version of it is another record."""

    number: str
    doi: str
    title: str
    licence: str
    files: tuple[ZenodoFile, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of names, sizes and checksums of its files."""
        listing = [[file.name, file.size, *file.checksum] for file in self.files]
        return sha256_text(canonical_json(listing).decode())


def base_url() -> str:
    """Where Zenodo is; ``DYFF_ZENODO_URL`` names another one, such as its sandbox."""
    return os.environ.get("DYFF_ZENODO_URL", "https://zenodo.org").rstrip("/")


def headers_for(url: str) -> dict[str, str]:
    """With the token of :func:`headers` where a file lies at Zenodo itself: nobody else is to have it."""
    asked, own = urllib.parse.urlsplit(url), urllib.parse.urlsplit(base_url())
    return headers() if (asked.scheme, asked.netloc) == (own.scheme, own.netloc) else {}


def headers() -> dict[str, str]:
    """With the token in ``ZENODO_TOKEN``, for records that are restricted."""
    token = os.environ.get("ZENODO_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def record_of(owner: str, wanted: ZenodoOrigin) -> Record:
    """Look a record up. A DOI of all versions stands for the newest.

    Raises:
        SourceError: There is none, it may not be read, it has no such files, or Zenodo cannot be reached.
    """
    what = f"record {wanted.record} of Zenodo"
    if wanted.host not in (None, "zenodo.org", "www.zenodo.org", urllib.parse.urlsplit(base_url()).netloc):
        raise SourceError(
            f"{owner}: its source is at {wanted.host}, and records are asked of {base_url()}, where the same number is "
            "another record: correct the source, or set DYFF_ZENODO_URL"
        )
    if wanted.record.isdigit():
        found = get_json(owner, f"{base_url()}/api/records/{wanted.record}", what, headers())
    else:
        query = urllib.parse.urlencode({"q": f'doi:"{wanted.record}"', "all_versions": "true"})
        hits = get_json(owner, f"{base_url()}/api/records?{query}", what, headers())
        listed = hits.get("hits", {}).get("hits", []) if isinstance(hits, dict) else []
        if len(listed) != 1:
            raise SourceError(
                f"{owner}: Zenodo has {len(listed)} records of the DOI {wanted.record}: correct it"
            )
        found = listed[0]
    try:
        record = _record(found)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SourceError(
            f"{owner}: what {base_url()} answers for {what} is no record: correct DYFF_ZENODO_URL, or run it "
            "again later"
        ) from None
    files = [
        file for file in record.files if wanted.pattern is None or fnmatchcase(file.name, wanted.pattern)
    ]
    if not files:
        names = ", ".join(file.name for file in record.files[:10]) or "none that may be read"
        raise SourceError(f"{owner}: {what} has no file {wanted.pattern or ''}: its files are {names}")
    return Record(record.number, record.doi, record.title, record.licence, tuple(files))


def _record(found: Any) -> Record:
    metadata = found.get("metadata") or {}
    licence = metadata.get("license") or {}
    return Record(
        number=str(found["id"]),
        doi=str(found.get("doi") or metadata.get("doi") or ""),
        title=str(found.get("title") or metadata.get("title") or ""),
        licence=str((licence.get("id") if isinstance(licence, dict) else licence) or ""),
        files=tuple(sorted(_files(found["files"]), key=lambda file: file.name)),
    )


def _files(listed: Sequence[Any]) -> list[ZenodoFile]:
    files = []
    for entry in listed:
        kind, _, value = entry["checksum"].partition(":")
        links = entry["links"]
        url = links.get("content") or links["self"]
        files.append(
            ZenodoFile(str(entry["key"]), int(entry["size"]), (kind.lower(), value.lower()), str(url))
        )
    return files
