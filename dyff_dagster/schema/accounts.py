"""Who owns entities, and who may do what with them."""

from __future__ import annotations

from pydantic import Field

from dyff_dagster.schema.base import DyffSchemaBaseModel, UtcDatetime
from dyff_dagster.schema.enumerations import APIFunctions, Resources

__all__ = ["APIKey", "AccessGrant", "Account", "Identity"]


class Identity(DyffSchemaBaseModel):
    """Who an account is to identity providers outside."""

    google: str | None = None


class AccessGrant(DyffSchemaBaseModel):
    """Permission to call some functions on some resources.

    Grants add up: what any grant permits is permitted.
    """

    resources: list[Resources] = Field(min_length=1, description="Types of resources the grant is for")
    functions: list[APIFunctions] = Field(min_length=1, description="Functions that may be called on them")
    accounts: list[str] = Field(
        default_factory=list, description="Accounts whose resources the grant covers, all of them"
    )
    entities: list[str] = Field(default_factory=list, description="Single resources the grant covers, by id")


class APIKey(DyffSchemaBaseModel):
    """Permissions of one subject. A client shows it inside a signed token (JWT)."""

    id: str = Field(description="Unique id; the 'jti' claim")
    subject: str = Field(description="Whom the grants are for, as '<kind>/<id>'; the 'sub' claim")
    created: UtcDatetime = Field(description="When the key was made; the 'iat' claim")
    expires: UtcDatetime = Field(description="When the key ends; the 'exp' claim")
    secret: str | None = Field(
        default=None, description="For keys of accounts: a secret that is checked with the key"
    )
    grants: list[AccessGrant] = Field(default_factory=list, description="What the key permits")


class Account(DyffSchemaBaseModel):
    """An owner of entities."""

    name: str
    identity: Identity = Field(default_factory=Identity)
    apiKeys: list[APIKey] = Field(default_factory=list)
    id: str | None = None
    creationTime: UtcDatetime | None = None
