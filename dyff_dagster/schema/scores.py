"""What scores a method yields: their names, titles, units, formats and ranges.

The form is that of 0.46, which added it to Method as ``scores``; 0.12 does not know it (see ``newer``).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from dyff_dagster.schema.base import DyffSchemaBaseModel
from dyff_dagster.schema.newer import held_fields

__all__ = ["ScoreSpec", "check_scores", "declared_scores"]

_Identifier = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=127)]


class ScoreSpec(DyffSchemaBaseModel):
    """A score that a method yields."""

    name: _Identifier = Field(description="Name of the score, unique within the method; a Python identifier")
    title: str = Field(max_length=140, description="What to head the score with")
    summary: str = Field(max_length=280, description="What the score measures, in a sentence")
    valence: Literal["positive", "negative", "neutral"] = Field(
        default="neutral", description="positive: more is better; negative: less is better"
    )
    priority: Literal["primary", "secondary"] = Field(
        default="primary", description="The primary score is shown where there is room for one"
    )
    minimum: float | None = Field(default=None, description="The least possible value")
    maximum: float | None = Field(default=None, description="The greatest possible value")
    format: str = Field(
        default="{quantity:.1f}",
        pattern=r"^(.*[^{])?[{]quantity(:[^}]*)?[}]([^}].*)?$",
        description="Python format of the value as text, with quantity and, if wanted, unit",
    )
    unit: str | None = Field(
        default=None, description="Unit of measure, in the notation of SI where it has one"
    )

    @field_validator("format")
    @classmethod
    def validate_format(cls, text: str) -> str:
        """Check that ``text`` formats a number and shows it.

        Raises:
            ValueError: it does not.
        """
        if re.search("[0-9]{4}", text):
            # It is tried out whenever it is read, and a text of a billion characters would be made.
            raise ValueError("a number in it is above 999; a score is no wider")
        try:
            shown = {text.format(quantity=number, unit="kg") for number in (3.14, -2.03)}
        except (ValueError, LookupError, AttributeError, TypeError):
            shown = set()
        if len(shown) != 2:
            raise ValueError(
                "this is no Python format of 'quantity'; write for instance '{quantity:.2f} {unit}'"
            )
        return text

    @model_validator(mode="after")
    def validate_range(self) -> Self:
        """Check that the least value is not above the greatest.

        Raises:
            ValueError: it is.
        """
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}; exchange them")
        return self

    def allows(self, value: float) -> bool:
        """Tell whether ``value`` lies between minimum and maximum, as far as they are stated."""
        above = self.minimum is None or value >= self.minimum
        return above and (self.maximum is None or value <= self.maximum)


class _Curve(DyffSchemaBaseModel):
    """A curve that a method yields. Held for 0.46; nothing is drawn from it here."""

    name: _Identifier
    title: str = Field(max_length=140)
    summary: str = Field(max_length=280)
    dimensions: dict[str, ScoreSpec]


_SPECS: TypeAdapter[list[ScoreSpec]] = TypeAdapter(list[ScoreSpec])


def check_scores(scores: list[Any]) -> list[dict[str, Any]]:
    """Return ``scores`` as they stand on 0.46's wire: specifications of scores, and of curves among them.

    Raises:
        ValidationError: one is no specification, two have one name, or not exactly one is primary.
    """
    made: list[dict[str, Any]] = []
    faults: list[InitErrorDetails] = []
    primary = 0
    for position, score in enumerate(scores):
        curve = isinstance(score, dict) and "dimensions" in score
        spec_type: type[DyffSchemaBaseModel] = _Curve if curve else ScoreSpec
        try:
            spec = spec_type.model_validate(score)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_context=False, include_input=False):
                faults.append(_fault((position, *detail["loc"]), detail["msg"]))
            continue
        primary += isinstance(spec, ScoreSpec) and spec.priority == "primary"
        made.append(spec.model_dump(exclude_none=True))
    if not faults:
        names = [score["name"] for score in made]
        for position, name in enumerate(names):
            if name in names[:position]:
                faults.append(_fault((position, "name"), f"'{name}' stands twice; rename one of them"))
        if not faults and primary != 1 and any("dimensions" not in score for score in made):
            faults.append(
                _fault((), f"{primary} of them are primary; say priority: secondary on all but one")
                if primary
                else _fault((), "none of them is primary; say priority: primary on one")
            )
    if faults:
        raise ValidationError.from_exception_data("scores", faults, hide_input=True)
    return made


def _fault(place: tuple[str | int, ...], message: str) -> InitErrorDetails:
    return InitErrorDetails(
        type=PydanticCustomError("score", "{message}", {"message": message}), loc=place, input=None
    )


def declared_scores(method: BaseModel) -> tuple[ScoreSpec, ...]:
    """Return the scores that a Method or ForeignMethod declares, in its order; none where it says nothing."""
    scores = held_fields(method).get("scores", [])
    return tuple(_SPECS.validate_python([score for score in scores if "dimensions" not in score]))
