"""Artifacts, directories and notebooks: they are there, and inside of their directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_catalog_manifests import (
    DATASET,
    METHOD,
    MODULE,
    problems,
    write,
)
from tests.unit.test_catalog_problems import changed


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "../score.py",
            "the path '../score.py' has '..' in it: it must be relative and stay inside {folder}",
        ),
        ("/etc/hosts", "the path '/etc/hosts' is absolute: it must be relative and stay inside {folder}"),
        (
            "link.py",
            "the path 'link.py' leads outside through a symbolic link: it must be relative and stay inside {folder}",
        ),
        ("scor.py", "there is no file 'scor.py' in {folder}"),
    ],
)
def test_artifacts_stay_inside_and_exist(tmp_path: Path, path: str, message: str) -> None:
    folder = write(tmp_path / "catalog", changed(MODULE, "score.py", path))
    (tmp_path / "outside.py").touch()
    (folder / "link.py").symlink_to(tmp_path / "outside.py")

    assert problems(folder) == ["audit.yaml:5: artifacts[0].path: " + message.format(folder=folder)]


def test_an_uploaded_source_stays_inside_its_directory(tmp_path: Path) -> None:
    source = "kind: DataSource\nid: raw\naccount: lab\nname: Raw\nsourceKind: upload\nsource: ../x.csv\n"

    assert problems(write(tmp_path, source)) == [
        f"audit.yaml:6: source: the path '../x.csv' has '..' in it: it must be relative and stay inside {tmp_path}"
    ]


@pytest.mark.parametrize("path", ["x" * 5000, "x/" * 2500 + "y", "loop/x", "loop"])
@pytest.mark.parametrize("where", ["artifact", "files", "source", "notebook"])
def test_paths_that_no_disk_can_follow_are_problems(tmp_path: Path, path: str, where: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "score.py").touch()
    documents = {
        "artifact": [changed(MODULE, "score.py", path)],
        "files": [MODULE + f"annotations: {{dyff-dagster/files: {path}}}\n"],
        "source": [f"kind: DataSource\nid: d\naccount: lab\nname: D\nsourceKind: upload\nsource: {path}\n"],
        "notebook": [
            MODULE,
            METHOD.split("implementation")[0]
            + "implementation: {kind: JupyterNotebook, jupyterNotebook: {notebookModule: code, notebookPath: "
            + path
            + "}}\nmodules: [code]\n"
            + "output: {kind: SafetyCase, safetyCase: {name: S}}\n",
        ],
    }[where]

    [found] = problems(write(tmp_path, *documents))
    assert len(found) < 600
    expected = (
        "there is no directory"
        if where == "files"
        else "loop of symbolic links"
        if "loop" in path
        else "too long"
    )
    assert expected in found


@pytest.mark.parametrize("where", ["Dataset", "Module"])
def test_an_endless_name_of_a_directory_to_look_into_is_a_problem(tmp_path: Path, where: str) -> None:
    text = (
        DATASET
        if where == "Dataset"
        else changed(MODULE, "artifacts: [{path: score.py}]\n", "annotations:\n")
    )
    text = changed(text, "annotations:\n", f"annotations:\n  dyff-dagster/files: {'x' * 5000}\n")

    assert any("there is no directory" in problem for problem in problems(write(tmp_path, text)))


def test_a_directory_of_files_must_be_there_and_relative(tmp_path: Path) -> None:
    annotated = MODULE + "annotations: {dyff-dagster/files: %s}\n"
    at = "audit.yaml:6: annotations.dyff-dagster/files: "

    assert problems(write(tmp_path, annotated % "gone")) == [at + "there is no directory gone"]
    assert problems(write(tmp_path, annotated % "/tmp")) == [
        at + "must be relative to the manifest, not an absolute path"
    ]


def test_a_dataset_without_files_says_how_to_name_them(tmp_path: Path) -> None:
    write(tmp_path, DATASET)
    (tmp_path / "data.parquet").unlink()

    assert problems(tmp_path) == [
        f"audit.yaml:1: artifacts: there is no *.parquet file in {tmp_path}; list the artifacts, "
        "or name their directory with the annotation 'dyff-dagster/files'"
    ]
