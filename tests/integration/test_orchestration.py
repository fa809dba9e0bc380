"""The small audit through Dagster: real ops, real services, real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster import Catalog, DyffStorage, DyffTranslator, DyffTranslatorData, build_definitions
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.schema.platform import DyffEntity
from dyff_dagster.store import Store, no_progress
from tests.integration import small_catalog


class Audit:
    """The small audit, its store, and a Dagster instance of its own."""

    def __init__(self, tmp_path: Path, instance: dg.DagsterInstance) -> None:
        self.directory = small_catalog.write(tmp_path / "catalog")
        self.root = tmp_path / "store"
        self.store = Store(self.root)
        self.instance = instance

    def definitions(self) -> dg.Definitions:
        return build_definitions(Catalog.load(self.directory), storage=DyffStorage(root=str(self.root)))

    def run(self, selection: str = "*", config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
        job = dg.define_asset_job("audit", dg.AssetSelection.all() if selection == "*" else selection)
        defs = dg.Definitions.merge(self.definitions(), dg.Definitions(jobs=[job]))
        return defs.resolve_job_def("audit").execute_in_process(
            instance=self.instance, raise_on_error=False, run_config=config
        )

    def requests(self) -> list[dict[str, Any]]:
        log = self.directory / "requests.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.directory / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def materialized(self, result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
        """Metadata of each materialization by the asset's key."""
        return {
            event.asset_key.to_user_string(): {
                key: getattr(value, "value", value) for key, value in event.materialization.metadata.items()
            }
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        }

    def checks(self, result: dg.ExecuteInProcessResult) -> dict[str, bool]:
        return {
            f"{e.asset_key.path[-1]}:{e.check_name}": e.passed for e in result.get_asset_check_evaluations()
        }


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    with dg.instance_for_test() as instance:
        yield Audit(tmp_path, instance)


