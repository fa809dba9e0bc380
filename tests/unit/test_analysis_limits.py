"""Which limits hold for an analysis, and what the errors say that name them."""

from __future__ import annotations

import pytest

from dyff_dagster.analysis import AnalysisError, Limits
from dyff_dagster.analysis.errors import AnalysisTimeout, OutOfMemory
from dyff_dagster.schema.annotations import AmbiguousAnnotationError
from dyff_dagster.schema.platform import Annotation, DyffEntity, Method, Report
from tests.integration.analysis_support import Bench

DAY = 86_400


def noted(entity: DyffEntity, *values: tuple[str, str]) -> DyffEntity:
    return entity.model_copy(
        update={
            "annotations": [Annotation(key=f"dyff-dagster/{name}", value=value) for name, value in values]
        }
    )


@pytest.fixture
def case(tmp_path_factory: pytest.TempPathFactory) -> DyffEntity:
    return Bench(tmp_path_factory.mktemp("bench")).safety_case()


@pytest.fixture
def method(case: DyffEntity) -> DyffEntity:
    return Method.model_validate(case.method.model_dump() | {"kind": "Method"})  # type: ignore[attr-defined]


def test_where_nobody_says_anything_it_is_a_day_and_no_end_of_memory(
    case: DyffEntity, method: DyffEntity
) -> None:
    for found in (Limits.of(case), Limits.of(case, method)):
        assert (found.seconds, found.memory) == (DAY, None)
        assert found.more_seconds == "state a longer dyff-dagster/max-seconds on case"


def test_what_the_method_says_holds_for_its_analyses_unless_they_say_something_else(
    case: DyffEntity, method: DyffEntity
) -> None:
    of_method = noted(method, ("max-seconds", "60"), ("max-memory", "2Gi"))
    found = Limits.of(case, of_method)
    assert (found.seconds, found.memory) == (60, 2 << 30)
    assert found.more_seconds == "raise dyff-dagster/max-seconds of method"
    assert found.more_memory == "raise dyff-dagster/max-memory of method"
    found = Limits.of(noted(case, ("max-memory", "500M")), of_method)
    assert (found.seconds, found.memory) == (60, 500_000_000)
    assert found.more_memory == "raise dyff-dagster/max-memory of case"


def test_a_report_has_its_own(case: DyffEntity) -> None:
    report = Report(
        id="report",
        account="acme",
        rubric="a.B",
        evaluation="e",
        dataset="d",
        inferenceService="s",
        annotations=[Annotation(key="dyff-dagster/max-seconds", value="1.5")],
    )
    assert Limits.of(report).seconds == 1.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max-seconds", value) for value in ("0", "-1", "soon", "nan", "inf", "")),
        *(("max-memory", value) for value in ("0", "-2Gi", "1m", "much", "")),
    ],
)
def test_what_is_no_limit_is_refused(case: DyffEntity, name: str, value: str) -> None:
    with pytest.raises(AnalysisError, match=f"^case: dyff-dagster/{name} "):
        Limits.of(noted(case, (name, value)))


def test_two_values_are_none(case: DyffEntity) -> None:
    with pytest.raises(AmbiguousAnnotationError):
        Limits.of(noted(case, ("max-memory", "1Gi"), ("max-memory", "2Gi")))


def test_more_than_any_machine_has_is_a_limit_all_the_same(case: DyffEntity) -> None:
    assert Limits.of(noted(case, ("max-memory", "1e300"))).memory == 1 << 60


def test_errors_say_what_was_given_and_how_to_give_more(case: DyffEntity) -> None:
    assert str(AnalysisTimeout("case", 90.0, "raise dyff-dagster/max-seconds of m", "/log")) == (
        "case: ended after 90 seconds, the time it was given: raise dyff-dagster/max-seconds of m, "
        "or see in /log what held it up"
    )
    assert str(OutOfMemory("case", 3 << 30, 2 << 30, "raise dyff-dagster/max-memory of case", "/log")) == (
        "case: killed when it held 3Gi of memory, and it may hold 2Gi: raise dyff-dagster/max-memory of case, "
        "or let it hold less at once; the log is /log"
    )
