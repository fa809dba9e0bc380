"""Methods that were written for dyff-audit run unchanged, and come to what dyff-audit itself makes of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dyff_dagster.analysis import NotebookFailed
from dyff_dagster.processes import can_confine
from tests.integration.analysis_support import Bench
from tests.reference.environments import ROOT, TOGETHER, ReferenceUnavailable, reference_python


def python_of(version: str) -> Path:
    try:
        return reference_python(version)
    except ReferenceUnavailable as error:
        pytest.skip(error.reason)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What both made of each method, in an environment that has both."""
    done = subprocess.run(
        [
            str(python_of(TOGETHER)),
            "-m",
            "tests.reference.audit_methods",
            str(tmp_path_factory.mktemp("run")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("analysis", ["judged", "totals"])
def test_a_function_and_a_rubric_make_the_rows_that_dyff_audit_makes(
    results: dict[str, Any], analysis: str
) -> None:
    ours = results[analysis]["ours"]["rows"]
    assert len(ours) == 8 and {row["total"] for row in ours} == {0, 2}
    assert ours == results[analysis]["theirs"]["rows"]


def test_a_notebook_reports_what_it_reports_under_dyff_audit(results: dict[str, Any]) -> None:
    ours = results["case"]["ours"]
    assert ours == results["case"]["theirs"]
    assert [(score["name"], score["quantityString"]) for score in ours["scores"]] == [("accuracy", "100.0%")]
    assert ours["files"] == {"whose.txt": "case ['answers', 'rows'] ['threshold']"}


def test_the_page_shows_what_dyff_audit_displays(results: dict[str, Any]) -> None:
    page = results["case"]["page"]
    for text in ("Does it copy?", "Every label comes back.", "It copies.", "100.0%", "How many were asked"):
        assert text in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("of a service", ["InferenceService | service | The documented service | It *copies*."]),
        ("of a model", ["Model | model | The model | "]),
    ],
)
def test_a_title_card_without_titles_has_those_of_the_system_and_the_method(
    results: dict[str, Any], case: str, told: list[str]
) -> None:
    ours = results[case]["ours"]
    assert ours == results[case]["theirs"]
    assert [curve["points"] for curve in ours["curves"]] == [{"x": [0.0, 0.5, 1.0], "y": [0.0, 0.75, 1.0]}]
    assert ours["files"] == {"told.txt": f"{told[0]} | Method | method | A method |  | method | 0.9"}
    shown = ("Untitled", "A method", told[0].split(" | ")[2])
    for text in shown:
        assert text in results[case]["page"]


KERNEL = "audit-environment"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel of an environment that has dyff-audit and not this project, installed for the user."""
    python = python_of("0.46.17")
    directory = tmp_path / "share" / "jupyter" / "kernels" / KERNEL
    directory.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Audits", "language": "python"}
    (directory / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return python


CELL = """
import importlib.util, sys
from dyff.audit.analysis import AnalysisContext
import beside

ctx = AnalysisContext()
print("python", sys.executable)
count = ctx.open_input_dataset(ctx.inputs[0]).count_rows()
ctx.Score(quantity=count + beside.ONE, text="Rows and one", format="{quantity:.1f}")
ctx.Conclusion(text=f"At {ctx.arguments['threshold']}.")
"""


def notebook(bench: Bench, *cells: str) -> None:
    bench.notebook(*cells)
    document = nbformat.read(bench.module / "case.ipynb", as_version=4)
    document.metadata["kernelspec"]["name"] = KERNEL
    nbformat.write(document, bench.module / "case.ipynb")


def test_a_notebook_runs_on_an_installed_kernel_of_another_environment(kernel: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench")
    (bench.module / "beside.py").write_text("ONE = 1\n")
    notebook(bench, CELL)
    commit = bench.run(bench.safety_case())
    assert f"python {kernel}" in (commit.path / "notebook.ipynb").read_text()
    page = (commit.path / "index.html").read_text("utf-8")
    assert "5.0" in page and "Rows and one" in page and "At 0.9." in page
    assert KERNEL in Path(bench.store.working("case") / "logs.txt").read_text()


def test_what_fails_on_another_kernel_is_told_as_on_our_own(kernel: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench")
    notebook(
        bench, "from dyff.audit.analysis import AnalysisContext", "AnalysisContext().get_argument('missing')"
    )
    with pytest.raises(NotebookFailed, match=r"\(cell 2\): it raised KeyError"):
        bench.run(bench.safety_case())
    if not can_confine():
        return
    notebook(bench, "(__import__('pathlib').Path.home() / 'dyff-x').write_text('x')")
    with pytest.raises(NotebookFailed, match=r"\(cell 1\): it raised PermissionError"):
        bench.run(bench.safety_case())
