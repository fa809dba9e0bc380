"""Which replies with status 200 are no answers, and what replies cost: as authors write it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dyff_dagster.schema.answer_rules import AnswerRulesError, parse_answer_rules
from dyff_dagster.schema.prices import Prices, PricesError, parse_prices


def judged(rules: Any, reply: Any) -> str | None:
    verdict = parse_answer_rules(json.dumps(rules)).judge(reply)
    return None if verdict is None else verdict.kind


def chat(reason: str | None, content: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "gpt-4.1-2025-04-14",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": content,
                    "annotations": [],
                    "refusal": None,
                    **more,
                },
                "logprobs": None,
                "finish_reason": reason,
            }
        ],
        "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29},
        "service_tier": "default",
    }


def completion(reason: str | None, text: Any) -> dict[str, Any]:
    return {
        "id": "cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7",
        "object": "text_completion",
        "created": 1589478378,
        "model": "m",
        "choices": [
            {"text": text, "index": 0, "logprobs": None, "finish_reason": reason, "stop_reason": None}
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }


CALL = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (chat("stop", "Hello! How can I help?"), None),
        (chat("stop", "0"), None),
        (chat("tool_calls", None, tool_calls=CALL), None),
        (chat("length", "Hello! How c"), "truncated"),
        (chat("length", None), "truncated"),
        (chat("content_filter", ""), "filtered"),
        (chat("content_filter", "half"), "filtered"),
        (chat("stop", None, refusal="I'm sorry, I cannot assist with that request."), "refusal"),
        (chat("stop", ""), "empty"),
        (chat("stop", " \n\t"), "empty"),
        (chat("stop", None), "empty"),
        (chat("stop", None, tool_calls=[]), "empty"),
        (
            {"error": {"message": "The server had an error", "type": "server_error", "code": None}},
            "error-body",
        ),
        ({"object": "error", "message": "context length", "code": 400}, "empty"),
        ({"choices": []}, "empty"),
        ({}, "empty"),
        ([], "empty"),
    ],
)
def test_the_chat_preset_says_what_is_no_answer(reply: Any, kind: str | None) -> None:
    assert judged({"preset": "openai-chat"}, reply) == kind


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (completion("stop", "\n\nThis is indeed a test"), None),
        (completion("length", "\n\nThis is indeed"), "truncated"),
        (completion("content_filter", ""), "filtered"),
        (completion("stop", ""), "empty"),
        (completion("stop", None), "empty"),
        ({"error": {"message": "overloaded"}}, "error-body"),
        ({"error": None, **completion("stop", "yes")}, None),
    ],
)
def test_the_completions_preset_says_what_is_no_answer(reply: Any, kind: str | None) -> None:
    assert judged({"preset": "openai-completions"}, reply) == kind


def test_an_error_in_the_body_is_asked_again_and_a_refusal_is_not() -> None:
    rules = parse_answer_rules('{"preset": "openai-chat"}')
    error, refusal = rules.judge({"error": {"message": "x"}}), rules.judge(chat("stop", None, refusal="No."))
    assert error is not None and error.retryable
    assert refusal is not None and not refusal.retryable


def test_an_authors_own_rules_go_before_the_presets() -> None:
    own = {"class": "no-comment", "path": "$.choices[*].message.content", "matches": "^I cannot"}
    both = {"preset": "openai-chat", "rules": [own]}
    assert judged(both, chat("length", "I cannot say")) == "no-comment"
    assert judged(both, chat("length", "I can say")) == "truncated"


def test_the_first_rule_that_applies_says_the_class() -> None:
    one = {"class": "one", "path": "$.a", "exists": True}
    two = {"class": "two", "path": "$.b", "is": [1, None]}
    assert judged([one, two], {"a": 1, "b": 1}) == "one"
    assert judged([one, two], {"b": None}) == "two"
    assert judged([one, two], {"b": 2}) is None


def test_without_rules_every_reply_is_an_answer() -> None:
    assert parse_answer_rules(None).judge({"error": 1}) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON: write a list of rules"),
        ('"openai-chat"', "must be a list of rules, or an object with preset and rules"),
        (
            '{"presets": "openai-chat"}',
            "has no key 'presets': it is a list of rules, or an object",
        ),
        ('{"preset": "openai"}', "has no such preset: write one of openai-chat, openai-completions"),
        ('{"preset": ["openai-chat"]}', "has no such preset"),
        ('{"rules": {}}', "must be a list of rules"),
        ("[1]", "rule 1 is no object"),
        (
            '[{"class": "a", "path": "$.a", "exist": true}]',
            "rule 1 has no key 'exist'; did you mean 'exists'?",
        ),
        ('[{"path": "$.a", "exists": true}]', "rule 1 needs a class of lower-case letters"),
        (
            '[{"class": "Too Long", "path": "$.a", "exists": true}]',
            "rule 1 needs a class of lower-case letters",
        ),
        ('[{"class": "a", "exists": true}]', "rule 1 needs a path, such as"),
        ('[{"class": "a", "path": "$.a"}]', "rule 1 needs exactly one of is, exists, empty, matches"),
        ('[{"class": "a", "path": "$.a", "is": [1], "empty": true}]', "rule 1 needs exactly one of"),
        ('[{"class": "a", "path": "$.a", "is": "x"}]', 'rule 1 needs a list for is, such as ["length"]'),
        ('[{"class": "a", "path": "$.a", "exists": false}]', "rule 1 needs true for exists"),
        ('[{"class": "a", "path": "$.a", "matches": "("}]', "rule 1 needs a regular expression for matches"),
        ('[{"class": "a", "path": "$.a", "matches": 3}]', "rule 1 needs a regular expression for matches"),
        ('[{"class": "a", "path": "$[", "exists": true}]', "rule 1 cannot be read: "),
        ('[{"class": "a", "path": "$.a", "exists": true, "unless": 3}]', "rule 1 cannot be read: "),
        (
            '[{"class": "a", "path": "$.a", "exists": true}, {"class": "", "path": "$", "exists": true}]',
            "rule 2 needs a class",
        ),
    ],
)
def test_a_rule_that_is_none_is_named_with_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(AnswerRulesError) as caught:
        parse_answer_rules(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("retry", ["yes", 1, "false"])
def test_retry_is_true_or_false(retry: Any) -> None:
    rule = {"class": "a", "path": "$.a", "exists": True, "retry": retry}
    with pytest.raises(AnswerRulesError, match="rule 1 needs true or false for retry"):
        parse_answer_rules(json.dumps([rule]))


# Prices


def test_prices_are_for_a_million_tokens_unless_it_says_otherwise() -> None:
    assert parse_prices(None) is None
    prices = parse_prices('{"input": 0.15, "output": 0.6}')
    assert prices is not None
    assert prices.cost(2_000_000, 500_000, 7) == pytest.approx(0.6)
    dear = parse_prices('{"input": 1, "output": 2, "request": 0.5, "per": 1000, "currency": "EUR"}')
    assert dear == Prices(1, 2, 0.5, 1000, "EUR")
    assert dear.cost(1000, 2000, 3) == 6.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.15", 'must be a JSON object such as {"input": 0.15, "output": 0.6}'),
        ("{", "must be a JSON object"),
        ('{"inputs": 1}', "has no key 'inputs'; did you mean 'input'?"),
        ('{"tokens": 1}', "has no key 'tokens'; "),
        ('{"input": -1}', "input must be a number, 0 or more"),
        ('{"input": "much"}', "input must be a number, 0 or more"),
        ('{"input": true}', "input must be a number, 0 or more"),
        ('{"output": NaN}', "output must be a number, 0 or more"),
        ('{"output": 1e999}', "output must be a number, 0 or more"),
        ('{"currency": 3}', "currency must be a text, such as USD"),
        ('{"per": 0}', "per must be a number, more than 0"),
    ],
)
def test_a_price_that_is_none_is_named_with_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(PricesError) as caught:
        parse_prices(text)
    assert said in str(caught.value)
