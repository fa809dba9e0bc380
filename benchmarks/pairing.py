"""Compare ways of doing the same work, in one run: interleaved repeats and ratios within each repeat.

Absolute times of two runs cannot be compared on a machine that others use too. Here every repeat times each
contender once, one right after the other (in turning order), a ratio is taken within the repeat, and the median
of the ratios is reported with the lowest and the highest. What slows the machine down for a while slows both.

Before each turn garbage is collected: a full collection of this process takes some 70 ms, comes after so many new
objects, whoever made them, and would fall on the same contender again and again. Every other repeat goes backwards,
so that nobody always has the same one before it.

A benchmark is a module of this folder with a function ``main()`` that is run as
``python -m benchmarks.NAME [--write] [--repeats N]``; ``make bench`` runs them all::

    from benchmarks.pairing import Claim, arguments, compare, report, timed

    def main() -> None:
        options = arguments(__doc__)
        ours, theirs = timed(lambda: load(DIRECTORY)), timed(lambda: parse(FILES))
        seconds = compare({"ours": ours, "PyYAML": theirs}, repeats=options.repeats)
        report(
            "catalog",
            [Claim("load 10,000 manifests", seconds.ratio("ours", "PyYAML"), "× PyYAML's time", at_most=2.5)],
            write=options.write,
        )

A contender is a function of no arguments that does the work and returns the seconds it took. :func:`timed` makes
one of any function; work in another process times itself and hands its seconds over.

``report`` prints a table; with ``--write`` the table also replaces what stands in ``docs/benchmarks.md`` between
``<!-- bench NAME -->`` and ``<!-- end NAME -->``.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

Contender = Callable[[], float]
"""Does the work once; returns seconds."""


@dataclass(frozen=True)
class Ratio:
    """Ratios of one pair, one per repeat: their median, and the lowest and highest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Seconds:
    """Seconds that each contender took; ``by_name[name][n]`` belongs to repeat ``n`` of all of them."""

    by_name: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Median seconds of one contender."""
        return statistics.median(self.by_name[name])

    def ratio(self, name: str, base: str) -> Ratio:
        """How many times as long as ``base`` the contender ``name`` takes."""
        ratios = [a / b for a, b in zip(self.by_name[name], self.by_name[base], strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def speedup(self, name: str, base: str) -> Ratio:
        """How many times as fast as ``base`` the contender ``name`` is."""
        return self.ratio(base, name)


@dataclass(frozen=True)
class Claim:
    """One line of a report.

    Attributes:
        what: The work.
        ratio: What was measured.
        unit: What the ratio says, as "× dyff-schema's rows/s".
        at_least: Where the ratio should not be below.
        at_most: Where it should not be above.
        note: Said beside it, as absolute rates.
    """

    what: str
    ratio: Ratio
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the median is where it should be."""
        low = self.at_least is None or self.ratio.median >= self.at_least
        return low and (self.at_most is None or self.ratio.median <= self.at_most)

    @property
    def target(self) -> str:
        """The limits, in words."""
        limits = [
            (sign, value) for sign, value in (("≥", self.at_least), ("≤", self.at_most)) if value is not None
        ]
        return " ".join(f"{sign} {value:g}" for sign, value in limits) or "–"


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Contender:
    """Make a contender of ``work``; its result is dropped outside of the timed part.

    ``clock`` can be ``time.process_time`` for work that only computes: it does not count while others run.
    """

    def contender() -> float:
        started = clock()
        result = work()
        seconds = clock() - started
        del result
        return seconds

    return contender


def compare(contenders: Mapping[str, Contender], repeats: int = 7, warm_up: int = 1) -> Seconds:
    """Time all contenders ``repeats`` times, interleaved, after ``warm_up`` rounds that do not count."""
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warm_up, repeats):
        at = turn // 2 % len(names)
        order = names[at:] + names[:at]
        for name in reversed(order) if turn % 2 else order:
            gc.collect()
            took = contenders[name]()
            if turn >= 0:
                seconds[name].append(took)
    return Seconds(seconds)


def arguments(description: str | None) -> argparse.Namespace:
    """Read the command line that every benchmark has: ``write`` and ``repeats``."""
    return arguments_parser(description).parse_args()


def arguments_parser(description: str | None) -> argparse.ArgumentParser:
    """What reads it, for a benchmark that has more."""
    parser = argparse.ArgumentParser(description=(description or "").strip().split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats (default 7)")
    return parser


def table(claims: Sequence[Claim]) -> str:
    """The claims as a Markdown table."""
    lines = ["| what | median (lowest–highest) | target | |", "|---|---|---|---|"]
    for claim in claims:
        ratio = claim.ratio
        figures = f"{_short(ratio.median)} ({_short(ratio.low)}–{_short(ratio.high)}) {claim.unit}"
        target = claim.target if claim.holds else f"{claim.target}, missed"
        lines.append(f"| {claim.what} | {figures} | {target} | {claim.note} |")
    return "\n".join(lines)


def report(name: str, claims: Sequence[Claim], *, write: bool = False) -> None:
    """Print the claims; with ``write`` also put them into docs/benchmarks.md, at the marks of ``name``.

    Raises:
        SystemExit: A claim does not hold (after everything is printed and written), or there are no such marks.
    """
    text = table(claims)
    print(f"{name}\n\n{text}\n", flush=True)
    if write:
        write_between(PAGE, name, text)
    missed = [claim.what for claim in claims if not claim.holds]
    if missed:
        raise SystemExit(f"{name}: below target: {'; '.join(missed)}")


def write_between(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of ``name`` in ``page``.

    Raises:
        SystemExit: There are no such marks.
    """
    marks = re.compile(rf"(<!-- bench {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    before = page.read_text("utf-8")
    if not marks.search(before):
        raise SystemExit(f"{page.name} has no '<!-- bench {name} -->' … '<!-- end {name} -->'")
    page.write_text(marks.sub(lambda match: f"{match[1]}{text}\n{match[2]}", before), "utf-8")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
