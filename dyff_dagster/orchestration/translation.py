"""What a component's ``translation`` says, on top of a translator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.translator import DyffTranslator, DyffTranslatorData
from dyff_dagster.schema.platform import DyffEntity

Translation = Callable[[dg.AssetSpec, DyffTranslatorData], dg.AssetSpec]
"""Makes of the asset that a translator made of an entity the one that is wanted."""


class TranslatedTranslator(DyffTranslator):
    """A translator whose assets are changed once more.

    A key that is changed is also that of the edges to it, unless the upstream assets were said too.

    Args:
        base: Makes the assets.
        translation: Changes each.
        catalog: All entities, since a key may be made of anything that an asset has.
    """

    def __init__(self, base: DyffTranslator, translation: Translation, catalog: Catalog) -> None:
        self._base = base
        self._translation = translation
        self._catalog = catalog
        self._made: dict[str, tuple[dg.AssetSpec, dg.AssetSpec]] = {}
        self._keys: dict[dg.AssetKey, dg.AssetKey] = {}

    def get_asset_key(self, entity: DyffEntity) -> dg.AssetKey:
        """The key after the translation."""
        if entity.id not in self._catalog.entities:
            return self._base.get_asset_key(entity)  # of a manifest that was not loaded yet
        return self._specs(DyffTranslatorData(self._catalog.get(entity.id), self._catalog))[1].key

    def get_asset_spec(self, data: DyffTranslatorData) -> dg.AssetSpec:
        """The asset after the translation, with edges to what is upstream under its new keys."""
        before, after = self._specs(data)
        keys = [dep.asset_key for dep in before.deps]
        if [dep.asset_key for dep in after.deps] != keys:
            return after
        if not self._keys:
            self._keys = {
                self._base.get_asset_key(entity): self.get_asset_key(entity)
                for entity in self._catalog.entities.values()
            }
        renamed = [self._keys.get(key, key) for key in keys]
        return after if renamed == keys else after.replace_attributes(deps=renamed)

    def get_op_tags(self, data: DyffTranslatorData) -> Mapping[str, Any]:
        """As the translator below has it."""
        return self._base.get_op_tags(data)

    def get_pool(self, data: DyffTranslatorData) -> str | None:
        """As the translator below has it."""
        return self._base.get_pool(data)

    def _specs(self, data: DyffTranslatorData) -> tuple[dg.AssetSpec, dg.AssetSpec]:
        made = self._made.get(data.entity.id)
        if made is None:
            before = self._base.get_asset_spec(data)
            made = self._made[data.entity.id] = (before, self._translation(before, data))
        return made
