"""Metrics against scikit-learn, sacrebleu, jiwer, statsmodels and krippendorff, and where nothing is defined."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import jiwer
import krippendorff
import numpy as np
import pytest
import sacrebleu
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_kappa

from dyff_dagster.analysis import AnalysisError, metrics
from dyff_dagster.analysis.statistics import proportion, rate


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def classes(n: int = 200, k: int = 3, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    return labels, np.where(rng.random(n) < 0.8, labels, rng.integers(0, k, n))


LABELS, PREDICTIONS = classes()
NAMES = np.array(["cat", "dog", "eel"], dtype=object)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.accuracy(LABELS, PREDICTIONS), sk.accuracy_score(LABELS, PREDICTIONS)),
        (metrics.balanced_accuracy(LABELS, PREDICTIONS), sk.balanced_accuracy_score(LABELS, PREDICTIONS)),
        *(
            (ours(LABELS, PREDICTIONS, average=average), theirs(LABELS, PREDICTIONS, average=average))
            for ours, theirs in (
                (metrics.precision, sk.precision_score),
                (metrics.recall, sk.recall_score),
                (metrics.f1, sk.f1_score),
            )
            for average in ("macro", "micro")
        ),
        *(
            (ours(NAMES[LABELS], NAMES[PREDICTIONS], positive="dog"), theirs(LABELS == 1, PREDICTIONS == 1))
            for ours, theirs in (
                (metrics.precision, sk.precision_score),
                (metrics.recall, sk.recall_score),
                (metrics.f1, sk.f1_score),
            )
        ),
    ],
)
def test_values_are_those_of_scikit_learn(ours: Any, theirs: float) -> None:
    assert ours.value == pytest.approx(theirs)
    assert ours.low < ours.value < ours.high


def test_top_k_accuracy_is_that_of_scikit_learn() -> None:
    scores = np.random.default_rng(0).random((60, 5))
    labels = np.random.default_rng(1).integers(0, 5, 60)
    rankings = np.argsort(-scores, axis=1)
    expected = sk.top_k_accuracy_score(labels, scores, k=2, labels=range(5))
    assert metrics.top_k_accuracy(labels, rankings.tolist(), k=2).value == pytest.approx(expected)


def test_the_confusion_matrix_is_that_of_scikit_learn() -> None:
    found = metrics.confusion_matrix(LABELS, PREDICTIONS)
    assert found.counts.tolist() == sk.confusion_matrix(LABELS, PREDICTIONS).tolist()
    assert found.rows()[0] == {
        "label": "0",
        **{f"called {i}": float(found.counts[0, i]) for i in range(3)},
    }


def test_items_weigh_the_same_however_often_they_are_asked() -> None:
    found = metrics.confusion_matrix(["a", "a", "b"], ["a", "b", "b"], clusters=[0, 0, 1])
    assert found.counts.tolist() == [[0.5, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize(
    "metric",
    [
        metrics.accuracy,
        metrics.balanced_accuracy,
        lambda *a: metrics.precision(*a, average="macro"),
        lambda *a: metrics.recall(*a, average="macro"),
        lambda *a: metrics.f1(*a, average="macro"),
        metrics.precision,
        metrics.recall,
        metrics.f1,
    ],
)
def test_replications_that_agree_change_no_metric(metric: Any) -> None:
    items = np.arange(len(LABELS))
    once, often = (
        metric(LABELS, PREDICTIONS, items),
        metric(LABELS.repeat(3), PREDICTIONS.repeat(3), items.repeat(3)),
    )
    assert (often.value, often.n) == (pytest.approx(once.value), once.n)
    assert (often.low, often.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_replications_that_differ_count_in_parts() -> None:
    labels, predictions = [1, 1, 0, 0, 1, 1], [1, 0, 0, 1, 1, 1]
    items = [0, 0, 1, 1, 2, 2]
    # Hits 1.5, called so 2, labels 2.
    assert metrics.f1(labels, predictions, items).value == pytest.approx(3 / 4)
    assert metrics.precision(labels, predictions, items).value == pytest.approx(1.5 / 2)
    assert metrics.recall(labels, predictions, items).value == pytest.approx(1.5 / 2)


def test_the_interval_of_f1_is_that_of_its_share_of_hits() -> None:
    estimate = metrics.f1([1] * 8 + [0] * 4, [1] * 6 + [0] * 2 + [1] * 1 + [0] * 3)
    share = proportion(6, 9)
    assert share.low is not None and estimate.low == pytest.approx(2 * share.low / (1 + share.low))
    assert estimate.n == 9


@pytest.mark.parametrize("average", ["binary", "macro", "micro"])
@pytest.mark.parametrize("metric", [metrics.precision, metrics.recall, metrics.f1])
def test_no_error_is_no_certainty(metric: Any, average: str) -> None:
    estimate = metric([1, 0] * 10, [1, 0] * 10, average=average)
    assert estimate.value == 1.0 and 0.5 < estimate.low < 1.0


@pytest.mark.parametrize(
    "estimate",
    [
        metrics.precision([1, 0], [0, 0]),
        metrics.recall([0, 0], [1, 0]),
        metrics.f1([0], [0]),
        metrics.f1(["a"], ["b"], positive="c"),
        metrics.balanced_accuracy([], []),
        metrics.f1([], [], average="macro"),
        metrics.expected_calibration_error([], []),
        metrics.word_error_rate([""], ["some words"]),
        metrics.bleu([], []),
        metrics.agreement(["a", "b"], [0, 1]),
        metrics.krippendorff_alpha(["a", "a"], [0, 0]),
        metrics.fleiss_kappa(["a", "a"], [0, 0]),
    ],
)
def test_what_the_data_do_not_define_is_none(estimate: Any) -> None:
    assert estimate.value is None


def test_macro_averages_count_classes_as_scikit_learn_does() -> None:
    labels, predictions = ["a", "a", "b", "c"], ["a", "b", "b", "d"]
    for ours, theirs in ((metrics.precision, sk.precision_score), (metrics.recall, sk.recall_score)):
        expected = theirs(labels, predictions, average="macro", zero_division=0)
        assert ours(labels, predictions, average="macro").value == pytest.approx(expected)
    expected = sk.f1_score(labels, predictions, average="macro", zero_division=0)
    assert metrics.f1(labels, predictions, average="macro").value == pytest.approx(expected)


def test_calibration_error_is_that_of_the_bins_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    said = rng.random(300)
    came_true = rng.random(300) < said**1.4
    true, mean = calibration_curve(came_true, said, n_bins=15)
    sizes = np.bincount(np.searchsorted(np.linspace(0, 1, 16)[1:-1], said), minlength=15)
    expected = float((np.abs(true - mean) * sizes[sizes > 0]).sum() / 300)
    estimate = metrics.expected_calibration_error(came_true, said)
    assert estimate.value == pytest.approx(expected)
    assert estimate == metrics.expected_calibration_error(came_true, said)


def test_bins_of_equal_mass_hold_equally_many() -> None:
    # Two bins of two: |0.5 - 0.15| and |0.5 - 0.85|, each half.
    estimate = metrics.expected_calibration_error([0, 1, 0, 1], [0.1, 0.2, 0.8, 0.9], bins=2, binning="mass")
    assert estimate.value == pytest.approx(0.35)


REFERENCES = ["the cat sat on the mat", "there is a dog here now", "a b c d e", "hello world this is me"] * 5
ANSWERS = ["the cat sat on a mat", "there is the dog here now", "a b c d e", "hello word this is I"] * 5


def test_bleu_and_chrf_are_sacrebleus() -> None:
    assert metrics.bleu(REFERENCES, ANSWERS).value == pytest.approx(
        sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score
    )
    assert metrics.chrf(REFERENCES, ANSWERS).value == pytest.approx(
        sacrebleu.corpus_chrf(ANSWERS, [REFERENCES]).score
    )
    assert metrics.chrf(REFERENCES, ANSWERS, word_order=2).value == pytest.approx(
        sacrebleu.corpus_chrf(ANSWERS, [REFERENCES], word_order=2).score
    )


def test_several_references_are_sacrebleus_too() -> None:
    several = [[one, "something else here"] if i % 2 else one for i, one in enumerate(REFERENCES)]
    streams = [REFERENCES, ["something else here" if i % 2 else None for i in range(len(REFERENCES))]]
    assert metrics.bleu(several, ANSWERS).value == pytest.approx(
        sacrebleu.corpus_bleu(ANSWERS, streams).score
    )


def test_bleu_has_an_interval_over_items() -> None:
    estimate = metrics.bleu(REFERENCES, ANSWERS)
    assert estimate.low is not None and estimate.high is not None and estimate.n == 20
    assert estimate.low < estimate.value < estimate.high  # type: ignore[operator]
    assert estimate == metrics.bleu(REFERENCES, ANSWERS)


def test_the_word_error_rate_is_that_of_jiwer() -> None:
    assert metrics.word_error_rate(REFERENCES, ANSWERS).value == pytest.approx(jiwer.wer(REFERENCES, ANSWERS))
    assert metrics.word_error_rate(["one"], ["one two three"]).value == 2.0


def test_exact_match_knows_the_usual_normalizations() -> None:
    expected, said = ["The Cat!", "caf\u00e9"], ["cat", "cafe\u0301 "]
    assert metrics.exact_match(expected, said).value == 0.0
    assert metrics.exact_match(expected, said, normalization="whitespace").value == 0.5
    assert metrics.exact_match(expected, said, normalization="squad").value == 0.5
    assert metrics.exact_match([["x", "y"]], ["Y"], normalization="casefold") == rate([1])


def test_fleiss_kappa_is_that_of_statsmodels() -> None:
    ratings = ratings_of(40, 3)
    items = np.repeat(np.arange(40), 3)
    estimate = metrics.fleiss_kappa(ratings.reshape(-1), items)
    assert estimate.value == pytest.approx(statsmodels_kappa(aggregate_raters(ratings)[0]))
    assert estimate.low < estimate.value < estimate.high and estimate.n == 40  # type: ignore[operator]


def test_alpha_is_krippendorffs_also_where_answers_are_missing() -> None:
    ratings = ratings_of(40, 3).astype(float)
    ratings[::5, 0] = np.nan
    ratings[0, 1] = np.nan  # one answer left: nothing to agree with
    there = np.isfinite(ratings)
    items = np.repeat(np.arange(40), 3)[there.reshape(-1)]
    estimate = metrics.krippendorff_alpha(ratings[there].astype(int), items)
    assert estimate.value == pytest.approx(krippendorff.alpha(ratings.T, level_of_measurement="nominal"))
    assert estimate.n == 39


def ratings_of(items: int, raters: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 3, items)
    return np.where(rng.random((items, raters)) < 0.8, truth[:, None], rng.integers(0, 3, (items, raters)))


def test_items_agree_where_all_their_answers_do() -> None:
    assert metrics.agreement(["a", "a", "b", "c", "d"], [0, 0, 1, 1, 2]) == proportion(1, 2)


def test_fleiss_wants_equally_many_answers() -> None:
    with pytest.raises(AnalysisError, match="from 1 to 2 answers"):
        metrics.fleiss_kappa(["a", "a", "b"], [0, 0, 1])


def test_refusals_are_found_by_pattern() -> None:
    said = ["I\u2019m sorry, but no.", "As an AI language model, I", "Certainly: 42", ""]
    assert metrics.refusal_rate(said) == proportion(2, 4)
    assert metrics.refusal_rate(said, pattern="certainly") == proportion(1, 4)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.accuracy([1, None], [1, 1]), "the label at position 1 is null"),
        (lambda: metrics.accuracy([1], [1, 1]), "do not belong together"),
        (lambda: metrics.f1([1], [1], average="weighted"), "binary, macro or micro"),  # type: ignore[arg-type]
        (lambda: metrics.top_k_accuracy([1], [[1]], k=0), "at least"),
        (lambda: metrics.expected_calibration_error([1], [1.5]), "between 0 and 1"),
        (lambda: metrics.exact_match(["a"], [None]), "is no text"),  # type: ignore[list-item]
        (lambda: metrics.exact_match(["a"], ["b"], normalization="x"), "squad"),  # type: ignore[arg-type]
        (lambda: metrics.refusal_rate(["a"], pattern="("), "no regular expression"),
        (lambda: metrics.word_error_rate([["a", "b"]], ["a"]), "one each"),  # type: ignore[list-item]
        (lambda: metrics.bleu(["a"], ["a"], tokenize="nonsense"), "no tokenizer"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Any, named: str) -> None:
    with pytest.raises(AnalysisError, match=named):
        call()


@pytest.mark.parametrize("metric", [metrics.bleu, metrics.chrf, metrics.word_error_rate])
def test_without_the_extra_the_sentence_says_what_to_install(
    metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sacrebleu.metrics.bleu", "sacrebleu.metrics.chrf", "rapidfuzz.distance"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(AnalysisError, match=r"pip install 'dyff-dagster\[text\]'"):
        metric(["a"], ["a"])
