"""What is worth saying about a model's files: its card and licence, its parameters, and files that can run code."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

__all__ = ["card_facts", "config_facts", "parameter_facts", "pickles"]

PICKLES = frozenset((".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth", ".mar"))
"""Suffixes of files that loaders unpickle, or unpack and unpickle: whoever made one can run code where it is loaded."""

_LONGEST_CARD = 8_000
_LONGEST_HEADER = 100_000_000
"""Bytes: the limit of the format itself, https://huggingface.co/docs/safetensors/index#format."""


def pickles(names: Iterable[str]) -> list[str]:
    """Those names of files that loaders unpickle, sorted."""
    return sorted(name for name in names if PurePosixPath(name).suffix.lower() in PICKLES)


def card_facts(readme: Path) -> dict[str, Any]:
    """The model card and the licence that it names; nothing where there is none."""
    try:
        text = readme.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    head, body = _front_matter(text)
    card = body.strip()
    found: dict[str, Any] = {}
    if licence := head.get("license"):
        found["licence"] = str(licence)
    if card:
        found["card"] = card if len(card) <= _LONGEST_CARD else card[:_LONGEST_CARD] + "…"
    return found


def config_facts(config: Path) -> dict[str, Any]:
    """The architecture that ``config.json`` names; nothing where there is none."""
    try:
        content = json.loads(config.read_bytes())
        names = [str(name) for name in content["architectures"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {"architectures": ", ".join(names)} if names else {}


def parameter_facts(files: Mapping[str, Path]) -> dict[str, Any]:
    """How many parameters of which types the safetensors among some files hold, by their headers.

    Args:
        files: Paths by name; only ``*.safetensors`` are looked at, and of each its header alone.
    """
    counts: dict[str, int] = {}
    unreadable = []
    for name, path in files.items():
        if not name.endswith(".safetensors"):
            continue
        try:
            for tensor in _tensors(path):
                kind = str(tensor["dtype"])
                counts[kind] = counts.get(kind, 0) + math.prod(int(size) for size in tensor["shape"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error):
            unreadable.append(name)
    found: dict[str, Any] = {}
    if counts:
        found["parameters"] = sum(counts.values())
        found["dtypes"] = dict(sorted(counts.items()))
    if unreadable:
        found["unreadableSafetensors"] = unreadable
    return found


def _tensors(path: Path) -> list[dict[str, Any]]:
    """The entries of a safetensors header: eight bytes of its length, little-endian, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_LONGEST_HEADER, path.stat().st_size - 8):
            raise ValueError("longer than the file")
        header = json.loads(file.read(length))
    return [tensor for name, tensor in header.items() if name != "__metadata__"]


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The YAML between ``---`` lines at the beginning of a card, and what follows."""
    if not text.startswith("---"):
        return {}, text
    head, mark, body = text[3:].partition("\n---")
    if not mark:
        return {}, text
    try:
        found = yaml.safe_load(head)
    except (yaml.YAMLError, RecursionError):
        found = None
    return (found if isinstance(found, dict) else {}), body
