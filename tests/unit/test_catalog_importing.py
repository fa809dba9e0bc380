"""Entities of Dyff become manifests that are valid, and a catalog is changed as a whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner, Result

from dyff_dagster.catalog import Catalog, CatalogError
from dyff_dagster.catalog.importing import import_entities
from dyff_dagster.cli import main
from dyff_dagster.schema.interchange import full_form, read_entity
from dyff_dagster.schema.newer import held_fields
from dyff_dagster.schema.platform import DataSchema
from dyff_dagster.store import LinkInTheWay

ONE_FIELD = DataSchema.make_input_schema(pa.schema([pa.field("text", pa.string())])).arrowSchema
ASSIGNED = {"status": "Ready", "reason": None, "creationTime": "2025-01-01T00:00:00Z"}


def dataset(**more: Any) -> dict[str, Any]:
    return {
        "kind": "Dataset",
        "id": "d1",
        "account": "a",
        "name": "rows",
        "artifacts": [{"path": "data.parquet"}],
        "schema": {"arrowSchema": ONE_FIELD},
        **ASSIGNED,
        **more,
    }


def model(**more: Any) -> dict[str, Any]:
    return {
        "kind": "Model",
        "id": "m1",
        "account": "a",
        "name": "model",
        "source": {"kind": "Mock"},
        "artifact": {"kind": "Mock"},
        "storage": {"medium": "Mock"},
        "resources": {"storage": "1Gi"},
        **ASSIGNED,
        **more,
    }


def service(**more: Any) -> dict[str, Any]:
    answers = pa.schema([pa.field("text", pa.string())])
    embedded = {key: model()[key] for key in ("id", "account", "name", "artifact", "storage")}
    return {
        "kind": "InferenceService",
        "id": "s1",
        "account": "a",
        "name": "service",
        "model": embedded,
        "runner": {"kind": "mock", "resources": {"storage": "1Gi"}, "nodes": 1},
        "interface": {
            "endpoint": "generate",
            "outputSchema": {"arrowSchema": DataSchema.make_output_schema(answers).arrowSchema},
        },
        **ASSIGNED,
        **more,
    }


def root_of(directory: Path, *entities: dict[str, Any]) -> Path:
    """A storage root as the local platform writes it."""
    root = directory / "root"
    for entity in entities:
        home = root / entity["id"]
        home.mkdir(parents=True)
        (home / f".{entity['kind'].lower()}.json").write_text(json.dumps(entity))
        for artifact in entity.get("artifacts", []):
            if isinstance(artifact, dict) and "/" not in artifact.get("path", "/"):
                (home / artifact["path"]).touch()
    return root


def documents(out: Path, entity_id: str) -> list[Any]:
    (path,) = (out / entity_id).glob("*.yaml")
    return list(yaml.safe_load_all(path.read_text()))


def problems(source: Path, out: Path, **options: Any) -> list[str]:
    with pytest.raises(CatalogError) as caught:
        import_entities(source, out, **options)
    return [str(problem).replace(str(source), "SOURCE") for problem in caught.value.problems]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_manifests_take_the_short_form_where_it_loses_nothing(tmp_path: Path) -> None:
    root = root_of(tmp_path, dataset(), model(), service())
    imported = import_entities(root, tmp_path / "out")
    assert dict(imported.entities) == {"d1": "Dataset", "m1": "Model", "s1": "InferenceService"}
    assert documents(tmp_path / "out", "s1") == [
        {
            "kind": "InferenceService",
            "id": "s1",
            "account": "a",
            "name": "service",
            "runner": {"kind": "mock", "resources": {"storage": "1Gi"}},
            "interface": {"endpoint": "generate", "outputSchema": {"arrow": {"text": "string"}}},
            "model": "m1",
        }
    ]
    (data,) = documents(tmp_path / "out", "d1")
    assert data["schema"] == {"arrow": {"text": "string"}}
    assert data["annotations"] == {"dyff-dagster/files": "../../root/d1"}


def test_what_the_short_form_would_lose_is_written_out(tmp_path: Path) -> None:
    """An embedded copy that is not the catalog's, a schema whose keys may be null, a field with a description."""
    described = pa.schema(
        [
            pa.field("_index_", pa.int64()),
            pa.field("text", pa.string(), metadata={"__doc__": "What was said"}),
        ]
    )
    embedded = {**service()["model"], "name": "another name"}
    root = root_of(
        tmp_path,
        dataset(schema={"arrowSchema": DataSchema.make_input_schema(described).arrowSchema}),
        model(),
        service(model=embedded),
    )
    import_entities(root, tmp_path / "out")
    assert documents(tmp_path / "out", "s1")[0]["model"]["name"] == "another name"
    assert set(documents(tmp_path / "out", "d1")[0]["schema"]) == {"arrowSchema"}
    catalog = Catalog.load(tmp_path / "out")
    read = read_entity(service(model=embedded)).entity
    assigned = {"status": None, "creationTime": None}
    assert full_form(catalog.get("s1")) == full_form(read.model_copy(update=assigned))


