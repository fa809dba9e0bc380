"""Runs a small task with Inspect's own mock model and writes its log: ``python -m … DIRECTORY FORMAT``."""

from __future__ import annotations

import sys
from typing import Any

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match
from inspect_ai.solver import solver

SECRET = "what-only-the-log-may-say"


@solver
def fails_once() -> Any:
    async def solve(state: Any, generate: Any) -> Any:
        if state.sample_id == "four" and state.epoch == 2:
            raise RuntimeError(SECRET)
        return await generate(state)

    return solve


def said(number: int) -> ModelOutput:
    output = ModelOutput.from_content("mockllm/model", f"ANSWER: {number}")
    # Without them the mock model would fetch a tokenizer to count.
    output.usage = ModelUsage(input_tokens=3, output_tokens=4, total_tokens=7)
    return output


def main(directory: str, form: str) -> None:
    samples = [
        Sample(id="two", input="1+1?", target="2", metadata={"level": 1}),
        Sample(
            id="four",
            input=[ChatMessageSystem(content="Be short."), ChatMessageUser(content="2+2?")],
            target=["4", "four"],
        ),
        Sample(id="six", input="3+3?", choices=["5", "6"], target="6"),
        Sample(id="never", input="beyond the limit", target="x"),
    ]
    (log,) = eval(
        Task(dataset=MemoryDataset(samples), solver=fails_once(), scorer=match(), name="sums"),
        model=get_model("mockllm/model", custom_outputs=[said(2) for _ in range(8)]),
        epochs=2, limit=3, log_dir=directory, log_format=form, fail_on_error=False, display="none",
    )  # fmt: skip
    print(log.location)


if __name__ == "__main__":
    main(*sys.argv[1:])
