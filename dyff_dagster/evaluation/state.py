"""How an evaluation stands, in a line that a person reads while it runs."""

from __future__ import annotations

import datetime

from dyff_dagster.evaluation.tally import Tally


def describe(tally: Tally, in_flight: int, limit: int | None, left: int) -> str:
    """``answers, 812/s, 64 in flight, 0:02:10 to go, 3 retries, 2 status-500``.

    Args:
        tally: What happened so far.
        in_flight: Requests that are not answered yet.
        limit: How many of them the service bears, where that is fewer than it might be; else None.
        left: Rows that are not answered yet.
    """
    rate = tally.answered / tally.elapsed() if tally.answered else 0.0
    said = ["answers"]
    if rate:
        said.append(f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
    said.append(f"{in_flight} in flight")
    if rate and left:
        said.append(f"{datetime.timedelta(seconds=round(left / rate))} to go")
    if tally.retries:
        said.append(f"{tally.retries} retries")
    said += [f"{number} {kind}" for kind, number in tally.errors.items()]
    if limit is not None:
        said.append(f"at most {limit} at once, as the service bears no more")
    return ", ".join(said)
