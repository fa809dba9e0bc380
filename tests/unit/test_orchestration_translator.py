"""What a translator says of an entity's asset, attribute by attribute."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from dyff_dagster import Catalog, DyffTranslator, DyffTranslatorData, build_definitions
from dyff_dagster.schema.platform import DyffEntity
from tests.integration import small_catalog

KEY = dg.AssetKey(["measurements", "scores"])


class Key(DyffTranslator):
    def get_asset_key(self, entity: DyffEntity) -> dg.AssetKey:
        return super().get_asset_key(entity).with_prefix("ward-7")


class Deps(DyffTranslator):
    def get_deps(self, data: DyffTranslatorData) -> list[dg.AssetKey]:
        return [*super().get_deps(data), dg.AssetKey("ledger")]


class Group(DyffTranslator):
    def get_group_name(self, data: DyffTranslatorData) -> str | None:
        return "ward_7"


class Kinds(DyffTranslator):
    def get_kinds(self, data: DyffTranslatorData) -> set[str]:
        return {*super().get_kinds(data), "snowflake"}


class Owners(DyffTranslator):
    def get_owners(self, data: DyffTranslatorData) -> list[str]:
        return ["team:ward-7"]


class Description(DyffTranslator):
    def get_description(self, data: DyffTranslatorData) -> str | None:
        return f"Ours: {super().get_description(data)}"


class Metadata(DyffTranslator):
    def get_metadata(self, data: DyffTranslatorData) -> dict[str, Any]:
        return {**super().get_metadata(data), "ward": 7}


class Tags(DyffTranslator):
    def get_tags(self, data: DyffTranslatorData) -> dict[str, str]:
        return {**super().get_tags(data), "site": "ward-7"}


class Code(DyffTranslator):
    def get_code_version(self, data: DyffTranslatorData) -> str | None:
        return f"{super().get_code_version(data)}-7"


class Automation(DyffTranslator):
    def get_automation_condition(self, data: DyffTranslatorData) -> dg.AutomationCondition[Any] | None:
        return dg.AutomationCondition.eager()


class OpTags(DyffTranslator):
    def get_op_tags(self, data: DyffTranslatorData) -> dict[str, Any]:
        return {**super().get_op_tags(data), "site": "ward-7"}


class Pool(DyffTranslator):
    def get_pool(self, data: DyffTranslatorData) -> str | None:
        return "ward-7"


CHANGES: dict[type[DyffTranslator], tuple[str, Any]] = {
    Key: ("key", KEY.with_prefix("ward-7")),
    Deps: ("deps", None),
    Group: ("group_name", "ward_7"),
    Kinds: ("kinds", {"measurement", "parquet", "snowflake"}),
    Owners: ("owners", ["team:ward-7"]),
    Description: ("description", None),
    Metadata: ("metadata", None),
    Tags: ("tags", None),
    Code: ("code_version", None),
    Automation: ("automation_condition", None),
    OpTags: ("op_tags", None),
    Pool: ("pool", "ward-7"),
}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return Catalog.load(small_catalog.write(tmp_path_factory.mktemp("translator") / "catalog"))


def attributes(catalog: Catalog, translator: DyffTranslator) -> dict[str, Any]:
    """Everything that can be told of the asset of `scores`."""
    key = translator.get_asset_key(catalog.get("scores"))
    definition = build_definitions(catalog, translator=translator).resolve_assets_def(key)
    spec = definition.get_asset_spec(key)
    return {
        "key": spec.key,
        "deps": {dep.asset_key for dep in spec.deps},
        "group_name": spec.group_name,
        "kinds": set(spec.kinds),
        "owners": list(spec.owners),
        "description": spec.description,
        # Where its code stands is Dagster's own to tell.
        "metadata": {name: value for name, value in spec.metadata.items() if not name.startswith("dagster")},
        "tags": {name: value for name, value in spec.tags.items() if not name.startswith("dagster/kind/")},
        "code_version": spec.code_version,
        "automation_condition": spec.automation_condition,
        "op_tags": dict(definition.op.tags),
        "pool": definition.op.pool,
    }


@pytest.mark.parametrize("translator", CHANGES, ids=lambda translator: translator.__name__)
def test_a_subclass_changes_one_attribute_and_keeps_the_rest(
    translator: type[DyffTranslator], catalog: Catalog
) -> None:
    name, expected = CHANGES[translator]
    before, after = attributes(catalog, DyffTranslator()), attributes(catalog, translator())
    assert before[name] != after[name]
    if expected is not None:
        assert after[name] == expected
    different = {attribute for attribute in before if before[attribute] != after[attribute]}
    # Edges go by keys, and so do links to what its specification names.
    assert different == ({"key", "deps", "description", "metadata"} if translator is Key else {name})


def test_every_attribute_of_an_asset_has_a_method_of_its_own() -> None:
    methods = {name for name in vars(DyffTranslator) if name.startswith("get_")} - {"get_asset_spec"}
    overridden = {name for change in CHANGES for name in vars(change) if name.startswith("get_")}
    assert methods == overridden


def test_a_whole_asset_may_still_be_changed_at_once(catalog: Catalog) -> None:
    class Ours(DyffTranslator):
        def get_asset_spec(self, data: DyffTranslatorData) -> dg.AssetSpec:
            return super().get_asset_spec(data).merge_attributes(tags={"site": "ward-7"})

    assert attributes(catalog, Ours())["tags"] == {"site": "ward-7"}