def test_a_data_set_of_several_fields_is_not_said_to_withhold_nothing(tmp_path: Path) -> None:
    two = pa.schema([pa.field("text", pa.string()), pa.field("label", pa.string())])
    schema = DataSchema.make_input_schema(two).arrowSchema
    imported = import_entities(root_of(tmp_path, dataset(schema={"arrowSchema": schema})), tmp_path / "out")
    assert "dyff-dagster/withhold" not in documents(tmp_path / "out", "d1")[0]["annotations"]
    assert any("must say which of the fields text, label" in warning for warning in imported.warnings)


def test_newer_fields_are_kept_and_what_the_platform_assigns_is_not(tmp_path: Path) -> None:
    metadata = {"revision": "r1", "metrics": None, "documentation": {"title": "Rows"}, "preconditions": []}
    root = root_of(
        tmp_path, dataset(metadata=metadata, message="done", lastTransitionTime="2025-01-01T00:00:00Z")
    )
    import_entities(root, tmp_path / "out")
    held = held_fields(Catalog.load(tmp_path / "out").get("d1"))
    assert held == {"metadata": {"documentation": {"title": "Rows"}}}


def test_a_newer_field_without_effect_here_is_warned_of(tmp_path: Path) -> None:
    runner = {**service()["runner"], "command": ["serve"]}
    imported = import_entities(root_of(tmp_path, model(), service(runner=runner)), tmp_path / "out")
    assert any(
        "runner.command: is held for dyff-schema 0.46 and has no effect here" in warning
        for warning in imported.warnings
    )


def test_documentation_beside_an_entity_comes_along(tmp_path: Path) -> None:
    root = root_of(tmp_path, model())
    (root / "m1" / ".documentation.json").write_text(
        json.dumps({"schemaVersion": "0.1", "title": "A model", "summary": None, "entity": "m1"})
    )
    import_entities(root, tmp_path / "out")
    assert Catalog.load(tmp_path / "out").documentation["m1"].title == "A model"


def test_files_are_copied_on_request(tmp_path: Path) -> None:
    root = root_of(tmp_path, dataset())
    (root / "d1" / "data.parquet").write_bytes(b"rows")
    import_entities(root, tmp_path / "out", copy=True)
    catalog = Catalog.load(tmp_path / "out")
    assert (catalog.files("d1") / "data.parquet").read_bytes() == b"rows"
    assert documents(tmp_path / "out", "d1")[0]["annotations"] == {"dyff-dagster/files": "files"}


@pytest.mark.parametrize("form", ["object", "list", "directory"])
def test_json_files_are_imported_too(tmp_path: Path, form: str) -> None:
    source = tmp_path / "json"
    (source / "deep").mkdir(parents=True)
    if form == "directory":
        (source / "deep" / "model.json").write_text(json.dumps(model()))
    else:
        source = source / "model.json"
        source.write_text(json.dumps(model() if form == "object" else [model()]))
    assert dict(import_entities(source, tmp_path / "out").entities) == {"m1": "Model"}


def test_all_problems_are_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    root = root_of(
        tmp_path,
        dataset(id="d2", artifacts=[{"path": "gone/data.parquet"}]),
        model(id="m2", nonsense=1),
        {"kind": "Team", "id": "t1"},
        model(id="m 3"),
    )
    (root / "broken").mkdir()
    (root / "broken" / ".model.json").write_text("{")
    told = problems(root, tmp_path / "out")
    assert len(told) == 5
    for said in (
        "artifacts: there is no file 'gone/data.parquet' in",
        "nonsense: Model has no field 'nonsense'",
        "a Team is of dyff-schema 0.46 only",
        "id: 'm 3' is no possible id",
        ".model.json:1: is no JSON",
    ):
        assert any(said in line for line in told), said
    assert not (tmp_path / "out").exists()


