"""What the logs of other harnesses have in common: questions, and how often each was answered with what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Taken:
    """One sample, asked once.

    Attributes:
        name: The sample's own id.
        replication: Which of its epochs or repeats, from 0.
        question: What was asked, with the fields of the file's ``question``.
        responses: What came out, or None where nothing did.
        error: The class of what went wrong, where something did; such a row is missing, and never wrong.
    """

    name: str
    replication: int
    question: dict[str, Any]
    responses: list[dict[str, Any]] | None = None
    error: str | None = None


@dataclass(frozen=True)
class SampleFile:
    """A log that can be imported.

    Attributes:
        label: What it is called in messages.
        model: Who answered, as the log names it.
        made: Where it comes from, for the record.
        replications: How often each sample was asked.
        question: Arrow schema of what was asked.
        response: Arrow schema of a response.
        withhold: Fields of the question that no service may see.
        named: The ids of all samples that were to be asked, in order, as far as the log says; those of which nothing is
            in the log are missing too.
        unasked: What is known of the question of such a one.
        samples: Reads them.
    """

    label: str
    model: str
    made: str
    replications: int
    question: pa.Schema
    response: pa.Schema
    withhold: tuple[str, ...]
    named: tuple[str, ...]
    unasked: Callable[[str], dict[str, Any]]
    samples: Callable[[], Iterator[Taken]]
