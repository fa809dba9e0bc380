"""How long requests took, in the memory of a few hundred counters."""

from __future__ import annotations

import bisect
import itertools
import math

_LOWEST = 1e-5
_RATIO = 1.02
_BUCKETS = 1100
"""From 10 microseconds up to 8 hours, in steps of 2 %."""
_BARS = "▁▂▃▄▅▆▇█"


class Latencies:
    """A histogram of durations whose quantiles are right to 2 %."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.longest = 0.0
        """Seconds."""

    def add(self, seconds: float) -> None:
        """Count one."""
        bucket = int(math.log(max(seconds, _LOWEST) / _LOWEST) / math.log(_RATIO))
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self.count += 1
        self.longest = max(self.longest, seconds)

    def quantile(self, q: float) -> float | None:
        """The duration in seconds that a share ``q`` of them did not exceed; None where there are none."""
        if not self.count:
            return None
        bucket = bisect.bisect_left(list(itertools.accumulate(self._counts)), max(1, q * self.count))
        middle: float = _LOWEST * _RATIO ** (min(bucket, _BUCKETS - 1) + 0.5)
        return min(middle, self.longest)

    def clear(self) -> None:
        """Forget all."""
        self._counts = [0] * _BUCKETS
        self.count, self.longest = 0, 0.0

    def merge(self, counts: list[int], longest: float) -> None:
        """Add what another process counted."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, counts, strict=True)]
        self.count += sum(counts)
        self.longest = max(self.longest, longest)

    def counts(self) -> list[int]:
        """For :meth:`merge`."""
        return list(self._counts)

    def plot(self, width: int = 24) -> str:
        """A line of bars, ``▁▃█▅▁``: durations from the shortest to the longest on a logarithmic scale."""
        seen = [bucket for bucket, count in enumerate(self._counts) if count]
        if not seen:
            return ""
        counts = self._counts[seen[0] : seen[-1] + 1]
        size = math.ceil(len(counts) / width)
        sums = [sum(counts[start : start + size]) for start in range(0, len(counts), size)]
        return "".join(_BARS[math.ceil(7 * value / max(sums))] for value in sums)
