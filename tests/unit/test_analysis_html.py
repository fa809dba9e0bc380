"""Sanitizing, pages, and notebooks without what differs from run to run."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import nbformat
import pytest

from dyff_dagster.analysis import AnalysisError
from dyff_dagster.analysis.display import title_card
from dyff_dagster.analysis.html import Origin, Page, render_notebook, render_page
from dyff_dagster.analysis.kernels import OWN_KERNEL, choose_kernel
from dyff_dagster.analysis.reproducible import reproducible
from dyff_dagster.analysis.sanitizing import sanitize
from dyff_dagster.store import Score

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


def markdown(text: str) -> object:
    return nbformat.v4.new_markdown_cell(text)


def html(text: str) -> object:
    return code(nbformat.v4.new_output("display_data", data={"text/html": text}))


def headings(page: str) -> list[tuple[int, str]]:
    found = re.findall(r"<h([1-6])\b[^>]*>(.*?)</h\1>", page, re.DOTALL)
    return [(int(rank), text) for rank, text in found]


def test_a_page_without_a_title_is_headed_by_the_entitys_name() -> None:
    page = render_page(notebook(markdown("text")), Page("The <name>"))
    assert headings(page) == [(1, "The &lt;name&gt;")]


@pytest.mark.parametrize(
    "first",
    [markdown("# Mine & yours\n\ntext"), html(title_card("Mine & yours", "Below <it>"))],
    ids=["markdown", "card"],
)
def test_the_title_of_a_notebook_stands_above_everything(first: object) -> None:
    page = render_page(notebook(first, markdown("## Part")), Page("The name", conclusion="So it is."))
    assert headings(page) == [(1, "Mine &amp; yours"), (2, "Summary"), (2, "Part")]
    assert "The name" in page[page.index("</h1>") : page.index("<main")]


def test_a_subtitle_goes_with_its_title() -> None:
    page = render_page(notebook(html(title_card("Mine", "Below <it>"))), Page("x"))
    assert '<h1>Mine</h1>\n<p class="dyff-subtitle">Below &lt;it&gt;</p>' in page


def test_a_title_that_comes_later_is_a_heading_like_others() -> None:
    page = render_page(notebook(markdown("## Part"), html(title_card("Late", ""))), Page("x"))
    assert headings(page) == [(1, "x"), (2, "Part"), (2, "Late")]


def test_headings_are_in_order_whatever_a_notebook_leaves_out() -> None:
    text = "### a\n\n##### b\n\n# c\n\n#### d\n\n## e\n\n###### f\n\n# g"
    page = render_page(notebook(markdown("text"), markdown(text)), Page("x"))
    assert headings(page) == [
        (1, "x"), (2, "a"), (3, "b"), (2, "c"), (3, "d"), (3, "e"), (4, "f"), (2, "g"),
    ]  # fmt: skip


def test_headings_that_are_left_open_or_closed_wrongly_are_in_order_too() -> None:
    page = render_page(notebook(html("<h4>a</h2><p>b<h3>c<h5>d")), Page("x"))
    ranks = [int(rank) for rank in re.findall(r"<h([1-6])", page)]
    assert ranks[0] == 1 and all(after <= before + 1 for before, after in itertools.pairwise(ranks))


def test_what_a_page_comes_to_stands_before_its_argument() -> None:
    page = render_page(
        notebook(markdown("## Argument")),
        Page("x", conclusion="It is <good>.", holds=False, scores=(Score("auc", 0.9, 0.8, 0.95, 12),)),
    )
    assert page.index("It is &lt;good&gt;.") < page.index("0.800 to 0.950") < page.index("Argument")
    assert 'class="dyff-conclusion dyff-fails"' in page


def test_a_page_that_comes_to_nothing_has_no_summary() -> None:
    assert "Summary" not in render_page(notebook(markdown("text")), Page("x"))


def test_scores_say_what_they_measure_and_are_drawn() -> None:
    page = render_page(
        notebook(),
        Page("x", scores=(Score("auc", 0.9, 0.8, 0.95, 12, title="AUC"),), about={"auc": "Area <under>"}),
    )
    assert 'AUC<span class="dyff-about">Area &lt;under&gt;</span>' in page
    assert page.count("<svg") == 1


def test_an_interval_of_another_level_says_so() -> None:
    at = {level: Score(f"s{level}", 0.9, 0.8, 0.95, 12, level=level) for level in (0.9, 0.95)}
    assert "90 % interval" in render_page(notebook(), Page("x", scores=(at[0.9],)))
    both = render_page(notebook(), Page("x", scores=tuple(at.values())))
    assert "0.800 to 0.950 (90 %)" in both and "0.800 to 0.950 (95 %)" in both


def test_provenance_is_shown_whole() -> None:
    origin = Origin("Model", "logreg", "fitted <twice>", "f" * 64)
    page = render_page(notebook(), Page("x", provenance=(origin,)))
    assert f'<code>logreg</code> · fitted &lt;twice&gt;<br><code class="hash">{"f" * 64}</code>' in page


def test_preformatted_text_is_reached_by_the_keyboard_where_it_may_be_wider_than_the_screen(
    tmp_path: Path,
) -> None:
    made = notebook(code(stream("stdout", "x" * 300)))
    assert '<pre tabindex="0">xxx' in render_page(made, Page("x"))
    # Beside the code, which has many such places, it is wrapped instead.
    nbformat.write(made, tmp_path / "n.ipynb")
    shown = render_notebook(tmp_path / "n.ipynb")
    assert '<main class="frame with-code">' in shown and "<pre tabindex" not in shown


def test_cells_that_show_nothing_leave_no_box() -> None:
    page = render_page(notebook(markdown("## A"), code(), markdown("B")), Page("x"))
    assert "code_cell" not in page


def test_what_only_the_keyboard_could_reach_out_of_turn_is_gone() -> None:
    assert sanitize('<div tabindex="0">a</div><div tabindex="7">b</div>') == (
        '<div tabindex="0">a</div><div>b</div>'
    )


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
