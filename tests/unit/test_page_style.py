"""The pages' colours: can everything be read, in light, in dark and on paper?"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

import dyff_dagster.analysis
from dyff_dagster.analysis.html import render_notebook

CSS = (Path(dyff_dagster.analysis.__file__).parent / "templates" / "page.css").read_text("utf-8")

TEXT, DRAWN = 4.5, 3.0
"""Least contrast of text, and of what is drawn: WCAG 2.2, level AA, criteria 1.4.3 and 1.4.11."""

PAIRS = [
    *((words, "paper", TEXT) for words in ("ink", "soft", "link", "good", "bad")),
    *((words, "tint", TEXT) for words in ("ink", "soft", "link")),
    *((words, "good-tint", TEXT) for words in ("ink", "good")),
    *((words, "bad-tint", TEXT) for words in ("ink", "bad")),
    *((words, "open-tint", TEXT) for words in ("ink", "soft")),
    *((line, "paper", DRAWN) for line in ("mark", "drawn", "range", "axis")),
]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    digits = colour.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    linear = []
    for at in (0, 2, 4):
        part = int(digits[at : at + 2], 16) / 255
        linear.append(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def palette(scheme: str) -> dict[str, str]:
    """The colours of a scheme; what it does not name is as in the light one."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    assert len(blocks) == 3
    block = blocks[{"light": 0, "dark": 1, "print": 2}[scheme]]
    named = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block))
    if scheme != "light":
        # A dark screen's colours must not show through on paper.
        assert named.keys() == palette("light").keys()
    return named


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.005
    )  # WCAG's own example of just too little


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize(("front", "back", "least"), PAIRS)
def test_everything_can_be_read(scheme: str, front: str, back: str, least: float) -> None:
    colours = palette(scheme)
    assert contrast(colours[front], colours[back]) >= least


def test_every_colour_is_named_once_and_used_by_name() -> None:
    rules = re.sub(r":root \{.*?\}", "", CSS, flags=re.DOTALL)
    outside = set(re.findall(r"#[0-9a-fA-F]{3,6}\b", rules))
    assert outside <= {"#fff", "#555"}  # behind figures, which are drawn on white; page numbers in print
    assert contrast("#555555", "#ffffff") >= TEXT


def test_code_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1  # one")]), path)
    page = render_notebook(path)
    light, dark = re.findall(r"((?:^\.highlight \.[^\n]*\n)+)", page, re.MULTILINE)
    for rules, scheme in ((light, "light"), (dark, "dark")):
        colours = re.findall(r"[{;] ?color: (#[0-9a-fA-F]{6})", rules)
        assert len(colours) > 10
        assert min(contrast(colour, palette(scheme)["tint"]) for colour in colours) >= TEXT
