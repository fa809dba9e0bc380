"""The annotation ``dyff-dagster/ingest`` of a Dataset that is made from a DataSource: which archives, which steps.

::

    {"archives": [{"name": "*.zip", "format": "zip"}],
     "steps": [{"action": "load", "name": "images/{label}/*.png"},
               {"action": "join", "name": "labels.csv", "type": "path=file"}],
     "maxBytes": 200000000000}

Archives are ``ArchiveFormat``, steps are ``ExtractorStep`` as the platform has them; ``maxBytes`` is ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dyff_dagster.catalog.problems import suggestion
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import ArchiveFormat, ExtractorStep

__all__ = ["ARCHIVES", "KINDS", "Ingest", "IngestFault", "kind_of", "parse_ingest"]

KINDS = {
    "csv": (".csv",),
    "image": (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
    "json": (".json",),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet",),
    "text": (".txt", ".md"),
}
"""What files are read as, each with the suffixes that say so by themselves."""

ARCHIVES = {
    "zip": "zip",
    "tar": "tar",
    "tar.gz": "tar.gz",
    "tgz": "tar.gz",
    "tar.bz2": "tar.bz2",
    "tar.xz": "tar.xz",
    "tar.zst": "tar.zst",
    "tar.zstd": "tar.zst",
    "gz": "gz",
    "gzip": "gz",
    "bz2": "bz2",
    "xz": "xz",
    "zst": "zst",
    "zstd": "zst",
}
"""Formats of archives as they may be written, and what each is. Those without ``tar`` and ``zip`` hold one file."""

_ACTIONS = ("load", "rename", "join", "explode")
_KEYS = ("archives", "steps", "maxBytes")


class IngestFault(DyffError):
    """The annotation is wrong; the text says how, as the rest of a sentence about it."""


@dataclass(frozen=True)
class Ingest:
    """How raw files become rows.

    Attributes:
        archives: Which files are archives, by a pattern of their paths, and of which format.
        steps: What is done, in order; none: all files are loaded.
        max_bytes: How large what is in the archives may be; None: the limit that holds for all.
    """

    archives: tuple[ArchiveFormat, ...] = ()
    steps: tuple[ExtractorStep, ...] = ()
    max_bytes: int | None = None


def kind_of(name: str) -> str | None:
    """What a file is read as, by its suffix; None: nothing."""
    lower = name.lower()
    return next((kind for kind, suffixes in KINDS.items() if lower.endswith(suffixes)), None)


def parse_ingest(text: str | None) -> Ingest:
    """Read the annotation; without it nothing is an archive, and all files are loaded.

    Raises:
        IngestFault: It is no JSON object of archives and steps, or one of them is unknown or says too little.
    """
    if text is None:
        return Ingest()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise IngestFault("must be a JSON object with the archives and steps, as in '{\"steps\": []}'")
    for name in found:
        if name not in _KEYS:
            raise IngestFault(f"has a field '{name}', which there is not; {suggestion(name, _KEYS)}")
    most = found.get("maxBytes")
    if most is not None and (type(most) is not int or most < 1):
        raise IngestFault("has a maxBytes that is no whole number of bytes, 1 or more")
    ingest = Ingest(
        tuple(_read(found, "archives", ArchiveFormat)), tuple(_read(found, "steps", ExtractorStep)), most
    )
    for number, archive in enumerate(ingest.archives, 1):
        if archive.format.lower() not in ARCHIVES:
            raise IngestFault(
                f"names the format '{archive.format}' for archive {number}, which is not known; "
                f"{suggestion(archive.format, ARCHIVES)}"
            )
    for number, step in enumerate(ingest.steps, 1):
        if (wrong := _wrong_step(step)) is not None:
            raise IngestFault(f"has a step {number} that {wrong}")
    if ingest.steps and ingest.steps[0].action != "load":
        raise IngestFault(f"begins with {ingest.steps[0].action}; the first step must be load")
    return ingest


def _read(found: dict[str, Any], name: str, kind: type[Any]) -> list[Any]:
    listed = found.get(name, [])
    if not isinstance(listed, list):
        raise IngestFault(f"has {name} that are no list")
    made = []
    for number, item in enumerate(listed, 1):
        try:
            made.append(kind.model_validate(item))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "it"
            raise IngestFault(f"has {name}[{number - 1}] where {where}: {first['msg'].lower()}") from None
    return made


def _wrong_step(step: ExtractorStep) -> str | None:
    if step.action not in _ACTIONS:
        return f"does '{step.action}', which there is not; {suggestion(step.action, _ACTIONS)}"
    if step.action == "load":
        if step.type is not None and step.type not in KINDS:
            return f"loads files as '{step.type}', which there is not; {suggestion(step.type, KINDS)}"
        return None
    if not step.name:
        return "is without a name"
    if step.action == "rename" and not step.type:
        return "is a rename without a type: name is the old name of the field, type the new one"
    if step.action == "join" and not step.type:
        return "is a join without a type: name is the file, type the field by which rows belong together"
    return None
