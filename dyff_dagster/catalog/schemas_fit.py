"""Do schemas fit what is declared beside them? Keys of rows, named schemas, methods and their measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import pyarrow as pa

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.problems import Location, suggestion
from dyff_dagster.catalog.shapes import find_missing, shape_of_rows
from dyff_dagster.schema.arrow import (
    INDEX_FIELD,
    REPLICATION_FIELD,
    RESPONSE_INDEX_FIELD,
    SchemaEncodingError,
    arrow_schema,
    decode_schema,
)
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import (
    DataSchema,
    Dataset,
    Measurement,
    MeasurementLevel,
    MeasurementSpec,
    Method,
)

_RESPONSES = "responses"


@lru_cache(maxsize=1024)
def decoded(text: str) -> pa.Schema | None:
    """The Arrow schema of an ``arrowSchema``, or None where it is none; entities share many of them."""
    try:
        return decode_schema(text)
    except DyffError:
        return None


def response_fields(schema: pa.Schema) -> Sequence[pa.Field] | None:
    """The fields of one answer in an ``outputSchema``, or None where it is no schema of answers."""
    if _RESPONSES not in schema.names:
        return None
    kind = schema.field(_RESPONSES).type
    return list(kind.value_type) if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type) else None


def check_dataset_schema(entry: Entry, dataset: Dataset, findings: Findings) -> None:
    """Note a Dataset whose rows have no ``_index_``."""
    location = ("schema", "arrowSchema")
    schema = check_schema(entry, ("schema",), dataset.schema_, findings)
    if schema is None:
        return
    if INDEX_FIELD.name not in schema.names:
        message = (
            "has no field '_index_: int64', the number that a row is known by; add it, "
            "or write the schema as {arrow: {FIELD: TYPE}}"
        )
        findings.error(entry, location, message)
    _check_keys(entry, location, schema, [INDEX_FIELD], findings)


def check_output_schema(
    entry: Entry, location: Location, output: DataSchema, findings: Findings
) -> pa.Schema | None:
    """Note an ``outputSchema`` that holds no answers; return it where it does."""
    schema = check_schema(entry, location, output, findings, response_fields)
    if schema is None:
        return None
    here = (*location, "arrowSchema")
    fields = response_fields(schema)
    if fields is None:
        message = (
            "has no field 'responses: list<struct<…>>', which holds the answers; "
            "write it as {arrow: {FIELD: TYPE}}"
        )
        findings.error(entry, here, message)
        return None
    _check_keys(entry, here, schema, [REPLICATION_FIELD, INDEX_FIELD], findings)
    _check_keys(entry, here, fields, [RESPONSE_INDEX_FIELD], findings)
    return schema


def check_method_schema(entry: Entry, method: Method, findings: Findings) -> None:
    """Note a Method whose measurement's schema is none, or has not what its level asks for."""
    made = method.output.measurement
    if made is not None:
        _check_measured(entry, ("output", "measurement", "schema"), made, findings)


def check_measurement_schema(entry: Entry, measurement: Measurement, findings: Findings) -> None:
    """Note a Measurement that declares something else than its Method makes."""
    made = measurement.method.output.measurement
    if made is None or made.schema_ is measurement.schema_:
        same = made is not None
    else:
        _check_measured(entry, ("schema",), measurement, findings)
        same = made.schema_.arrowSchema == measurement.schema_.arrowSchema
    if made is None:
        return
    method = measurement.method.id
    if made.level != measurement.level:
        message = (
            f"is {measurement.level}, and method '{method}' makes rows of level {made.level}; leave it out"
        )
        findings.error(entry, ("level",), message)
    if same:
        return
    declared, offered = decoded(measurement.schema_.arrowSchema), decoded(made.schema_.arrowSchema)
    if declared is None or offered is None:
        return
    for item in declared:
        if item.name not in offered.names:
            hint = suggestion(item.name, offered.names)
            message = f"has the field '{item.name}', which method '{method}' does not make; {hint}"
            findings.error(entry, ("schema",), message)
        elif offered.field(item.name).type != item.type:
            kind = offered.field(item.name).type
            message = (
                f"declares '{item.name}' as {item.type}, and method '{method}' makes {kind}; "
                "correct one of them"
            )
            findings.error(entry, ("schema",), message)
    for name in offered.names:
        if name not in declared.names:
            message = (
                f"lacks the field '{name}', which method '{method}' makes; add it, or leave the schema out"
            )
            findings.error(entry, ("schema",), message)


def check_schema(
    entry: Entry,
    location: Location,
    schema: DataSchema,
    findings: Findings,
    inner: Callable[[pa.Schema], Sequence[pa.Field] | None] = list,
) -> pa.Schema | None:
    """Note a schema that cannot be read, has a name twice, or contradicts the named schemas beside it.

    :param inner: the fields of the schema that ``dyffSchema`` is about.
    :returns: the schema, or None where it cannot be read.
    """
    found = decoded(schema.arrowSchema)
    if found is None:
        findings.error(entry, (*location, "arrowSchema"), str(SchemaEncodingError()))
        return None
    doubled = sorted({name for name in found.names if found.names.count(name) > 1})
    for name in doubled:
        findings.error(
            entry, (*location, "arrowSchema"), f"has the field '{name}' more than once; rename one"
        )
    fields = inner(found)
    if doubled or schema.dyffSchema is None or fields is None:
        return None if doubled else found
    components = ", ".join(schema.dyffSchema.components)
    try:
        wanted = arrow_schema(schema.dyffSchema.model_type())
    except DyffError as error:
        findings.error(entry, (*location, "dyffSchema"), str(error))
        return found
    for item in wanted:
        by_name = {one.name: one for one in fields}
        if item.name not in by_name:
            hint = suggestion(item.name, [name for name in by_name if not name.startswith("_")])
            message = f"the arrowSchema has no field '{item.name}' of {components}; {hint}"
            findings.error(entry, (*location, "dyffSchema"), message)
            continue
        misfit = find_missing(shape_of_rows([by_name[item.name]]), [item])
        if misfit is not None:
            message = misfit.describe(f"in {components}", "in the arrowSchema")
            findings.error(entry, (*location, "dyffSchema"), message)
    return found


def _check_measured(entry: Entry, location: Location, spec: MeasurementSpec, findings: Findings) -> None:
    schema = check_schema(entry, location, spec.schema_, findings)
    if schema is None:
        return
    if spec.level == MeasurementLevel.Instance and INDEX_FIELD.name not in schema.names:
        message = (
            "has no field '_index_: int64!', by which rows of level Instance belong to instances; add it"
        )
        findings.error(entry, location, message)
    if spec.level == MeasurementLevel.Instance:
        _check_keys(entry, location, schema, [INDEX_FIELD], findings)


def _check_keys(
    entry: Entry,
    location: Location,
    fields: Sequence[pa.Field] | pa.Schema,
    keys: Sequence[pa.Field],
    findings: Findings,
) -> None:
    for key in keys:
        for item in fields:
            if item.name == key.name and item.type != key.type:
                message = (
                    f"declares '{item.name}' as {item.type}; it is a key of rows, and must be {key.type}"
                )
                findings.error(entry, location, message)
