"""Makes the example's three inputs: the held-out patients, and two models fitted on all the others.

The data are the Wisconsin diagnostic breast cancer data (569 patients, 30 measurements of cell nuclei
each) that scikit-learn ships, so nothing is downloaded. What this writes is committed beside it; run it
again only to change something, such as the share of patients held out or the model's operating point:

    pip install 'dyff-dagster[example]'
    python examples/breast_cancer/prepare.py

The split is drawn by seed 0, the first there is, and not one that was picked for its result. One split is
one split: ``--splits 200`` prints how far the sensitivity moves with the seed, and changes no file.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.preprocessing import StandardScaler

SEED = 0
"""The split's seed: the first there is, whatever comes of it."""

HELD_OUT = 1 / 3
"""Share of the patients that the model never sees, the same for both diagnoses."""

THRESHOLD = 0.5
"""Operating point: a probability of malignancy from here on is reported as malignant."""

DIGITS = 12
"""Significant digits of the models' numbers: fewer than machines differ in, more than anybody needs."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Write data/held-out.csv, model/coefficients.json and baseline/parameters.json."
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="directory to write below")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="operating point of both models")
    parser.add_argument(
        "--splits", type=int, metavar="N", help="print sensitivities over N seeds, write nothing"
    )
    options = parser.parse_args()
    if options.splits:
        print_sensitivity_over_splits(options.splits, options.threshold)
        return
    for path in prepare(options.out, threshold=options.threshold):
        print(f"wrote {path}")


def prepare(directory: Path, *, seed: int = SEED, threshold: float = THRESHOLD) -> tuple[Path, Path, Path]:
    """Split the patients, fit both models, write three files.

    Args:
        directory: Where ``data/held-out.csv``, ``model/coefficients.json`` and ``baseline/parameters.json`` are
            written; files that are there already are replaced.
        seed: Seed of the stratified split.
        threshold: Operating point, stored with the models.

    Returns:
        The three paths.
    """
    features, values, malignant = load_patients()
    train, held_out = split(malignant, seed)
    scaler, model = fit(values[train], malignant[train])
    baseline = fit_baseline(values[train], malignant[train])

    data_path = directory / "data" / "held-out.csv"
    data_path.parent.mkdir(parents=True, exist_ok=True)
    with data_path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["patient", *features, "diagnosis"])
        for patient in held_out:
            diagnosis = "malignant" if malignant[patient] else "benign"
            writer.writerow([int(patient), *(repr(float(value)) for value in values[patient]), diagnosis])

    common: dict[str, Any] = {
        "positive_class": "malignant",
        "negative_class": "benign",
        "threshold": threshold,
        "training_rows": len(train),
        "features": features,
    }
    model_path = directory / "model" / "coefficients.json"
    _write(
        model_path,
        {
            "description": "Logistic regression on standardised features: p = 1 / (1 + exp(-(intercept + "
            "sum(coefficients * (x - means) / scales)))), the probability of the positive class",
            **common,
            "means": _rounded(scaler.mean_),
            "scales": _rounded(scaler.scale_),
            "coefficients": _rounded(model.coef_[0]),
            "intercept": _round(model.intercept_[0]),
        },
    )
    baseline_path = directory / "baseline" / "parameters.json"
    negative, positive = (list(baseline.classes_).index(which) for which in (False, True))
    _write(
        baseline_path,
        {
            "description": "Gaussian naive Bayes: p = 1 / (1 + exp(-z)), where z = log(prior / (1 - prior)) + "
            "sum(log N(x; positive_means, positive_variances) - log N(x; negative_means, negative_variances)) and "
            "N is the normal density; p is the probability of the positive class",
            **common,
            "prior": _round(baseline.class_prior_[positive]),
            "positive_means": _rounded(baseline.theta_[positive]),
            "positive_variances": _rounded(baseline.var_[positive]),
            "negative_means": _rounded(baseline.theta_[negative]),
            "negative_variances": _rounded(baseline.var_[negative]),
        },
    )
    return data_path, model_path, baseline_path


def load_patients() -> tuple[list[str], np.ndarray, np.ndarray]:
    """The data as scikit-learn ships them.

    Returns:
        The 30 features' names in snake case, their values (569 × 30), and whether each patient's mass is
        malignant (569).
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in bunch.feature_names]
    # scikit-learn codes malignant as 0 and benign as 1: the other way round than a clinician would.
    malignant = bunch.target == list(bunch.target_names).index("malignant")
    return names, bunch.data, malignant


def split(malignant: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the training patients and of those held out, each in ascending order."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    train, held_out = train_test_split(
        np.arange(len(malignant)), test_size=HELD_OUT, stratify=malignant, random_state=seed
    )
    return np.sort(train), np.sort(held_out)


def fit(values: np.ndarray, malignant: np.ndarray) -> tuple[StandardScaler, LogisticRegression]:
    """Fit the scaler and the model; Newton's method converges to the last digits on every machine."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(values)
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=100)
    return scaler, model.fit(scaler.transform(values), malignant)


def fit_baseline(values: np.ndarray, malignant: np.ndarray) -> GaussianNB:
    """Fit the simplest classifier there is: each feature on its own, normally distributed in each class.

    Without scikit-learn's smoothing, which adds a share of the largest variance to all of them: here the areas',
    beside which the variances of most other features vanish.
    """
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB(var_smoothing=0).fit(values, malignant)


def print_sensitivity_over_splits(splits: int, threshold: float) -> None:
    """Print the middle and the ends of the held-out sensitivity over the seeds 0 … ``splits`` - 1."""
    import numpy as np

    _, values, malignant = load_patients()
    found = []
    for seed in range(splits):
        train, held_out = split(malignant, seed)
        scaler, model = fit(values[train], malignant[train])
        probability = model.predict_proba(scaler.transform(values[held_out]))[:, 1]
        found.append(float(np.mean(probability[malignant[held_out]] >= threshold)))
    low, middle, high = np.quantile(found, [0.025, 0.5, 0.975])
    print(f"sensitivity over {splits} splits: median {middle:.3f}, 95 % of them in [{low:.3f}, {high:.3f}]")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _rounded(values: np.ndarray) -> list[float]:
    return [_round(value) for value in values]


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


if __name__ == "__main__":
    main()
