"""Safety cases from real notebooks, run by papermill in a process of their own."""

from __future__ import annotations

import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pyarrow.parquet as pq
import pytest

from dyff_dagster.analysis import AnalysisError, AnalysisTimeout, Limits, NotebookFailed
from dyff_dagster.analysis.making import content_of
from dyff_dagster.store import Commit
from tests.integration.analysis_support import BY_NOTEBOOK, Bench

WHOLE = [
    "#md ## Data\n\nRows of <script>alert('markdown')</script>the set, ![logo](logo.png)",
    """
import os, sys, pathlib
from dyff_dagster import AnalysisContext
ctx = AnalysisContext()
ctx.title("Does it double?", subtitle="A <b>small</b> case")
""",
    """
import matplotlib.pyplot as plt
import helper_of_module
fig, ax = plt.subplots(figsize=(4, 3))
ax.plot([0, 1], [0, 1])
ctx.figure(fig, caption="A line", headline=True)
plt.plot([1, 2], [2, 1])
plt.show()
""",
    """
from IPython.display import HTML, SVG, Javascript, display
display(HTML("<script src='https://evil.example/x.js'></script><b onclick='x()'>bold</b>"))
display(HTML("<img src='https://evil.example/pixel.png'><a href='javascript:alert(1)'>link</a>"))
display(Javascript("alert('output')"))
print(ctx.output_path, object(), file=sys.stderr)
print("on stdout", pathlib.Path("relative.txt").read_text())
object()
""",
    """
from dyff_dagster.analysis.statistics import Estimate
n = ctx.inputs("answers").count_rows() + len(ctx.inputs) + float(ctx.args("threshold"))
ctx.score("accuracy", Estimate(0.95, 0.9, 0.98, 100), title="Accuracy", valence="positive")
ctx.score("count", n, n=8)
ctx.table([{"name": "a & b", "value": 0.123456}, {"name": "c", "value": None}], caption="Some values")
print("secret:", os.environ.get("MY_API_TOKEN"), [k for k in os.environ if "TOKEN" in k or "SECRET" in k])
ctx.conclusion("It doubles what it is given.", holds=True)
""",
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("case"))
    (bench.module / "helper_of_module.py").write_text("A = 1\n")
    (bench.module / "relative.txt").write_text("beside the notebook")
    (bench.module / "logo.png").write_bytes(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
            "0000000d49444154789c626001000000ffff03000006000557bfabd40000000049454e44ae426082"
        )
    )
    bench.notebook(*WHOLE)
    return bench


@pytest.fixture(scope="module")
def commit(bench: Bench) -> Commit:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_API_TOKEN", "hunter2-in-the-parent")
        return bench.run(bench.safety_case())


@pytest.fixture(scope="module")
def page(commit: Commit) -> str:
    return Path(commit.path / "index.html").read_text("utf-8")


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_safety_case_has_a_page_a_notebook_scores_and_a_figure(commit: Commit) -> None:
    assert set(commit.files) == {
        "index.html",
        "notebook.ipynb",
        ".dyff/scores.json",
        ".dyff/intervals.json",
        ".dyff/conclusion.json",
        ".dyff/figure.png",
    }
    assert (commit.facts.page, commit.facts.notebook) == ("index.html", "notebook.ipynb")
    assert commit.facts.figure == ".dyff/figure.png"


def test_scores_and_conclusion_become_facts(commit: Commit) -> None:
    assert [str(score) for score in commit.facts.scores] == [
        "accuracy 0.950 [0.900, 0.980] n=100",
        "count 10.900 n=8",
    ]
    assert commit.facts.conclusion == "It doubles what it is given."
    assert commit.facts.notes["holds"] is True


