"""What a DataSource's ``source`` says: a path, a URL, files of a data set on the Hub, files of a record of Zenodo."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass

from dyff_dagster.schema.errors import DyffError

__all__ = [
    "HubOrigin",
    "OriginFault",
    "WebOrigin",
    "ZenodoOrigin",
    "is_url",
    "not_read",
    "parse_hub",
    "parse_url",
    "parse_zenodo",
]

_HUB = re.compile(
    r"(?:hf://)?(?:datasets/)?"
    r"(?P<name>[\w.-]+(?:/[\w.-]+)?)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/\s]+))?"
    r"(?:/(?P<pattern>.+))?"
)
_HOST = re.compile(r"(?:https?://(?P<host>[^/?#]+)/|doi:)", re.IGNORECASE)
_DOI_HOSTS = ("doi.org", "dx.doi.org", "www.doi.org")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)
_OWN_DOI = re.compile(r"10\.5281/zenodo\.(\d+)", re.IGNORECASE)
_DOI = re.compile(r"10\.\d{4,9}/[^\s\"]+")
_RECORD = re.compile(r"(?:records?/)?(\d+)")
_CHECKSUMS = {"md5": 32, "sha256": 64}
_NAME = re.compile(r"[^\w .()+,=@~-]")


class OriginFault(DyffError):
    """A source is not written as its kind wants it; the text is the rest of a sentence about it."""


@dataclass(frozen=True)
class HubOrigin:
    """Files of a data set on the Hub: ``ORG/NAME``, a revision, and a pattern of paths, or all Parquet."""

    name: str
    revision: str
    pattern: str | None


@dataclass(frozen=True)
class ZenodoOrigin:
    """Files of a record of Zenodo: its number or a DOI that is not Zenodo's own, and a pattern of names.

    ``host`` is who the source says has it, where it is a URL of a record.
    """

    record: str
    pattern: str | None
    host: str | None = None


@dataclass(frozen=True)
class WebOrigin:
    """A URL, without what stands behind its ``#``, and the checksum there: ``("sha256" or "md5", HEX)``."""

    url: str
    checksum: tuple[str, str] | None

    @property
    def name(self) -> str:
        """What its file is called."""
        last = urllib.parse.unquote(urllib.parse.urlsplit(self.url).path).rpartition("/")[2]
        return _NAME.sub("_", last).lstrip(".")[:200] or "data"


def is_url(source: str | None) -> bool:
    """Whether a source is a URL, not a path."""
    return source is not None and re.match(r"https?://", source, re.IGNORECASE) is not None


def not_read(source: str | None) -> str | None:
    """What is wrong with a source that is a URL of a kind that nothing here reads, as the rest of a sentence."""
    if source is None or is_url(source) or (match := _SCHEME.match(source)) is None:
        return None
    if match[1].lower() == "file":
        return "is a URL of the kind file: write the path itself"
    return (
        f"is a URL of the kind {match[1].lower()}, which is not read here: write https://HOST/PATH, or copy it and "
        "write its path"
    )


def parse_hub(source: str) -> HubOrigin:
    """Read ``ORG/NAME``, ``ORG/NAME@REVISION`` or ``ORG/NAME@REVISION/PATTERN``, as paths on the Hub are written.

    Raises:
        OriginFault: It is none of these.
    """
    match = _HUB.fullmatch(source.strip())
    if match is None:
        raise OriginFault(
            "is no data set on the Hub: write ORG/NAME@REVISION, with /PATTERN behind it where only some files are "
            "meant"
        )
    return HubOrigin(match["name"], (match["revision"] or "main").replace("%2F", "/"), match["pattern"])


def parse_zenodo(source: str) -> ZenodoOrigin:
    """Read a DOI, a record's URL or its number, each with ``/files/PATTERN`` behind it where some files are meant.

    Raises:
        OriginFault: It is none of these.
    """
    text = source.strip()
    at = _HOST.match(text)
    host = at["host"].lower() if at is not None and at["host"] else None
    if host is not None:
        text = text.partition("?")[0]  # as in the links of a record's page, which end in ?download=1
    text, mark, pattern = text.partition("/files/")
    text = _HOST.sub("", text, count=1).rstrip("/")
    wanted = urllib.parse.unquote(pattern) if mark else None
    if match := _OWN_DOI.fullmatch(text):
        return ZenodoOrigin(match[1], wanted)
    if host not in _DOI_HOSTS and (match := _RECORD.fullmatch(text)):
        return ZenodoOrigin(match[1], wanted, host)
    if _DOI.fullmatch(text):
        return ZenodoOrigin(text, wanted)
    raise OriginFault(
        "is no record of Zenodo: write a DOI as in 10.5281/zenodo.1234567, with /files/PATTERN behind it where only "
        "some files are meant"
    )


def parse_url(source: str) -> WebOrigin:
    """Read ``URL``, ``URL#sha256=HEX`` or ``URL#md5=HEX``.

    Raises:
        OriginFault: The checksum is none, or the URL holds a password.
    """
    url, _, fragment = source.strip().partition("#")
    try:
        parts = urllib.parse.urlsplit(url)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise OriginFault("is no whole URL: write https://HOST/PATH")
    if "@" in parts.netloc:
        raise OriginFault(
            "holds a user or a password, which belong in no manifest: download it, and name its path"
        )
    if not fragment:
        return WebOrigin(url, None)
    kind, _, value = fragment.partition("=")
    if len(value) != _CHECKSUMS.get(kind) or re.fullmatch(r"[0-9A-Fa-f]+", value) is None:
        raise OriginFault("has behind its # what is no checksum: write #sha256=HEX or #md5=HEX")
    return WebOrigin(url, (kind, value.lower()))
