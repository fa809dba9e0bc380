"""Catalogs that are written in Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog, CatalogError, Origin
from dyff_dagster.schema.platform import Annotation, Dataset, DyffEntity, Model
from tests.unit.test_catalog_manifests import ALL, MODEL, write

MODULE = """\
from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.platform import Model

catalog = Catalog([Model(
    id="net", account="lab", name="Net", artifact={"kind": "Mock"}, storage={"medium": "Mock"},
    source={"kind": "Mock"}, resources={"storage": "1Mi"},
)])
"""


def entities(folder: Path) -> list[DyffEntity]:
    return list(Catalog.load(write(folder, ALL)).entities.values())


def message(source: Path | str) -> str:
    with pytest.raises(CatalogError) as raised:
        Catalog.load(source)
    return str(raised.value)


def test_entities_from_python_are_the_same_catalog(tmp_path: Path) -> None:
    loaded = Catalog.load(write(tmp_path, ALL))
    catalog = Catalog(reversed(loaded.entities.values()), base=tmp_path)

    assert list(catalog.entities) == list(loaded.entities)
    assert catalog.upstream("counted") == loaded.upstream("counted")
    assert catalog.origin("net") == Origin(None, 0)
    assert catalog.directory("net") == tmp_path


def test_files_are_relative_to_base(tmp_path: Path) -> None:
    found = entities(tmp_path)

    with pytest.raises(CatalogError) as raised:
        Catalog(found, base=tmp_path / "elsewhere")
    assert [str(problem) for problem in raised.value.problems] == [
        f"rows: artifacts[0].path: there is no file 'data.parquet' in {tmp_path}/elsewhere",
        f"code: artifacts[0].path: there is no file 'score.py' in {tmp_path}/elsewhere",
    ]


def test_problems_of_python_entities_begin_with_the_id(tmp_path: Path) -> None:
    found = entities(tmp_path)
    run = next(entity for entity in found if entity.id == "run")
    others = [entity for entity in found if entity.id not in ("run", "counted")]

    with pytest.raises(CatalogError) as raised:
        Catalog([*others, others[0], run.model_copy(update={"dataset": "row"})], base=tmp_path)
    assert [str(problem) for problem in raised.value.problems] == [
        "rows: id: 'rows' is used twice (Dataset and Dataset); rename one of them",
        "run: dataset: there is no Dataset 'row' in the catalog; did you mean 'rows'?",
    ]
    assert raised.value.problems[0].path is None


def test_a_python_dataset_that_does_not_say_what_to_withhold_is_a_warning(tmp_path: Path) -> None:
    rows = next(entity for entity in entities(tmp_path) if isinstance(entity, Dataset))
    catalog = Catalog([rows.model_copy(update={"annotations": []})], base=tmp_path)

    assert [str(warning) for warning in catalog.warnings] == [
        "rows: annotations: must say which of the fields question, label no service may see; "
        "add 'dyff-dagster/withhold' with their names, or with '' if there are none"
    ]


def test_python_annotations_are_checked(tmp_path: Path) -> None:
    net = next(entity for entity in entities(tmp_path) if isinstance(entity, Model))
    bad = net.model_copy(update={"annotations": [Annotation(key="dyff-dagster/cheks", value="")]})

    with pytest.raises(CatalogError) as raised:
        Catalog([bad])
    assert str(raised.value) == (
        "net: annotations[0]: there is no annotation 'dyff-dagster/cheks'; did you mean 'checks'?"
    )


def test_a_python_file_with_a_catalog_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text(MODULE)
    path = tmp_path / "audit.py"
    path.write_text("from neighbour import catalog\n")

    try:
        assert list(Catalog.load(path).entities) == ["net"]
        assert list(Catalog.load(str(path)).entities) == ["net"]
    finally:
        sys.modules.pop("neighbour", None)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["audit.py", "neighbour.py"]
    assert str(tmp_path) not in sys.path


def test_a_dotted_module_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_audits").mkdir()
    (tmp_path / "my_audits" / "first.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    assert list(Catalog.load("my_audits.first").entities) == ["net"]


def test_a_path_goes_before_a_module_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "json", MODEL)
    monkeypatch.chdir(tmp_path)

    assert list(Catalog.load("json").entities) == ["net"]


def test_what_is_no_catalog_is_said(tmp_path: Path) -> None:
    (tmp_path / "none.py").write_text("x = 1\n")
    (tmp_path / "other.py").write_text("catalog = []\n")
    (tmp_path / "broken.py").write_text("x = 1\nraise ValueError('no luck')\n")
    (tmp_path / "syntax.py").write_text("x = 1\ny = (\n")

    at = str(tmp_path)
    assert message(tmp_path / "none.py") == (
        f"{at}/none.py: has no attribute `catalog`; write catalog = Catalog([...]) in it"
    )
    assert message(tmp_path / "other.py") == (
        f"{at}/other.py: `catalog` is of type list; make it a dyff_dagster.Catalog"
    )
    assert message(tmp_path / "broken.py") == f"{at}/broken.py:2: cannot be loaded: ValueError: no luck"
    assert message(tmp_path / "syntax.py").startswith(f"{at}/syntax.py:2: cannot be loaded: SyntaxError: ")
    assert message("no_such_module.x") == "there is no file, directory or Python module 'no_such_module.x'"
    assert message(tmp_path / "gone") == f"{at}/gone: there is no such file or directory"


def test_problems_of_a_catalog_made_in_a_file_pass_through(tmp_path: Path) -> None:
    (tmp_path / "audit.py").write_text(MODULE.replace('id="net"', 'id="-"'))

    assert message(tmp_path / "audit.py").startswith("-: id: '-' is no possible id")


def test_a_file_that_ends_the_program_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "ends.py"
    path.write_text("import sys\nsys.exit(3)\n")

    assert message(path) == f"{path}:2: cannot be loaded: SystemExit: 3"


@pytest.mark.parametrize("name", ["this", "os", "os.path"])
def test_modules_of_python_itself_are_not_imported(name: str) -> None:
    sys.modules.pop("this", None)

    assert message(name) == (
        f"'{name}' is a module of Python itself; name a file, a directory, or a module with `catalog`"
    )
    assert "this" not in sys.modules


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)

    assert message(pipe) == f"{pipe}: is a pipe or a device; name a directory or a file of manifests"


def test_a_name_that_no_disk_has_is_refused() -> None:
    assert message("x" * 300 + "/y").endswith(": cannot be read: File name too long")
