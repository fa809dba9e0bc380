"""Documentation of entities, and families: versions of one thing under readable names."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dyff_dagster.schema.base import DyffEntity, DyffSchemaBaseModel, SchemaVersion, TagName, UtcDatetime
from dyff_dagster.schema.enumerations import FamilyMemberKind
from dyff_dagster.schema.resources import ResourceAllocation

__all__ = [
    "Documentation",
    "DocumentationBase",
    "Family",
    "FamilyBase",
    "FamilyMember",
    "FamilyMemberBase",
    "FamilyMembers",
]


class DocumentationBase(DyffSchemaBaseModel):
    """What people should know about an entity."""

    title: str | None = Field(default=None, description="A short plain string to head a page with")
    summary: str | None = Field(
        default=None, description="A few sentences, read as Markdown; small displays may cut them"
    )
    fullPage: str | None = Field(default=None, description="As much as there is to say, read as Markdown")


class Documentation(SchemaVersion, DocumentationBase):
    """Documentation that stands by itself."""


class FamilyBase(DyffSchemaBaseModel):
    """What a family is a family of."""

    memberKind: FamilyMemberKind = Field(description="The kind of all members")


class FamilyMemberBase(DyffSchemaBaseModel):
    """A readable name for an entity."""

    name: TagName = Field(description="The name, unique within the family")
    resource: str = Field(description="ID of the entity that the name stands for")
    description: str | None = Field(
        default=None, description="How this version differs from others, briefly, read as Markdown"
    )


class FamilyMember(FamilyMemberBase):
    """A readable name within a family."""

    family: str = Field(description="ID of the Family that the name belongs to")
    creationTime: UtcDatetime | None = Field(
        default=None, description="When the name was given, assigned by the system"
    )


class FamilyMembers(DyffSchemaBaseModel):
    """The names within a family."""

    members: dict[TagName, FamilyMember] = Field(default_factory=dict, description="Members by name")


class Family(DyffEntity, FamilyBase, FamilyMembers):
    """Versions of one thing: entities of a kind under readable names."""

    kind: Literal["Family"] = "Family"
    documentation: DocumentationBase = Field(
        default_factory=DocumentationBase, description="What people should know about the family"
    )

    def dependencies(self) -> list[str]:
        """Return no ids: families depend on nothing."""
        return []

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return None: nothing is run."""
        return None
