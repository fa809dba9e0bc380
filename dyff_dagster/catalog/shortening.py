"""Entities turned into manifests: the short form where it loses nothing, the whole form elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from dyff_dagster.catalog.short_form import part_of
from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.arrow import INDEX_FIELD, encode_schema
from dyff_dagster.schema.arrow_text import format_schema, parse_schema
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.interchange import full_form
from dyff_dagster.schema.newer import held_fields, newer_fields
from dyff_dagster.schema.platform import (
    SYSTEM_ATTRIBUTES,
    DataSchema,
    Dataset,
    DyffDataSchema,
    DyffEntity,
    Evaluation,
    Family,
    InferenceService,
    InferenceSession,
    Measurement,
    Method,
    Revision,
    SafetyCase,
)

_FIRST = ("kind", "id", "account", "name", "labels", "annotations")
_OUTPUTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Measurement": ("measurement", ("name", "description", "level", "schema_")),
    "SafetyCase": ("safetyCase", ("name", "description")),
}

ASSIGNED_METADATA = ("metrics", "revision")
"""Parts of 0.46's ``metadata`` that the platform assigns."""


def manifest_of(entity: DyffEntity, others: Mapping[str, DyffEntity], *, short: bool) -> dict[str, Any]:
    """Return the document that says what ``entity`` is, without what the system assigns.

    Args:
        entity: The entity.
        others: Entities of the same catalog, by id: what ``entity`` embeds of them unchanged is named by its
            id.
        short: Use the short form where it loses nothing; else write everything out.
    """
    data = _compact(entity) if short else full_form(entity)
    for name in SYSTEM_ATTRIBUTES | {"schemaVersion"}:
        # A Revision's time is what it is about.
        if not (isinstance(entity, Revision) and name == "creationTime"):
            data.pop(name, None)
    for name, field in newer_fields(type(entity)).items():
        if field.assigned:
            data.pop(name, None)
    metadata = {k: v for k, v in data.pop("metadata", {}).items() if k not in ASSIGNED_METADATA}
    if metadata:
        data["metadata"] = metadata
    if isinstance(entity, Family):
        for member in data.get("members", {}).values():
            member.pop("creationTime", None)
    keys = [annotation.key for annotation in entity.annotations]
    if keys and len(set(keys)) == len(keys):
        data["annotations"] = {annotation.key: annotation.value for annotation in entity.annotations}
    if short:
        _shorten(entity, data, others)
    order = [*(name for name in _FIRST if name in data), *(name for name in data if name not in _FIRST)]
    return {name: data[name] for name in order if data[name] not in ({}, []) or not short}


def _compact(value: Any) -> Any:
    """The wire form without fields that say what they say by default."""
    if isinstance(value, BaseModel):
        made: dict[str, Any] = {}
        for name, field in type(value).model_fields.items():
            item = getattr(value, name)
            stated = field.is_required() or item != field.get_default(call_default_factory=True)
            if item is not None and (stated or (name == "kind" and isinstance(value, DyffEntity))):
                made[field.alias or name] = _compact(item)
        return {**made, **held_fields(value)}
    if isinstance(value, dict):
        return {str(key): _compact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_compact(item) for item in value]
    return full_form(value)


def _shorten(entity: DyffEntity, data: dict[str, Any], others: Mapping[str, DyffEntity]) -> None:
    if isinstance(entity, InferenceService):
        _name_instead(data, "model", entity.model, others)
        output = entity.interface.outputSchema
        _short_schema(data["interface"], "outputSchema", output, DataSchema.make_output_schema)
    elif isinstance(entity, InferenceSession):
        _name_instead(data, "inferenceService", entity.inferenceService, others)
    elif isinstance(entity, Evaluation):
        session = entity.inferenceSession
        _name_instead(data["inferenceSession"], "inferenceService", session.inferenceService, others)
    elif isinstance(entity, Dataset):
        said = any(annotation.key == f"{PREFIX}withhold" for annotation in entity.annotations)
        # In the short form an author must say what is withheld, which is not for us to make up.
        if said or _fields(entity.schema_) <= 1:
            _short_schema(data, "schema", entity.schema_, DataSchema.make_input_schema)
    elif isinstance(entity, Method) and entity.output.measurement is not None:
        measurement = data["output"]["measurement"]
        _short_schema(measurement, "schema", entity.output.measurement.schema_, _as_it_stands)
    elif isinstance(entity, Measurement | SafetyCase):
        _shorten_analysis(entity, data, others)


def _shorten_analysis(
    entity: Measurement | SafetyCase, data: dict[str, Any], others: Mapping[str, DyffEntity]
) -> None:
    if not _name_instead(data, "method", entity.method, others):
        if isinstance(entity, Measurement):
            _short_schema(data, "schema", entity.schema_, _as_it_stands)
        return
    output, names = _OUTPUTS[entity.kind]
    made = getattr(entity.method.output, output)
    for name in names:
        wire = type(entity).model_fields[name].alias or name
        if made is not None and getattr(made, name) == getattr(entity, name):
            data.pop(wire, None)
    if isinstance(entity, Measurement) and "schema" in data:
        _short_schema(data, "schema", entity.schema_, _as_it_stands)


def _name_instead(
    parent: dict[str, Any], field: str, embedded: Any, others: Mapping[str, DyffEntity]
) -> bool:
    """Put the id in the place of an embedded entity that is what the catalog has under that id."""
    original = None if embedded is None else others.get(embedded.id)
    if original is None or not all(
        name in type(original).model_fields for name in type(embedded).model_fields
    ):
        return False
    if full_form(part_of(original, type(embedded))) != full_form(embedded):
        return False
    parent[field] = embedded.id
    return True


def _fields(schema: DataSchema) -> int:
    try:
        return len([name for name in schema.decode().names if name != INDEX_FIELD.name])
    except DyffError:
        return 0


def _short_schema(
    parent: dict[str, Any], field: str, schema: DataSchema, make: Callable[[Any], DataSchema]
) -> None:
    """Write a schema as people do, where reading it makes exactly the same one."""
    candidates: list[dict[str, Any]] = []
    try:
        if schema.dyffSchema is not None and make(schema.dyffSchema) == schema:
            candidates.append({"dyffSchema": {"components": schema.dyffSchema.components}})
        texts = format_schema(_written(schema.decode(), make))
        if texts and make(parse_schema(texts)) == schema:
            candidates.append({"arrow": texts})
    except (DyffError, pa.ArrowException):
        pass
    if candidates:
        parent[field] = candidates[0]


def _written(schema: pa.Schema, make: Callable[[Any], DataSchema]) -> pa.Schema:
    """The fields that a person would write: without the keys that ``make`` adds."""
    if make is DataSchema.make_input_schema:
        return pa.schema([item for item in schema if item.name != INDEX_FIELD.name])
    if make is DataSchema.make_output_schema:
        responses = schema.field("responses").type if "responses" in schema.names else None
        if (
            responses is None
            or not pa.types.is_list(responses)
            or not pa.types.is_struct(responses.value_type)
        ):
            return pa.schema([])
        inner = responses.value_type
        fields = [inner.field(position) for position in range(inner.num_fields)]
        return pa.schema([item for item in fields if item.name != "_response_index_"])
    return schema


def _as_it_stands(source: pa.Schema | DyffDataSchema) -> DataSchema:
    if isinstance(source, DyffDataSchema):
        raise DyffError("a schema to which nothing is added is written field by field")
    return DataSchema(arrowSchema=encode_schema(source))
