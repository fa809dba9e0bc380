"""What unanswered rows could have changed, against every way in which they could have been answered."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from dyff_dagster.analysis import AnalysisError, metrics
from dyff_dagster.analysis.metrics import with_unanswered
from dyff_dagster.analysis.statistics import bounds, rate


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def every_value(
    metric: Any, labels: Any, answers: Any, unanswered: Any, choices: Any, **settings: Any
) -> Any:
    """The metric with each way to answer the unanswered; ``choices`` are the answers to each of them."""
    return [
        found
        for made_up in itertools.product(choices, repeat=len(unanswered))
        if (found := metric([*labels, *unanswered], [*answers, *made_up], **settings).value) is not None
    ]


LABELS, ANSWERS, UNANSWERED = [1, 1, 0, 0, 1, 0, 1], [1, 0, 0, 1, 1, 0, 1], [1, 0, 1, 0]
THREE, SAID, REST = list("aabbccab"), list("abbbcaab"), list("abca")


@pytest.mark.parametrize(
    ("metric", "settings"),
    [
        (metrics.accuracy, {}),
        (metrics.balanced_accuracy, {}),
        *(
            (metric, {"average": average})
            for metric in (metrics.precision, metrics.recall, metrics.f1)
            for average in ("binary", "macro", "micro")
        ),
    ],
)
def test_the_bounds_are_the_worst_and_the_best_of_all_answers(metric: Any, settings: Any) -> None:
    estimate = with_unanswered(metric, LABELS, ANSWERS, UNANSWERED, **settings)
    possible = every_value(metric, LABELS, ANSWERS, UNANSWERED, [0, 1], **settings)
    assert (estimate.worst_low, estimate.worst_high) == (
        pytest.approx(min(possible)),
        pytest.approx(max(possible)),
    )
    assert (estimate.value, estimate.n, estimate.asked) == (
        metric(LABELS, ANSWERS, **settings).value,
        metric(LABELS, ANSWERS, **settings).n,
        11,
    )


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.balanced_accuracy, metrics.recall])
def test_of_three_classes_the_bounds_are_reached_too(metric: Any) -> None:
    settings = {"average": "macro"} if metric is metrics.recall else {}
    estimate = with_unanswered(metric, THREE, SAID, REST, **settings)
    possible = every_value(metric, THREE, SAID, REST, "abc", **settings)
    assert (estimate.worst_low, estimate.worst_high) == (
        pytest.approx(min(possible)),
        pytest.approx(max(possible)),
    )


@pytest.mark.parametrize("metric", [metrics.precision, metrics.f1])
def test_of_three_classes_no_macro_average_is_outside_of_its_bounds(metric: Any) -> None:
    estimate = with_unanswered(metric, THREE, SAID, REST, average="macro")
    possible = every_value(metric, THREE, SAID, REST, "abc", average="macro")
    assert estimate.worst_low is not None and estimate.worst_low <= min(possible) + 1e-12
    assert estimate.worst_high == pytest.approx(max(possible))


def test_an_area_is_bounded_by_the_first_and_the_last_places() -> None:
    scores = [0.9, 0.2, 0.4, 0.5, 0.7, 0.3, 0.8]
    estimate = with_unanswered(metrics.auc, LABELS, scores, [1, 0])
    possible = every_value(metrics.auc, LABELS, scores, [1, 0], [-1, 0.25, 0.5, 0.75, 2])
    assert (estimate.worst_low, estimate.worst_high) == (
        pytest.approx(min(possible)),
        pytest.approx(max(possible)),
    )


def test_probabilities_are_at_worst_certain_of_the_wrong() -> None:
    said = [0.9, 0.2, 0.4, 0.5, 0.7, 0.3, 0.8]
    estimate = with_unanswered(metrics.brier, LABELS, said, [1, 0])
    possible = every_value(metrics.brier, LABELS, said, [1, 0], [0.0, 0.5, 1.0])
    assert (estimate.worst_low, estimate.worst_high) == (
        pytest.approx(min(possible)),
        pytest.approx(max(possible)),
    )


def test_no_calibration_error_is_outside_of_its_bounds() -> None:
    said = [0.9, 0.2, 0.4, 0.5, 0.7, 0.3, 0.8]
    estimate = with_unanswered(metrics.expected_calibration_error, LABELS, said, [1, 0], bins=4)
    possible = every_value(
        metrics.expected_calibration_error, LABELS, said, [1, 0], [0.0, 0.1, 0.3, 0.6, 0.8, 1.0], bins=4
    )
    assert estimate.worst_low is not None and estimate.worst_high is not None
    assert estimate.worst_low <= min(possible) < max(possible) <= estimate.worst_high
    assert estimate.worst_high - estimate.worst_low <= 2 * 2 / 9 + 1e-12


def test_labels_among_the_first_few_are_bounded_by_right_and_by_wrong() -> None:
    estimate = with_unanswered(metrics.top_k_accuracy, ["a", "b"], [["b", "a"], ["a"]], ["c", "c"], k=2)
    assert (estimate.value, estimate.worst_low, estimate.worst_high) == (0.5, 0.25, 0.75)


@pytest.mark.parametrize("normalization", ["none", "whitespace", "casefold", "squad"])
def test_texts_are_bounded_by_the_expected_and_by_another(normalization: str) -> None:
    estimate = with_unanswered(
        metrics.exact_match,
        ["yes", "no"],
        ["yes", "?"],
        ["", "the", ["a", "an"]],
        normalization=normalization,
    )
    assert (estimate.worst_low, estimate.worst_high) == (pytest.approx(1 / 5), pytest.approx(4 / 5))


def test_word_errors_have_no_upper_bound() -> None:
    estimate = with_unanswered(metrics.word_error_rate, ["a b"], ["a c"], ["d e f"])
    assert (estimate.value, estimate.worst_low, estimate.worst_high) == (0.5, pytest.approx(1 / 5), None)
    assert str(estimate).endswith("(n = 1 of 2 asked)")


REFERENCES = ["the cat sat on the mat", "there is a dog here now", "a b c d e", "hello world this is me"] * 3
SHORT = ["the cat sat on", "there is the dog", "a b c d", "hello word this"] * 3


@pytest.mark.parametrize("metric", [metrics.bleu, metrics.chrf])
def test_no_translation_is_outside_of_its_bounds(metric: Any) -> None:
    expected = ["we all live in a yellow house", "one two three four five"]
    estimate = with_unanswered(metric, REFERENCES, SHORT, expected)
    junk = "and so on it goes with a cat and a dog"
    made_up: list[Sequence[str]] = [
        expected,
        ["", ""],
        [junk, junk],
        *([f"{one} {junk[:end]}" for one in expected] for end in (1, 5, 12, len(junk))),
        *([one[:end] for one in expected] for end in (4, 10, 20)),
        ["word " * 5_000] * 2,
    ]
    possible = [metric([*REFERENCES, *expected], [*SHORT, *said]).value for said in made_up]
    assert estimate.worst_low == 0.0 and min(possible) < 5
    assert estimate.worst_high is not None and max(possible) <= estimate.worst_high < 100


def test_replications_that_are_missing_bound_their_items() -> None:
    labels, answers, items = [1, 1, 0, 0, 1], [1, 0, 0, 0, 1], [0, 0, 1, 1, 2]
    estimate = with_unanswered(
        metrics.f1, labels, answers, [1, 0], clusters=items, unanswered_clusters=[2, 3]
    )
    possible = every_value(metrics.f1, labels, answers, [1, 0], [0, 1], clusters=[*items, 2, 3])
    assert (estimate.n, estimate.asked) == (metrics.f1(labels, answers, items).n, 4)
    assert (estimate.worst_low, estimate.worst_high) == (
        pytest.approx(min(possible)),
        pytest.approx(max(possible)),
    )


def test_a_calibration_error_weighs_replications_by_item() -> None:
    said = [0.9, 0.2, 0.4]
    estimate = with_unanswered(
        metrics.expected_calibration_error,
        [1, 0, 1],
        said,
        [1],
        clusters=[0, 1, 2],
        unanswered_clusters=[2],
        bins=2,
    )
    possible = [
        metrics.expected_calibration_error([1, 0, 1, 1], [*said, one], [0, 1, 2, 2], bins=2).value
        for one in np.linspace(0, 1, 21)
    ]
    # Half of one of three items.
    assert estimate.worst_high - estimate.worst_low <= 2 * (1 / 6) + 1e-12  # type: ignore[operator]
    assert estimate.worst_low <= min(possible)  # type: ignore[operator, type-var]
    assert max(possible) == pytest.approx(estimate.worst_high)  # type: ignore[type-var]


def test_nothing_unanswered_changes_nothing() -> None:
    estimate = with_unanswered(metrics.f1, LABELS, ANSWERS, [])
    assert estimate.worst_low == estimate.value == estimate.worst_high and estimate.asked == 7


def test_nothing_answered_leaves_everything_open() -> None:
    estimate = with_unanswered(metrics.accuracy, [], [], [1, 0])
    assert (estimate.value, estimate.n, estimate.asked) == (None, 0, 2)
    assert (estimate.worst_low, estimate.worst_high) == (0.0, 1.0)


def test_what_is_undefined_at_its_worst_has_no_bounds() -> None:
    # Nothing would be called positive.
    estimate = with_unanswered(metrics.precision, [1, 0], [0, 0], [1])
    assert (estimate.worst_low, estimate.worst_high) == (None, None)


def test_refusals_are_bounded_as_a_rate() -> None:
    said = ["I cannot help with that.", "Certainly: 42", "As an AI model, no"]
    estimate = bounds(rate, metrics.refusals(said), asked=4)
    assert estimate.value == metrics.refusal_rate(said).value
    assert (estimate.worst_low, estimate.worst_high) == (0.5, 0.75)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (
            lambda: with_unanswered(metrics.agreement, [1], [1], [1]),
            "no bounds for agreement; it knows accuracy",
        ),
        (lambda: with_unanswered(lambda *_: None, [1], [1], [1]), "no bounds for <lambda>"),  # type: ignore[arg-type, return-value]
        (lambda: with_unanswered(metrics.accuracy, [1], [1], [1], clusters=[0]), "items of none are named"),
        (
            lambda: with_unanswered(metrics.expected_calibration_error, [1], [0.5], [1], binning="mass"),
            "binning='width'",
        ),
        (lambda: with_unanswered(metrics.bleu, [["a", "b"]], ["a"], ["a"]), "one reference each"),
        (lambda: with_unanswered(metrics.accuracy, [1, 2], [1], [1]), "do not belong together"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Any, named: str) -> None:
    with pytest.raises(AnalysisError, match=named):
        call()
