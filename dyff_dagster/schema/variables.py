"""``${NAME}`` in annotations: values of the environment, put in where they are used and never stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dyff_dagster.schema.errors import DyffError

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class VariableError(DyffError):
    """A variable that is not set, or is empty; the message names it and holds no value."""


def resolve(value: Any, environment: Mapping[str, str], where: str) -> Any:
    """Put values of the environment into every text of a JSON value.

    Args:
        value: Dict, list, str or anything else, nested freely.
        environment: Where variables are looked up.
        where: For the error: the annotation that names them.

    Raises:
        VariableError: One of them is not set, or is empty.
    """
    if isinstance(value, dict):
        return {key: resolve(item, environment, where) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, environment, where) for item in value]
    if not isinstance(value, str):
        return value

    def value_of(match: re.Match[str]) -> str:
        found = environment.get(match.group(1))
        if not found:
            problem = "is not set" if found is None else "is empty"
            raise VariableError(
                f"the environment variable {match.group(1)}, which the annotation {where} names, {problem}; set it "
                "where this runs"
            )
        return found

    return VARIABLE.sub(value_of, value)
