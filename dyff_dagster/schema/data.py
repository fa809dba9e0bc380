"""Data sets, their schemas, views of them, and where they come from."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
import pydantic
from pydantic import Field

from dyff_dagster.schema import arrow, named
from dyff_dagster.schema.artifacts import Artifact
from dyff_dagster.schema.base import DyffEntity, DyffSchemaBaseModel
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.resources import ResourceAllocation, cpu_allocation
from dyff_dagster.schema.types import Int64

__all__ = [
    "DataSchema",
    "DataSource",
    "DataView",
    "Dataset",
    "DatasetBase",
    "DatasetFilter",
    "DyffDataSchema",
    "ReservedFieldError",
    "SchemaAdapter",
    "TaskSchema",
]


class ReservedFieldError(DyffError):
    """A schema declares a field under a name that is reserved for rows' keys, and not as that key.

    ``field`` is its name, ``found`` and ``expected`` are Arrow types as text.
    """

    def __init__(self, field: str, found: str, expected: str) -> None:
        self.field, self.found, self.expected = field, found, expected
        super().__init__(
            f"schema field '{field}' is {found}, but that name is reserved for the row's key, {expected}; "
            "leave it out (it is added) or rename it"
        )


class DyffDataSchema(DyffSchemaBaseModel):
    """A schema composed of named ones, such as ``text.Text`` (see ``schema.named``)."""

    components: list[str] = Field(
        min_length=1, description="Names of data schemas; the schema has the fields of them all"
    )
    schemaVersion: Literal["0.1"] = Field(default="0.1", description="The dyff schema version")

    def model_type(self) -> type[DyffSchemaBaseModel]:
        """Return one pydantic model with the fields of all components.

        Raises:
            UnknownComponentError: a component is not a named data schema.
            DuplicateFieldError: two components declare the same field.
        """
        return named.compose(self.components)


class DataSchema(DyffSchemaBaseModel):
    """A schema of rows, in Arrow's form and possibly in others that say the same."""

    arrowSchema: str = Field(
        description="The Arrow schema, as schema.arrow.encode_schema() writes it: base64 of Arrow IPC"
    )
    dyffSchema: DyffDataSchema | None = Field(
        default=None, description="The schema as a composition of named data schemas"
    )
    jsonSchema: dict[str, Any] | None = Field(default=None, description="The schema as JSON Schema")

    def decode(self) -> pa.Schema:
        """Return the Arrow schema.

        Raises:
            SchemaEncodingError: ``arrowSchema`` is not base64 of an Arrow schema.
        """
        return arrow.decode_schema(self.arrowSchema)

    @staticmethod
    def from_model(model: type[DyffSchemaBaseModel]) -> DataSchema:
        """Return the schema of a pydantic model, in Arrow's form and as JSON Schema."""
        return DataSchema(
            arrowSchema=arrow.encode_schema(arrow.arrow_schema(model)), jsonSchema=model.model_json_schema()
        )

    @staticmethod
    def make_input_schema(schema: pa.Schema | type[DyffSchemaBaseModel] | DyffDataSchema) -> DataSchema:
        """Return the schema of a data set's rows: ``_index_: int64 not null``, then the fields of ``schema``.

        Of a model, or of named data schemas, it has a JSON Schema too.

        Raises:
            ReservedFieldError: ``schema`` has a field ``_index_`` that is no int64.
        """
        fields = list(_arrow_of(schema))
        full = pa.schema(_keyed(fields, [arrow.INDEX_FIELD]), _metadata_of(schema))
        model = _model_of(schema)
        return _with_source(full, schema, model and _with_key(model, "_index_", "Item"))

    @staticmethod
    def make_output_schema(schema: pa.Schema | type[DyffSchemaBaseModel] | DyffDataSchema) -> DataSchema:
        """Return the schema of an evaluation's rows, for a service that answers with rows of ``schema``.

        It is ``_replication_: string, _index_: int64, responses: list<struct<_response_index_: int64, …>>``
        with the three keys not null and the fields of ``schema`` after ``_response_index_``. Of a model, or of
        named data schemas, it has a JSON Schema too.

        Raises:
            ReservedFieldError: ``schema`` has a field ``_response_index_`` that is no int64.
        """
        item = pa.struct(_keyed(list(_arrow_of(schema)), [arrow.RESPONSE_INDEX_FIELD]))
        responses = pa.field("responses", pa.list_(item), metadata={"__doc__": "What the service answered"})
        full = pa.schema([arrow.REPLICATION_FIELD, arrow.INDEX_FIELD, responses])
        model = _model_of(schema)
        return _with_source(
            full, schema, model and _response_model(_with_key(model, "_response_index_", "Response"))
        )


def _arrow_of(schema: pa.Schema | type[DyffSchemaBaseModel] | DyffDataSchema) -> pa.Schema:
    if isinstance(schema, pa.Schema):
        return schema
    if isinstance(schema, DyffDataSchema):
        schema = schema.model_type()
    return arrow.arrow_schema(schema)


