"""What comes back from a process in which a method's code ran: it may be anything, whoever left it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.analysis.child import pass_on
from dyff_dagster.analysis.display import score_card, table_block
from dyff_dagster.analysis.drawing import axes_of, interval_bar
from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.html import Content, Page
from dyff_dagster.analysis.jobs import Job, Outcome, read_back
from dyff_dagster.analysis.records import ScoreRecord
from dyff_dagster.analysis.sanitizing import check_inert, sanitize
from dyff_dagster.analysis.score_table import score_table
from dyff_dagster.store import Score


def job(scratch: Path) -> Job:
    return Job("case", scratch, "case.ipynb", "module", ("module",), False, None, Page("x"))


def put(path: Path, what: str) -> None:
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a directory":
        path.mkdir()
    elif what.startswith("/"):
        path.symlink_to(what)
    else:
        path.write_text(what)


NO_FILE = ("a pipe", "a directory", "/dev/zero", "/proc/self/environ", "/nowhere")


@pytest.mark.parametrize("what", NO_FILE)
def test_what_is_no_file_of_its_own_is_not_read(tmp_path: Path, what: str) -> None:
    put(tmp_path / "x", what)
    assert read_back(tmp_path / "x") is None
    assert Outcome.read(tmp_path / "x") is None
    assert pass_on(tmp_path / "x", 0, lambda *_: pytest.fail("it was read")) == 0


def test_of_a_file_no_more_is_read_than_was_said(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("0123456789")
    assert read_back(tmp_path / "x") == b"0123456789"
    assert read_back(tmp_path / "x", most=3, start=5) == b"567"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "5",
        "null",
        "[]",
        '{"more": 1}',
        '{"packages": 5}',
        '{"packages": {"numpy": 2}}',
        '{"cell": "x"}',
        '{"cell": true}',
        '{"killed": 1}',
        '{"where": 1}',
        '{"error": {}}',
        '{"ename": ["KeyError"]}',
    ],
)
def test_what_is_no_outcome_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "outcome.json").write_text(text)
    assert Outcome.read(tmp_path / "outcome.json") is None


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(rows=3, packages={"numpy": "2.0"}),
        Outcome(error="it failed"),
        Outcome(ename="KeyError", cell=3, killed=True),
        Outcome(ename="std::bad_alloc", where="scoring.py:3"),
    ],
)
def test_an_outcome_comes_back_as_it_was(tmp_path: Path, outcome: Outcome) -> None:
    outcome.write(tmp_path / "outcome.json")
    assert Outcome.read(tmp_path / "outcome.json") == outcome


def test_an_outcome_is_one_sentence_and_names_a_class_only_where_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    Outcome(ename="the patient\nis 41").write(path)
    assert Outcome.read(path) == Outcome(ename="an exception")
    Outcome(error="a\nb \x1b[2J" + "c" * 10_000).write(path)
    found = Outcome.read(path)
    assert found is not None and found.error is not None
    assert "\n" not in found.error and len(found.error) <= 2_000


def content(**parts: Any) -> str:
    text = {"title": "", "subtitle": "", "lead": "", "scores": "", "body": ""}
    return json.dumps({**text, **parts})


@pytest.mark.parametrize(
    "what",
    [
        *NO_FILE,
        "",
        "{",
        content(body=5),
        content(title=None),
        content(more="x"),
        '{"body": "x", "titel": ""}',
        "[" * 100_000,
    ],
)
def test_without_content_there_is_no_page(tmp_path: Path, what: str) -> None:
    put(tmp_path / "content.json", what)
    with pytest.raises(AnalysisError, match=r"^case: it ended without a page; let the method end by itself"):
        job(tmp_path).read_content()


@pytest.mark.parametrize(
    "html",
    [
        "<p>x</p><script>alert(1)</script>",
        "<SCRIPT src=x>",
        "<script",
        "<p onclick=alert(1)>x</p>",
        '<p class="a" ONCLICK="alert(1)">x</p>',
        '<iframe srcdoc="x"></iframe>',
        '<meta http-equiv="refresh" content="0">',
        '<base href="https://example.com">',
        '<form action="https://example.com"></form>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href=" java\nscript:alert(1)">x</a>',
        '<img src="https://example.com/x.png">',
        '<img src="x" onerror="alert(1)">',
        '<p style="position: fixed">x</p>',
        '<p style="background: url(https://example.com)">x</p>',
        '<p style="margin-top: -9999px">x</p>',
        "<p>x</p><!-- making -->",
        "<p>x</p><!-- ",
        "<p>x</p><!--",
        "<!DOCTYPE html>",
        "<![CDATA[x]]>",
        "<?php x ?>",
        "</main></body></html>",
        "<div><p>x</p>",
        "<b><i>x</b></i>",
        "<div/>",
        "<textarea>",
        "<title>x</title>",
        "<style>p {}</style>",
        "<svg><foreignObject></foreignObject></svg>",
        "<svg><use href='#x'></use></svg>",
        "<math><mi>x</mi></math>",
        "a < b",
        "<",
        "</",
        "<p",
        '<p class="',
        "<div>" * 2_000 + "</div>" * 2_000,
    ],
)
@pytest.mark.parametrize("part", ["lead", "scores", "body"])
def test_content_that_did_not_come_out_of_the_sanitizer_is_refused(
    tmp_path: Path, part: str, html: str
) -> None:
    (tmp_path / "content.json").write_text(content(**{part: html}))
    with pytest.raises(
        AnalysisError, match=r"^case: its page was written past dyff-dagster, and has "
    ) as raised:
        job(tmp_path).read_content()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "html",
    [
        "<h1>a &amp; b &lt; c</h1><p>x<br>y<br/>z</p>",
        '<img alt="<script>" src="data:image/png;base64,AAAA"><hr>',
        '<p title="a > b" style="color: red; margin: 1px">x<wbr>y</p>',
        '<a href="https://example.com/?a=1&b=2">x</a> <a href="#y">y</a>',
        '<svg viewBox="0 0 1 1" preserveAspectRatio="none"><path d="M0 0"></path><rect width="1"/></svg>',
        '<details open><summary>x</summary><pre tabindex="0">y</pre></details>',
        "<table><colgroup><col span=2></colgroup><tr><td>1<td>2<tr><th scope=row>3</table>",
        "<p>unclosed <b>bold<p>another",
        "<svg><linearGradient></linearGradient><circle r=1 /></svg>",
        "<script>alert(1)</script><p onclick=x()>left</p><!-- comment --><![CDATA[x]]>",
        "&lt;script&gt; &#60; &nbsp; &copy 5 < 6 && 7 > 3",
        "\0 \x1b \u2028",
    ],
)
def test_what_the_sanitizer_makes_is_taken(html: str) -> None:
    for made in (sanitize(html), sanitize(html, headings=2, scrolled=True)):
        check_inert(made, "case")


def test_what_this_package_shows_is_taken() -> None:
    scores = [Score("auc", 0.9, low=0.8, high=0.95, n=9), Score("b", float("nan"), title="<b> & 'c'")]
    axes = axes_of(scores, {})
    for html in (
        score_table(scores, {"auc": "What <it> is"}),
        interval_bar(scores[0], axes["auc"], ()),
        sanitize(score_card(ScoreRecord("auc", 0.9, 0.8, 0.95, 9, text="<x>"))),
        sanitize(table_block([{"a": "<b>", "b": 1, "c": None, "d": True}], "A 'table'")),
    ):
        check_inert(html, "case")


def test_content_comes_back_as_it_was(tmp_path: Path) -> None:
    made = Content(title="<b>", subtitle="&", lead="<p>a</p>", scores="", body="<p>ü &lt;</p>")
    job(tmp_path).write_content(made)
    assert job(tmp_path).read_content() == made
