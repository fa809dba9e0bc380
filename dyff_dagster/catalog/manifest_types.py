"""The platform types as JSON Schema: what pydantic says of them, put in order for people and editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from dyff_dagster.schema import platform
from dyff_dagster.schema.newer import NewerField, newer_fields
from dyff_dagster.schema.platform import Documentation, DyffSchemaBaseModel, Entities, entity_class
from dyff_dagster.schema.scores import ScoreSpec

JsonSchema = dict[str, Any]

_NO_ENTITIES = (Entities.Account, Entities.Analysis, Entities.Documentation)

_DESCRIPTIONS = {
    ("AuditProcedure", "name"): "The name of the AuditProcedure",
    ("AuditProcedure", "requirements"): "What must have been measured",
    ("AuditRequirement", "dataset"): "ID of the Dataset that scores must be there of",
    ("AuditRequirement", "rubric"): "The rubric that the scores must be by",
    ("DataSource", "name"): "The name of the DataSource",
    ("DataSource", "sourceKind"): "Where the data come from",
    ("DataSource", "source"): "Where they are, in the notation of the kind; for upload a path",
    ("InferenceServiceBuilder", "kind"): "The kind of builder",
    ("InferenceServiceBuilder", "args"): "Command line of the builder",
    ("InferenceServiceRunner", "kind"): "The kind of runner; standalone is a command line",
    ("ModelSourceHuggingFaceHub", "repoID"): "The repository, as ORG/NAME",
    ("ModelSourceHuggingFaceHub", "revision"): "The revision, best a commit",
    ("ModelSourceHuggingFaceHub", "allowPatterns"): "Only files that match one of these are taken",
    ("ModelSourceHuggingFaceHub", "ignorePatterns"): "Files that match one of these are left out",
}
"""Of fields that the page has no description of."""

_FORMS = {dict: "object", list: "array", str: "string", int: "integer"}

# pydantic takes whole numbers and truth values as text too, and so does the catalog.
_INTEGER_TEXT = r"^\s*[-+]?[0-9][0-9_]*(\.0*)?\s*$"
_TRUTH_TEXT = "^(" + "|".join(
    "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in word)
    for word in ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0")
) + ")$"  # fmt: skip


def platform_schemas() -> dict[str, JsonSchema]:
    """The wire form of every kind of entity, of Documentation, and of all that they are made of, by name."""
    models: list[type[DyffSchemaBaseModel]] = [
        entity_class(kind) for kind in Entities if kind not in _NO_ENTITIES
    ]
    models += [Documentation, ScoreSpec]
    _, document = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}"
    )
    definitions: dict[str, JsonSchema] = {
        name: _tidied(definition) for name, definition in document["$defs"].items()
    }
    for (name, field), description in _DESCRIPTIONS.items():
        definitions[name]["properties"][field].setdefault("description", description)
    for name, definition in definitions.items():
        model = getattr(platform, name, None)
        if isinstance(model, type) and issubclass(model, DyffSchemaBaseModel):
            for field, newer in newer_fields(model).items():
                definition["properties"].setdefault(field, _newer(newer))
    for name in ("Method", "ForeignMethod"):
        definitions[name]["properties"]["scores"] = {
            "description": "The scores that the method yields: their titles, units, formats and ranges",
            "type": ["array", "null"],
            "items": {"$ref": "#/$defs/ScoreSpec"},
        }
    for name in map(str, Entities):
        if name in definitions and name != "Documentation":
            # An entity within a Revision is told from others by its kind.
            definitions[name]["required"] = ["kind", *definitions[name].get("required", [])]
    return definitions


def _newer(field: NewerField) -> JsonSchema:
    return {
        "description": "A field of dyff-schema 0.46, kept for it",
        "type": [_FORMS[field.form], "null"],
        "doNotSuggest": True,
    }


def _tidied(value: Any) -> Any:
    """A definition without what pydantic adds for programs, and with descriptions on one line."""
    if isinstance(value, list):
        return [_tidied(item) for item in value]
    if not isinstance(value, dict):
        return value
    found: JsonSchema = {}
    for key, item in value.items():
        if key in ("properties", "patternProperties"):
            found[key] = {name: _tidied(schema) for name, schema in item.items()}
        elif key == "description":
            found[key] = _one_line(item)
        elif key in ("title", "discriminator") or (key == "default" and item is None):
            continue
        else:
            found[key] = _tidied(item)
    if found.get("type") == "integer":
        found |= {"type": ["integer", "string"], "pattern": _INTEGER_TEXT}
        found["patternErrorMessage"] = "must be a whole number"
    elif found.get("type") == "boolean":
        found |= {"type": ["boolean", "string"], "pattern": _TRUTH_TEXT}
        found["patternErrorMessage"] = "must be true or false"
    if "patternProperties" in found:
        found["additionalProperties"] = False
    return found


def _one_line(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split()).replace("``", "`")