def _metadata_of(schema: object) -> dict[bytes, bytes] | None:
    return schema.metadata if isinstance(schema, pa.Schema) else None


def _keyed(fields: list[pa.Field], keys: list[pa.Field]) -> list[pa.Field]:
    """Put ``keys`` before ``fields``, taking the place of fields that declare them already."""
    for key in keys:
        for field in fields:
            if field.name == key.name and field.type != key.type:
                raise ReservedFieldError(field.name, str(field.type), str(key.type))
    names = {key.name for key in keys}
    return [*keys, *(field for field in fields if field.name not in names)]


def _model_of(
    schema: pa.Schema | type[DyffSchemaBaseModel] | DyffDataSchema,
) -> type[pydantic.BaseModel] | None:
    if isinstance(schema, DyffDataSchema):
        return schema.model_type()
    return None if isinstance(schema, pa.Schema) else schema


_KEYS: dict[str, Any] = {
    "_replication_": (str, Field(alias="_replication_", description="Which replication this belongs to")),
    "_index_": (Int64, Field(alias="_index_", description="Which row of the data set this is")),
    "_response_index_": (
        Int64,
        Field(alias="_response_index_", description="Which of the answers to one request this is"),
    ),
}


def _with_key(model: type[pydantic.BaseModel], key: str, suffix: str) -> type[pydantic.BaseModel]:
    """Return ``model`` with the field ``key`` besides, unless it has it."""
    if any((info.alias or name) == key for name, info in model.model_fields.items()):
        return model
    return pydantic.create_model(f"{model.__name__}{suffix}", __base__=model, **{key.strip("_"): _KEYS[key]})


def _response_model(item: type[pydantic.BaseModel]) -> type[pydantic.BaseModel]:
    """Return the model of an evaluation's rows, whose responses are ``item``."""
    keys = {name.strip("_"): _KEYS[name] for name in ("_replication_", "_index_")}
    responses: Any = (list[item], Field(description="What the service answered"))  # type: ignore[valid-type]
    return pydantic.create_model(
        f"{item.__name__}s", __base__=DyffSchemaBaseModel, **keys, responses=responses
    )


def _with_source(full: pa.Schema, schema: object, model: type[pydantic.BaseModel] | None) -> DataSchema:
    return DataSchema(
        arrowSchema=arrow.encode_schema(full),
        dyffSchema=schema if isinstance(schema, DyffDataSchema) else None,
        jsonSchema=model.model_json_schema() if model is not None else None,
    )


class SchemaAdapter(DyffSchemaBaseModel):
    """One step that turns JSON objects into others (see ``schema.adapters``)."""

    kind: str = Field(description="Name of a schema adapter")
    configuration: dict[str, Any] | None = Field(
        default=None, description="What the adapter is to do. Must be encodable as JSON."
    )


class DataView(DyffSchemaBaseModel):
    """Another look at an entity's data: what comes out of a pipeline of adapters."""

    id: str = Field(description="Unique id of the view")
    viewOf: str = Field(description="ID of the entity whose data are looked at")
    schema_: DataSchema = Field(alias="schema", description="Schema of the view's rows")
    adapterPipeline: list[SchemaAdapter] | None = Field(
        default=None, description="Adapters that the rows go through, first to last"
    )


class DatasetBase(DyffSchemaBaseModel):
    """A data set's name, files, schema and views."""

    name: str = Field(description="The name of the Dataset")
    artifacts: list[Artifact] = Field(min_length=1, description="Files that the data set consists of")
    schema_: DataSchema = Field(alias="schema", description="Schema of the data set's rows")
    views: list[DataView] = Field(default_factory=list, description="Views that are offered of the data set")


class Dataset(DyffEntity, DatasetBase):
    """Rows to ask a service about, in Arrow's format."""

    kind: Literal["Dataset"] = "Dataset"

    def dependencies(self) -> list[str]:
        """Return no ids: data sets depend on nothing."""
        return []

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return the allocation of checking and storing the rows."""
        return cpu_allocation("1", "1Gi")


class DataSource(DyffEntity):
    """Raw data outside the platform, from which a data set can be made."""

    kind: Literal["DataSource"] = "DataSource"
    name: str
    sourceKind: str
    source: str | None = None

    def dependencies(self) -> list[str]:
        """Return no ids: sources depend on nothing."""
        return []

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return None: the platform does not charge for fetching."""
        return None


class DatasetFilter(DyffSchemaBaseModel):
    """Restricts which rows of a data set are read (see ``schema.arrow.open_dataset``)."""

    field: str
    relation: str
    value: str


class TaskSchema(DyffSchemaBaseModel):
    """What goes into a task, what comes out, and what it is for."""

    input: DataSchema
    output: DataSchema
    objective: str
