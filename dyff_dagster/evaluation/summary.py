"""What an evaluation has cost so far, over all its runs: ``ROOT/ID/.dyff/summary.json``."""

from __future__ import annotations

import json
from typing import Any

from dyff_dagster.evaluation.tally import Tally
from dyff_dagster.schema.prices import Prices
from dyff_dagster.store import Store

_TOTALS = ("rows", "requests", "retries", "bytes", "reusedAnswers", "inputTokens", "outputTokens", "seconds")


class Summary:
    """Adds a run to what the runs before it did.

    Counts are totals over all runs, rates and latencies are the last run's. It is written again and again
    while a run goes on, so that what was paid for is counted also where the run is killed.

    Args:
        store: Where it lies.
        entity_id: The evaluation.
        prices: To compute costs; None where nobody gave any.
    """

    def __init__(self, store: Store, entity_id: str, prices: Prices | None) -> None:
        self._store = store
        self._entity_id = entity_id
        self._prices = prices
        try:
            before = json.loads(store.get_working(entity_id, "summary.json"))
        except (FileNotFoundError, ValueError):
            before = {}
        self._before: dict[str, Any] = before if isinstance(before, dict) else {}

    def requests(self, tally: Tally) -> int:
        """Requests sent so far."""
        return int(self._before.get("requests", 0)) + tally.requests

    def seconds(self, tally: Tally) -> float:
        """Seconds spent asking so far."""
        return float(self._before.get("seconds", 0.0)) + tally.elapsed()

    def cost(self, tally: Tally) -> float:
        """Money spent so far, 0 where there are no prices."""
        before = float(self._before.get("cost") or 0.0)
        return before + (self._cost_of_run(tally) or 0.0)

    def _cost_of_run(self, tally: Tally) -> float | None:
        if self._prices is None:
            return None
        return round(self._prices.cost(tally.usage.input, tally.usage.output, tally.requests), 9)

    def write(self, tally: Tally) -> None:
        """Bring the file up to date."""
        data = json.dumps(self.totals(tally), indent=1).encode()
        self._store.put_working(self._entity_id, "summary.json", data)

    def totals(self, tally: Tally) -> dict[str, Any]:
        """All runs so far, in CONTRACT's names and some more."""
        now = self.of_run(tally)
        for name in _TOTALS:
            now[name] += self._before.get(name, 0)
        for name in ("errors", "accepted"):
            counts = dict(self._before.get(name, {}))
            for kind, number in now[name].items():
                counts[kind] = counts.get(kind, 0) + number
            now[name] = counts
        # null, not 0, says that nobody counted.
        if now["tokens"] is None:
            now["tokens"] = self._before.get("tokens")
        else:
            now["tokens"] += self._before.get("tokens") or 0
        now["cost"] = round(self.cost(tally), 9) if self._prices else self._before.get("cost")
        if "gpuSeconds" in self._before or "gpuSeconds" in now:
            now["gpuSeconds"] = round(self._before.get("gpuSeconds", 0.0) + now.get("gpuSeconds", 0.0), 1)
        now["runs"] = int(self._before.get("runs", 0)) + 1
        return now

    def of_run(self, tally: Tally) -> dict[str, Any]:
        """This run alone."""
        seconds = tally.elapsed()
        usage = tally.usage
        quantiles = {f"p{int(100 * q)}": tally.latencies.quantile(q) for q in (0.5, 0.95, 0.99)}
        return {
            "rows": tally.answered,
            "requests": tally.requests,
            "retries": tally.retries,
            "reusedAnswers": tally.reused,
            "errors": tally.errors,
            "accepted": dict(sorted(tally.accepted.items())),
            "rowsPerSecond": round(tally.answered / seconds, 3) if seconds else 0.0,
            "latency": {name: None if q is None else round(q, 6) for name, q in quantiles.items()},
            "latencyPlot": tally.latencies.plot(),
            "bytes": tally.bytes,
            "seconds": round(seconds, 3),
            "tokens": usage.input + usage.output if usage.counted else None,
            "inputTokens": usage.input,
            "outputTokens": usage.output,
            "cost": self._cost_of_run(tally),
            **({"gpuSeconds": tally.session["gpuSeconds"]} if "gpuSeconds" in tally.session else {}),
        }
