"""Rows per second of schema adapters, beside dyff-schema's, and the memory that long streams need."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from benchmarks.pairing import Claim, Contender, Ratio, arguments, compare, report, timed
from dyff_dagster.schema.adapters import create_pipeline
from tests.reference.environments import reference_python

REFERENCE = "0.46.17"
DIFFERENT, TIMES = 500, 40
ROWS = DIFFERENT * TIMES
"""Rows that each contender takes: few different ones again and again, for rows that come from a file or a reply
are in the processor's cache when an adapter gets them."""

WORKER = Path(__file__).parent / "reference" / "time_pipelines.py"

Pipeline = list[dict[str, Any]]

FOUR_PATHS: Pipeline = [
    {
        "kind": "TransformJSON",
        "configuration": {
            "id": "$.id",
            "prompt": "$.question",
            "first": "$.choices[0]",
            "source": "$.meta.source",
        },
    }
]
ONE_PATH: Pipeline = [{"kind": "TransformJSON", "configuration": {"model": "m-1", "prompt": "$.question"}}]
CHAT: Pipeline = [
    {
        "kind": "TransformJSON",
        "configuration": {
            "model": "m-1",
            "max_tokens": 64,
            "messages": [
                {"role": "system", "content": "Answer with one letter."},
                {"role": "user", "content": "$.question"},
            ],
        },
    }
]
SEVERAL_MATCHES: Pipeline = [
    {"kind": "TransformJSON", "configuration": {"all": {"$compute": {"$list": "$.choices[*]"}}}}
]
EXPLODE: Pipeline = [
    {
        "kind": "ExplodeCollections",
        "configuration": {"collections": ["choices", "scores"], "index": {"rank": None}},
    },
    {"kind": "FlattenHierarchy", "configuration": {"addPrefix": True}},
    {"kind": "Select", "configuration": {"fields": ["id", "choices", "scores", "rank", "meta.source"]}},
]
REPLY: Pipeline = [
    {"kind": "ExplodeCollections", "configuration": {"collections": ["choices"], "index": {"rank": None}}},
    {"kind": "FlattenHierarchy", "configuration": {"addPrefix": True}},
    {
        "kind": "Select",
        "configuration": {"fields": ["rank", "choices.message.content", "usage.total_tokens"]},
    },
]

Rows = list[dict[str, Any]]


def row(number: int, elements: int = 4) -> dict[str, Any]:
    """A row of six top-level fields, two of them lists of so many elements."""
    return {
        "_index_": number,
        "id": f"item-{number}",
        "question": f"What is {number} + {number}?",
        "choices": [str(number * (position + 1)) for position in range(elements)],
        "scores": [2.0**-position for position in range(elements)],
        "meta": {"source": "made up", "level": {"grade": number % 12, "hard": number % 2 == 0}},
    }


def reply(number: int) -> dict[str, Any]:
    """A reply of a service for chats, with two choices."""
    choices = [
        {"index": n, "message": {"role": "assistant", "content": f"{number} {n}"}, "finish_reason": "stop"}
        for n in range(2)
    ]
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    return {
        "id": f"chat-{number}",
        "object": "chat.completion",
        "created": 1700000000 + number,
        "model": "m-1",
        "choices": choices,
        "usage": usage,
    }


def as_read(make: Callable[[int], dict[str, Any]]) -> Rows:
    """Different rows, as they come from a file: each with texts of its own for the names of its fields."""
    return [json.loads(json.dumps(make(number))) for number in range(DIFFERENT)]


CASES: dict[str, tuple[Pipeline, Callable[[int], dict[str, Any]], float | None]] = {
    "TransformJSON, one path": (ONE_PATH, row, None),
    "TransformJSON, four paths": (FOUR_PATHS, row, 40),
    "TransformJSON, a chat request": (CHAT, row, None),
    "TransformJSON, `$.choices[*]`": (SEVERAL_MATCHES, row, None),
    "Explode → Flatten → Select, two elements": (EXPLODE, partial(row, elements=2), 5),
    "Explode → Flatten → Select, four elements": (EXPLODE, row, 5),
    "Explode → Flatten → Select, ten elements": (EXPLODE, partial(row, elements=10), 5),
    "Explode → Flatten → Select, two choices of a chat's reply": (REPLY, reply, None),
}


def ours(pipeline: Pipeline, rows: Rows) -> Contender:
    made = create_pipeline(pipeline)
    stream = chain.from_iterable
    return timed(lambda: deque(made(stream(repeat(rows, TIMES))), maxlen=0), time.process_time)


def reference(worker: subprocess.Popen[str], pipeline: Pipeline, file: Path) -> Contender:
    assert worker.stdin is not None and worker.stdout is not None
    ask, answer = worker.stdin, worker.stdout

    def contender() -> float:
        ask.write(json.dumps({"pipeline": pipeline, "rows": str(file)}) + "\n")
        ask.flush()
        return float(answer.readline())

    return contender


def speed(repeats: int) -> Iterator[Claim]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rows.jsonl"
        python = str(reference_python(REFERENCE))
        with subprocess.Popen(
            [python, str(WORKER), str(TIMES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as worker:
            for what, (pipeline, make, target) in CASES.items():
                rows = as_read(make)
                file.write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
                seconds = compare(
                    {"ours": ours(pipeline, rows), "reference": reference(worker, pipeline, file)}, repeats
                )
                rate, other = (ROWS / seconds.median(name) for name in ("ours", "reference"))
                yield Claim(
                    what,
                    seconds.speedup("ours", "reference"),
                    "× the reference's rows/s",
                    at_least=target,
                    note=f"{rate:,.0f} against {other:,.0f} rows/s",
                )
            worker.stdin.close()  # type: ignore[union-attr]


def memory() -> Claim:
    """The peak of a stream that is eight times as long, over that of the short one."""
    pipeline = create_pipeline([*EXPLODE, {"kind": "TransformJSON", "configuration": {"x": "$.choices"}}])
    deque(pipeline([row(0)]), maxlen=0)  # what is made for the first row stays
    peaks = []
    for size in (ROWS // 8, ROWS):
        tracemalloc.start()
        deque(pipeline(row(number) for number in range(size)), maxlen=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    ratio = peaks[1] / peaks[0]
    return Claim(
        f"memory of a stream of {ROWS:,} rows",
        Ratio(ratio, ratio, ratio),
        f"× that of {ROWS // 8:,} rows",
        at_most=1.5,
        note=f"at most {max(peaks) / 1024:,.0f} KiB, whatever the length",
    )


def main() -> None:
    options = arguments(__doc__)
    report("adapters", [*speed(options.repeats), memory()], write=options.write)


if __name__ == "__main__":
    main()
