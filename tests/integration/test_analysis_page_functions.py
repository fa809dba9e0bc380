"""Functions that make a SafetyCase: what they show is the page, and what they do wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyff_dagster.analysis import AnalysisError, FunctionFailed
from dyff_dagster.schema.platform import SafetyCase
from tests.integration.analysis_support import Bench

BY_FUNCTION = {"kind": "PythonFunction", "pythonFunction": {"fullyQualifiedName": "scoring_under_test.argue"}}


def case(bench: Bench, code: str) -> SafetyCase:
    bench.function(code)
    entity = bench.safety_case()
    return entity.model_copy(
        update={
            "method": entity.method.model_copy(
                update={"implementation": type(entity.method.implementation).model_validate(BY_FUNCTION)}
            )
        }
    )


def test_what_a_function_shows_is_its_page(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    commit = bench.run(
        case(
            bench,
            "from dyff_dagster import AnalysisContext\n"
            "def argue(arguments, rows, answers):\n"
            "    ctx = AnalysisContext()\n"
            "    ctx.title('Shown by a function')\n"
            "    ctx.table([{'rows': rows.count_rows(), 'least': arguments['threshold']}], 'A table')\n"
            "    ctx.score('share', 0.5, 0.25, 0.75, 8)\n"
            "    ctx.conclusion('It holds.', True)\n"
            "    return '*Said* at the end <script>alert(1)</script>'\n",
        )
    )
    page = (commit.path / "index.html").read_text("utf-8")
    for shown in ("Shown by a function", "A table", "0.500", "It holds.", "<em>Said</em> at the end"):
        assert shown in page
    assert "alert(1)" not in page
    assert commit.facts.page == "index.html"
    assert commit.facts.notebook is None
    assert commit.facts.conclusion == "It holds."


def test_a_function_that_yields_rows_for_a_page_is_told_what_to_yield(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(AnalysisError, match="yields Markdown text or nothing, and this one yielded a int"):
        bench.run(case(bench, "def argue(arguments, rows, answers):\n    yield 3\n"))
    assert bench.store.current("case") is None


def test_a_function_that_raises_makes_no_page(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(FunctionFailed, match=r"raised KeyError at scoring_under_test.py:2"):
        bench.run(case(bench, "def argue(arguments, rows, answers):\n    raise KeyError('secret')\n"))
    assert bench.store.current("case") is None
