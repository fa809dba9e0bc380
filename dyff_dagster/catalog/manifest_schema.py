"""The JSON Schema of manifests: every kind in both forms, for editors' completion and for other tools.

Draft 2020-12 (https://json-schema.org/draft/2020-12), less what editors do not know yet: no
``unevaluatedProperties``, no ``prefixItems``, no dynamic references. ``enumDescriptions``, ``errorMessage``,
``patternErrorMessage`` and ``doNotSuggest`` are words for editors, which validators pass over.

It refuses nothing that the catalog takes, and leaves to the catalog what needs a look at other documents or
files. It is generated from the types, so that fields, descriptions and bounds are stated once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

from dyff_dagster.catalog.manifest_annotations import annotations_schema, labels_schema
from dyff_dagster.catalog.manifest_types import platform_schemas
from dyff_dagster.catalog.manifest_values import value_schemas
from dyff_dagster.catalog.new_manifest import MANIFEST_KINDS
from dyff_dagster.schema.adapters import ADAPTERS
from dyff_dagster.schema.platform import (
    SYSTEM_ATTRIBUTES,
    DataSources,
    Documentation,
    MethodImplementationKind,
    entity_class,
)

JsonSchema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NULL: JsonSchema = {"type": "null"}
_EDITORS: JsonSchema = {
    "description": "Where this schema is, for editors; JSON files only",
    "type": "string",
    "doNotSuggest": True,
}
_ASSIGNED: JsonSchema = {
    "description": "Assigned by the system, and not read from a manifest: leave it out",
    "deprecated": True,
    "doNotSuggest": True,
}
_ACCELERATOR: JsonSchema = {"anyOf": [{"$ref": "#/$defs/AcceleratorManifest"}, _NULL]}


def manifest_schema() -> JsonSchema:
    """The JSON Schema (draft 2020-12) that a manifest is valid against, whatever its kind and form.

    It is for one YAML document, for one JSON document, and for a JSON list of them.
    """
    definitions = _Manifests().definitions
    schema: JsonSchema = {
        "$schema": DIALECT,
        "title": "dyff-dagster manifest",
        "description": "What one part of an audit is: a kind, an id, an account, and the fields of the kind.",
        # A file of JSON may hold a list of documents; what applies to mappings alone passes it over.
        "type": ["object", "array"],
        "properties": {
            "kind": {
                "description": "What this is",
                "enum": list(MANIFEST_KINDS),
                "enumDescriptions": [_summary(kind) for kind in MANIFEST_KINDS],
            }
        },
        "required": ["kind"],
        "allOf": _by_kind({kind: f"{kind}Manifest" for kind in MANIFEST_KINDS}),
        "items": {"allOf": [{"type": "object"}, {"$ref": "#"}]},
    }
    schema["$defs"] = _reachable(schema, definitions)
    return schema


def _summary(kind: str) -> str:
    described = Documentation if kind == "Documentation" else entity_class(kind)
    return (described.__doc__ or "").strip().partition("\n")[0]


def _by_kind(names: dict[str, str]) -> list[JsonSchema]:
    """A definition for each value of ``kind``: editors say then what is wrong with that one kind."""
    return [
        {
            # A list has no `kind`, and would pass for anything that asks for mappings only.
            "if": {"type": "object", "properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": {"$ref": f"#/$defs/{name}"},
        }
        for kind, name in names.items()
    ]


def _ref(name: str, **more: Any) -> JsonSchema:
    return {"$ref": f"#/$defs/{name}", **more}


def _any_of(*schemas: JsonSchema, description: str | None = None) -> JsonSchema:
    found: JsonSchema = {} if description is None else {"description": description}
    return {**found, "anyOf": list(schemas)}


def _list_of(item: JsonSchema, description: str, **more: Any) -> JsonSchema:
    return {"type": "array", "description": description, "items": item, **more}


def _reachable(schema: JsonSchema, definitions: dict[str, JsonSchema]) -> dict[str, JsonSchema]:
    """The definitions that ``schema`` refers to, directly or not, by name."""
    found: set[str] = set()
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).removeprefix("#/$defs/")
            if name in definitions and name not in found:
                found.add(name)
                waiting.append(definitions[name])
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return {name: definitions[name] for name in sorted(found)}


class _Manifests:
    """All definitions: of the types on the wire, and for each kind one of its manifests, made from its type's."""

    def __init__(self) -> None:
        self.definitions: dict[str, JsonSchema] = {**platform_schemas(), **value_schemas()}
        self._shared()
        for kind in MANIFEST_KINDS:
            if kind != "Documentation":
                change: Callable[[JsonSchema], None] | None = getattr(self, f"_{kind.lower()}", None)
                self._entity(kind, change)
        self._documentation()
        revised = [kind for kind in MANIFEST_KINDS if kind not in ("Documentation", "Revision")]
        entity = self.definitions["RevisionManifest"]["properties"]["entity"]
        entity.pop("oneOf")
        entity |= {
            "type": "object",
            "required": ["kind"],
            "allOf": _by_kind({kind: kind for kind in revised}),
        }
        entity["properties"] = {"kind": {"enum": revised}}

    def _derive(self, name: str, source: str) -> JsonSchema:
        self.definitions[name] = made = deepcopy(self.definitions[source])
        return made

    # What several kinds are made of, as manifests have it.

    def _shared(self) -> None:
        adapter = self._derive("KnownAdapter", "SchemaAdapter")
        adapter["properties"]["kind"] |= {"enum": sorted(ADAPTERS)}
        pipeline = {"items": _ref("KnownAdapter"), "type": "array"}
        view = self._derive("ReportViewManifest", "DataView")
        view["properties"]["schema"] = _ref("RowSchema", description="Schema of the view's rows")
        view = self._derive("DataViewManifest", "ReportViewManifest")
        _describe(view, "adapterPipeline", _any_of(pipeline, _NULL))
        interface = self._derive("InterfaceManifest", "InferenceInterface")
        interface["properties"]["outputSchema"] = _ref("RowSchema", description="Schema of the answers")
        # White space and control characters are in no URL and in no path.
        interface["properties"]["endpoint"] |= {"pattern": r"^[^\u0000-\u0020\u007f-\u00a0]*$"}
        for name in ("inputPipeline", "outputPipeline"):
            _describe(interface, name, _any_of(pipeline, _NULL))
        accelerator = self._derive("AcceleratorManifest", "Accelerator")
        accelerator["properties"]["kind"]["enum"] = ["GPU"]
        _require_body(accelerator, ["GPU"])
        runner = self._derive("RunnerManifest", "InferenceServiceRunner")
        _describe(runner, "accelerator", _ACCELERATOR)
        session = self._derive("SessionManifest", "InferenceSessionSpec")
        _describe(session, "accelerator", _ACCELERATOR)
        self._embeds(session, "inferenceService", "ForeignInferenceService")
        session["properties"]["replicas"]["minimum"] = 1
        for name in ("AnalysisScope", "AnalysisInput"):
            derived = self._derive(f"{name}Manifest", name)
            for field in derived["properties"]:
                if field != "keyword":
                    optional = [] if field in derived.get("required", []) else [_NULL]
                    _describe(derived, field, _any_of(_ref("Reference"), *optional))
        member = self._derive("FamilyMemberManifest", "FamilyMember")
        member["required"] = ["resource"]
        member["properties"] |= {"creationTime": _ASSIGNED}
        _describe(member, "resource", _ref("Reference"))
        for name in ("ModelSource", "ModelArtifact", "MethodOutput"):
            _require_body(self._derive(f"{name}Manifest", name), self._values_of_kind(name))
        implementation = self._derive("MethodImplementationManifest", "MethodImplementation")
        implementation["properties"]["kind"]["enum"] = [str(kind) for kind in MethodImplementationKind]
        _require_body(implementation, [str(kind) for kind in MethodImplementationKind])
        notebook = self._derive("NotebookManifest", "MethodImplementationJupyterNotebook")
        _describe(notebook, "notebookModule", _ref("Reference"))
        _describe(implementation, "jupyterNotebook", _any_of(_ref("NotebookManifest"), _NULL))
        scores = self._derive("MeasurementSpecManifest", "MeasurementSpec")
        _describe(scores, "schema", _ref("RowSchema"))
        output = self.definitions["MethodOutputManifest"]
        _describe(output, "measurement", _any_of(_ref("MeasurementSpecManifest"), _NULL))

    def _values_of_kind(self, name: str) -> list[str]:
        reference: str = self.definitions[name]["properties"]["kind"]["$ref"]
        found: list[str] = self.definitions[reference.removeprefix("#/$defs/")]["enum"]
        return found

    def _embeds(self, schema: JsonSchema, field: str, whole: str, *more: JsonSchema) -> None:
        """A field that holds a whole entity on the wire, and its id in the short form."""
        _describe(schema, field, _any_of(_ref("Reference"), _ref(whole), *more))

    # One definition for each kind.

    def _entity(self, kind: str, change: Callable[[JsonSchema], None] | None) -> None:
        schema = self._derive(f"{kind}Manifest", kind)
        fields: JsonSchema = schema["properties"]
        first = {
            "kind": {"const": kind, "description": _summary(kind)},
            "id": _ref("Id", description="Its id, unique in the catalog"),
            "account": fields["account"],
        }
        last = {"labels": labels_schema(), "annotations": annotations_schema(kind)}
        assigned = dict.fromkeys(sorted(SYSTEM_ATTRIBUTES), _ASSIGNED)
        if kind == "Revision":
            del assigned["creationTime"]
        kept = {name: field for name, field in fields.items() if name not in {*first, *last, *assigned}}
        schema["properties"] = {**first, **kept, **last, **assigned, "$schema": _EDITORS}
        schema["required"] = list(dict.fromkeys(["kind", "id", "account", *schema["required"]]))
        if change is not None:
            change(schema)

    def _documentation(self) -> None:
        schema = self._derive("DocumentationManifest", "Documentation")
        fields = {name: field for name, field in schema["properties"].items() if name != "entity"}
        schema["properties"] = {
            "kind": {"const": "Documentation", "description": _summary("Documentation")},
            "entity": _ref("Reference", description="ID of the entity that this is about"),
            **fields,
            "$schema": _EDITORS,
        }
        schema["required"] = ["kind", "entity"]

    def _dataset(self, schema: JsonSchema) -> None:
        self._module(schema)
        _describe(schema, "schema", _ref("RowSchema"))
        _describe(schema, "views", {"type": "array", "items": _ref("DataViewManifest")})

    def _module(self, schema: JsonSchema) -> None:
        files = {"type": "array", "items": _ref("Artifact"), "minItems": 1}
        _describe(schema, "artifacts", _any_of(files, _NULL))
        schema["required"].remove("artifacts")

    def _datasource(self, schema: JsonSchema) -> None:
        schema["properties"]["sourceKind"]["enum"] = [str(kind) for kind in DataSources]

    def _model(self, schema: JsonSchema) -> None:
        _describe(schema, "source", _ref("ModelSourceManifest"))
        _describe(schema, "artifact", _ref("ModelArtifactManifest"))
        accelerators = {"type": "array", "items": _ref("AcceleratorManifest")}
        _describe(schema, "accelerators", _any_of(accelerators, _NULL))

    def _inferenceservice(self, schema: JsonSchema) -> None:
        self._embeds(schema, "model", "ForeignModel", _NULL)
        _describe(schema, "runner", _any_of(_ref("RunnerManifest"), _NULL))
        _describe(schema, "interface", _ref("InterfaceManifest"))
        _describe(schema, "outputViews", {"type": "array", "items": _ref("DataViewManifest")})

    def _inferencesession(self, schema: JsonSchema) -> None:
        _describe(schema, "accelerator", _ACCELERATOR)
        self._embeds(schema, "inferenceService", "ForeignInferenceService")

    def _evaluation(self, schema: JsonSchema) -> None:
        _describe(schema, "dataset", _ref("Reference"))
        _describe(schema, "inferenceSession", _any_of(_ref("SessionManifest"), _NULL))
        _describe(schema, "inferenceSessionReference", _any_of(_ref("Reference"), _NULL))
        schema["required"].remove("inferenceSession")
        schema["anyOf"] = [{"required": ["inferenceSession"]}, {"required": ["inferenceSessionReference"]}]
        for name in ("replications", "workersPerReplica"):
            schema["properties"][name]["minimum"] = 1

    def _method(self, schema: JsonSchema) -> None:
        _describe(schema, "implementation", _ref("MethodImplementationManifest"))
        _describe(schema, "output", _ref("MethodOutputManifest"))
        _describe(schema, "modules", {"type": "array", "items": _ref("Reference")})

    def _measurement(self, schema: JsonSchema) -> None:
        self._safetycase(schema)
        _describe(schema, "schema", _ref("RowSchema"))

    def _safetycase(self, schema: JsonSchema) -> None:
        self._embeds(schema, "method", "ForeignMethod")
        _describe(schema, "scope", _ref("AnalysisScopeManifest"))
        _describe(schema, "inputs", {"type": "array", "items": _ref("AnalysisInputManifest")})
        from_method = [name for name in schema["required"] if name in ("name", "level", "schema")]
        schema["required"] = [name for name in schema["required"] if name not in from_method]
        schema["if"] = {"properties": {"method": {"type": "object"}}, "required": ["method"]}
        schema["then"] = {"required": from_method}

    def _report(self, schema: JsonSchema) -> None:
        for name in ("evaluation", "dataset", "inferenceService"):
            _describe(schema, name, _ref("Reference"))
        _describe(schema, "model", _any_of(_ref("Reference"), _NULL))
        _describe(schema, "modules", {"type": "array", "items": _ref("Reference")})
        for name in ("datasetView", "evaluationView"):
            _describe(schema, name, _any_of(_ref("ReportViewManifest"), _NULL))

    def _audit(self, schema: JsonSchema) -> None:
        for name in ("auditProcedure", "inferenceService"):
            _describe(schema, name, _ref("Reference"))

    def _family(self, schema: JsonSchema) -> None:
        members = schema["properties"]["members"]
        (pattern,) = members["patternProperties"]
        members["patternProperties"][pattern] = _any_of(
            _ref("Reference"),
            _ref("FamilyMemberManifest"),
            description="ID of the entity that the name stands for, or a mapping with it as resource",
        )


def _describe(schema: JsonSchema, field: str, new: JsonSchema) -> None:
    """Put ``new`` in the place of a field's schema, under the description that the field had."""
    fields = schema["properties"]
    described = {"description": fields[field]["description"]} if "description" in fields[field] else {}
    fields[field] = {**described, **new}


def _require_body(schema: JsonSchema, kinds: Iterable[str]) -> None:
    """Where ``kind`` is X and there is a field x that says more, that field is required."""
    fields = {name.lower(): name for name in schema["properties"] if name != "kind"}
    schema["allOf"] = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": {"required": [fields[kind.lower()]]},
        }
        for kind in kinds
        if kind.lower() in fields
    ]
