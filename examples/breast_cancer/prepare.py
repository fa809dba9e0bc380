"""Makes the example's two inputs: the held-out patients, and a model fitted on all the others.

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
    from sklearn.preprocessing import StandardScaler

SEED = 0
"""The split's seed: the first there is, whatever comes of it."""

HELD_OUT = 1 / 3
"""Share of the patients that the model never sees, the same for both diagnoses."""

THRESHOLD = 0.5
"""Operating point: a probability of malignancy from here on is reported as malignant."""

DIGITS = 12
"""Significant digits of the model's numbers: fewer than machines differ in, more than anybody needs."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write data/held-out.csv and model/coefficients.json.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="directory to write below")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="operating point of the model")
    parser.add_argument(
        "--splits", type=int, metavar="N", help="print sensitivities over N seeds, write nothing"
    )
    options = parser.parse_args()
    if options.splits:
        print_sensitivity_over_splits(options.splits, options.threshold)
        return
    for path in prepare(options.out, threshold=options.threshold):
        print(f"wrote {path}")


def prepare(directory: Path, *, seed: int = SEED, threshold: float = THRESHOLD) -> tuple[Path, Path]:
    """Split the patients, fit the model, write both files.

    Args:
        directory: Where ``data/held-out.csv`` and ``model/coefficients.json`` are written; files that are
            there already are replaced.
        seed: Seed of the stratified split.
        threshold: Operating point, stored with the model.

    Returns:
        The two paths.
    """
    features, values, malignant = load_patients()
    train, held_out = split(malignant, seed)
    scaler, model = fit(values[train], malignant[train])

    data_path = directory / "data" / "held-out.csv"
    data_path.parent.mkdir(parents=True, exist_ok=True)
    with data_path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["patient", *features, "diagnosis"])
        for patient in held_out:
            diagnosis = "malignant" if malignant[patient] else "benign"
            writer.writerow([int(patient), *(repr(float(value)) for value in values[patient]), diagnosis])

    model_path = directory / "model" / "coefficients.json"
    model_path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "description": "Logistic regression on standardised features: p = 1 / (1 + exp(-(intercept + "
        "sum(coefficients * (x - means) / scales)))), the probability of the positive class",
        "positive_class": "malignant",
        "negative_class": "benign",
        "threshold": threshold,
        "training_rows": len(train),
        "features": features,
        "means": [_round(value) for value in scaler.mean_],
        "scales": [_round(value) for value in scaler.scale_],
        "coefficients": [_round(value) for value in model.coef_[0]],
        "intercept": _round(model.intercept_[0]),
    }
    model_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return data_path, model_path


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


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


if __name__ == "__main__":
    main()
