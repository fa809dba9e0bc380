"""The system and the method that a safety case is about, for dyff-audit's ``ctx.system`` and ``ctx.TitleCard``.

On the platform an analysis is told both, with their documentation, as ``data`` of its specification: under ``system``
the Model, or the InferenceService where there is none, and under ``usecase`` the Method.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dyff_dagster.analysis.own_code import is_named_in
from dyff_dagster.schema.canonical import canonical_json
from dyff_dagster.schema.interchange import InterchangeError, write_entity
from dyff_dagster.schema.platform import (
    DocumentationBase,
    DyffEntity,
    InferenceService,
    Measurement,
    MethodImplementationKind,
    SafetyCase,
)
from dyff_dagster.store import Commit

SUBJECTS = "subjects"
"""Name of their digest among an analysis's inputs."""

_DYFF_AUDIT = b"dyff.audit"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""The platform's types demand a time of creation. One that differs from run to run would change the result."""


@dataclass(frozen=True)
class Subject:
    """An entity with what its author says of it."""

    entity: DyffEntity
    documentation: DocumentationBase | None = None

    def to_json(self) -> dict[str, Any]:
        """``{"spec", "documentation": {"title", "summary", "fullPage"}}``.

        Where nobody documented the entity, it is titled by its name and summed up by its description.
        Labels and annotations are left out: they steer, and do not change what is computed.

        Raises:
            InterchangeError: The platform has no form for the entity.
        """
        plain = self.entity.model_copy(update={"labels": {}, "annotations": []})
        said = self.documentation or DocumentationBase()
        name, description = (getattr(plain, field, None) for field in ("name", "description"))
        texts = {
            "title": said.title or name or plain.id,
            "summary": said.summary or description or "",
            "fullPage": said.fullPage,
        }
        return {
            "spec": write_entity(plain, "0.46", created=_NEVER).data,
            "documentation": {key: text for key, text in texts.items() if text is not None},
        }


Subjects = Mapping[str, Subject]
"""By the key that the platform has for each: ``system``, ``usecase``."""

NOBODY: Subjects = {}


def asks_for_subjects(entity: DyffEntity, modules: Iterable[Commit]) -> bool:
    """Whether an analysis is told its subjects: a safety case by a notebook with ``dyff.audit`` in its modules.

    Another one cannot ask, and so does not depend on what is said of them.
    """
    if not isinstance(entity, SafetyCase):
        return False
    kind = entity.method.implementation.kind
    return kind == MethodImplementationKind.JupyterNotebook and is_named_in(_DYFF_AUDIT, modules)


def subjects_of(
    entity: Measurement | SafetyCase,
    entities: Mapping[str, DyffEntity],
    documentation: Mapping[str, DocumentationBase],
) -> dict[str, Subject]:
    """The subjects of an analysis, as far as they are known.

    Args:
        entity: The analysis.
        entities: Entities by id.
        documentation: What is said of them, by id.
    """
    service = entities.get(entity.scope.inferenceService or "")
    model = entity.scope.model
    if isinstance(service, InferenceService) and service.model is not None:
        model = service.model.id
    found = {"system": entities.get(model or "") or service, "usecase": entities.get(entity.method.id)}
    return {
        key: Subject(named, documentation.get(named.id))
        for key, named in found.items()
        if named is not None and _has_a_form(named)
    }


def subjects_data(subjects: Subjects) -> list[dict[str, str]]:
    """Subjects as items of an analysis's ``data``: JSON in base64."""
    return [
        {"key": key, "value": base64.b64encode(canonical_json(subject.to_json())).decode("ascii")}
        for key, subject in subjects.items()
    ]


def _has_a_form(entity: DyffEntity) -> bool:
    try:
        Subject(entity).to_json()
    except InterchangeError:
        return False
    return True