def running_services(directory: Path) -> list[str]:
    """Command lines of processes whose working directory is the catalog's."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "cwd").resolve() == directory.resolve():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


def test_assets_have_the_keys_groups_owners_and_edges_of_their_entities(audit: Audit) -> None:
    graph = audit.definitions().resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert keys == {
        "datasets/rows", "inferenceservices/doubler", "evaluations/doubled", "modules/functions",
        "methods/judge", "methods/score", "measurements/judged", "measurements/scores",
    }  # fmt: skip
    node = graph.get(dg.AssetKey(["measurements", "judged"]))
    parents = {key.to_user_string() for key in node.parent_keys}
    assert parents >= {"methods/judge", "datasets/rows", "evaluations/doubled"}
    assert node.group_name == "acme"
    assert node.owners == ["team:acme"]
    assert graph.get(dg.AssetKey(["methods", "judge"])).is_materializable is False


def test_an_audit_runs_from_rows_to_scores(audit: Audit) -> None:
    result = audit.run()
    assert result.success
    metadata = audit.materialized(result)
    evaluation = metadata["evaluations/doubled"]
    assert evaluation["dagster/row_count"] == 20
    assert evaluation["dyff/sent_fields"] == "x"
    assert evaluation["dyff/withheld_fields"] == "label"
    scores = metadata["measurements/scores"]
    assert scores["score/accuracy"] == 1.0
    assert 0 < scores["score/accuracy/low"] < 1
    assert all(request.keys() == {"x"} for request in audit.requests())
    assert audit.checks(result) == {
        "rows:schema": True,
        "doubled:complete": True,
        "doubled:schema": True,
        "judged:complete": True,
        "judged:schema": True,
        "judged:provenance": True,
        "scores:schema": True,
        "scores:provenance": True,
        "scores:accuracy_at_least_0_9": True,
        "scores:lower_accuracy_at_least_0_999": False,  # red, and yet the number is published
        "scores:accuracy_at_most_1": True,
    }
    assert running_services(audit.directory) == []


def test_what_did_not_change_is_taken_over(audit: Audit) -> None:
    first = audit.materialized(audit.run())
    requests = len(audit.requests())
    second_run = audit.run()
    second = audit.materialized(second_run)
    assert {metadata["dyff/reused"] for metadata in first.values()} == {False}
    assert {metadata["dyff/reused"] for metadata in second.values()} == {True}
    assert {k: m["dyff/data_version"] for k, m in first.items()} == {
        k: m["dyff/data_version"] for k, m in second.items()
    }
    assert len(audit.requests()) == requests
    assert audit.checks(second_run)["doubled:complete"] is True


def test_a_changed_row_is_asked_alone_and_what_follows_is_computed_again(audit: Audit) -> None:
    audit.run()
    asked = len(audit.requests())
    small_catalog.write_rows(audit.directory, rows=11)
    metadata = audit.materialized(audit.run())
    assert audit.requests()[asked:] == [{"x": 10}, {"x": 10}]
    assert metadata["measurements/scores"]["dyff/reused"] is False


def test_a_change_of_the_services_code_asks_everything_again(audit: Audit) -> None:
    audit.run()
    asked = len(audit.requests())
    audit.edit("serve.py", "FACTOR = 2", "FACTOR = 3")
    metadata = audit.materialized(audit.run())
    assert len(audit.requests()) == 2 * asked
    assert metadata["measurements/scores"]["score/accuracy"] == pytest.approx(0.1)


def test_a_change_that_only_steers_computes_nothing_again(audit: Audit) -> None:
    audit.run()
    audit.edit("audit.yaml", "workersPerReplica: 2", "workersPerReplica: 3")
    audit.edit("audit.yaml", "accuracy >= 0.9;", "accuracy >= 0.5;")
    result = audit.run()
    assert {m["dyff/reused"] for m in audit.materialized(result).values()} == {True}
    assert audit.checks(result)["scores:accuracy_at_least_0_5"] is True


def test_force_computes_again(audit: Audit) -> None:
    audit.run()
    asked = len(audit.requests())
    defs = audit.definitions().resolve_all_job_defs()[0]
    name = next(n for n in (node.name for node in defs.nodes) if n.startswith("evaluations__doubled"))
    result = audit.run("evaluations/doubled", {"ops": {name: {"config": {"force": True}}}})
    assert audit.materialized(result)["evaluations/doubled"]["dyff/reused"] is False
    assert len(audit.requests()) == 2 * asked


def test_a_tightened_allowance_asks_for_what_is_missing(audit: Audit) -> None:
    audit.edit("serve.py", 'if os.path.exists("garbage"):', 'if os.path.exists("garbage") and row["x"] == 3:')
    audit.edit(
        "audit.yaml",
        "workersPerReplica: 2\n",
        'workersPerReplica: 2\nannotations: {dyff-dagster/max-failed-rows: "2"}\n',
    )
    (audit.directory / "garbage").touch()
    metadata = audit.materialized(audit.run("datasets/rows") and audit.run("evaluations/doubled"))
    assert metadata["evaluations/doubled"]["dyff/answered"] == 18
    (audit.directory / "garbage").unlink()
    asked = len(audit.requests())
    assert audit.materialized(audit.run("evaluations/doubled"))["evaluations/doubled"]["dyff/reused"] is True
    audit.edit("audit.yaml", 'max-failed-rows: "2"', 'max-failed-rows: "0"')
    metadata = audit.materialized(audit.run("evaluations/doubled"))
    assert metadata["evaluations/doubled"]["dyff/answered"] == 20
    assert audit.requests()[asked:] == [{"x": 3}, {"x": 3}]


def test_a_change_of_what_the_service_imports_asks_everything_again(audit: Audit) -> None:
    (audit.directory / "factor.py").write_text("FACTOR = 2\n")
    audit.edit("serve.py", "FACTOR = 2", "from factor import FACTOR")
    audit.run()
    asked = len(audit.requests())
    audit.edit("factor.py", "2", "3")
    audit.run()
    assert len(audit.requests()) == 2 * asked


def test_an_upstream_that_lost_a_file_is_not_computed_upon(audit: Audit) -> None:
    audit.run()
    commit = audit.store.current("rows")
    assert commit is not None
    Path(commit.path / "data.parquet").unlink()
    description, _ = failure_of(audit.run("evaluations/doubled"), "evaluations__doubled")
    assert "the Dataset rows has lost files" in description
    assert audit.run("datasets/rows").success
    assert audit.run("evaluations/doubled").success


def test_a_step_reads_the_versions_that_it_records(audit: Audit) -> None:
    audit.run()
    catalog = Catalog.load(audit.directory)
    step = Step(catalog, audit.store, catalog.get("judged"), no_progress)
    recorded = step.inputs().upstream["doubled"]
    small_catalog.write_rows(audit.directory, rows=11)
    audit.run()  # another run, while this one is at work
    assert audit.store.current("doubled").data_version != recorded  # type: ignore[union-attr]
    assert step.path_of("doubled").name == recorded


def test_checks_can_be_run_alone_after_a_threshold_was_changed(audit: Audit) -> None:
    audit.run()
    audit.edit("audit.yaml", "accuracy >= 0.9;", "accuracy >= 0.7;")
    key = dg.AssetKey(["measurements", "scores"])
    job = dg.define_asset_job("checks", dg.AssetSelection.checks_for_assets(key))
    defs = dg.Definitions.merge(audit.definitions(), dg.Definitions(jobs=[job]))
    result = defs.resolve_job_def("checks").execute_in_process(instance=audit.instance)
    assert audit.materialized(result) == {}
    assert audit.checks(result)["scores:accuracy_at_least_0_7"] is True


def run_checks(audit: Audit, *key: str) -> dict[str, bool]:
    job = dg.define_asset_job("checks", dg.AssetSelection.checks_for_assets(dg.AssetKey(key)))
    defs = dg.Definitions.merge(audit.definitions(), dg.Definitions(jobs=[job]))
    job_def = defs.resolve_job_def("checks")
    return audit.checks(job_def.execute_in_process(instance=audit.instance, raise_on_error=False))


def test_checks_alone_look_at_the_files_and_not_at_what_was_said_of_them(audit: Audit) -> None:
    audit.run("datasets/rows")
    assert run_checks(audit, "datasets", "rows") == {"rows:schema": True}
    commit = audit.store.current("rows")
    assert commit is not None
    file = Path(commit.path / "data.parquet")
    size = file.stat().st_size
    file.unlink()
    pq.write_table(pa.table({"_index_": [0], "x": ["text"], "label": [0]}), file)
    data = file.read_bytes()
    assert len(data) <= size
    # Of the size that was committed, so that the schema alone can tell.
    file.write_bytes(data[:4] + bytes(size - len(data)) + data[4:])
    assert run_checks(audit, "datasets", "rows") == {"rows:schema": False}
    again = audit.run("datasets/rows")  # its inputs have not changed, and yet it is not green
    assert audit.materialized(again) == {}
    description, _ = failure_of(again, "datasets__rows")
    assert "rows: the field x is string and declared as int64" in description
    file.unlink()
    assert run_checks(audit, "datasets", "rows") == {"rows:schema": False}


def test_assets_can_be_run_without_their_checks(audit: Audit) -> None:
    selection = dg.AssetSelection.assets(dg.AssetKey(["datasets", "rows"])).without_checks()
    job = dg.define_asset_job("bare", selection)
    defs = dg.Definitions.merge(audit.definitions(), dg.Definitions(jobs=[job]))
    result = defs.resolve_job_def("bare").execute_in_process(instance=audit.instance)
    assert list(audit.materialized(result)) == ["datasets/rows"]
    assert audit.checks(result) == {}


def test_a_translator_may_change_keys_and_everything_follows(audit: Audit) -> None:
    class Ward(DyffTranslator):
        def get_asset_key(self, entity: DyffEntity) -> dg.AssetKey:
            return super().get_asset_key(entity).with_prefix("ward-7")

        def get_asset_spec(self, data: DyffTranslatorData) -> dg.AssetSpec:
            return super().get_asset_spec(data).merge_attributes(tags={"site": "ward-7"})

    defs = build_definitions(
        Catalog.load(audit.directory), storage=DyffStorage(root=str(audit.root)), translator=Ward()
    )
    node = defs.resolve_asset_graph().get(dg.AssetKey(["ward-7", "evaluations", "doubled"]))
    assert dg.AssetKey(["ward-7", "datasets", "rows"]) in node.parent_keys
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=audit.instance)
    assert result.success
    assert audit.checks(result)["doubled:complete"] is True


def test_two_catalogs_share_a_code_location(audit: Audit, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "m.yaml").write_text(
        "kind: Module\nid: other\naccount: acme\nname: Other\nartifacts: [{path: a.py}]\n"
    )
    (tmp_path / "other" / "a.py").touch()
    storage = DyffStorage(root=str(audit.root))
    other = build_definitions(Catalog.load(tmp_path / "other"), storage=DyffStorage(root=str(audit.root)))
    both = dg.Definitions.merge(build_definitions(Catalog.load(audit.directory), storage=storage), other)
    assert len(both.resolve_asset_graph().get_all_asset_keys()) == 9
    elsewhere = build_definitions(
        Catalog.load(tmp_path / "other"), storage=DyffStorage(root="elsewhere"), resource_prefix="other"
    )
    dg.Definitions.merge(audit.definitions(), elsewhere).resolve_asset_graph()


def failure_of(result: dg.ExecuteInProcessResult, op: str) -> tuple[str, dict[str, Any]]:
    event = next(
        e for e in result.all_events if e.is_step_failure and e.step_key and e.step_key.startswith(op)
    )
    data = event.step_failure_data.user_failure_data
    assert data is not None
    metadata = {key: getattr(value, "value", value) for key, value in data.metadata.items()}
    return data.description or "", metadata


def test_a_service_that_dies_fails_the_asset_with_its_exit_code_and_log_and_leaves_no_process(
    audit: Audit, capfd: pytest.CaptureFixture[str]
) -> None:
    (audit.directory / "die").touch()
    result = audit.run()
    assert not result.success
    description, metadata = failure_of(result, "evaluations__doubled")
    assert "7" in description
    assert "stderr.log" in description
    assert metadata["dyff/status"] == "Failed"
    assert "evaluations/doubled" not in audit.materialized(result)
    assert audit.checks(result)["doubled:complete"] is False
    # The log's last lines may hold prompts: the terminal shows them, Dagster's events do not.
    assert "prompt-that-must-stay-here" in capfd.readouterr().err
    events = [str(entry.to_json()) for entry in audit.instance.all_logs(result.run_id)]
    assert not any("prompt-that-must-stay-here" in event for event in events)
    assert running_services(audit.directory) == []
    assert "measurements/judged" not in audit.materialized(result)


def test_a_service_that_answers_no_json_fails_the_asset(audit: Audit) -> None:
    (audit.directory / "garbage").touch()
    description, _ = failure_of(audit.run(), "evaluations__doubled")
    assert "no JSON" in description
    assert running_services(audit.directory) == []


def test_a_service_that_never_starts_fails_the_asset(audit: Audit) -> None:
    audit.edit("serve.py", "FACTOR = 2", "sys.exit(3)")
    description, _ = failure_of(audit.run(), "evaluations__doubled")
    assert "3" in description
    assert "stderr.log" in description


def test_an_entity_whose_upstream_was_never_materialized_says_so(audit: Audit) -> None:
    result = audit.run("measurements/scores")
    description, metadata = failure_of(result, "measurements__scores")
    assert "scores needs the Module functions and the Measurement judged, which were never" in description
    assert metadata["dyff/reason"] == "UnsatisfiedDependency"


def test_declared_assets_between_two_ops_do_not_undo_their_order(audit: Audit) -> None:
    result = audit.run()
    order = [
        event.step_key.split("__")[0:2]
        for event in result.all_events
        if event.is_step_success and event.step_key
    ]
    names = ["/".join(step) for step in order]
    assert names.index("modules/functions") < names.index("measurements/judged")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"DYFF_CATALOG": "nowhere/at-all"}, "DYFF_CATALOG is 'nowhere/at-all': there is no such path in"),
        ({"DYFF_EXECUTOR": "threads"}, "DYFF_EXECUTOR is 'threads': it must be in_process"),
        ({"DYFF_SESSIONS": "moon"}, "DYFF_SESSIONS is 'moon': it must be local or kubernetes"),
    ],
)
def test_a_wrong_variable_is_one_sentence_on_the_command_line(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DYFF_", "DAGSTER_"))}
    definitions = Path(__file__).parents[2] / "definitions.py"
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("dagster")),
            "asset",
            "materialize",
            "--select",
            "*",
            "-f",
            definitions,
        ],
        cwd=tmp_path,
        env={**environment, **variables, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]


def test_nothing_goes_on_when_a_multiprocess_run_is_killed(tmp_path: Path) -> None:
    directory = small_catalog.write(tmp_path / "catalog", rows=400)
    service = directory / "serve.py"
    service.write_text(
        service.read_text().replace("row = json", "__import__('time').sleep(0.05); row = json")
    )
    (tmp_path / "definitions.py").write_text((Path(__file__).parents[2] / "definitions.py").read_text())
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DYFF_", "DAGSTER_"))}
    command = [str(Path(sys.executable).with_name("dagster")), "asset", "materialize"]
    run = subprocess.Popen(
        [*command, "--select", "datasets/rows,evaluations/doubled", "-f", "definitions.py"],
        cwd=tmp_path,
        env={**environment, "DYFF_CATALOG": str(directory)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = directory / "requests.log"
    try:
        wait_for(lambda: log.exists() and len(log.read_text().splitlines()) > 20, 120)
    finally:
        run.kill()
        run.wait()
    wait_for(lambda: running_services(directory) == [], 30)
    with Store(tmp_path / "dyff-storage").lock("doubled", wait=30):
        pass
    assert len(log.read_text().splitlines()) < 800


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def test_the_command_line_materializes_with_nothing_else_set(tmp_path: Path) -> None:
    directory = small_catalog.write(tmp_path / "catalog")
    definitions = tmp_path / "definitions.py"
    definitions.write_text((Path(__file__).parents[2] / "definitions.py").read_text())
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DYFF_", "DAGSTER_"))}
    command = [str(Path(sys.executable).with_name("dagster")), "asset", "materialize", "--select", "*"]
    done = subprocess.run(
        [*command, "-f", "definitions.py"],
        cwd=tmp_path,
        env={**environment, "DYFF_CATALOG": str(directory)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert Store(tmp_path / "dyff-storage").current("scores") is not None
