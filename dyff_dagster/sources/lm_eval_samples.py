"""Samples of lm-eval (``--log_samples``): JSON Lines, one line a document and filter."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.samples import SampleFile, Taken

QUESTION = pa.schema(
    [
        pa.field("doc_id", pa.int64(), nullable=False),
        pa.field("input", pa.string(), nullable=False),
        pa.field("choices", pa.list_(pa.string())),
        pa.field("target", pa.string(), nullable=False),
        pa.field("doc", pa.string(), nullable=False),
    ]
)
"""What a document asks; ``choices`` are the continuations whose likelihoods were asked for."""

RESPONSE = pa.schema(
    [
        pa.field("text", pa.string()),
        pa.field("loglikelihood", pa.float64()),
        pa.field("greedy", pa.bool_()),
        pa.field("filtered", pa.string(), nullable=False),
        pa.field("metrics", pa.string(), nullable=False),
    ]
)
"""What one request came to: a text, or a log-likelihood. ``filtered`` is what each filter made of it, and ``metrics``
what lm-eval made of the document with each filter, both as JSON."""

_OWN = frozenset(
    (
        *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
        *("doc_hash", "prompt_hash", "target_hash"),
    )
)


_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d{2}-\d{2}T[\d.:-]+)\.jsonl")
"""What lm-eval calls a file of samples; ``results_DATE.json`` beside it is of the same run."""


@dataclass(frozen=True)
class _Results:
    """What the results of the same run say: who answered, and how many documents were asked, where they do."""

    model: str = "lm-eval"
    asked: int | None = None


class _Malformed(Exception):
    """What is wrong with a line, without what stands in it."""


def read_lm_eval(path: Path) -> SampleFile:
    """Read a file of samples; it is held in memory.

    Where the run's results lie beside it, they name the model, and a file with fewer documents than were asked is
    refused.

    Raises:
        SourceError: It is none, and the line is named; or it is not whole.
    """
    results = _results_beside(path)
    documents: dict[int, dict[str, Any]] = {}
    filters: dict[int, dict[str, dict[str, Any]]] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                sample = json.loads(line)
                if not isinstance(sample, dict):
                    raise _Malformed("is no JSON object")
                _add(sample, documents, filters)
            except (ValueError, RecursionError, _Malformed) as error:
                why = str(error) if isinstance(error, _Malformed) else "is no JSON"
                raise SourceError(f"{path}: line {number} {why}", "IngestFailed") from None
    if not documents:
        raise SourceError(f"{path} has no samples", "IngestFailed")
    if results.asked is not None and len(documents) != results.asked:
        raise SourceError(
            f"{path} has {len(documents)} documents, and the results beside it say that {results.asked} were asked: "
            "take the whole file, or import it from a directory without them",
            "IngestFailed",
        )
    # A single continuation is the target itself.
    chosen = any(len(_continuations(sample["arguments"])) > 1 for sample in documents.values())
    repeats = max(len(each) for sample in documents.values() for each in sample["resps"])
    return SampleFile(
        label="lm-eval's samples",
        model=results.model,
        made=f"lm-eval:{path.name}",
        replications=max(1, repeats),
        question=QUESTION,
        response=RESPONSE,
        withhold=("target", "doc") if chosen else ("target", "doc", "choices"),
        named=tuple(str(name) for name in sorted(documents)),
        unasked=lambda name: {},
        samples=lambda: _samples(documents, filters, repeats),
    )


def _add(
    sample: dict[str, Any],
    documents: dict[int, dict[str, Any]],
    filters: dict[int, dict[str, dict[str, Any]]],
) -> None:
    name = sample.get("doc_id")
    if not isinstance(name, int) or isinstance(name, bool):
        raise _Malformed("has no doc_id: it is no sample of lm-eval (--log_samples writes them)")
    resps = sample.get("resps")
    if not isinstance(resps, list) or not resps or not all(isinstance(each, list) for each in resps):
        raise _Malformed("has no resps: it is no sample of lm-eval (--log_samples writes them)")
    arguments = _arguments(sample.get("arguments"))
    if len(arguments) != len(resps):
        raise _Malformed("has another number of arguments than of resps")
    by = str(sample.get("filter", "none"))
    if by in filters.setdefault(name, {}):
        raise _Malformed("has the doc_id and filter of an earlier line: import the tasks one by one")
    filtered = sample.get("filtered_resps")
    filters[name][by] = {
        "filtered": filtered if isinstance(filtered, list) else [filtered] * len(resps),
        "metrics": {key: value for key, value in sample.items() if key not in _OWN},
    }
    documents.setdefault(
        name,
        {"doc": sample.get("doc"), "target": sample.get("target"), "arguments": arguments, "resps": resps},
    )


def _arguments(said: Any) -> list[list[Any]]:
    """The arguments of each request: newer releases write ``gen_args_0: {arg_0, arg_1}``, older ones lists."""
    if isinstance(said, dict):
        said = [list(each.values()) if isinstance(each, dict) else each for each in said.values()]
    if not isinstance(said, list) or not all(isinstance(each, list) and each for each in said):
        raise _Malformed("has no arguments: it is no sample of lm-eval (--log_samples writes them)")
    return said


def _continuations(arguments: list[list[Any]]) -> list[str]:
    """Those whose likelihoods were asked for."""
    return [each[1] for each in arguments if len(each) > 1 and isinstance(each[1], str)]


def _results_beside(path: Path) -> _Results:
    """What the results of the same run say, where they lie beside the samples."""
    named = _NAME.fullmatch(path.name)
    beside = None if named is None else path.with_name(f"results_{named['date']}.json")
    if named is None or beside is None or not beside.is_file():
        return _Results()
    try:
        found = json.loads(beside.read_bytes())
    except (ValueError, RecursionError):
        raise SourceError(
            f"{beside} is no JSON, as lm-eval's results are: import the samples from a directory without it",
            "IngestFailed",
        ) from None
    found = found if isinstance(found, dict) else {}
    asked: Any = found.get("n-samples")  # of releases since 0.4.3
    for name in (named["task"], "effective"):
        asked = asked.get(name) if isinstance(asked, dict) else None
    return _Results(str(found.get("model_name") or "lm-eval"), asked if isinstance(asked, int) else None)


def _samples(
    documents: dict[int, dict[str, Any]], filters: dict[int, dict[str, dict[str, Any]]], repeats: int
) -> Iterator[Taken]:
    for name in sorted(documents):
        sample, by_filter = documents[name], filters[name]
        arguments = sample["arguments"]
        question = {
            "doc_id": name,
            "input": arguments[0][0] if isinstance(arguments[0][0], str) else json.dumps(arguments[0][0]),
            "choices": _continuations(arguments) or None,
            "target": sample["target"] if isinstance(sample["target"], str) else json.dumps(sample["target"]),
            "doc": json.dumps(sample["doc"], sort_keys=True),
        }
        metrics = json.dumps({by: found["metrics"] for by, found in by_filter.items()}, sort_keys=True)
        for repeat in range(repeats):
            responses = []
            for position, each in enumerate(sample["resps"]):
                if repeat >= len(each) or each[repeat] is None:
                    break
                filtered = {
                    by: found["filtered"][position] if position < len(found["filtered"]) else None
                    for by, found in by_filter.items()
                }
                responses.append(
                    {
                        **_said(arguments[position], each[repeat]),
                        "filtered": json.dumps(filtered, sort_keys=True),
                        "metrics": metrics,
                    }
                )
            if len(responses) < len(sample["resps"]):
                yield Taken(str(name), repeat, question, error="no-response")
            else:
                yield Taken(str(name), repeat, question, responses)


def _said(arguments: list[Any], answer: Any) -> dict[str, Any]:
    """A text where one was to be generated, else a log-likelihood, which newer releases write as text."""
    generated = len(arguments) > 1 and not isinstance(arguments[1], str)
    if generated:
        return {"text": answer if isinstance(answer, str) else json.dumps(answer)}
    likelihood, greedy = (
        (answer[0], answer[1]) if isinstance(answer, list) and len(answer) == 2 else (answer, None)
    )
    if isinstance(likelihood, list) and likelihood:
        likelihood = likelihood[0]
    try:
        number = float(likelihood)
    except (TypeError, ValueError):
        return {"text": answer if isinstance(answer, str) else json.dumps(answer)}
    return {
        "loglikelihood": None if math.isnan(number) else number,
        "greedy": None if greedy is None else str(greedy) == "True",
    }
