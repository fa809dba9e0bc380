"""One part of an evaluation's answers: what its name says, its columns, and what is found in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dyff_dagster.evaluation.rows import INDEX

REPLICATION = "_replication_"
REQUEST = "request"
RESPONSES = "responses"
CLASS = "_class_"
ORIGIN = "origin"


def part_schema(response_type: pa.DataType) -> pa.Schema:
    """Arrow schema of a part whose responses have this type."""
    return pa.schema(
        [
            pa.field(REPLICATION, pa.int32(), nullable=False),
            pa.field(INDEX, pa.int64(), nullable=False),
            pa.field(REQUEST, pa.binary(32), nullable=False),
            pa.field(RESPONSES, response_type),
            pa.field(CLASS, pa.string()),
            pa.field(ORIGIN, pa.string()),
        ]
    )


@dataclass(frozen=True)
class Answer:
    """One row's answer in one replication.

    Attributes:
        replication: From 0.
        position: Of the row among the data set's rows; for nothing but to keep neighbours together.
        index: The row's ``_index_``.
        request: SHA-256 of the request's body.
        responses: What the service said, as the output schema has it.
        accepted: The class of error that was taken as an answer, or None for a plain answer.
    """

    replication: int
    position: int
    index: int
    request: bytes
    responses: list[dict[str, Any]]
    accepted: str | None = None


@dataclass(frozen=True)
class Part:
    """What a part's name says."""

    name: str
    generation: int
    replication: int
    first: int
    last: int

    @property
    def rows(self) -> int:
        """How many answers are in it."""
        return int(self.name.split(".")[4])

    @classmethod
    def parse(cls, name: str) -> Part | None:
        """Read a name; None where it is none of a part."""
        pieces = name.split(".")
        if len(pieces) != 7 or pieces[-1] != "parquet":
            return None
        try:
            generation, replication = int(pieces[0][1:]), int(pieces[1][1:])
            return cls(name, generation, replication, int(pieces[2]), int(pieces[3]))
        except ValueError:
            return None


@dataclass(frozen=True)
class Found:
    """Where the answers of some rows lie.

    Attributes:
        parts: For each row the number of its part, or -1 where it has no answer: int32 (rows,).
        rows: For each row its place in that part: int32 (rows,).
    """

    parts: np.ndarray
    rows: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """Which rows have an answer: bool (rows,)."""
        return self.parts >= 0


class Keys(NamedTuple):
    """The answers of one part: ``_index_``, request digest (uint64 (rows, 4)), place in it, and whether it is plain."""

    indices: np.ndarray
    requests: np.ndarray
    rows: np.ndarray
    plain: np.ndarray
