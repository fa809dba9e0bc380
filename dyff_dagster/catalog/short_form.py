"""The short form that people write, expanded to the whole entity as on the wire.

A value that is in the wire's form already is left as it is, so both forms, and any mixture, are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from dyff_dagster.catalog.problems import Location, suggestion
from dyff_dagster.catalog.references import describe_bad_reference
from dyff_dagster.schema.arrow import arrow_schema, encode_schema
from dyff_dagster.schema.arrow_text import parse_type
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.newer import carry
from dyff_dagster.schema.platform import (
    DataSchema,
    DyffDataSchema,
    DyffEntity,
    ForeignInferenceService,
    ForeignMethod,
    ForeignModel,
    InferenceSessionSpec,
    MeasurementSpec,
    SafetyCaseSpec,
)

M = TypeVar("M", bound=BaseModel)
Report = Callable[[Location, str], None]

NO_SCHEMA = DataSchema(arrowSchema="")
"""Stands in for a schema that was refused, so that the rest of its entity can still be checked."""


def part_of(entity: BaseModel, spec: type[M]) -> M:
    """The fields of ``spec`` out of an entity that was checked already, shared and not copied."""
    fields = {name: getattr(entity, name) for name in spec.model_fields}
    part = spec.model_construct(_fields_set=set(fields), **fields)
    carry(entity, part)
    return part


def _empty(spec: type[M], **fields: Any) -> M:
    """Something of the right type in place of what could not be made; it never leaves this room."""
    return spec.model_construct(**fields)


class ShortForm:
    """Expands documents against the entities that they refer to.

    :param known: every id of the catalog with its kind, also of entities that turned out to be broken.
    :param built: the entities that are checked so far; those that a document embeds must be among them.
    """

    def __init__(self, known: Mapping[str, str], built: Mapping[str, DyffEntity]) -> None:
        self.known = known
        self.built = built
        self._parts: dict[tuple[str, type[BaseModel]], BaseModel] = {}

    def expand(self, kind: str, data: dict[str, Any], report: Report) -> tuple[dict[str, Any], bool]:
        """The wire form of a document's ``data``, and whether all of it could be made.

        Where a part cannot be made, ``report`` is told (unless the fault is that of the entity referred to,
        which is reported itself), and something empty stands in for it. ``data`` is not changed.
        """
        task = _Expansion(self, dict(data), report)
        expand = getattr(task, f"expand_{kind.lower()}", None)
        if expand is not None:
            expand()
        return task.data, task.whole

    def part(self, entity_id: str, spec: type[M]) -> M:
        """Like :func:`part_of`, once for each entity and type."""
        key = (entity_id, spec)
        if key not in self._parts:
            self._parts[key] = part_of(self.built[entity_id], spec)
        return self._parts[key]  # type: ignore[return-value]


class _Expansion:
    """One document on its way."""

    def __init__(self, context: ShortForm, data: dict[str, Any], report: Report) -> None:
        self.context = context
        self.data = data
        self.whole = True
        self.report = report

    def fail(self, location: Location, message: str) -> None:
        self.whole = False
        self.report(location, message)

    # One method for each kind that has a short form.

    def expand_dataset(self) -> None:
        self._schema_in(self.data, (), "schema", DataSchema.make_input_schema)
        self._views("views")

    def expand_inferenceservice(self) -> None:
        self._embed(self.data, (), "model", "Model", ForeignModel)
        interface = self._copied(self.data, "interface")
        if interface is not None:
            self._schema_in(interface, ("interface",), "outputSchema", DataSchema.make_output_schema)
        self._views("outputViews")

    def expand_inferencesession(self) -> None:
        self._embed(self.data, (), "inferenceService", "InferenceService", ForeignInferenceService)

    def expand_evaluation(self) -> None:
        session = self._copied(self.data, "inferenceSession") or self.data.get("inferenceSession")
        reference = self.data.get("inferenceSessionReference")
        if isinstance(session, dict):
            location = ("inferenceSession",)
            self._embed(session, location, "inferenceService", "InferenceService", ForeignInferenceService)
        elif isinstance(session, str):
            self.fail(
                ("inferenceSession",),
                f"is a mapping; write inferenceSession: {{inferenceService: {session}}}",
            )
            self.data["inferenceSession"] = _empty(InferenceSessionSpec)
        elif session is None and isinstance(reference, str):
            location = ("inferenceSessionReference",)
            self.data.pop("inferenceSession", None)
            self._embed(
                self.data, location, "inferenceSession", "InferenceSession", InferenceSessionSpec, reference
            )
        elif session is None and reference is None:
            self.fail(
                ("inferenceSession",),
                "is missing; write inferenceSession: {inferenceService: ID}, or inferenceSessionReference: ID "
                "to use a session that runs already",
            )
            self.data["inferenceSession"] = _empty(InferenceSessionSpec)

    def expand_method(self) -> None:
        output = self._copied(self.data, "output")
        measurement = None if output is None else self._copied(output, "measurement")
        if measurement is not None:
            self._schema_in(measurement, ("output", "measurement"), "schema", _as_it_stands)

    def expand_measurement(self) -> None:
        self._analysis("measurement", MeasurementSpec, {"name": "", "level": "Dataset", "schema": NO_SCHEMA})
        self._schema_in(self.data, (), "schema", _as_it_stands)

    def expand_safetycase(self) -> None:
        self._analysis("safetyCase", SafetyCaseSpec, {"name": ""})

    def expand_family(self) -> None:
        """A member is its entity's id, or a mapping that may leave out its own name and the family's id."""
        members = self._copied(self.data, "members")
        if members is None:
            return
        for name, member in list(members.items()):
            given = {"resource": member} if isinstance(member, str) else member
            if isinstance(given, dict):
                members[name] = {"name": name, "family": self.data.get("id"), **given}

    def expand_report(self) -> None:
        for name in ("datasetView", "evaluationView"):
            view = self._copied(self.data, name)
            if view is not None:
                self._schema_in(view, (name,), "schema", _as_it_stands)

    # What they are made of.

    def _copied(self, parent: dict[str, Any], name: str) -> dict[str, Any] | None:
        """A copy of the mapping ``parent[name]``, put in its place; YAML aliases may share the original."""
        value = parent.get(name)
        if not isinstance(value, dict):
            return None
        parent[name] = dict(value)
        return parent[name]  # type: ignore[no-any-return]

    def _analysis(self, output: str, spec: type[BaseModel], empty: dict[str, Any]) -> None:
        """Embed the method, and take from it what the document does not say itself."""
        short = isinstance(self.data.get("method"), str)
        self._embed(self.data, (), "method", "Method", ForeignMethod)
        method = self.data.get("method")
        if not short or not isinstance(method, ForeignMethod):
            return
        made = getattr(method.output, output, None) if self.whole else None
        if self.whole and made is None:
            wanted = spec.__name__.removesuffix("Spec")
            kind = method.output.kind
            if str(kind) == wanted:  # the method lacks its output, which is told where it stands
                self.whole = False
            else:
                self.fail(("method",), f"method '{method.id}' makes a {kind}, not a {wanted}")
        for name, field in spec.model_fields.items():
            wire = field.alias or name
            if wire in self.data:
                continue
            if made is not None:
                self.data[wire] = getattr(made, name)
            elif wire in empty:
                self.data[wire] = empty[wire]

    def _embed(
        self,
        parent: dict[str, Any],
        location: Location,
        field: str,
        kind: str,
        spec: type[BaseModel],
        target: str | None = None,
    ) -> None:
        """Put the spec of the entity whose id stands in ``parent[field]`` (or is ``target``) there."""
        if target is None:
            target = parent.get(field)
            location = (*location, field)
        if not isinstance(target, str):
            return
        found = self.context.built.get(target)
        if found is not None and found.kind == kind:
            parent[field] = self.context.part(target, spec)
            return
        message = describe_bad_reference(target, (kind,), self.context.known)
        if message is not None:
            self.report(location, message)
        self.whole = False
        parent[field] = _empty(spec, id=target, account="")

    def _views(self, name: str) -> None:
        views = self.data.get(name)
        if isinstance(views, list):
            self.data[name] = [dict(view) if isinstance(view, dict) else view for view in views]
            for index, view in enumerate(self.data[name]):
                if isinstance(view, dict):
                    self._schema_in(view, (name, index), "schema", _as_it_stands)

    def _schema_in(
        self,
        parent: dict[str, Any],
        location: Location,
        field: str,
        make: Callable[[Any], DataSchema],
    ) -> None:
        value = parent.get(field)
        if (
            not isinstance(value, dict)
            or "arrowSchema" in value
            or not {"arrow", "dyffSchema"} & value.keys()
        ):
            return
        here = (*location, field)
        parent[field] = NO_SCHEMA
        for name in value:
            if name not in ("arrow", "dyffSchema"):
                hint = suggestion(name, ["arrow", "dyffSchema", "arrowSchema"])
                self.fail((*here, name), f"a schema in the short form has no field '{name}'; {hint}")
        if "arrow" in value and "dyffSchema" in value:
            self.fail(here, "has both arrow and dyffSchema; keep one")
        elif "arrow" in value:
            schema = self._arrow(value["arrow"], (*here, "arrow"))
            if schema is not None:
                parent[field] = self._made(make, schema, (*here, "arrow"))
        else:
            named = self._named(value["dyffSchema"], (*here, "dyffSchema"))
            if named is not None:
                parent[field] = self._made(make, named, (*here, "dyffSchema"))

    def _made(self, make: Callable[[Any], DataSchema], source: Any, location: Location) -> DataSchema:
        try:
            return make(source)
        except DyffError as error:
            self.fail(location, str(error))
            return NO_SCHEMA

    def _named(self, value: Any, location: Location) -> DyffDataSchema | None:
        try:
            return DyffDataSchema.model_validate(value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                message = "is missing" if detail["type"] == "missing" else detail["msg"]
                self.fail((*location, *detail["loc"]), message)
            return None

    def _arrow(self, value: Any, location: Location) -> pa.Schema | None:
        if not isinstance(value, dict) or not value:
            self.fail(location, "must list the fields, as in {question: string, count: int64!}")
            return None
        fields: list[pa.Field] = []
        for name, text in value.items():
            if not isinstance(text, str):
                self.fail((*location, name), "must be an Arrow type, as in string, int64! or list<float64>")
                continue
            try:
                kind, nullable = parse_type(text)
            except DyffError as error:
                self.fail((*location, name), str(error))
                continue
            fields.append(pa.field(name, kind, nullable))
        return pa.schema(fields) if len(fields) == len(value) else None


def _as_it_stands(source: pa.Schema | DyffDataSchema) -> DataSchema:
    """A schema to which no fields are added."""
    if isinstance(source, DyffDataSchema):
        return DataSchema(arrowSchema=encode_schema(arrow_schema(source.model_type())), dyffSchema=source)
    return DataSchema(arrowSchema=encode_schema(source))
