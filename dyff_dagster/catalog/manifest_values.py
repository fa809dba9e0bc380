"""Values that recur in manifests, as JSON Schema: ids, references, Arrow types, schemas of rows."""

from __future__ import annotations

from typing import Any

from dyff_dagster.schema.named import NAMED_SCHEMAS

JsonSchema = dict[str, Any]

_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"

_UNITS = ("s", "ms", "us", "ns")
_COMMON = ("string", "bool", "int64", "int32", "float64", "float32", "binary", "date32", "timestamp[us, tz=UTC]",
           "list<string>")  # fmt: skip
_NAMES = (
    *("null", "bool", "boolean", "binary", "string", "str", "utf8", "float", "double", "halffloat"),
    *("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"),
    *(f"{sign}int{width}" for sign in ("", "u") for width in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "large_string", "large_str", "large_utf8", "large_binary"),
    *("string_view", "binary_view", "date32", "date64", "month_day_nano_interval"),
)
_SPACE = r"\s*"


def _bracketed(name: str, inside: str) -> str:
    return rf"{name}\s*\[\s*({inside})\s*\]"


_ALTERNATIVES = (
    "|".join(sorted(_NAMES, key=len, reverse=True)),
    _bracketed("date32", "day"),
    _bracketed("date64", "ms"),
    _bracketed("time32", "s|ms"),
    _bracketed("time64", "us|ns"),
    _bracketed("duration", "|".join(_UNITS)),
    _bracketed("timestamp", rf"({'|'.join(_UNITS)})(\s*,\s*tz\s*=\s*[^\s,\[\]]+)?"),
    _bracketed("fixed_size_binary", "[0-9]+"),
    r"decimal(128|256)\s*\(\s*[0-9]+\s*,\s*-?[0-9]+\s*\)",
    r"(list|large_list|map|struct)\s*<[\s\S]*>",
    r"fixed_size_list\s*<[\s\S]*>\s*\[\s*[0-9]+\s*\]",
)
ARROW_TYPE = rf"^\s*({'|'.join(_ALTERNATIVES)})\s*!?\s*$"
"""What every Arrow type in a manifest looks like. What is nested in ``<…>`` is left to the catalog: a regular
expression cannot count brackets."""

_NO_TYPE = "must be an Arrow type, as in string!, int64 or list<float64>"


def value_schemas() -> dict[str, JsonSchema]:
    """The definitions by name: ``Id``, ``Reference``, ``ArrowType``, ``RowSchema``, ``NamedSchemas``."""
    return {
        "Id": {
            "type": "string",
            "description": "1 to 128 letters, digits, dots, hyphens and underscores, a letter or digit first",
            "pattern": rf"^{_ID}$",
            "patternErrorMessage": "must be 1 to 128 letters, digits, dots, hyphens and underscores, "
            "with a letter or digit first",
        },
        "Reference": {
            "type": "string",
            "description": "The id of an entity of this catalog, or FAMILY@MEMBER",
            "pattern": rf"^{_ID}(@{_TAG})?$",
            "patternErrorMessage": "must be the id of an entity, or FAMILY@MEMBER",
        },
        "ArrowType": {
            "description": "An Arrow type; a ! behind it: never null",
            "anyOf": [
                {"enum": [name + mark for name in _COMMON for mark in ("!", "")], "errorMessage": _NO_TYPE},
                {"type": "string", "pattern": ARROW_TYPE, "patternErrorMessage": _NO_TYPE},
            ],
        },
        "NamedSchemas": {
            "type": "object",
            "description": "A schema composed of named ones, such as text.Text",
            "properties": {
                "components": {
                    "type": "array",
                    "description": "Names of data schemas; the schema has the fields of them all",
                    "items": {"enum": sorted(NAMED_SCHEMAS)},
                    "minItems": 1,
                },
                "schemaVersion": {"const": "0.1", "description": "The dyff schema version"},
            },
            "required": ["components"],
            "additionalProperties": False,
        },
        "RowSchema": _row_schema(),
    }


def _row_schema() -> JsonSchema:
    """A schema of rows in the short form (``arrow`` or ``dyffSchema``) or in the wire form (``arrowSchema``).

    One object with three ways to be right, so that an editor offers all of them from the start.
    """
    wire, arrow, named = "arrowSchema", "arrow", "dyffSchema"
    return {
        "type": "object",
        "properties": {
            arrow: {
                "type": "object",
                "description": "The fields by name, as in {question: string!, count: int64}",
                "additionalProperties": {"$ref": "#/$defs/ArrowType"},
                "minProperties": 1,
            },
            named: {
                "description": "The schema as a composition of named data schemas",
                "anyOf": [
                    {"$ref": "#/$defs/NamedSchemas"},
                    {"$ref": "#/$defs/DyffDataSchema"},
                    {"type": "null"},
                ],
            },
            wire: {
                "type": "string",
                "description": "The Arrow schema in the wire form: base64 of Arrow IPC",
            },
            "jsonSchema": {
                "description": "The schema as JSON Schema, beside arrowSchema",
                "type": ["object", "null"],
            },
        },
        "oneOf": [
            {"required": [wire], "properties": {arrow: False}},
            {"required": [arrow], "properties": {wire: False, named: False, "jsonSchema": False}},
            {
                "required": [named],
                "properties": {
                    wire: False,
                    arrow: False,
                    "jsonSchema": False,
                    named: {"$ref": "#/$defs/NamedSchemas"},
                },
            },
        ],
        "additionalProperties": False,
    }
