"""The component in a Dagster project, with Dagster's own helpers for testing components."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing.test_cases import TestTranslation
from dagster.components.testing.utils import component_defs, create_defs_folder_sandbox

from dyff_dagster import DyffCatalogComponent, DyffSessions, DyffStorage, DyffTranslator
from dyff_dagster.schema.platform import DyffEntity
from dyff_dagster.store import Store
from tests.integration import small_catalog

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

DOUBLED = dg.AssetKey(["evaluations", "doubled"])
JUDGED = dg.AssetKey(["measurements", "judged"])

SESSION = """
kind: InferenceSession
id: running
account: acme
inferenceService: doubler
"""


@contextmanager
def loaded(attributes: dict[str, Any]) -> Iterator[tuple[DyffCatalogComponent, dg.Definitions, Path]]:
    """A project with the small audit as a component of these attributes; gives its root, too."""
    with create_defs_folder_sandbox() as sandbox:
        contents = {
            "type": "dyff_dagster.DyffCatalogComponent",
            "attributes": {"path": "manifests", **attributes},
        }
        path = sandbox.scaffold_component(component_cls=DyffCatalogComponent, defs_yaml_contents=contents)
        (path / "manifests" / "first.yaml").unlink()
        small_catalog.write(path / "manifests")
        (path / "manifests" / "session.yaml").write_text(SESSION)
        with sandbox.load_component_and_build_defs(path) as (component, defs):
            assert isinstance(component, DyffCatalogComponent)
            yield component, defs, sandbox.project_root


def spec_of(defs: dg.Definitions, key: dg.AssetKey) -> dg.AssetSpec:
    found: dg.AssetSpec = defs.resolve_assets_def(key).get_asset_spec(key)
    return found


def test_a_scaffolded_component_has_a_first_manifest_and_loads() -> None:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=DyffCatalogComponent)
        assert sorted(file.name for file in path.rglob("*.yaml")) == ["defs.yaml", "first.yaml"]
        with sandbox.load_component_and_build_defs(path) as (component, defs):
            assert isinstance(component, DyffCatalogComponent)
            keys = defs.resolve_asset_graph().get_all_asset_keys()
            assert keys == {dg.AssetKey(["inferenceservices", "an-endpoint"])}


def test_a_component_is_scaffolded_over_a_catalog_that_is_there(tmp_path: Path) -> None:
    small_catalog.write(tmp_path / "catalog")
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=DyffCatalogComponent,
            scaffold_params={"path": str(tmp_path / "catalog"), "storage": "memory://artifacts"},
        )
        assert sorted(file.name for file in path.iterdir()) == ["defs.yaml"]
        with sandbox.load_component_and_build_defs(path) as (component, defs):
            assert component.storage == "memory://artifacts"  # type: ignore[attr-defined]
            assert DOUBLED in defs.resolve_asset_graph().get_all_asset_keys()


def test_a_component_runs_an_audit_and_stores_it_in_the_project() -> None:
    with loaded({"storage": "artifacts"}) as (_, defs, root), dg.instance_for_test() as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        keys = [key for key in job.asset_layer.executable_asset_keys if key.path[0] != "inferencesessions"]
        assert job.execute_in_process(instance=instance, asset_selection=keys).success
        commit = Store(root / "artifacts").current("scores")
        assert commit is not None
        assert commit.facts.scores[0].value == 1.0


def test_storage_and_sessions_are_a_word_or_all_their_fields() -> None:
    with loaded({"storage": "artifacts", "sessions": "kubernetes"}) as (_, defs, root):
        storage, sessions = resources(defs)
        assert storage.location == str(root / "artifacts")
        assert sessions.backend == "kubernetes"
    attributes = {
        "storage": {"root": "s3://audits/artifacts", "pages_url": "https://pages.example"},
        "sessions": {"backend": "local", "startup_timeout": 600, "client_processes": 2},
    }
    with loaded(attributes) as (_, defs, _):
        storage, sessions = resources(defs)
        assert (storage.location, storage.pages_url) == ("s3://audits/artifacts", "https://pages.example")
        assert (sessions.backend, sessions.startup_timeout, sessions.client_processes) == ("local", 600, 2)


def resources(defs: dg.Definitions) -> tuple[DyffStorage, DyffSessions]:
    assert defs.resources is not None
    storage, sessions = defs.resources["dyff_storage"], defs.resources["dyff_sessions"]
    assert isinstance(storage, DyffStorage)
    assert isinstance(sessions, DyffSessions)
    return storage, sessions


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"sesions": "local"}, "sesions"),
        ({"sessions": {"backend": "local", "client_processes": 0}}, "client_processes"),
        ({"path": "nowhere"}, "nowhere"),
    ],
)
def test_a_wrong_attribute_is_named(attributes: dict[str, Any], told: str) -> None:
    with pytest.raises(Exception) as raised, loaded(attributes):
        pass
    said, error = "", raised.value
    while error is not None:
        said, error = said + str(error), error.__cause__  # type: ignore[assignment]
    assert told in said


class TestTranslationOfEntities(TestTranslation):
    """Every attribute that Dagster lets a component's `translation` set."""

    def test_translation(
        self,
        attributes: dict[str, Any],
        assertion: Callable[[dg.AssetSpec], bool],
        key_modifier: Callable[[dg.AssetKey], dg.AssetKey] | None,
    ) -> None:
        with loaded({"translation": attributes}) as (_, defs, _):
            key = key_modifier(DOUBLED) if key_modifier else DOUBLED
            assert assertion(spec_of(defs, key))


