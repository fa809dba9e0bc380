"""Replies that came with status 200 and are no answers: empty, cut short, filtered, refused, an error inside.

The annotation ``dyff-dagster/answer-rules`` of an InferenceService says how to tell, as JSON: a list of
rules, or ``{"preset": "openai-chat", "rules": […]}``. A rule is::

    {"class": "truncated", "path": "$.choices[*].finish_reason", "is": ["length"]}

It is about what its JSONPath finds in the service's reply, before any pipeline: ``is`` (one of it is one of
these values), ``exists`` (something is there that is not null or empty), ``empty`` (nothing is there, or
only null, empty or blank), ``matches`` (a regular expression is found in one of it). ``unless``, another
path, keeps the rule from applying where something is there. ``retry: true`` asks again. The first rule that
applies says the class.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dyff_dagster.schema.base import closest
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.jsonpath import JSONPathError, Path
from dyff_dagster.schema.variables import resolve

_CLASS = re.compile(r"[a-z][a-z0-9-]{0,62}")
_TESTS = ("is", "exists", "empty", "matches")
_KEYS = ("class", "path", *_TESTS, "unless", "retry")

PRESETS: dict[str, tuple[dict[str, Any], ...]] = {
    # The fields are those of OpenAI's chat completions and completions APIs, which vLLM and others share.
    "openai-chat": (
        {"class": "error-body", "path": "$.error", "exists": True, "retry": True},
        {"class": "filtered", "path": "$.choices[*].finish_reason", "is": ["content_filter"]},
        {"class": "truncated", "path": "$.choices[*].finish_reason", "is": ["length"]},
        {"class": "refusal", "path": "$.choices[*].message.refusal", "exists": True},
        {
            "class": "empty",
            "path": "$.choices[*].message.content",
            "empty": True,
            "unless": "$.choices[*].message.tool_calls",
        },
    ),
    "openai-completions": (
        {"class": "error-body", "path": "$.error", "exists": True, "retry": True},
        {"class": "filtered", "path": "$.choices[*].finish_reason", "is": ["content_filter"]},
        {"class": "truncated", "path": "$.choices[*].finish_reason", "is": ["length"]},
        {"class": "empty", "path": "$.choices[*].text", "empty": True},
    ),
}


class AnswerRulesError(DyffError):
    """The annotation ``dyff-dagster/answer-rules`` cannot be read; says which rule and what would be right."""


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a reply.

    Attributes:
        kind: The class.
        retryable: Whether asking again may help.
    """

    kind: str
    retryable: bool


Rule = Callable[[Any], Verdict | None]


class AnswerRules:
    """Rules, compiled.

    Args:
        rules: In the order in which they are asked, as the annotation has them.

    Raises:
        AnswerRulesError: One of them is none.
    """

    def __init__(self, rules: Sequence[Any] = ()) -> None:
        self._said = list(rules)
        self._rules = [_compile(rule, f"rule {number}") for number, rule in enumerate(rules, 1)]

    def __reduce__(self) -> tuple[type[AnswerRules], tuple[list[Any]]]:
        """Compiled functions do not travel to another process; what they were compiled from does."""
        return AnswerRules, (self._said,)

    def judge(self, reply: Any) -> Verdict | None:
        """The class of a reply that is no answer, None for one that is."""
        for rule in self._rules:
            if (verdict := rule(reply)) is not None:
                return verdict
        return None


def parse_answer_rules(text: str | None, environment: Mapping[str, str] | None = None) -> AnswerRules:
    """Read the annotation ``dyff-dagster/answer-rules``.

    Args:
        text: The annotation's value, or None.
        environment: What ``${NAME}`` in its texts stands for; None: they are left as they are.

    Raises:
        AnswerRulesError: It is no JSON, or a rule in it is none; the message does not name the annotation.
    """
    if text is None:
        return AnswerRules()
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise AnswerRulesError("is no JSON: write a list of rules") from None
    if environment is not None:
        said = resolve(said, environment, "dyff-dagster/answer-rules")
    if isinstance(said, dict):
        preset, rules = said.get("preset"), said.get("rules", [])
        if unknown := sorted(set(said) - {"preset", "rules"}):
            raise AnswerRulesError(
                f"has no key {unknown[0]!r}: it is a list of rules, or an object with preset and rules"
            )
        if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
            raise AnswerRulesError(f"has no such preset: write one of {', '.join(PRESETS)}")
        before: Sequence[Any] = PRESETS[preset] if preset is not None else ()
    else:
        before, rules = (), said
    if not isinstance(rules, list):
        raise AnswerRulesError("must be a list of rules, or an object with preset and rules")
    # An author's own rules know better than a preset.
    return AnswerRules([*rules, *before])


def _compile(rule: Any, where: str) -> Rule:
    if not isinstance(rule, dict):
        raise _wrong(where, "is no object")
    for key in rule:
        if key not in _KEYS:
            near = closest(key, _KEYS)
            raise _wrong(where, f"has no key {key!r}; " + (f"did you mean {near!r}?" if near else _known()))
    kind, path = rule.get("class"), rule.get("path")
    if not isinstance(kind, str) or not _CLASS.fullmatch(kind):
        raise _wrong(where, "needs a class of lower-case letters, digits and hyphens, such as truncated")
    if not isinstance(path, str):
        raise _wrong(where, "needs a path, such as $.choices[*].finish_reason")
    if not isinstance(rule.get("retry", False), bool):
        raise _wrong(where, "needs true or false for retry")
    tests = [name for name in _TESTS if name in rule]
    if len(tests) != 1:
        raise _wrong(where, f"needs exactly one of {', '.join(_TESTS)}")
    try:
        look = Path(path)
        unless = Path(rule["unless"]) if "unless" in rule else None
    except (JSONPathError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, JSONPathError) else "unless is no JSONPath query"
        raise _wrong(where, f"cannot be read: {why}") from None
    holds = _test(tests[0], rule[tests[0]], where)
    verdict = Verdict(kind, bool(rule.get("retry", False)))

    def apply(reply: Any) -> Verdict | None:
        if not holds(look.find(reply)):
            return None
        if unless is not None and any(_is_there(value) for value in unless.find(reply)):
            return None
        return verdict

    return apply


def _test(name: str, value: Any, where: str) -> Callable[[list[Any]], bool]:
    if name == "is":
        if not isinstance(value, list):
            raise _wrong(where, 'needs a list for is, such as ["length"]')
        return lambda found: any(item in value for item in found)
    if name == "matches":
        try:
            pattern = re.compile(value)
        except (re.error, TypeError):
            raise _wrong(where, "needs a regular expression for matches") from None
        return lambda found: any(isinstance(item, str) and pattern.search(item) for item in found)
    if value is not True:
        raise _wrong(where, f"needs true for {name}")
    if name == "exists":
        return lambda found: any(_is_there(item) for item in found)
    return lambda found: not any(_is_there(item) for item in found)


def _is_there(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and value != [] and value != {}


def _wrong(where: str, problem: str) -> AnswerRulesError:
    return AnswerRulesError(f"{where} {problem}")


def _known() -> str:
    return "it has " + ", ".join(_KEYS)