def test_the_headline_figure_is_a_small_png(commit: Commit) -> None:
    png = (commit.path / ".dyff/figure.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (640, 480)


def test_the_page_runs_nothing_and_fetches_nothing(page: str) -> None:
    for tag, attributes in Elements(page).found:
        assert tag not in ("script", "iframe", "object", "embed", "form", "base")
        # An empty icon keeps browsers from asking for one.
        assert tag != "link" or (attributes["rel"], attributes["href"]) == ("icon", "data:,")
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:image/").startswith("data:image/")
        assert not (attributes.get("href") or "").startswith("javascript:")
    assert "evil.example" not in page
    assert "alert('output')" not in page and "<script" not in page


def test_the_page_embeds_every_image(page: str) -> None:
    images = [attributes for tag, attributes in Elements(page).found if tag == "img"]
    # The Markdown's logo, ctx.figure, and what plt.show() left; the foreign one has lost its source.
    assert len([image for image in images if image.get("src")]) == 3


def test_the_page_says_who_it_is_and_where_it_comes_from(page: str) -> None:
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert '<meta charset="utf-8">' in page
    assert "<title>Is it safe?</title>" in page
    assert f'<code class="hash">{"e" * 64}</code>' in page
    for text in ("acme", "A method", "0.900 to 0.980", "<em>small</em>", "service", "model"):
        assert text in page


def test_the_page_hides_the_code(page: str) -> None:
    assert "AnalysisContext" not in page
    assert "Does it double?" in page


def test_text_of_the_author_is_escaped(page: str) -> None:
    assert "A &lt;b&gt;small&lt;/b&gt; case" in page
    assert "a &amp; b" in page


def test_modules_are_importable_and_files_beside_the_notebook_readable(page: str) -> None:
    assert "on stdout beside the notebook" in page


def test_a_secret_of_the_parent_is_not_seen(commit: Commit) -> None:
    text = (commit.path / "notebook.ipynb").read_text("utf-8")
    assert "secret: None []" in text
    assert "hunter2" not in text


def test_progress_is_told_cell_by_cell(commit: Commit, bench: Bench) -> None:
    assert ("notebook cells", 1, 5) in bench.seen


def test_the_executed_notebook_has_nothing_of_the_run(commit: Commit) -> None:
    text = (commit.path / "notebook.ipynb").read_text("utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == [f"cell-{i:04d}" for i in range(1, 6)]
    assert "papermill" not in text and "dyff-analysis" not in text and "/tmp" not in text
    assert not re.search(r"0x[0-9a-f]{6,}", text)
    assert notebook.cells[1].execution_count == 1


def test_the_same_inputs_give_the_same_bytes_whoever_runs_them(
    commit: Commit, tmp_path: Path, bench: Bench
) -> None:
    again = Bench(tmp_path)
    for path in bench.module.iterdir():
        (again.module / path.name).write_bytes(path.read_bytes())
    second = again.run(again.safety_case(), run_id="another run", git="f" * 40)
    assert second.data_version == commit.data_version
    differing = {name for name in commit.files if commit.files[name] != second.files[name]}
    # Its run and the commit that it was run from, and nothing else.
    assert second.files.keys() == commit.files.keys() and differing == {"index.html"}
    first_page, second_page = ((made.path / "index.html").read_bytes() for made in (commit, second))
    assert content_of(first_page) == content_of(second_page)
    assert b"another run" in second_page and b"f" * 40 in second_page


def test_a_version_that_is_made_again_leaves_the_page_that_was_there(commit: Commit, bench: Bench) -> None:
    before = (commit.path / "index.html").read_bytes()
    second = bench.run(bench.safety_case(), run_id="another run")
    assert second.data_version == commit.data_version and second.path != commit.path
    assert (commit.path / "index.html").read_bytes() == before
    assert b"another run" in (second.path / "index.html").read_bytes()
    assert second.facts.notes["made"]["run"] == "another run"


def test_a_module_is_not_written_to(commit: Commit, bench: Bench) -> None:
    assert {path.name for path in bench.module.iterdir()} == {
        "case.ipynb",
        "helper_of_module.py",
        "relative.txt",
        "logo.png",
    }


def test_a_failing_cell_is_named_and_the_notebook_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    bench.notebook("#md Text", "x = 1", "raise KeyError('row-content-here')", "y = 2")
    with pytest.raises(NotebookFailed) as caught:
        bench.run(bench.safety_case())
    kept = Path(bench.store.working("case") / "failed" / "notebook.ipynb")
    assert caught.value.cell == 3 and caught.value.ename == "KeyError"
    assert "case.ipynb failed (cell 3): it raised KeyError" in str(caught.value)
    assert str(kept) in str(caught.value)
    assert "row-content-here" not in str(caught.value)
    assert "row-content-here" in capfd.readouterr().err
    assert "KeyError: 'row-content-here'" in Path(bench.store.working("case") / "logs.txt").read_text()
    notebook = nbformat.read(kept, as_version=4)
    assert [cell.source for cell in notebook.cells] == [
        "Text",
        "x = 1",
        "raise KeyError('row-content-here')",
        "y = 2",
    ]
    assert bench.store.current("case") is None


def test_a_kernel_that_dies_is_told_from_an_exception(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook("x = 1", "import os; os._exit(3)")
    with pytest.raises(NotebookFailed, match=r"\(cell 2\): its kernel died"):
        bench.run(bench.safety_case())
    assert Path(bench.store.working("case") / "failed" / "notebook.ipynb").exists()
    assert bench.store.current("case") is None


def test_a_notebook_that_exits_early_is_no_success(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook("import sys; sys.exit(0)", "print('never reached')")
    with pytest.raises(NotebookFailed, match="SystemExit"):
        bench.run(bench.safety_case())
    assert bench.store.current("case") is None


def test_a_notebook_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook("import time; time.sleep(600)")
    with pytest.raises(AnalysisTimeout, match="ended after 3 seconds"):
        bench.run(bench.safety_case(), limits=Limits(seconds=3))
    assert bench.store.current("case") is None
    assert list(Path(bench.store.working("case") / "drafts").iterdir()) == []


def test_links_in_the_place_of_what_is_kept_are_not_written_through(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outside = tmp_path / "outside.txt"
    outside.write_text("somebody else's")
    names = ("index.html", "notebook.ipynb", *(f".dyff/{name}.json" for name in ("scores", "conclusion")))
    bench.notebook(
        f"""
import os
from dyff_dagster import AnalysisContext
ctx = AnalysisContext()
for name in {names!r}:
    os.symlink({str(outside)!r} if name[0] != "." else {str(tmp_path / "made.json")!r}, ctx.output_path / name)
ctx.score("auc", 0.9)
ctx.conclusion("It is.", True)
"""
    )
    commit = bench.run(bench.safety_case())
    assert outside.read_text() == "somebody else's"
    assert not (tmp_path / "made.json").exists()
    assert all(not Path(commit.path / name).is_symlink() for name in names)
    assert [score.name for score in commit.facts.scores] == ["auc"]


def test_a_headline_figure_is_not_written_through_a_link(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook(
        f"""
import os
import matplotlib.pyplot as plt
from dyff_dagster import AnalysisContext
ctx = AnalysisContext()
os.symlink({str(tmp_path / "made.png")!r}, ctx.output_path / ".dyff/figure.png")
ctx.figure(plt.figure(figsize=(1, 1)), headline=True)
"""
    )
    commit = bench.run(bench.safety_case())
    assert not (tmp_path / "made.png").exists()
    assert (commit.path / ".dyff/figure.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_notebook_shows_is_not_nested_without_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook("from IPython.display import HTML; HTML('<div>' * 20_000)")
    with pytest.raises(AnalysisError, match=r"case: .* elements are nested more than 256 deep"):
        bench.run(bench.safety_case())


def test_a_notebook_can_make_a_measurement(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook(
        """
import pyarrow as pa
from dyff_dagster import AnalysisContext
ctx = AnalysisContext()
rows = ctx.inputs("answers").to_table().drop(["responses"])
ctx.write(rows.append_column("correct", pa.array([True] * len(rows))))
"""
    )
    commit = bench.run(bench.measurement(by=BY_NOTEBOOK))
    assert commit.facts.rows == 8
    assert commit.facts.notebook == "notebook.ipynb" and commit.facts.page is None
    (parquet,) = [name for name in commit.files if name.endswith(".parquet")]
    assert pq.read_table(Path(commit.path / parquet)).column_names == ["_index_", "_replication_", "correct"]


def test_a_measurement_without_rows_says_how_to_write_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook("x = 1")
    with pytest.raises(AnalysisError, match=r"wrote no rows; .* ctx\.write"):
        bench.run(bench.measurement(by=BY_NOTEBOOK))


def test_scores_are_in_the_form_that_the_reference_parses(commit: Commit) -> None:
    scores = json.loads((commit.path / ".dyff/scores.json").read_text())["scores"]
    assert [score["priority"] for score in scores] == ["primary", "secondary"]
    assert scores[0]["metadata"]["refs"] == {
        "method": "method",
        "dataset": "rows",
        "evaluation": "answers",
        "inferenceService": "service",
        "model": "model",
    }
    assert scores[0]["quantityString"] == "0.950"
    assert json.loads((commit.path / ".dyff/intervals.json").read_text()) == {
        "accuracy": {"low": 0.9, "high": 0.98, "n": 100, "level": 0.95},
        "count": {"low": None, "high": None, "n": 8, "level": 0.95},
    }
