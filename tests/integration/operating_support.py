"""The small catalog, its store and its instance, as an operator has them: run, and looked at with the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from dyff_dagster import Catalog, DyffStorage, DyffTranslator, build_definitions
from dyff_dagster.cli import main
from dyff_dagster.orchestration.catalog_sensor import Seen, look
from dyff_dagster.orchestration.standing import standings
from dyff_dagster.store import Store
from tests.integration import small_catalog


class Desk:
    """An operator's desk."""

    def __init__(self, tmp_path: Path, instance: dg.DagsterInstance) -> None:
        self.directory = tmp_path / "catalog"
        self.root = tmp_path / "store"
        self.instance = instance
        self.seen = Seen()

    @property
    def catalog(self) -> Catalog:
        return Catalog.load(self.directory)

    @property
    def store(self) -> Store:
        return Store(self.root)

    def materialize(self, *names: str) -> str:
        """Materialize assets in one run; its id."""
        defs = build_definitions(self.catalog, storage=DyffStorage(root=str(self.root)))
        keys = [dg.AssetKey(name.split("/")) for name in names]
        selection = dg.AssetSelection.assets(*keys) if keys else dg.AssetSelection.all()
        merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job("some", selection)]))
        job = merged.resolve_job_def("some")
        return job.execute_in_process(instance=self.instance, raise_on_error=False).run_id

    def run(self, *arguments: str | Path, terminal: str | None = None) -> Result:
        """The command, with the catalog and storage of this desk."""
        options = ["--storage", self.root]
        if arguments[0] in ("status", "delete", "purge", "plan"):
            options += ["--catalog", self.directory]
        given = [str(argument) for argument in (*arguments, *options)]
        return CliRunner().invoke(main, given, catch_exceptions=False, input=terminal)

    def status(self) -> dict[str, tuple[str, str | None]]:
        """(status, reason) by id, as ``status --json`` has it."""
        found = json.loads(self.run("status", "--json").stdout)
        return {state["id"]: (state["status"], state["reason"]) for state in found}

    def words(self) -> dict[str, tuple[str, str | None]]:
        """The same from the instance alone."""
        return {i: (s.status, s.reason) for i, s in standings(self.catalog, self.instance).items()}

    def look(self) -> list[str]:
        """One tick of the sensor that watches the manifests."""
        said = look(
            self.directory, self.catalog, DyffTranslator(), self.seen, self.instance, lambda: "loaded again"
        )
        self.seen = Seen.read(self.seen.write())
        return said

    def purge(self, *options: str) -> dict[str, Any]:
        """``purge --yes --json``."""
        done = self.run("purge", *options, "--yes", "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def take_out(self, *ids: str) -> dict[str, str]:
        """Take documents out of the manifest; they are returned."""
        path = self.directory / "audit.yaml"
        documents = path.read_text().split("\n---\n")
        taken = {i: next(d for d in documents if f"\nid: {i}\n" in f"\n{d}\n") for i in ids}
        path.write_text("\n---\n".join(d for d in documents if d not in taken.values()))
        return taken

    def change_rows(self, rows: int) -> None:
        """Another version of the data set."""
        small_catalog.write_rows(self.directory, rows=rows)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk on which nothing was materialized."""
    (tmp_path / "home").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "home")) as instance:
        small_catalog.write(tmp_path / "catalog")
        yield Desk(tmp_path, instance)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk on which all was materialized, to be copied: that takes seconds, and a copy does not."""
    path = tmp_path_factory.mktemp("template")
    (path / "home").mkdir()
    with dg.instance_for_test(temp_dir=str(path / "home")) as instance:
        small_catalog.write(path / "catalog")
        Desk(path, instance).materialize()
    return path


@pytest.fixture
def made(template: Path, tmp_path: Path) -> Iterator[Desk]:
    """A desk on which all was materialized."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    with dg.instance_for_test(temp_dir=str(tmp_path / "home")) as instance:
        yield Desk(tmp_path, instance)
