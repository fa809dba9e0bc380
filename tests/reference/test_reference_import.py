"""A storage root that the reference's local platform wrote becomes a catalog, and ours becomes such a root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from dyff_dagster.catalog import Catalog
from dyff_dagster.cli import main
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.interchange import read_entity
from dyff_dagster.schema.platform import Dataset, Method, Resources
from dyff_dagster.schema.scores import declared_scores
from tests.integration.small_audit import Place
from tests.reference.asking import Reference

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def local_root(newer: Reference, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A root with a data set, a module and a method, and their ids by kind."""
    directory = tmp_path_factory.mktemp("dyff")
    root = directory / "root"
    root.mkdir()
    return root, newer.ask("local_root", root=str(root), rows=str(directory / "rows"))


def test_a_local_root_becomes_a_catalog(local_root: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    root, ids = local_root
    done = run("import", root, "--out", tmp_path / "catalog")
    assert done.exit_code == 0, done.output
    catalog = Catalog.load(tmp_path / "catalog")
    assert {catalog.get(ids[kind]).kind for kind in ids} == {"Dataset", "Module", "Method"}
    dataset = catalog.get_as(ids["dataset"], Dataset)
    assert catalog.files(dataset.id).resolve() == (root / dataset.id).resolve()
    assert catalog.documentation[dataset.id].title == "Two rows"
    (score,) = declared_scores(catalog.get_as(ids["method"], Method))
    assert (score.name, score.title, score.format, score.minimum) == ("count", "Count", "{quantity:.0f}", 0)
    assert run("validate", tmp_path / "catalog").exit_code == 0


def test_nothing_of_an_imported_entity_is_lost_but_what_is_assigned(
    local_root: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    root, ids = local_root
    assert run("import", root, "--out", tmp_path, "--copy").exit_code == 0
    catalog = Catalog.load(tmp_path)
    for kind, entity_id in ids.items():
        written = read_entity(json.loads((root / entity_id / f".{kind}.json").read_text())).entity
        ours = catalog.get(entity_id)
        without = {"status": None, "reason": None, "creationTime": None, "annotations": []}
        assert ours.model_copy(update={"annotations": []}) == written.model_copy(update=without)
    assert (tmp_path / ids["dataset"] / "files" / "part.parquet").is_file()


def test_the_local_platform_reads_what_we_export_of_its_root(
    newer: Reference, local_root: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    root, ids = local_root
    run("import", root, "--out", tmp_path / "catalog")
    exported = run("export", "--catalog", tmp_path / "catalog", "--out", tmp_path / "root")
    assert exported.exit_code == 0, exported.output
    for kind, entity_id in ids.items():
        plural = str(Resources.for_kind(Catalog.load(tmp_path / "catalog").get(entity_id).kind))
        read = newer.ask("read_local", root=str(tmp_path / "root"), plural=plural, id=entity_id)
        written = newer.ask("read_local", root=str(root), plural=plural, id=entity_id)
        for name in ("status", "creationTime", "annotations"):
            read.pop(name, None)
            written.pop(name, None)
        assert read == written, kind


def test_data_of_a_local_root_are_computed_with_and_the_local_platform_opens_our_root(
    newer: Reference, local_root: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    root, ids = local_root
    assert run("import", root, "--out", tmp_path / "catalog").exit_code == 0
    place = Place(tmp_path)
    place.compute_all()
    for kind in ("dataset", "module"):
        ours = place.store.current(ids[kind])
        assert ours is not None
        read = newer.ask("read_local", root=str(tmp_path / "store"), plural=f"{kind}s", id=ids[kind])
        assert read["id"] == ids[kind] and read["status"] == "Ready"
        assert (
            read["artifacts"]
            == newer.ask("read_local", root=str(root), plural=f"{kind}s", id=ids[kind])["artifacts"]
        )
    assert open_dataset(tmp_path / "store" / ids["dataset"]).to_table()["text"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize("schema", ["0.12", "0.46"])
def test_the_example_catalog_is_read_by_the_reference_and_imported_again(
    request: pytest.FixtureRequest, schema: str, tmp_path: Path
) -> None:
    reference: Reference = request.getfixturevalue("older" if schema == "0.12" else "newer")
    example = ROOT / "examples" / "breast_cancer"
    done = run("export", "--catalog", example, "--storage", tmp_path / "empty", "--schema", schema)
    assert done.exit_code == 0, done.output
    ours = Catalog.load(example)
    exported = json.loads(done.stdout)
    assert [data["id"] for data in exported] == list(ours.entities)
    for data in exported:
        answer = reference.ask("entity", entity=data)
        read = read_entity(answer["entity"]).entity
        assigned = {"status": None, "reason": None, "creationTime": None}
        assert read.model_copy(update=assigned) == ours.get(data["id"])


def test_an_exported_entity_has_the_status_and_time_that_the_newer_reference_demands(tmp_path: Path) -> None:
    done = run(
        "export", "wdbc-logreg", "--catalog", ROOT / "examples/breast_cancer", "--storage", tmp_path / "empty"
    )
    data = json.loads(done.stdout)
    assert data["id"] == "wdbc-logreg"
    assert data["status"] == "Created"
    assert data["creationTime"].endswith("Z")


def test_manifests_of_an_import_are_short(local_root: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    root, ids = local_root
    run("import", root / ids["module"], "--out", tmp_path)
    (document,) = yaml.safe_load_all((tmp_path / ids["module"] / "module.yaml").read_text())
    assert list(document) == ["kind", "id", "account", "name", "annotations", "artifacts"]
