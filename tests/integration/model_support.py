"""Models for tests: entities, and tiny safetensors files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from dyff_dagster.schema.platform import Model
from dyff_dagster.sources import fetch, fingerprint
from dyff_dagster.store import Commit, Inputs, Progress, Store, no_progress


def hub_model(
    name: str = "tiny",
    *,
    repository: str = "acme/tiny",
    revision: str = "main",
    annotations: Any = (),
    **source: Any,
) -> Model:
    return model(
        name,
        {
            "kind": "HuggingFaceHub",
            "huggingFaceHub": {"repoID": repository, "revision": revision, **source},
        },
        repository=repository,
        annotations=annotations,
    )


def model(
    name: str, source: dict[str, Any], *, repository: str = "acme/tiny", annotations: Any = ()
) -> Model:
    return Model.model_validate(
        {
            "id": name,
            "account": "acme",
            "name": name,
            "source": source,
            "artifact": {
                "kind": "HuggingFaceCache",
                "huggingFaceCache": {"repoID": repository, "revision": "v1"},
            },
            "storage": {"medium": "ObjectStorage"},
            "resources": {"storage": "1Gi"},
            "annotations": [
                {"key": f"dyff-dagster/{key}", "value": value} for key, value in dict(annotations).items()
            ],
        }
    )


def bring(entity: Model, store: Store, progress: Progress = no_progress) -> Commit:
    """What a step does: note what the source stands for, then fetch that."""
    files = Path()
    inputs = Inputs(spec="s", extras=fingerprint(entity, files))
    return fetch(entity, store, inputs=inputs, files=files, progress=progress)


def safetensors(*tensors: tuple[str, str, tuple[int, ...]]) -> bytes:
    """A file in the format of safetensors: tensors of zeros, each given by name, type and shape."""
    widths = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, kind, shape in tensors:
        size = widths[kind]
        for side in shape:
            size *= side
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(place)
