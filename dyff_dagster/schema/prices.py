"""What a service's answers cost: the annotation ``dyff-dagster/prices`` of an InferenceService."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dyff_dagster.schema.base import closest
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.variables import VARIABLE, resolve

_KEYS = ("input", "output", "request", "per", "currency")


class PricesError(DyffError):
    """The annotation ``dyff-dagster/prices`` cannot be read; says what would be right."""


@dataclass(frozen=True)
class Prices:
    """What an answer costs.

    Attributes:
        input: For ``per`` tokens of requests.
        output: For ``per`` tokens of answers.
        request: For one request, answered or not.
        per: Tokens.
        currency: For people.
    """

    input: float = 0.0
    output: float = 0.0
    request: float = 0.0
    per: float = 1_000_000
    currency: str = "USD"

    def cost(self, input_tokens: int, output_tokens: int, requests: int) -> float:
        """What that many tokens and requests cost."""
        return (input_tokens * self.input + output_tokens * self.output) / self.per + requests * self.request


def parse_prices(text: str | None, environment: Mapping[str, str] | None = None) -> Prices | None:
    """Read the annotation ``dyff-dagster/prices``: ``{"input": 0.15, "output": 0.6}`` for a million tokens.

    Args:
        text: The annotation's value, or None.
        environment: What ``"${NAME}"`` stands for; None: it is only looked whether it could be a price.

    Raises:
        PricesError: It is something else.
        VariableError: A variable is not set.
    """
    if text is None:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise PricesError('must be a JSON object such as {"input": 0.15, "output": 0.6}')
    for key in said:
        if key not in _KEYS:
            near = closest(key, _KEYS)
            raise PricesError(
                f"has no key {key!r}; "
                + (f"did you mean {near!r}?" if near else "it has " + ", ".join(_KEYS))
            )
    if environment is None:
        said = {key: value for key, value in said.items() if not _is_variable(value)}
    else:
        said = resolve(said, environment, "dyff-dagster/prices")
    prices: dict[str, Any] = {}
    for key, value in said.items():
        if key == "currency":
            if not isinstance(value, str):
                raise PricesError("currency must be a text, such as USD")
            prices[key] = value
        else:
            prices[key] = _price(key, value)
    return Prices(**prices)


def _is_variable(value: object) -> bool:
    return isinstance(value, str) and VARIABLE.fullmatch(value) is not None


def _price(key: str, value: object) -> float:
    try:
        # A variable's value is a text.
        number = (
            float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
        )
    except ValueError:
        number = -1.0
    good = math.isfinite(number) and (number > 0 if key == "per" else number >= 0)
    if not good:
        raise PricesError(f"{key} must be a number{', more than 0' if key == 'per' else ', 0 or more'}")
    return number