def test_a_reference_that_leads_nowhere_leaves_the_catalog_as_it_was(tmp_path: Path) -> None:
    evaluation = {
        "kind": "Evaluation",
        "id": "e1",
        "account": "a",
        "dataset": "nowhere",
        "inferenceSession": {
            "inferenceService": {
                key: service()[key] for key in ("id", "account", "name", "model", "runner", "interface")
            }
        },
    }
    root = root_of(tmp_path, model(), service(), evaluation)
    (tmp_path / "out").mkdir()
    told = problems(root, tmp_path / "out")
    assert told == ["SOURCE/e1/.evaluation.json: dataset: " + told[0].partition("dataset: ")[2]]
    assert "nowhere" in told[0]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_manifest_is_replaced_only_on_request(tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_entities(root_of(tmp_path / "first", model()), out)
    again = root_of(tmp_path / "second", model(name="another"))
    assert "is there already; say --overwrite to replace it" in problems(again, out)[0]
    assert documents(out, "m1")[0]["name"] == "model"
    import_entities(again, out, overwrite=True)
    assert documents(out, "m1")[0]["name"] == "another"


def test_a_refused_replacement_puts_the_old_manifest_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_entities(root_of(tmp_path / "first", model(), service()), out)
    before = (out / "s1" / "inferenceservice.yaml").read_bytes()
    wrong = service(interface={**service()["interface"], "endpoint": "http://[broken"})
    problems(root_of(tmp_path / "second", wrong), out, overwrite=True)
    assert (out / "s1" / "inferenceservice.yaml").read_bytes() == before


def test_what_was_deleted_is_left_out(tmp_path: Path) -> None:
    imported = import_entities(root_of(tmp_path, model(), model(id="m2", status="Deleted")), tmp_path / "out")
    assert list(imported.entities) == ["m1"]
    assert imported.warnings[0].endswith("'m2' is deleted and was left out")


def test_reserved_labels_are_left_out(tmp_path: Path) -> None:
    labels = {"dyff.io/x": "1", "sub.dyff.io/y": "2", "mine": "3"}
    imported = import_entities(root_of(tmp_path, model(labels=labels)), tmp_path / "out")
    assert documents(tmp_path / "out", "m1")[0]["labels"] == {"mine": "3"}
    assert "m1: left out, being reserved for the platform: dyff.io/x, sub.dyff.io/y" in imported.warnings


def test_text_that_yaml_could_read_as_something_else_stays_text(tmp_path: Path) -> None:
    names = ["yes", "007", "2025-01-01", "1e3", "~", "a: b # c", "line\nbreak\u2028and\x85more", "é😀", " x "]
    entities = [model(id=f"m{position}", name=name) for position, name in enumerate(names)]
    import_entities(root_of(tmp_path, *entities), tmp_path / "out")
    catalog = Catalog.load(tmp_path / "out")
    assert [catalog.get(f"m{position}").name for position in range(len(names))] == names  # type: ignore[attr-defined]


def test_import_says_what_it_wrote(tmp_path: Path) -> None:
    done = run("import", root_of(tmp_path, model()), "--out", tmp_path / "out")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path}/out/m1/model.yaml\n")
    again = run("import", tmp_path / "root", "--out", tmp_path / "out", "--overwrite", "--json")
    assert json.loads(again.stdout) == {
        "manifests": [f"{tmp_path}/out/m1/model.yaml"],
        "entities": {"m1": "Model"},
        "warnings": [],
    }


def test_import_of_a_place_without_entities_says_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("import", tmp_path / "empty", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert (
        "holds no entities: neither ID/.KIND.json, as a storage root has them, nor *.json files"
        in done.stderr
    )


@pytest.mark.parametrize("schema", ["0.12", "0.46"])
def test_what_is_exported_can_be_imported(tmp_path: Path, schema: str) -> None:
    import_entities(root_of(tmp_path, model(), service()), tmp_path / "out")
    options = ("--catalog", tmp_path / "out", "--storage", tmp_path / "store", "--schema", schema)
    done = run("export", *options, "--out", tmp_path / "exported")
    assert done.stdout.split() == [
        f"{tmp_path}/exported/m1/.model.json",
        f"{tmp_path}/exported/s1/.inferenceservice.json",
    ]
    import_entities(tmp_path / "exported", tmp_path / "again")
    first, second = Catalog.load(tmp_path / "out"), Catalog.load(tmp_path / "again")
    assert dict(first.entities) == dict(second.entities)


def test_export_does_not_write_over_what_is_there(tmp_path: Path) -> None:
    import_entities(root_of(tmp_path, model()), tmp_path / "out")
    options = (
        "export",
        "--catalog",
        tmp_path / "out",
        "--storage",
        tmp_path / "store",
        "--out",
        tmp_path / "e",
    )
    assert run(*options).exit_code == 0
    refused = run(*options)
    assert refused.exit_code == 1
    assert "e/m1/.model.json is there already; name another place, or say --overwrite" in refused.stderr
    assert run(*options, "--overwrite").exit_code == 0


def test_export_of_an_unknown_id_names_the_closest(tmp_path: Path) -> None:
    import_entities(root_of(tmp_path, model()), tmp_path / "out")
    done = run("export", "m11", "--catalog", tmp_path / "out", "--storage", tmp_path / "store")
    assert done.exit_code == 1
    assert "there is no entity 'm11' in the catalog; did you mean 'm1'?" in done.stderr


def exported(tmp_path: Path, *more: str) -> Result:
    """Export the two entities of a catalog to ``tmp_path / "e"``."""
    import_entities(root_of(tmp_path, model(), service()), tmp_path / "out", overwrite=True)
    return run(
        "export",
        "--catalog",
        tmp_path / "out",
        "--storage",
        tmp_path / "store",
        "--out",
        tmp_path / "e",
        *more,
    )


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_export_writes_through_no_link_to_a_directory(tmp_path: Path, more: tuple[str, ...]) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "s1").symlink_to(elsewhere)
    done = exported(tmp_path, *more)
    assert done.exit_code == 1
    assert done.stderr == (
        f"{tmp_path}/e/s1 is a symbolic link, and nothing is written through one; remove it, or name another place\n"
    )
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "e" / "m1").exists()


