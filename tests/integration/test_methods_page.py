"""docs/methods.md: every example on it is run as it stands."""

from __future__ import annotations

import nbformat
import pytest

from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.store import Commit
from tests.integration.small_audit import Place
from tests.pages import manifest, parts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("methods"))
    place.directory.mkdir()
    for (kind, name), found in parts("docs/methods.md").items():
        texts = [block.text for block in found]
        if kind == "file":
            (place.directory / name).write_text("\n\n".join(texts))
        elif kind == "notebook":
            cells = [nbformat.v4.new_code_cell(text, id=f"cell-{n}") for n, text in enumerate(texts)]
            nbformat.write(nbformat.v4.new_notebook(cells=cells), place.directory / name)
        else:
            place.add("audit.yaml", manifest(found))
    place.compute_all()
    return place


def found(place: Place, name: str) -> Commit:
    commit = place.store.current(name)
    assert commit is not None
    return commit


def test_a_function_and_a_rubric_judge_each_answer_alike(place: Place) -> None:
    judged, matched = (open_dataset(found(place, name).path).to_table() for name in ("judged", "matched"))
    assert judged.num_rows == 6
    assert judged.equals(matched)


@pytest.mark.parametrize("page", ["page-by-function", "page-by-notebook"])
def test_a_function_and_a_notebook_make_a_page(place: Place, page: str) -> None:
    commit = found(place, page)
    text = (commit.path / "index.html").read_text("utf-8")
    assert commit.facts.notes["holds"] is False
    (score,) = commit.facts.scores
    assert (score.name, score.value, score.n) == ("right", 0.0, 3)
    for shown in ("Does it know its capitals?", "Right answers", "Does not hold", "0.000 to"):
        assert shown in text
    assert text.count("<h1") == 1
    assert "<script" not in text


def test_text_that_a_function_yields_is_markdown_in_its_place(place: Place) -> None:
    text = (found(place, "page-by-function").path / "index.html").read_text("utf-8")
    assert "asked <strong>twice</strong>" in text
    assert text.index("Does it know") < text.index("asked <strong>") < text.rindex("Does not hold")


def test_a_notebook_makes_a_measurement(place: Place) -> None:
    (score,) = found(place, "lengths-found").facts.scores
    assert score.name == "mean_length"
    assert score.value > 0


def test_the_rubric_is_the_one_thing_that_is_warned_of(place: Place) -> None:
    (warning,) = place.catalog().warnings
    assert warning.message == "PythonRubric is deprecated since 0.8.0; use PythonFunction or JupyterNotebook"
