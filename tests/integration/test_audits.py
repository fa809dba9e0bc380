"""Audits: met by what is complete and up to date, and refused with what is not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dyff_dagster import DyffStorage, build_definitions
from dyff_dagster.audits import RequirementsUnmet
from dyff_dagster.audits.bundle import verify_bundle, write_bundle
from dyff_dagster.orchestration.checks import EntityChecks
from dyff_dagster.orchestration.status import entity_states
from dyff_dagster.store import Commit
from dyff_dagster.store.references import Provenance
from tests.integration import small_audit, small_catalog
from tests.integration.small_audit import Place


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = small_audit.write(tmp_path_factory.mktemp("audit") / "made")
    place.compute_all("audited")
    return place


@pytest.fixture
def place(computed: Place, tmp_path: Path) -> Place:
    return computed.copy(tmp_path / "copy")


def page_of(commit: Commit) -> str:
    return (commit.path / "index.html").read_text("utf-8")


def unmet(place: Place) -> str:
    with pytest.raises(RequirementsUnmet) as caught:
        place.compute("audited")
    assert caught.value.reason == "UnsatisfiedDependency"
    return str(caught.value)


def test_an_audit_waits_for_what_meets_its_requirements(computed: Place) -> None:
    catalog = computed.catalog()
    assert catalog.warnings == []
    assert catalog.upstream("audited") == ("procedure", "doubler", "scores", "judged")


def test_an_audit_whose_requirements_are_met_has_a_page_over_all_results(place: Place) -> None:
    commit = place.compute("audited")
    page = page_of(commit)
    for shown in (
        "Doubling: Doubles",
        "scores",
        "judged",
        "doubled",
        "1.000",
        "0.839 to 1.000",
        "20 of 20 answers",
    ):
        assert shown in page
    assert commit.facts.conclusion == (
        "Each of the 2 requirements of “Doubling” is met for “Doubles” by a result that is complete and up to date. "
        "1 of 2 thresholds are met; not met: lower(scores/accuracy) >= 0.999."
    )
    assert commit.facts.notes["holds"] is False
    for name in ("doubled", "scores", "judged", "rows"):
        current = place.store.current(name)
        assert current is not None
        assert current.data_version in page


def test_the_page_needs_nothing_else_and_runs_nothing(place: Place) -> None:
    page = page_of(place.compute("audited"))
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert page.count("<h1") == 1


def test_its_scores_say_whose_they_are(place: Place) -> None:
    commit = place.compute("audited")
    (score,) = commit.facts.scores
    found = place.store.current("scores")
    assert found is not None
    assert score.name == "scores/accuracy"
    assert (score.value, score.low, score.n) == (1.0, found.facts.scores[0].low, 20)
    said = json.loads((commit.path / "audit.json").read_text())
    assert said["scores"][0]["name"] == "scores/accuracy"
    assert said["requirements"][0] == {"dataset": "rows", "rubric": "doubling", "met by": ["scores"]}


def test_thresholds_work_on_its_scores(place: Place) -> None:
    commit = place.compute("audited")
    catalog = place.catalog()
    checks = EntityChecks.of(catalog, catalog.get("audited"))
    provenance = Provenance(place.store)
    assert {result.check_name: result.passed for result in checks.results(commit, provenance)} == {
        "requirements": True,
        "provenance": True,
        "scores_accuracy_at_least_0_9": True,
        "lower_scores_accuracy_at_least_0_999": False,
    }


def test_the_page_holds_each_threshold_against_its_score(place: Place) -> None:
    commit = place.compute("audited")
    page = page_of(commit)
    rows = re.findall(
        r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td><td[^>]*>([^<]*)</td><td><span[^>]*>(\w+)<', page
    )
    (score,) = commit.facts.scores
    assert score.low is not None
    assert rows == [
        ("Scores: accuracy", "at least 0.9", "1.000", "yes"),
        ("Scores: accuracy, lower end of its interval", "at least 0.999", f"{score.low:.3f}", "no"),
    ]
    # Both are drawn into the interval that they are about.
    assert page.count('class="dyff-mark"') == 2
    said = json.loads((commit.path / "audit.json").read_text())["thresholds"]
    assert [(item["threshold"], item["holds"]) for item in said] == [
        ("scores/accuracy >= 0.9", True),
        ("lower(scores/accuracy) >= 0.999", False),
    ]


def test_another_threshold_makes_another_page_and_computes_nothing_else(place: Place) -> None:
    place.compute("audited")
    place.edit("requirements.yaml", "lower(scores/accuracy) >= 0.999", "lower(scores/accuracy) >= 0.5")
    commit, reused = place.step("audited").compute()
    assert not reused
    assert commit.facts.notes["holds"] is True
    assert "All 2 thresholds are met." in page_of(commit)
    assert place.step("scores").compute()[1]


def test_a_threshold_on_a_score_that_is_not_there_is_not_met_and_says_why(place: Place) -> None:
    place.edit("requirements.yaml", "scores/accuracy >= 0.9;", "scores/speed > 1;")
    page = page_of(place.compute("audited"))
    assert "there is no score scores/speed; there are: scores/accuracy" in page
    assert "0 of 2 thresholds are met" in page


def test_an_audit_without_thresholds_says_so_and_comes_to_no_verdict(place: Place) -> None:
    text = (place.directory / "requirements.yaml").read_text()
    place.add("requirements.yaml", text[: text.rindex("annotations:")])
    commit = place.compute("audited")
    assert commit.facts.notes["holds"] is None
    assert "The author of the audit sets no thresholds." in page_of(commit)
    assert 'class="dyff-conclusion dyff-open"' in page_of(commit)


def test_the_image_that_a_service_is_run_from_is_told_with_its_digest(place: Place) -> None:
    image = f"{{host: registry.example.org, name: team/doubler, digest: 'sha256:{'9' * 64}', tag: v1}}"
    place.edit("audit.yaml", "runner: {kind: standalone, ", f"runner: {{kind: standalone, image: {image}, ")
    place.compute_all("audited")
    page = page_of(place.compute("audited"))
    assert "<code>registry.example.org/team/doubler</code> · v1" in page
    assert f'<code class="hash">{"9" * 64}</code>' in page
    scores = place.store.current("scores")
    assert scores is not None
    assert scores.inputs["extras"]["image:doubler"] == f"registry.example.org/team/doubler@sha256:{'9' * 64}"


def test_a_bundle_of_an_audit_holds_and_its_scores_are_those_of_its_results(place: Place) -> None:
    place.compute("audited")
    key, file = Ed25519PrivateKey.generate(), place.root / "audited.zip"
    write_bundle("audited", place.catalog(), place.store, file, key=key)
    found = verify_bundle(file, key.public_key())
    assert found.holds, [check.faults for check in found.checks]
    (own,) = [score for score in found.scores if score.entity == "audited"]
    (source,) = [score for score in found.scores if score.entity == "scores"]
    assert own.name == "scores/accuracy"
    assert (own.value, own.low, own.n, own.verdict) == (source.value, source.low, source.n, source.verdict)


def test_how_results_were_made_makes_no_audit_out_of_date(place: Place) -> None:
    first = place.compute("audited")
    results = [place.store.current(name) for name in ("scores", "judged")]
    for name in ("scores", "judged"):
        forced, _ = replace(place.step(name), run_id="another run").compute(force=True)
        assert forced.facts.notes["made"]["run"] == "another run"
    assert [place.store.current(name) for name in ("scores", "judged")] != results
    again, reused = place.step("audited").compute()
    assert reused and again.sequence == first.sequence


def test_an_unchanged_audit_is_taken_over_and_the_same_bytes(place: Place) -> None:
    first = place.compute("audited")
    again, reused = place.step("audited").compute()
    assert reused
    forced, _ = place.step("audited").compute(force=True)
    assert first.data_version == again.data_version == forced.data_version


def test_a_result_that_is_missing_is_named(tmp_path: Path) -> None:
    place = small_audit.write(tmp_path / "made")
    assert unmet(place) == (
        "audited: 2 of 2 requirements of procedure are not met: (1) doubling on rows: scores was never materialized; "
        "(2) small_functions.judge on rows: judged was never materialized; "
        "materialize what is missing or out of date, and then the audit"
    )
    assert place.store.current("audited") is None


def test_a_requirement_that_nothing_in_the_catalog_meets_is_named(place: Place) -> None:
    place.edit("requirements.yaml", "rubric: doubling", "rubric: tripling")
    assert unmet(place) == (
        "audited: 1 of 2 requirements of procedure are not met: (1) tripling on rows: the catalog has no Report or "
        "Measurement of it for this service; materialize what is missing or out of date, and then the audit"
    )


def test_results_of_another_service_meet_nothing(place: Place) -> None:
    place.add(
        "other.yaml",
        "kind: InferenceService\nid: tripler\naccount: acme\nname: Triples\n"
        "runner: {kind: standalone, args: [python, serve.py], resources: {storage: 1Mi}}\n"
        "interface: {endpoint: answer, outputSchema: {arrow: {y: int64!}}}\n",
    )
    place.edit("requirements.yaml", "inferenceService: doubler", "inferenceService: tripler")
    assert "2 of 2 requirements" in unmet(place)


def test_a_scope_that_names_a_service_whose_answers_were_not_read_meets_nothing(place: Place) -> None:
    place.add(
        "other.yaml",
        "kind: InferenceService\nid: tripler\naccount: acme\nname: Triples\n"
        "runner: {kind: standalone, args: [python, serve.py], resources: {storage: 1Mi}}\n"
        "interface: {endpoint: answer, outputSchema: {arrow: {y: int64!}}}\n---\n"
        "{kind: Evaluation, id: tripled, account: acme, dataset: rows, "
        "inferenceSession: {inferenceService: tripler}}\n---\n"
        "{kind: AuditProcedure, id: other, account: acme, name: O, "
        "requirements: [{dataset: rows, rubric: small_functions.judge}]}\n---\n"
        "{kind: Audit, id: other-audit, account: acme, auditProcedure: other, inferenceService: tripler}\n",
    )
    # A person's manifest that says so is refused; what other tools wrote may say it.
    borrowed = json.loads(place.catalog().get("judged").model_dump_json())
    scope = {"evaluation": "tripled", "inferenceService": "tripler", "dataset": "rows"}
    place.add("borrowed.json", json.dumps({**borrowed, "id": "borrowed", "scope": scope}))
    catalog = place.catalog()
    assert [warning.field for warning in catalog.warnings if warning.entity_id == "borrowed"] == [
        "scope.inferenceService"
    ]
    (candidates,) = catalog.candidates("other-audit")
    assert candidates.results == ()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda place: small_catalog.write_rows(place.directory, 9),
            "what the Dataset rows is made from has changed",
        ),
        (
            lambda place: place.edit("serve.py", "FACTOR = 2", "FACTOR = 3"),
            "what the Evaluation doubled is made from has changed",
        ),
        (
            lambda place: place.edit("code/small_functions.py", "import pyarrow", "# x\nimport pyarrow"),
            "what the Module functions is made from has changed",
        ),
        (
            lambda place: place.edit("audit.yaml", "name: Scores\n", "name: Marks\n"),
            "what the Measurement scores is made from has changed",
        ),
    ],
    ids=["rows", "service", "code", "method"],
)
def test_what_changed_since_makes_results_out_of_date(place: Place, change: Any, named: str) -> None:
    place.compute("audited")
    change(place)
    assert f"(1) doubling on rows: scores is out of date: {named}" in unmet(place)
    states = {state.id: state.status for state in entity_states(place.catalog(), place.store)}
    assert states["audited"] == "Stale"


def test_an_evaluation_that_left_rows_out_is_not_complete(place: Place) -> None:
    commit = place.store.current("doubled")
    assert commit is not None
    path = Path(str(commit.path.parents[1] / "commits" / "00000001.json"))
    record = json.loads(path.read_text())
    record["facts"]["completeness"].update(answered=18, missing=2)
    path.write_text(json.dumps(record))
    assert "scores is incomplete: its evaluation doubled answered 18 of 20 rows" in unmet(place)


def test_a_result_that_lost_its_files_does_not_count(place: Place) -> None:
    commit = place.store.current("scores")
    assert commit is not None
    for name in commit.files:
        Path(str(commit.path / name)).unlink()
    assert "scores has lost files of its version" in unmet(place)


def test_a_threshold_that_blocks_and_fails_keeps_a_result_from_counting(place: Place) -> None:
    checks = "annotations: {dyff-dagster/checks:"
    place.edit("audit.yaml", checks, checks.replace("{", '{dyff-dagster/blocking: "true", '))
    assert "scores does not hold lower(accuracy) >= 0.999, which blocks" in unmet(place)


def test_one_good_result_is_enough_and_the_others_are_named(place: Place) -> None:
    place.add(
        "twice.yaml",
        "kind: Measurement\nid: judged-again\naccount: acme\nmethod: judge\n"
        "scope: {evaluation: doubled, inferenceService: doubler, dataset: rows}\n"
        "inputs: [{keyword: rows, entity: rows}, {keyword: answers, entity: doubled}]\n",
    )
    page = page_of(place.compute("audited"))
    assert "Not counted" in page
    assert "<code>judged-again</code> was never materialized" in page


def test_a_procedure_that_requires_nothing_audits_nothing(place: Place) -> None:
    text = (place.directory / "requirements.yaml").read_text()
    start, end = text.index("requirements: ["), text.index("\n---")
    place.add("requirements.yaml", text[:start] + "requirements: []" + text[end:])
    assert unmet(place) == (
        "audited: procedure procedure requires nothing, so there is nothing to audit: add requirements to it"
    )


def test_in_dagster_the_asset_fails_with_the_list_and_its_check_is_red(place: Place) -> None:
    place.edit("requirements.yaml", "rubric: doubling", "rubric: tripling")
    definitions = build_definitions(place.catalog(), storage=DyffStorage(root=str(place.root / "store")))
    job = dg.define_asset_job("audit", 'key:"audits/audited"')
    with dg.instance_for_test() as instance:
        result = (
            dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
            .resolve_job_def("audit")
            .execute_in_process(instance=instance, raise_on_error=False)
        )
    assert not result.success
    assert result.get_asset_materialization_events() == []
    (failure,) = result.get_step_failure_events()
    found = failure.step_failure_data.user_failure_data
    assert found is not None and found.description is not None
    assert "tripling on rows" in found.description
    assert found.metadata["dyff/status"].value == "Failed"
    assert found.metadata["dyff/reason"].value == "UnsatisfiedDependency"
    assert {e.check_name: e.passed for e in result.get_asset_check_evaluations()}["requirements"] is False
