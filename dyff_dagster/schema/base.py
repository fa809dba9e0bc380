"""What every platform type is built on: the base model, identity, status, labels, annotations, the entity.

Names, fields and bases follow the page of platform types. The page lost the backslashes of its patterns;
here ``.``, ``+`` and ``/`` are literal wherever they stand as separators.
"""

from __future__ import annotations

import abc
import difflib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, ValidationError

from dyff_dagster.schema import newer
from dyff_dagster.schema.resources import LABEL_KEY_PATTERN, LabelKey, Quantity, ResourceAllocation

__all__ = [
    "SYSTEM_ATTRIBUTES",
    "Annotation",
    "DyffEntity",
    "DyffModelWithID",
    "DyffSchemaBaseModel",
    "EntityKind",
    "Label",
    "LabelKey",
    "LabelValue",
    "Labeled",
    "Quantity",
    "QueryableDyffEntity",
    "SchemaVersion",
    "Status",
    "TagName",
    "UtcDatetime",
    "closest",
]

SYSTEM_ATTRIBUTES = frozenset({"creationTime", "status", "reason"})
"""Fields that the platform assigns; a person never writes them."""

LabelValue = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^([a-z0-9A-Z]([-_.a-z0-9A-Z]{0,61}[a-z0-9A-Z])?)?$")
]
"""A label's value: alphanumeric, with ``.``, ``-`` and ``_`` inside; may be empty."""

TagName = Annotated[str, StringConstraints(max_length=317, pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$")]
"""A tag's name, as container registries define it."""

AnnotationKey = Annotated[str, StringConstraints(max_length=253, pattern=LABEL_KEY_PATTERN)]

EntityKind = Literal[
    "Analysis",
    "Audit",
    "AuditProcedure",
    "DataSource",
    "Dataset",
    "Evaluation",
    "Family",
    "History",
    "InferenceService",
    "InferenceSession",
    "Measurement",
    "Method",
    "Model",
    "Module",
    "Report",
    "Revision",
    "SafetyCase",
]


def _as_utc(moment: datetime) -> datetime:
    """Give ``moment`` the time zone UTC: a naive one is taken to be UTC already, as the reference does."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


UtcDatetime = Annotated[datetime, AfterValidator(_as_utc)]
"""A moment in UTC. Entities read a naive one as UTC; requests reject it (see ``schema.requests``)."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``name``, or None when nothing is near enough to be meant."""
    names = list(known)
    by_lower = {candidate.lower(): candidate for candidate in reversed(names)}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


class DyffSchemaBaseModel(pydantic.BaseModel):
    """Base of every type that goes over the wire.

    Unknown fields are rejected, and the message names the field that was probably meant. Fields with an
    alias (``schema_`` is ``schema`` on the wire) are read under both names and written under the wire's.
    Validation errors never repeat the input, which may be data or a secret. Fields that dyff-schema 0.46 added
    to the type are held beside it (see ``schema.newer``).
    """

    model_config = ConfigDict(
        extra="forbid", populate_by_name=True, serialize_by_alias=True, hide_input_in_errors=True
    )

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _name_the_closest_field(cls, data: Any, handler: pydantic.ModelWrapValidatorHandler[Self]) -> Self:
        data, held, faults = newer.split(cls, data)
        details: list[ErrorDetails] = []
        title = cls.__name__
        try:
            made = handler(data)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            title = error.title
            if not faults and not any(_is_unknown_here(detail) for detail in details):
                raise
        else:
            if not faults:
                newer.attach(made, held)
                return made
        known = [field.alias or name for name, field in cls.model_fields.items()]
        lines = [
            InitErrorDetails(
                # What other fields complain of is carried over as it reads; the message stands behind a
                # placeholder, so that braces in it are not taken for placeholders of their own.
                type=_unknown_field(cls.__name__, str(detail["loc"][0]), known)
                if _is_unknown_here(detail)
                else PydanticCustomError(detail["type"], "{message}", {"message": detail["msg"]}),
                loc=detail["loc"],
                input=None,
            )
            for detail in details
        ]
        lines += [
            InitErrorDetails(
                type=PydanticCustomError("newer_field", "{message}", {"message": problem}),
                loc=place,
                input=None,
            )
            for place, problem in faults
        ]
        raise ValidationError.from_exception_data(title, lines, hide_input=True)


def _is_unknown_here(detail: ErrorDetails) -> bool:
    return detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1


def _unknown_field(model: str, name: str, known: list[str]) -> PydanticCustomError:
    near = closest(name, known)
    hint = f"did you mean '{near}'?" if near else "it has: " + ", ".join(sorted(known))
    return PydanticCustomError(
        "extra_forbidden",
        "{model} has no field '{name}'; {hint}",
        {"model": model, "name": name, "hint": hint},
    )


class SchemaVersion(DyffSchemaBaseModel):
    """States the version of the schema that the object is written in."""

    schemaVersion: Literal["0.1"] = Field(default="0.1", description="The dyff schema version")


class DyffModelWithID(DyffSchemaBaseModel):
    """Something with an identity and an owner."""

    id: str = Field(description="Unique identifier of the entity")
    account: str = Field(description="Account that owns the entity")


class Status(DyffSchemaBaseModel):
    """How the work on an entity stands; assigned by the platform."""

    status: str | None = Field(default=None, description="Top-level status, assigned by the system")
    reason: str | None = Field(default=None, description="Why the status is as it is, assigned by the system")


class Label(DyffSchemaBaseModel):
    """A key and a value that mean something to users, and nothing to the platform.

    The rules are those of Kubernetes labels. Keys under ``dyff.io/`` and its subdomains are reserved.
    """

    key: LabelKey = Field(description="A DNS label, with an optional DNS domain and a slash before it")
    value: LabelValue | None = Field(
        default=None, description="Alphanumeric characters, separated by '.', '-' or '_'"
    )


class Labeled(DyffSchemaBaseModel):
    """Something that carries labels."""

    labels: dict[LabelKey, LabelValue | None] = Field(
        default_factory=dict, description="Identifying attributes that mean something to users; see Label"
    )


class Annotation(DyffSchemaBaseModel):
    """A key and an arbitrary string: metadata that does not identify.

    The rules of keys are those of Kubernetes annotations. Keys under ``dyff.io/`` and its subdomains are
    reserved; this project's own stand under ``dyff-dagster/`` (see ``schema.annotations``).
    """

    key: AnnotationKey = Field(description="A DNS label, with an optional DNS domain and a slash before it")
    value: str = Field(description="An arbitrary string")


class QueryableDyffEntity(DyffSchemaBaseModel):
    """The two things by which an entity is looked for."""

    id: str = Field(description="Unique identifier of the entity")
    name: str = Field(description="Descriptive name of the resource")


class DyffEntity(Status, Labeled, SchemaVersion, DyffModelWithID):
    """What all entities share: identity, owner, labels, annotations, status, time of creation."""

    kind: EntityKind
    annotations: list[Annotation] = Field(
        default_factory=list, description="Arbitrary metadata that does not identify; see Annotation"
    )
    creationTime: UtcDatetime | None = Field(
        default=None, description="When the entity was created, assigned by the system"
    )

    @abc.abstractmethod
    def dependencies(self) -> list[str]:
        """Return the ids of the entities that must have succeeded before this one's work can start."""

    @abc.abstractmethod
    def resource_allocation(self) -> ResourceAllocation | None:
        """Return what running this entity's work takes, or None where there is nothing to run."""
