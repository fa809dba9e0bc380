"""The three pages that the example ends in, as published: what must be on each, and how it is written."""

from __future__ import annotations

import itertools
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dyff_dagster import Catalog
from dyff_dagster.analysis.making import versions_of
from dyff_dagster.catalog.checkout import commit_of
from dyff_dagster.store import Commit, local_path
from dyff_dagster.store.digests import digest_file
from tests import servers
from tests.conftest import MaterializedExample

PAGES = ("wdbc-safety-case", "wdbc-comparison", "wdbc-audit")


class Read(HTMLParser):
    """A page as it is read: its elements in order, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, *tags: str) -> list[tuple[str, dict[str, str | None]]]:
        return [element for element in self.elements if element[0] in tags]


def committed(example: MaterializedExample, entity_id: str) -> Commit:
    commit = example.store.current(entity_id)
    assert commit is not None
    return commit


def source(example: MaterializedExample, entity_id: str) -> str:
    return (committed(example, entity_id).path / "index.html").read_text("utf-8")


def read(example: MaterializedExample, entity_id: str) -> Read:
    return Read(source(example, entity_id))


def provenance(page: str) -> dict[str, str]:
    """What stands under each heading of the lists at the foot of a page; of several the last."""
    lines = re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page)
    return {role: re.sub(r"<[^>]+>", " ", said).strip() for role, said in lines}


@pytest.mark.parametrize("entity_id", PAGES)
def test_a_page_can_be_read_aloud(materialized_example: MaterializedExample, entity_id: str) -> None:
    page = read(materialized_example, entity_id)
    assert page.all("html") == [("html", {"lang": "en"})]
    assert len(page.all("title")) == len(page.all("main")) == len(page.all("h1")) == 1
    ranks = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert ranks[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(ranks))
    for _, image in page.all("img"):
        assert image["alt"] and len(image["alt"]) > 60
    for _, header in page.all("th"):
        assert header.get("scope") in ("col", "row")
    for _, drawing in page.all("svg"):
        assert drawing["aria-hidden"] == "true"
    ids = [named["id"] for _, named in page.elements if "id" in named]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("entity_id", PAGES)
def test_a_page_needs_nothing_else(materialized_example: MaterializedExample, entity_id: str) -> None:
    page = read(materialized_example, entity_id)
    assert page.all("script", "iframe", "object", "video", "audio", "form") == []
    for tag, named in page.elements:
        for name in ("src", "href"):
            assert (named.get(name) or "data:").startswith("data:"), (tag, named)
    styles = re.findall(r"<style>(.*?)</style>", source(materialized_example, entity_id), re.DOTALL)
    assert not any("url(" in style or "@import" in style for style in styles)


@pytest.mark.parametrize("entity_id", PAGES)
def test_a_page_begins_with_what_it_comes_to(
    materialized_example: MaterializedExample, entity_id: str
) -> None:
    page = source(materialized_example, entity_id)
    conclusion = committed(materialized_example, entity_id).facts.conclusion
    assert conclusion is not None
    main = Read(page[page.index("<main") :]).text
    assert main.startswith("Summary ")
    assert conclusion in main[: len(conclusion) + 100]


@pytest.mark.parametrize("entity_id", PAGES)
def test_a_page_shows_each_score_with_its_interval_drawn(
    materialized_example: MaterializedExample, entity_id: str
) -> None:
    page = read(materialized_example, entity_id)
    scores = committed(materialized_example, entity_id).facts.scores
    with_interval = [score for score in scores if score.low is not None and score.high is not None]
    assert with_interval
    for score in with_interval:
        assert re.search(rf"\+?{score.low:.3f} to \+?{score.high:.3f}", page.text), score
    assert len(page.all("svg")) == len(with_interval)


@pytest.mark.parametrize("entity_id", PAGES)
def test_a_page_says_what_it_was_made_from_down_to_the_last_digit(
    materialized_example: MaterializedExample, entity_id: str
) -> None:
    page = source(materialized_example, entity_id)
    found = provenance(page)

    def version(name: str) -> str:
        return committed(materialized_example, name).data_version

    assert found["Data set"].split()[0] == "wdbc-held-out"
    assert found["Data set"].endswith(version("wdbc-held-out"))
    assert found["Answers"].endswith(version("wdbc-logreg-eval"))
    assert found["Model"].endswith(version("wdbc-logreg"))
    asked = committed(materialized_example, "wdbc-logreg-eval").inputs["extras"]["service"]
    assert found["Inference service"].endswith(asked)
    assert found["Container image"].startswith("none: ")
    used = {
        "wdbc-safety-case": ("wdbc-notebook", "wdbc-instances", "wdbc-accuracy"),
        "wdbc-comparison": ("wdbc-comparison-page", "wdbc-effect", "wdbc-flips", "wdbc-bayes-eval"),
        "wdbc-audit": ("wdbc-analysis", "wdbc-accuracy", "wdbc-effect"),
    }
    for name in used[entity_id]:
        assert f"<code>{name}</code>" in page
        assert version(name) in page


@pytest.mark.parametrize("entity_id", ["wdbc-safety-case", "wdbc-comparison"])
def test_a_page_names_its_notebook_as_it_was_written_and_as_it_was_executed(
    materialized_example: MaterializedExample, entity_id: str
) -> None:
    found = provenance(source(materialized_example, entity_id))
    method = {"wdbc-safety-case": "wdbc-argue-safety", "wdbc-comparison": "wdbc-show-comparison"}[entity_id]
    case = Catalog.load(servers.EXAMPLE).get(entity_id)
    notebook = case.method.implementation.jupyterNotebook  # type: ignore[attr-defined]
    written = committed(materialized_example, notebook.notebookModule).path / notebook.notebookPath
    executed = committed(materialized_example, entity_id).path / "notebook.ipynb"
    assert found["Notebook"].endswith(digest_file(local_path(written)).sha256)
    assert found["Executed notebook"].endswith(digest_file(local_path(executed)).sha256)
    assert found["Method with its arguments"].startswith(method)


@pytest.mark.parametrize("entity_id", PAGES)
def test_a_page_says_how_it_was_made(materialized_example: MaterializedExample, entity_id: str) -> None:
    found = provenance(source(materialized_example, entity_id))
    commit = committed(materialized_example, entity_id)
    assert commit.run_id
    assert found["Run"] == commit.run_id == commit.facts.notes["made"]["run"]
    assert found["Time"].startswith(f"{commit.committed:%Y-%m}")
    for name, number in versions_of(("dyff-dagster", "numpy", "pyarrow", "scipy")).items():
        assert f"{name} {number}" in found["Packages"]
    if shutil.which("git") and (expected := commit_of(servers.EXAMPLE)):
        assert found["Git commit"].startswith(expected.removesuffix("-dirty"))


def test_the_safety_case_has_title_figures_and_the_way_from_scores_to_answers(
    materialized_example: MaterializedExample,
) -> None:
    page = read(materialized_example, "wdbc-safety-case")
    assert "Does it find the cancers?" in page.text
    assert "on patients it had never seen" in page.text
    assert len(page.all("figure")) == len(page.all("img")) == 5
    assert "rests on 71 rows with label malignant. In 6 of them correct is not always true." in page.text
    assert len(page.all("details")) == 8  # six cancers missed, two false alarms: what was asked, folded
    assert "mean_radius 13.44" in page.text
    assert "malignant_probability 0.04303 diagnosis benign" in page.text


def test_the_comparison_shows_who_flipped_and_what_each_said(
    materialized_example: MaterializedExample,
) -> None:
    page = read(materialized_example, "wdbc-comparison")
    assert "Logistic regression is better than Naive Bayes: the effect is +0.047" in page.text
    assert "Better with Logistic regression: 12 of 190 items" in page.text
    assert "Worse with Logistic regression: 3 of 190 items" in page.text
    # Both right, only one, both wrong.
    assert "Logistic regression right 170 12 Logistic regression wrong 3 5" in page.text
    assert "malignant_probability 0.00290056; diagnosis benign" in page.text


def test_the_audit_holds_its_thresholds_against_the_scores(materialized_example: MaterializedExample) -> None:
    page = read(materialized_example, "wdbc-audit")
    assert "All 3 thresholds are met." in page.text
    assert "Diagnostic accuracy: Sensitivity at least 0.9 0.915 yes" in page.text
    assert "Model against baseline: Effect, lower end of its interval more than 0 +0.008 yes" in page.text
    assert "diagnostic-accuracy wdbc-held-out wdbc-accuracy" in page.text
    assert "380 of 380 answers are there" in page.text


def test_prompts_and_answers_are_on_the_page_and_not_in_dagsters_event_log(
    materialized_example: MaterializedExample,
) -> None:
    home = Path(materialized_example.environment["DAGSTER_HOME"])
    text = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"wdbc-safety-case" in text  # it is the event log that is looked at
    for said in (b"0.04303", b"mean_radius 13.44"):
        assert said not in text


def test_the_status_names_the_pages_in_whole_lines(materialized_example: MaterializedExample) -> None:
    environment = {**materialized_example.environment, "COLUMNS": "60"}
    del environment["DYFF_PAGES_URL"]
    done = servers.run(servers.command("dyff-dagster", "status"), servers.REPOSITORY, environment)
    for entity_id in PAGES:
        assert f"{materialized_example.storage / entity_id / 'index.html'}\n" in done.stdout
    assert "✗" not in done.stdout
