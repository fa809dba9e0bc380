"""What a version's metadata says to Dagster, and what it must never say."""

from __future__ import annotations

import math

from dyff_dagster.orchestration.metadata import score_table
from dyff_dagster.store import Score


def test_an_author_cannot_make_markdown_of_a_scores_name() -> None:
    table = score_table((Score("![x](http://elsewhere.example/y.png)|", 0.5),))
    assert "![" not in table
    assert "](" not in table


def test_an_undefined_score_is_a_word_and_no_number() -> None:
    assert "| auc | undefined |  | 0 |" in score_table((Score("auc", math.nan, n=0),))
