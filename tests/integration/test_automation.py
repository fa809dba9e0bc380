"""What starts by itself: the conditions behind ``dyff-dagster/automation``, tick by tick on a real instance."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dyff_dagster import Catalog, build_definitions
from dyff_dagster.orchestration.automation import eager, on_cron
from tests.integration import small_catalog


class Chain:
    """Three assets, each made of the one before, whose contents and failures a test decides."""

    def __init__(
        self, instance: dg.DagsterInstance, condition_of: Callable[[str], dg.AutomationCondition[Any]]
    ) -> None:
        self.instance = instance
        self.condition_of = condition_of
        self.failing: set[str] = set()
        self.content = {"a": "1", "b": "1", "c": "1"}
        self.code = {"a": "1", "b": "1", "c": "1"}
        self.blocked: set[str] = set()
        self.unwell: set[str] = set()
        self.meanwhile: dict[str, Callable[[], None]] = {}
        self.made: dict[str, str] = {}
        self.made_of: dict[str, list[str | None]] = {}
        self.cancelling = False
        self.cursor: Any = None
        self.now = datetime.datetime(2030, 1, 1, 11, 59, tzinfo=datetime.UTC)

    def definitions(self) -> dg.Definitions:
        return dg.Definitions(assets=[self._asset("a", []), self._asset("b", ["a"]), self._asset("c", ["b"])])

    def _asset(self, name: str, deps: list[str]) -> dg.AssetsDefinition:
        spec = dg.AssetSpec(
            name, deps=deps, automation_condition=self.condition_of(name), code_version=self.code[name]
        )

        @dg.multi_asset(
            name=f"op_{name}",
            specs=[spec],
            check_specs=[dg.AssetCheckSpec("whole", asset=name, blocking=True)],
        )
        def compute() -> Iterator[Any]:
            self.unwell.add(name)
            content, made_of = self.content[name], [self.made.get(dep) for dep in deps]
            if meanwhile := self.meanwhile.pop(name, None):
                meanwhile()
            if name in self.failing:
                raise dg.Failure("it was told to", allow_retries=False)
            if name not in self.blocked:
                self.unwell.discard(name)
            self.made[name], self.made_of[name] = content, made_of
            yield dg.MaterializeResult(
                asset_key=name,
                data_version=dg.DataVersion(content),
                check_results=[dg.AssetCheckResult(check_name="whole", passed=name not in self.blocked)],
            )

        return compute

    def run(self, *names: str) -> None:
        job = self.definitions().resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(name) for name in names]
        if self.cancelling:
            run = self.instance.create_run_for_job(job, asset_selection=frozenset(keys))
            self.instance.report_run_canceled(run)
            return
        job.execute_in_process(instance=self.instance, asset_selection=keys, raise_on_error=False)

    def tick(self, minutes: int = 1) -> list[str]:
        """What one look of the sensor asks for, which is then run."""
        self.now += datetime.timedelta(minutes=minutes)
        result = dg.evaluate_automation_conditions(
            self.definitions(), self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = result.cursor
        asked = [name for name in "abc" if result.get_num_requested(dg.AssetKey(name))]
        if asked:
            self.run(*asked)
        return asked


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _eager_by_its_check(name: str) -> dg.AutomationCondition[Any]:
    return eager(check=dg.AssetCheckKey(dg.AssetKey(name), "whole"))


@pytest.fixture(params=[lambda _: eager(), _eager_by_its_check], ids=["", "by its check"])
def chain(request: pytest.FixtureRequest, instance: dg.DagsterInstance) -> Chain:
    return Chain(instance, request.param)


def settle(chain: Chain) -> None:
    while chain.tick():
        pass


def test_what_was_never_computed_starts_once_and_in_order(chain: Chain) -> None:
    assert chain.tick() == ["a", "b", "c"]
    assert [chain.tick() for _ in range(3)] == [[], [], []]


def test_new_content_goes_down_as_far_as_it_changes_something(chain: Chain) -> None:
    settle(chain)
    chain.content["a"] = "2"
    chain.run("a")
    assert [chain.tick() for _ in range(3)] == [["b"], [], []]
    chain.content.update(a="3", b="2")
    chain.run("a")
    assert [chain.tick() for _ in range(3)] == [["b"], ["c"], []]


def test_the_same_content_once_more_starts_nothing(chain: Chain) -> None:
    settle(chain)
    chain.run("a")
    assert [chain.tick() for _ in range(3)] == [[], [], []]


def test_new_content_counts_while_what_is_made_of_it_is_being_computed(chain: Chain) -> None:
    settle(chain)

    def other_content() -> None:
        assert chain.tick() == []
        chain.content["a"] = "2"
        chain.run("a")
        assert chain.tick() == []

    chain.meanwhile["b"] = other_content
    chain.code["b"] = "2"
    assert [chain.tick() for _ in range(3)] == [["b"], ["b"], []]
    assert chain.made_of["b"] == ["2"]


def test_another_spec_counts_although_the_last_one_has_just_been_started(chain: Chain) -> None:
    settle(chain)
    chain.code["b"] = "2"
    assert chain.tick() == ["b"]
    chain.code["b"] = "3"
    assert [chain.tick() for _ in range(2)] == [["b"], []]


def test_another_spec_is_computed_anew(chain: Chain) -> None:
    settle(chain)
    chain.code["b"] = "2"
    assert [chain.tick() for _ in range(3)] == [["b"], [], []]


def test_a_failure_is_not_tried_again_and_again(chain: Chain) -> None:
    chain.failing.add("b")
    assert chain.tick() == ["a", "b", "c"]
    assert [chain.tick() for _ in range(3)] == [[], [], []]


def test_a_failure_is_tried_once_more_after_its_code_was_mended(chain: Chain) -> None:
    chain.failing.add("b")
    settle(chain)
    chain.code["b"] = "2"
    assert [chain.tick() for _ in range(3)] == [["b"], [], []]
    chain.failing.clear()
    chain.code["b"] = "3"
    assert [chain.tick() for _ in range(3)] == [["b"], ["c"], []]


def test_a_failure_is_tried_once_more_after_what_it_is_made_of_was_computed_again(chain: Chain) -> None:
    settle(chain)
    chain.failing.add("b")
    chain.content["a"] = "2"
    chain.run("a")
    assert [chain.tick() for _ in range(2)] == [["b"], []]
    chain.failing.clear()
    chain.run("a")
    assert [chain.tick() for _ in range(3)] == [["b"], [], []]


def test_what_failed_before_the_first_look_waits_until_it_is_mended(chain: Chain) -> None:
    chain.failing.update("abc")
    chain.run("a", "b", "c")
    assert [chain.tick() for _ in range(2)] == [[], []]
    chain.failing.clear()
    chain.code["a"] = "2"
    assert [chain.tick() for _ in range(4)] == [["a"], ["b"], ["c"], []]


def test_what_fails_by_hand_with_what_it_is_made_of_is_not_tried_at_once(chain: Chain) -> None:
    settle(chain)
    chain.failing.add("b")
    chain.content["a"] = "2"
    chain.run("a", "b")
    assert [chain.tick() for _ in range(3)] == [[], [], []]
    chain.failing.clear()
    chain.content["a"] = "3"
    chain.run("a")
    assert [chain.tick() for _ in range(3)] == [["b"], [], []]


def test_what_was_started_too_early_by_hand_is_computed_once_the_rest_is_there(chain: Chain) -> None:
    chain.failing.update("ab")
    assert chain.tick() == ["a", "b", "c"]
    chain.run("b")
    assert chain.tick() == []
    chain.failing.clear()
    chain.run("a")
    assert [chain.tick() for _ in range(3)] == [["b"], ["c"], []]


def test_what_is_mended_starts_in_one_run_with_what_was_mended_below_it(chain: Chain) -> None:
    chain.failing.update("abc")
    settle(chain)
    chain.failing.clear()
    chain.code.update(a="2", b="2", c="2")
    assert [chain.tick() for _ in range(2)] == [["a", "b", "c"], []]


@pytest.mark.parametrize("seed", range(12))
def test_once_all_is_mended_all_is_made_of_the_latest_and_at_rest(chain: Chain, seed: int) -> None:
    """Faults, mendings, new contents, other specs and runs by hand in any order, with a look after each."""
    chance = random.Random(seed)
    for _ in range(14):
        name = chance.choice("abc")
        match chance.randrange(5):
            case 0:
                chain.failing ^= {name}
            case 1:
                chain.content[name] = str(chance.random())
            case 2:
                chain.code[name] = str(chance.random())
            case 3:
                chain.run(name)
            case _:
                chain.blocked ^= {name}
        chain.tick()
    chain.failing.clear()
    chain.blocked.clear()
    for name in sorted(chain.unwell):
        chain.code[name] = "mended"
    settle(chain)
    assert chain.made_of == {"a": [], "b": [chain.made["a"]], "c": [chain.made["b"]]}
    assert not chain.unwell


def test_what_was_cancelled_does_not_come_back_by_itself(chain: Chain) -> None:
    chain.cancelling = True
    assert chain.tick() == ["a", "b", "c"]
    chain.cancelling = False
    assert [chain.tick() for _ in range(3)] == [[], [], []]
    # Another spec is another wish, and what is started by hand has its consequences.
    chain.code["a"] = "2"
    assert chain.tick() == ["a"]
    chain.run("b", "c")
    # It may have begun before the other content was there; if not, it is found unchanged and taken over.
    assert [chain.tick() for _ in range(2)] == [["b"], []]
    chain.content["a"] = "2"
    chain.run("a")
    assert [chain.tick() for _ in range(3)] == [["b"], [], []]


def test_what_is_wiped_is_missing_anew(chain: Chain) -> None:
    settle(chain)
    chain.instance.wipe_assets([dg.AssetKey(name) for name in "abc"])
    assert chain.tick() == ["a", "b", "c"]


def test_nothing_starts_behind_a_failed_blocking_check(chain: Chain) -> None:
    settle(chain)
    chain.content["a"] = "2"
    chain.blocked.add("a")
    chain.run("a")
    assert [chain.tick() for _ in range(2)] == [[], []]
    chain.blocked.clear()
    chain.run("a")
    assert chain.tick() == ["b"]


def test_a_schedule_starts_once_a_tick_and_not_before(instance: dg.DagsterInstance) -> None:
    chain = Chain(instance, lambda _: on_cron("0 12 * * *"))
    assert chain.tick(minutes=0) == []
    assert chain.tick(minutes=2) == ["a", "b", "c"]
    assert chain.tick(minutes=2) == []
    assert chain.tick(minutes=60 * 24) == ["a", "b", "c"]


def test_the_conditions_keep_apart_what_they_remember() -> None:
    """Dagster names such nodes after the operators right below them, and equal names would share one memory."""

    def walk(condition: dg.AutomationCondition[Any]) -> Iterator[dg.AutomationCondition[Any]]:
        yield condition
        for child in condition.children:
            yield from walk(child)

    kept = [node for node in walk(eager()) if type(node).__name__ in ("SinceCondition", "NewlyTrueCondition")]
    names = {
        node.get_node_unique_id(parent_unique_id=None, index=None, target_key=dg.AssetKey("x"))
        for node in kept
    }
    assert len(kept) >= 3
    assert len(names) == len(kept)


def test_a_manifest_that_asks_for_it_gets_a_condition_and_a_sensor(tmp_path: Path) -> None:
    directory = small_catalog.write(tmp_path / "catalog")
    catalog = Catalog.load(directory)
    names = [sensor.name for sensor in build_definitions(catalog).sensors or ()]
    assert "dyff_automation" not in names
    manifest = directory / "audit.yaml"
    text = manifest.read_text()
    text = text.replace(
        "id: doubled\naccount: acme\n",
        "id: doubled\naccount: acme\nannotations: {dyff-dagster/automation: eager}\n",
    )
    text = text.replace(
        "annotations: {dyff-dagster/checks:",
        "annotations: {dyff-dagster/automation: '0 3 * * *', dyff-dagster/checks:",
    )
    manifest.write_text(text)
    defs = build_definitions(Catalog.load(directory))
    sensors = {sensor.name: sensor for sensor in defs.sensors or ()}
    assert isinstance(sensors["dyff_automation"], dg.AutomationConditionSensorDefinition)
    graph = defs.resolve_asset_graph()
    conditions = {
        key.path[1]: condition.get_label()
        for key in graph.get_all_asset_keys()
        if (condition := graph.get(key).automation_condition) is not None
    }
    assert conditions == {"doubled": "eager", "scores": "on schedule 0 3 * * *"}
