"""The catalog, watched: a manifest that is dropped in, changed, broken or removed, on a real instance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dyff_dagster import Catalog, DyffTranslator
from dyff_dagster.orchestration.catalog_sensor import Seen, look, reloader
from dyff_dagster.schema.errors import DyffError
from tests.integration import small_catalog

EXTRA = """kind: Module
id: extra
account: acme
name: Extra
annotations: {dyff-dagster/files: code}
artifacts: [{path: small_functions.py}]
"""


class Site:
    """The small catalog, as it was loaded, and what the sensor knows."""

    def __init__(self, directory: Path, instance: dg.DagsterInstance) -> None:
        self.directory = directory
        self.instance = instance
        self.loaded = Catalog.load(directory)
        self.seen = Seen()
        self.reloads = 0
        self.away = False

    def look(self) -> list[str]:
        said = look(self.directory, self.loaded, DyffTranslator(), self.seen, self.instance, self._reload)
        self.seen = Seen.read(self.seen.write())  # through a cursor, as between two ticks
        return said

    def _reload(self) -> str:
        if self.away:
            raise DyffError("nobody answers")
        self.reloads += 1
        self.loaded = Catalog.load(self.directory)
        return "loaded again"

    def touch(self, name: str, text: str) -> None:
        path = self.directory / name
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text(text)
        os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "home").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "home")) as instance:
        yield Site(small_catalog.write(tmp_path / "catalog"), instance)


def test_what_is_only_declared_is_reported_once_and_again_when_it_changes(site: Site) -> None:
    site.look()
    key = dg.AssetKey(["methods", "judge"])
    assert site.instance.get_latest_materialization_event(key) is not None
    first = site.instance.fetch_materializations(key, limit=10).records
    site.look()
    assert len(site.instance.fetch_materializations(key, limit=10).records) == len(first) == 1
    text = (site.directory / "audit.yaml").read_text()
    site.touch("audit.yaml", text.replace("name: Judge\n", "name: Judge anew\n"))
    site.look()
    site.look()
    records = site.instance.fetch_materializations(key, limit=10).records
    assert len(records) == 2
    versions = {record.asset_materialization.tags["dagster/data_version"] for record in records}  # type: ignore[union-attr,index]
    assert len(versions) == 2


def test_nothing_is_loaded_again_while_nothing_changes(site: Site) -> None:
    for _ in range(3):
        site.look()
    assert site.reloads == 0


def test_a_manifest_that_is_dropped_in_is_loaded(site: Site) -> None:
    site.look()
    site.touch("extra.yaml", EXTRA)
    assert site.look() == ["the manifests have changed: loaded again"]
    assert "extra" in site.loaded
    site.look()
    assert site.reloads == 1


def test_a_manifest_with_a_mistake_is_told_once_and_changes_nothing(site: Site) -> None:
    site.look()
    site.touch("extra.yaml", EXTRA.replace("kind: Module", "kind: Modul"))
    (said,) = site.look()
    assert "what was loaded before stays" in said
    assert "extra.yaml" in said and "Module" in said
    assert site.look() == []
    assert site.reloads == 0
    site.touch("extra.yaml", EXTRA)
    assert site.look() == ["the manifests have changed: loaded again"]


def test_what_is_removed_becomes_deleted(site: Site) -> None:
    site.touch("extra.yaml", EXTRA)
    site.loaded = Catalog.load(site.directory)
    site.look()
    (site.directory / "extra.yaml").unlink()
    site.look()
    assert site.look() == ["Deleted: modules/extra"]
    (record,) = site.instance.fetch_observations(dg.AssetKey(["modules", "extra"]), limit=5).records
    assert record.asset_observation is not None
    assert record.asset_observation.metadata["dyff/status"].value == "Deleted"
    assert site.look() == []


def test_the_first_look_notices_what_changed_since_the_location_was_loaded(site: Site) -> None:
    site.touch("extra.yaml", EXTRA)
    assert "the manifests have changed: loaded again" in site.look()


def test_without_a_web_server_it_says_what_to_do() -> None:
    assert "DYFF_WEBSERVER_URL" in reloader(None, "here")()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:3000"])
def test_only_a_web_server_is_asked(url: str) -> None:
    with pytest.raises(DyffError) as error:
        reloader(url, "here")()
    assert (
        str(error.value)
        == f"DYFF_WEBSERVER_URL is {url!r}: it must be the http(s) URL of Dagster's web server"
    )


def test_a_web_server_that_is_away_is_told_in_a_sentence() -> None:
    with pytest.raises(DyffError, match="could not be asked to load here again"):
        reloader("http://127.0.0.1:9", "here")()


def test_a_reload_that_failed_is_tried_again(site: Site) -> None:
    site.look()
    site.touch("extra.yaml", EXTRA)
    site.away = True
    assert site.look() == ["the manifests have changed: nobody answers; it is tried again"]
    site.away = False
    assert site.look() == ["the manifests have changed: loaded again"]
    assert "extra" in site.loaded
