"""Sanitizing, pages, and notebooks without what differs from run to run."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from dyff_dagster.analysis import AnalysisError
from dyff_dagster.analysis.html import Page, render_notebook, render_page
from dyff_dagster.analysis.kernels import OWN_KERNEL, choose_kernel
from dyff_dagster.analysis.reproducible import reproducible
from dyff_dagster.analysis.sanitizing import sanitize

PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("html", "left"),
    [
        ("a<script>alert(1)</script>b", "ab"),
        ("a<style>body{}</style>b", "ab"),
        ("a<iframe src='https://x'>c</iframe>b", "ab"),
        ("<b onclick='x()'>b</b>", "<b>b</b>"),
        ("<a href='JaVaScRiPt:x()'>b</a>", "<a>b</a>"),
        ("<a href='java&#10;script:x()'>b</a>", "<a>b</a>"),
        ("<a href='data:text/html,x'>b</a>", "<a>b</a>"),
        ("<a href='https://a.org/?b=1'>b</a>", '<a href="https://a.org/?b=1">b</a>'),
        ("<img src='https://a.org/x.png' alt='b'>", '<img alt="b">'),
        ("<img src='//a.org/x.png'>", "<img>"),
        ("<img src='data:text/html;base64,AA=='>", "<img>"),
        (f"<img src='{PIXEL}'>", f'<img src="{PIXEL}">'),
        (
            "<svg><script>x()</script><path d='M0 0' onload='x()'></path></svg>",
            '<svg><path d="M0 0"></path></svg>',
        ),
        ("<svg><use href='https://a.org#b'></use></svg>", "<svg></svg>"),
        ("<form action='/x'><button>b</button></form>", "b"),
        ("<meta http-equiv='refresh' content='0;url=https://a.org'>b", "b"),
        ("<link rel='stylesheet' href='https://a.org'>b", "b"),
        ("<p style='position:fixed;color:red'>b</p>", '<p style="color:red;">b</p>'),
        ("<!-- x -->b", "b"),
    ],
)
def test_what_runs_or_fetches_is_gone(html: str, left: str) -> None:
    assert sanitize(html) == left


@pytest.mark.parametrize(
    "style",
    [
        "background:url(https://a.org)",
        r"background:u\72l(https://a.org)",
        "background:image-set('https://a.org' 1x)",
    ],
)
def test_a_style_that_fetches_is_gone(style: str) -> None:
    assert "a.org" not in sanitize(f'<p style="{style}">b</p>')


@pytest.mark.parametrize(
    "value",
    ["url(http://a.org/x)", r"u\72l(http://a.org/x)", "URL(//a.org)", "image-set('//a.org' 1x)", "@a.org"],
)
def test_a_drawing_that_fetches_is_left_without_what_fetches(value: str) -> None:
    assert sanitize(f'<svg><path fill="{value}" d="M0 0"></path></svg>') == (
        '<svg><path d="M0 0"></path></svg>'
    )


@pytest.mark.parametrize(
    "margin",
    [
        "margin:-9px",
        "margin: 0 0 0 -9px",
        "margin-top:-9px",
        "MARGIN-LEFT : calc(1px * (1 - 9))",
        "margin/**/:/**/-9px",
    ],
)
def test_nothing_is_moved_over_the_page_by_a_negative_margin(margin: str) -> None:
    assert sanitize(f'<p style="{margin};color:red">b</p>') == '<p style="color:red;">b</p>'


def test_another_margin_stays() -> None:
    assert "margin-left:2px" in sanitize('<p style="margin-left:2px;margin:0 auto">b</p>')
    assert "margin:0 auto" in sanitize('<p style="margin-left:2px;margin:0 auto">b</p>')


@pytest.mark.parametrize("element", ["<div>", "<b>", "<svg><g>", "<table><tr><td>", "<ul><li>"])
def test_elements_are_not_nested_without_end(element: str) -> None:
    with pytest.raises(AnalysisError, match="nested more than 256 deep"):
        sanitize(element * 20_000)


def test_many_elements_beside_each_other_stay() -> None:
    assert sanitize("<p>a" * 1_000).count("<p>") == 1_000


def test_elements_nested_as_deep_as_a_person_would_stay() -> None:
    assert sanitize("<div>" * 200 + "x" + "</div>" * 200).count("<div>") == 200


def test_markup_hidden_in_an_attribute_stays_hidden() -> None:
    cleaned = sanitize("<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>")
    assert "onerror" not in cleaned and "src" not in cleaned


def notebook(*cells: object) -> object:
    return nbformat.v4.new_notebook(cells=list(cells))


def code(*outputs: object) -> object:
    return nbformat.v4.new_code_cell("the_code()", outputs=list(outputs), execution_count=1)


def stream(name: str, text: str) -> object:
    return nbformat.v4.new_output("stream", name=name, text=text)


def test_a_page_without_a_heading_gets_one() -> None:
    plain = render_page(notebook(nbformat.v4.new_markdown_cell("text")), Page("The <name>"))
    assert '<h1 class="name">The &lt;name&gt;</h1>' in plain
    headed = render_page(notebook(nbformat.v4.new_markdown_cell("# Mine")), Page("The name"))
    assert '<p class="name">The name</p>' in headed


def test_of_several_forms_of_an_output_none_that_needs_a_script_is_taken() -> None:
    data = {
        "application/javascript": "x()",
        "application/vnd.jupyter.widget-view+json": "{}",
        "text/plain": "plainly",
    }
    page = render_page(notebook(code(nbformat.v4.new_output("display_data", data=data))), Page("x"))
    assert "plainly" in page and "x()" not in page


def test_an_svg_output_is_an_image() -> None:
    data = {"image/svg+xml": "<svg onload='x()'></svg>"}
    page = render_page(notebook(code(nbformat.v4.new_output("display_data", data=data))), Page("x"))
    assert "data:image/svg+xml;base64," in page and "onload" not in page


def test_code_is_in_the_notebook_and_not_on_the_page(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    nbformat.write(notebook(code(stream("stdout", "out"))), path)
    assert "the_code" in render_notebook(path)
    assert "the_code" not in render_page(nbformat.read(path, as_version=4), Page("x"))


def test_streams_are_joined_whatever_their_timing() -> None:
    cut = code(stream("stdout", "a"), stream("stderr", "x"), stream("stdout", "b"), stream("stderr", "y"))
    whole = code(stream("stderr", "xy"), stream("stdout", "ab"))
    first, second = (reproducible(notebook(cell), {}) for cell in (cut, whole))
    assert first == second
    assert [(output.name, output.text) for output in first.cells[0].outputs] == [
        ("stdout", "ab"),
        ("stderr", "xy"),
    ]


def test_paths_and_addresses_of_a_run_are_replaced() -> None:
    text = "/tmp/ipykernel_17/3.py:1: UserWarning\n<object at 0x7f00aa11bb22> /tmp/run/root/case /tmp/run"
    cleaned = reproducible(
        notebook(code(stream("stderr", text))), {"/tmp/run": "RUN", "/tmp/run/root": "STORAGE"}
    )
    assert cleaned.cells[0].outputs[0].text == "<cell>:1: UserWarning\n<object at 0x…> STORAGE/case RUN"


def test_a_large_image_takes_no_longer_than_its_size() -> None:
    # A pattern that looks for a path from its beginning would take hours here.
    data = {"text/html": f'<img src="data:image/png;base64,{"ab/c" * 3_000_000}">'}
    cell = code(nbformat.v4.new_output("display_data", data=data))
    assert reproducible(notebook(cell), {}).cells[0].outputs[0].data == data


def test_random_ids_and_times_are_gone() -> None:
    cell = code()
    cell.metadata.update(
        {"papermill": {"duration": 1}, "execution": {"iopub.status.busy": "2026"}, "tags": []}
    )  # type: ignore[attr-defined]
    cleaned = reproducible(notebook(cell), {})
    assert cleaned.cells[0].id == "cell-0001" and cleaned.cells[0].metadata == {}
    assert cleaned.cells[0].execution_count == 1


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for kernels where Jupyter looks, with one of Python called ``laboratory``."""
    place = tmp_path / "jupyter"
    for name in ("laboratory", "python3"):
        directory = place / "kernels" / name
        directory.mkdir(parents=True)
        spec = {"argv": ["python", "{connection_file}"], "display_name": name, "language": "python"}
        (directory / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(place))
    return place


@pytest.mark.parametrize(
    ("metadata", "kernel"),
    [
        ({}, OWN_KERNEL),
        ({"kernelspec": {"name": "conda-env-x", "language": "python"}}, OWN_KERNEL),
        ({"kernelspec": {"name": "x"}, "language_info": {"name": "python"}}, OWN_KERNEL),
        ({"kernelspec": {"name": "python3", "language": "python"}}, OWN_KERNEL),
        ({"kernelspec": {"language": "R"}}, OWN_KERNEL),
        ({"kernelspec": {"name": "laboratory", "language": "python"}}, "laboratory"),
        ({"kernelspec": {"name": "ir", "language": "R"}}, "ir"),
        ({"kernelspec": {"name": "julia-1.10"}, "language_info": {"name": "julia"}}, "julia-1.10"),
    ],
)
def test_another_language_and_an_installed_kernel_that_is_named_are_taken(
    installed: Path, metadata: dict[str, object], kernel: str
) -> None:
    assert choose_kernel({"metadata": metadata}, installed) == kernel
