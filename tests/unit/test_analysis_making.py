"""How a version was made: told on its page, and no part of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nbformat
import pytest

from dyff_dagster.analysis.html import Page, render_page
from dyff_dagster.analysis.making import (
    BEGIN,
    END,
    Making,
    content_of,
    page_version,
    version_of_directory,
    versions_of,
)
from dyff_dagster.store.digests import digest_file, tree_digest

ONE = Making("run-1", "2026-01-31 12:00 UTC", "a" * 40, "Python 3.11.2, Linux", {"numpy": "2.0"})
OTHER = Making("run-2", "2027-01-31 12:00 UTC", "b" * 40 + "-dirty", "Python 3.13.0, Linux", {"numpy": "3.0"})


def page(making: Making | None, text: str = "text") -> bytes:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text, id="a")])
    return render_page(notebook, Page("x", making=making)).encode()


def test_a_page_says_how_it_was_made() -> None:
    shown = page(OTHER).decode()
    for text in (
        "run-2",
        "2027-01-31 12:00 UTC",
        "b" * 40 + ", and files that were changed since",
        "numpy 3.0",
    ):
        assert text in shown


def test_what_is_not_known_is_said_not_to_be() -> None:
    shown = page(Making()).decode()
    assert "none: it was not run by Dagster" in shown
    assert "none: the manifests are not in a git repository" in shown


def test_the_same_content_is_the_same_version_however_it_was_made() -> None:
    assert page(ONE) != page(OTHER)
    assert content_of(page(ONE)) == content_of(page(OTHER))
    assert page_version({}, "index.html", page(ONE)) == page_version({}, "index.html", page(OTHER))


def test_other_content_is_another_version() -> None:
    assert content_of(page(ONE)) != content_of(page(ONE, "Text"))
    assert b"run-1" not in content_of(page(ONE))


def test_a_page_that_does_not_say_it_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(page(None))
    assert version_of_directory(tmp_path, "index.html") == tree_digest(
        {"index.html": digest_file(tmp_path / "index.html")}
    )


@pytest.mark.parametrize(
    "hidden",
    [
        "<p>The service is safe.</p>",
        "<div><dt>Run</dt><dd><script>x()</script></dd></div>",
        "<div><dt>Run</dt><dd>a</dd></div></dl><h2>Holds</h2><dl>",
        "text",
        BEGIN,
    ],
)
def test_nothing_else_can_hide_where_it_is_told(hidden: str) -> None:
    forged = page(ONE).replace(END.encode(), f"{hidden}{END}".encode())
    assert content_of(forged) == forged
    assert page_version({}, "index.html", forged) != page_version({}, "index.html", page(ONE))


def test_where_there_are_two_such_places_both_are_content() -> None:
    twice = page(ONE) + f"{BEGIN}<div><dt>a</dt><dd>b</dd></div>{END}".encode()
    assert content_of(twice) == twice


def test_a_notebook_cannot_make_such_a_place() -> None:
    text = f"{BEGIN}<div><dt>Run</dt><dd>mine</dd></div>{END}"
    cell = nbformat.v4.new_code_cell(
        "x", outputs=[nbformat.v4.new_output("display_data", data={"text/html": text, "text/plain": text})]
    )
    shown = render_page(nbformat.v4.new_notebook(cells=[cell]), Page(text, description=text, making=ONE))
    assert shown.count(BEGIN) == shown.count(END) == 1
    assert b"run-1" not in content_of(shown.encode())


def test_packages_are_those_that_the_code_imports(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\nimport yaml.nodes as n\nfrom click import command\nimport own\n"
    )
    (tmp_path / "own.py").write_text("from . import mine\nimport dyff_dagster\n")
    making = Making().using([tmp_path])
    assert making.packages.keys() >= {"PyYAML", "click", "dyff-dagster", "numpy", "pyarrow"}
    assert not making.packages.keys() & {"os", "own", "mine", "papermill"}
    assert making.packages == versions_of(making.packages)


def test_a_cell_that_is_no_python_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    making = Making().using([tmp_path], ["%matplotlib inline\nimport rich\n", "import nothing_of_that_name"])
    assert {"rich", "papermill", "nbconvert"} <= making.packages.keys()
    assert "nothing_of_that_name" not in making.packages


def test_what_a_commit_has_of_it_is_what_is_known() -> None:
    assert Making("run", packages={"a": "1"}).to_json() == {"run": "run", "packages": {"a": "1"}}
    assert hashlib.sha256(b"").hexdigest() not in str(Making.now("r", "c").to_json())
