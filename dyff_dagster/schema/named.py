"""Named data schemas: models of rows that ``DyffDataSchema.components`` calls by name, as ``text.Text``."""

from __future__ import annotations

import builtins
from typing import Any

import pydantic
from pydantic import Field

from dyff_dagster.schema.base import DyffSchemaBaseModel, closest
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.types import Int64, list_

__all__ = [
    "NAMED_SCHEMAS",
    "DuplicateFieldError",
    "Image",
    "Label",
    "Media",
    "TaggedSpan",
    "TaggedSpans",
    "Text",
    "Tokens",
    "UnknownComponentError",
    "compose",
    "embedding",
]


class UnknownComponentError(DyffError):
    """A component that is no named data schema; ``component`` is its name."""

    def __init__(self, component: str) -> None:
        self.component = component
        near = closest(component, NAMED_SCHEMAS)
        hint = f"did you mean '{near}'?" if near else "there are " + ", ".join(NAMED_SCHEMAS)
        super().__init__(f"there is no data schema named '{component}'; {hint}")


class DuplicateFieldError(DyffError):
    """Two components of one schema declare the same field: ``field``, by ``first`` and ``second``."""

    def __init__(self, field: str, first: str, second: str) -> None:
        self.field, self.first, self.second = field, first, second
        super().__init__(
            f"the data schemas '{first}' and '{second}' both have a field '{field}': list only one of them"
        )


class Label(DyffSchemaBaseModel):
    """A single class."""

    label: str = Field(description="The class of the item")


class Text(DyffSchemaBaseModel):
    """A text."""

    text: str = Field(description="The text")


class Tokens(DyffSchemaBaseModel):
    """A text in pieces."""

    tokens: list[str] = Field(description="The pieces of the text, in order")


class TaggedSpan(DyffSchemaBaseModel):
    """A stretch of a text, with a tag."""

    start: Int64 = Field(ge=0, description="Position of the first character, from 0")
    end: Int64 = Field(ge=0, description="Position after the last character")
    tag: str = Field(description="What the stretch is marked as")


class TaggedSpans(DyffSchemaBaseModel):
    """Tagged stretches of one text."""

    spans: list[TaggedSpan] = Field(description="The stretches")


class Image(DyffSchemaBaseModel):
    """An image file."""

    bytes: builtins.bytes = Field(description="The file's bytes")
    format: str = Field(description="The file's MIME type")


class Media(DyffSchemaBaseModel):
    """Bytes of any media type."""

    data: bytes = Field(description="The bytes")
    mediaType: str = Field(description="The media type (MIME type) of the bytes")


def embedding(element_type: Any, size: int) -> type[DyffSchemaBaseModel]:
    """Return a model of one field, ``embedding``: ``size`` numbers of ``element_type`` (``float32()``).

    Raises:
        ListSizeError: ``size`` is less than one.
    """
    return pydantic.create_model(
        "Embedding",
        __base__=DyffSchemaBaseModel,
        embedding=(list_(element_type, size), Field(description="The embedding vector")),
    )


NAMED_SCHEMAS: dict[str, type[DyffSchemaBaseModel]] = {
    "binary.Media": Media,
    "classification.Label": Label,
    "text.TaggedSpan": TaggedSpan,
    "text.TaggedSpans": TaggedSpans,
    "text.Text": Text,
    "text.Tokens": Tokens,
    "vision.Image": Image,
}
"""Every schema that a component can name. (An embedding has parameters, and so no name.)"""


def compose(components: list[str]) -> type[DyffSchemaBaseModel]:
    """Return one model with the fields of all components.

    The fields of the last component come first, as in the reference: Arrow schemas are ordered, and these
    have to be equal to those of data that were made there.

    Raises:
        UnknownComponentError: a component is not in NAMED_SCHEMAS.
        DuplicateFieldError: two components declare the same field.
    """
    declared: dict[str, str] = {}
    for component in components:
        if component not in NAMED_SCHEMAS:
            raise UnknownComponentError(component)
        for field in NAMED_SCHEMAS[component].model_fields:
            if field in declared:
                raise DuplicateFieldError(field, declared[field], component)
            declared[field] = component
    bases = tuple(NAMED_SCHEMAS[component] for component in components)
    return pydantic.create_model("Composition", __base__=bases)