@pytest.mark.parametrize("more", [{}, {"overwrite": True}, {"overwrite": True, "copy": True}])
@pytest.mark.parametrize("link", ["d1", "d1/dataset.yaml"])
def test_import_writes_through_no_link(tmp_path: Path, link: str, more: dict[str, Any]) -> None:
    victim = tmp_path / "victim"
    if link == "d1":
        victim.mkdir()
    else:
        victim.write_text("mine")
    place = tmp_path / "out" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(victim)
    root = root_of(tmp_path, dataset(), model())
    assert problems(root, tmp_path / "out", **more) == [
        f"{place}: is a symbolic link, and nothing is written through one; remove it, or name another place"
    ]
    assert place.is_symlink()
    assert list(victim.iterdir()) == [] if link == "d1" else victim.read_text() == "mine"
    assert not (tmp_path / "out" / "m1").exists()


@pytest.mark.parametrize("link", ["files", "files/d.parquet"])
def test_copies_are_made_through_no_link_and_nothing_stays_of_an_import_that_would(
    tmp_path: Path, link: str
) -> None:
    root = root_of(tmp_path, dataset(), model())
    (artifact,) = [item["path"] for item in dataset()["artifacts"]]
    place = tmp_path / "out" / "d1" / link.replace("d.parquet", artifact)
    place.parent.mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    place.symlink_to(tmp_path / "victim" if link == "files" else tmp_path / "victim" / "file")
    with pytest.raises(LinkInTheWay) as raised:
        import_entities(root, tmp_path / "out", copy=True)
    assert raised.value.link == place
    assert list((tmp_path / "victim").iterdir()) == []
    assert not list((tmp_path / "out").rglob("*.yaml"))


def test_an_import_that_overwrites_leaves_other_names_of_a_file_alone(tmp_path: Path) -> None:
    root = root_of(tmp_path, dataset())
    import_entities(root, tmp_path / "out")
    manifest = tmp_path / "out" / "d1" / "dataset.yaml"
    manifest.write_text("mine")
    (tmp_path / "kept").hardlink_to(manifest)
    import_entities(root, tmp_path / "out", overwrite=True)
    assert (tmp_path / "kept").read_text() == "mine"
    assert manifest.read_text() != "mine"


def test_export_takes_a_link_for_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "e" / "m1").mkdir(parents=True)
    (tmp_path / "e" / "m1" / ".model.json").symlink_to(tmp_path / "victim")
    done = exported(tmp_path)
    assert done.exit_code == 1
    assert "e/m1/.model.json is there already; name another place, or say --overwrite" in done.stderr
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("hard", [True, False])
def test_export_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path, hard: bool) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    link = tmp_path / "e" / "m1" / ".model.json"
    link.parent.mkdir(parents=True)
    if hard:
        link.hardlink_to(victim)
    else:
        link.symlink_to(victim)
    assert exported(tmp_path, "--overwrite").exit_code == 0
    assert victim.read_text() == "mine"
    assert json.loads(link.read_text())["id"] == "m1"
    assert [path.name for path in link.parent.iterdir()] == [".model.json"]


def test_a_directory_that_is_named_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "e").symlink_to(tmp_path / "elsewhere")
    assert exported(tmp_path).exit_code == 0
    assert (tmp_path / "elsewhere" / "m1" / ".model.json").is_file()