def test_edges_follow_keys_that_are_translated() -> None:
    with loaded({"translation": {"key_prefix": "ward-7"}}) as (_, defs, _):
        graph = defs.resolve_asset_graph()
        assert {key.path[0] for key in graph.get_all_asset_keys()} == {"ward-7"}
        assert DOUBLED.with_prefix("ward-7") in graph.get(JUDGED.with_prefix("ward-7")).parent_keys


def test_a_template_may_say_something_of_each_entity() -> None:
    attributes = {
        "description": "{{ entity.id }} of {{ entity.account }}",
        "tags": {"tier": "{{ 'paid' if entity.kind == 'Evaluation' else 'free' }}"},
        "group_name": "{{ spec.group_name + '_audits' }}",
    }
    with loaded({"translation": attributes}) as (_, defs, _):
        doubled, judged = spec_of(defs, DOUBLED), spec_of(defs, JUDGED)
        assert (doubled.description, doubled.group_name) == ("doubled of acme", "acme_audits")
        assert (doubled.tags["tier"], judged.tags["tier"]) == ("paid", "free")
        assert doubled.code_version is not None


def test_a_session_never_starts_by_itself_whatever_is_translated() -> None:
    with loaded({"translation": {"automation_condition": "{{ dg.AutomationCondition.eager() }}"}}) as (
        _,
        defs,
        _,
    ):
        assert spec_of(defs, DOUBLED).automation_condition is not None
        session = dg.AssetKey(["inferencesessions", "running"])
        assert spec_of(defs, session).automation_condition is None


def test_a_subclass_brings_a_translator_of_its_own_beneath_the_translation(tmp_path: Path) -> None:
    class Ward(DyffTranslator):
        def get_asset_key(self, entity: DyffEntity) -> dg.AssetKey:
            return super().get_asset_key(entity).with_prefix("ward-7")

        def get_pool(self, data: Any) -> str | None:
            return "ward-7"

    class OurCatalog(DyffCatalogComponent):
        def get_translator(self) -> DyffTranslator:
            return Ward()

    directory = small_catalog.write(tmp_path / "catalog")
    component = OurCatalog(
        path=str(directory), translation=lambda spec, data: spec.merge_attributes(tags={"of": data.entity.id})
    )
    key = DOUBLED.with_prefix("ward-7")
    definition = component_defs(component=component).resolve_assets_def(key)
    assert definition.get_asset_spec(key).tags["of"] == "doubled"
    assert definition.op.pool == "ward-7"
