"""Logs of Inspect (``.eval`` and ``.json``), read through ``inspect_ai.log``, a sample at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.samples import SampleFile, Taken

QUESTION = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("input", pa.string()),
        pa.field("choices", pa.list_(pa.string())),
        pa.field("target", pa.list_(pa.string())),
        pa.field("metadata", pa.string()),
    ]
)
"""What a sample asks. ``input`` is null of a sample that the log names and that was never begun."""

RESPONSE = pa.schema(
    [
        pa.field("text", pa.string(), nullable=False),
        pa.field("stop_reason", pa.string()),
        pa.field("model", pa.string()),
        pa.field("limit", pa.string()),
        pa.field("messages", pa.string(), nullable=False),
        pa.field("scores", pa.string(), nullable=False),
        pa.field("input_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("seconds", pa.float64()),
    ]
)
"""What came out: ``messages`` is the whole exchange, ``scores`` what Inspect's own scorers said, both as JSON."""

_LEFT_OUT = {"events", "store", "timelines"}
"""Parts of a sample that are large and not read."""


def read_inspect_log(path: Path) -> SampleFile:
    """Open a log; samples are read when they are asked for.

    Raises:
        SourceError: It is no log of Inspect, or inspect_ai is not installed.
    """
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise SourceError(
            f"{path} is a log of Inspect, and inspect_ai is not installed: pip install 'dyff-dagster[inspect]'",
            "IngestFailed",
        ) from error
    try:
        header = read_eval_log(str(path), header_only=True)
    except Exception as error:  # whatever is wrong with a file shows itself in many ways
        raise _unreadable(path, error) from None
    spec = header.eval
    named = [str(name) for name in spec.dataset.sample_ids or ()]
    return SampleFile(
        label=f"Inspect's log of {spec.task}",
        model=spec.model,
        made=f"inspect:{spec.task}@{spec.run_id}",
        replications=max(1, spec.config.epochs or 1),
        question=QUESTION,
        response=RESPONSE,
        withhold=("target", "metadata"),
        named=tuple(named),
        unasked=lambda name: {"sample_id": name},
        samples=lambda: _samples(path),
    )


def _samples(path: Path) -> Iterator[Taken]:
    from inspect_ai.log import read_eval_log_samples

    try:
        for sample in read_eval_log_samples(
            str(path), all_samples_required=False, resolve_attachments=True, exclude_fields=_LEFT_OUT
        ):
            question = {
                "sample_id": str(sample.id),
                "input": _text(sample.input),
                "choices": sample.choices,
                "target": [sample.target] if isinstance(sample.target, str) else list(sample.target),
                "metadata": json.dumps(sample.metadata or {}, sort_keys=True, default=str),
            }
            if sample.error is not None:
                yield Taken(str(sample.id), sample.epoch - 1, question, error="error")
            elif getattr(sample, "invalidation", None) is not None:
                yield Taken(str(sample.id), sample.epoch - 1, question, error="invalidated")
            else:
                yield Taken(str(sample.id), sample.epoch - 1, question, [_response(sample)])
    except SourceError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from None


def _response(sample: Any) -> dict[str, Any]:
    output = sample.output
    usage = list((sample.model_usage or {}).values())
    return {
        "text": output.completion,
        # An agent may end without a word of the model's.
        "stop_reason": output.choices[0].stop_reason if output.choices else None,
        "model": output.model or None,
        "limit": None if sample.limit is None else str(sample.limit.type),
        "messages": json.dumps([_plain(message) for message in sample.messages], sort_keys=True),
        "scores": json.dumps(
            {name: _plain(score) for name, score in (sample.scores or {}).items()}, sort_keys=True
        ),
        "input_tokens": sum(item.input_tokens for item in usage) if usage else None,
        "output_tokens": sum(item.output_tokens for item in usage) if usage else None,
        "seconds": sample.total_time,
    }


def _plain(item: Any) -> Any:
    return item.model_dump(mode="json", exclude_none=True)


def _text(asked: Any) -> str:
    """What was asked, as one text: a message alone as it stands, several with who says them."""
    if isinstance(asked, str):
        return asked
    if len(asked) == 1:
        return str(asked[0].text)
    return "\n\n".join(f"[{message.role}]\n{message.text}" for message in asked)


def _unreadable(path: Path, error: Exception) -> SourceError:
    # The error's own words may hold what stands in the file.
    return SourceError(
        f"{path} cannot be read as a log of Inspect ({type(error).__name__}): it is damaged, or of a release that "
        "the installed inspect_ai does not know",
        "IngestFailed",
    )
