"""Tokens: what a service says that an answer used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")


@dataclass
class Usage:
    """Tokens that replies said they used.

    Attributes:
        input: Of requests.
        output: Of answers.
        counted: Replies that said anything.
    """

    input: int = 0
    output: int = 0
    counted: int = 0

    def add(self, reply: Any) -> None:
        """Read ``usage`` of a reply, as OpenAI's and Anthropic's APIs have it; nothing where there is none."""
        said = reply.get("usage") if type(reply) is dict else None
        if type(said) is not dict:
            return
        used_input, used_output = _count(said, _INPUT), _count(said, _OUTPUT)
        if used_input is None and used_output is None:
            return
        self.input += used_input or 0
        self.output += used_output or 0
        self.counted += 1


def _count(said: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = said.get(name)
        if type(value) is int and value >= 0:
            return value
    return None
