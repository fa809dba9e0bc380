"""Labels and annotations in the JSON Schema of manifests: which there are, on which kind, with which values."""

from __future__ import annotations

from typing import Any, NamedTuple

from dyff_dagster.catalog.annotations import LEAST_MEMORY, names_on
from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.priorities import HIGHEST, PRIORITY
from dyff_dagster.schema.resources import LABEL_KEY_PATTERN, QUANTITY_PATTERN

JsonSchema = dict[str, Any]

_TEXT: JsonSchema = {"type": ["string", "number", "boolean"]}
_JSON: JsonSchema = {"type": "string"}
_TRUTH: JsonSchema = {"enum": [True, False, "true", "false"]}
_AMOUNT: JsonSchema = {
    "type": ["number", "string"],
    "minimum": 0,
    "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)$",
}
_MEMORY: JsonSchema = {"type": ["number", "string"], "minimum": LEAST_MEMORY, "pattern": QUANTITY_PATTERN}
_COUNT: JsonSchema = {"type": ["integer", "string"], "minimum": 0, "pattern": r"^[0-9]+$"}
_OWN_KEY = rf"^(?!{PREFIX})(?!([^/]+\.)?dyff\.io/)" + LABEL_KEY_PATTERN.removeprefix("^")
"""A key that is neither this project's nor the platform's."""

_LABEL_VALUE: JsonSchema = {
    "type": ["string", "number", "boolean", "null"],
    "maxLength": 63,
    "pattern": r"^([a-z0-9A-Z]([-_.a-z0-9A-Z]{0,61}[a-z0-9A-Z])?)?$",
}
_PRIORITY: JsonSchema = {
    "description": "How urgent it is, from 0 to 1000: the higher the sooner",
    "type": ["string", "integer"],
    "minimum": 0,
    "maximum": HIGHEST,
    "pattern": r"^(0?[0-9]{1,3}|1000)$",
}


class _Annotation(NamedTuple):
    description: str
    value: JsonSchema


_KNOWN: dict[str, _Annotation] = {
    "automation": _Annotation(
        "When the asset is computed by itself: manual (never, the default), eager, or a cron line",
        {"anyOf": [{"enum": ["manual", "eager"]}, {"type": "string", "pattern": r"^\s*\S+(\s+\S+){4}\s*$"}]},
    ),
    "checks": _Annotation(
        "What must hold of the scores, as in: accuracy >= 0.9; lower(accuracy) >= 0.8", {"type": "string"}
    ),
    "blocking": _Annotation("true: a check that fails blocks what is downstream", _TRUTH),
    "files": _Annotation("Directory of the files, relative to this manifest", _TEXT),
    "allow-pickle": _Annotation(
        "true: files that run code when they are loaded are taken from elsewhere", _TRUTH
    ),
    "withhold": _Annotation(
        "Names of the fields that no service may see, comma separated; '' for none", _TEXT
    ),
    "from": _Annotation("ID of the DataSource or Evaluation that the Dataset is made from", _TEXT),
    "ingest": _Annotation(
        "How to read what `from` names: archives and steps as a JSON object, or an Evaluation's output view",
        _TEXT,
    ),
    "rubric": _Annotation("The rubric that the Method implements, where Audits ask for one", _TEXT),
    "imported": _Annotation(
        "File of answers that were given elsewhere, beside the manifest: no service is asked", _TEXT
    ),
    "max-failed-rows": _Annotation(
        "How many answers may be missing: a count, or a fraction. Default 0", _AMOUNT
    ),
    "accept": _Annotation("Classes of errors that are taken as answers, comma separated", _TEXT),
    "reuse": _Annotation("true: answers of other Evaluations to the same requests are taken over", _TRUTH),
    "max-requests": _Annotation("After how many requests to stop", _COUNT),
    "max-cost": _Annotation("After which cost to stop", _AMOUNT),
    "max-seconds": _Annotation(
        "After how many seconds to stop. Of analyses a day, where nothing is said", _AMOUNT
    ),
    "max-memory": _Annotation(
        "How much memory an analysis may hold, as in 2Gi; on a Method: each of its analyses", _MEMORY
    ),
    "headers": _Annotation(
        "Headers of every request: a JSON object of texts, in which ${NAME} is taken from the environment",
        _JSON,
    ),
    "prices": _Annotation("What answers cost, as a JSON object", _JSON),
    "answer-rules": _Annotation("How replies are told apart, as JSON", _JSON),
    "isolation": _Annotation("Where the method runs", {"enum": ["process", "pod"]}),
}
_RECORDED = _Annotation("What the store recorded of the Revision", _TEXT)


def labels_schema() -> JsonSchema:
    """Labels, as a mapping or as a list of ``key`` and ``value``."""
    return {
        "description": "Identifying attributes that mean something to you; they become tags in Dagster",
        "anyOf": [
            {
                "type": "object",
                "properties": {PRIORITY: _PRIORITY},
                "patternProperties": {_OWN_KEY: _LABEL_VALUE},
                "additionalProperties": False,
            },
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "key": {"anyOf": [{"const": PRIORITY}, {"type": "string", "pattern": _OWN_KEY}]},
                        "value": {**_LABEL_VALUE, "type": ["string", "null"]},
                    },
                    "required": ["key"],
                    "additionalProperties": False,
                },
            },
        ],
    }


def annotations_schema(kind: str) -> JsonSchema:
    """The annotations of an entity of ``kind``, as a mapping or as a list of ``key`` and ``value``."""
    names = names_on(kind)
    return {
        "description": "What the fields cannot say; this project's own begin with dyff-dagster/",
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    PREFIX + name: {"description": known.description, **known.value}
                    for name, known in ((name, _KNOWN.get(name, _RECORDED)) for name in names)
                },
                "patternProperties": {_OWN_KEY: _TEXT},
                "additionalProperties": False,
            },
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "key": {
                            "anyOf": [
                                {"enum": [PREFIX + name for name in names]},
                                {"type": "string", "pattern": _OWN_KEY},
                            ]
                        },
                        "value": {"type": "string"},
                    },
                    "required": ["key", "value"],
                    "additionalProperties": False,
                },
            },
        ],
    }
