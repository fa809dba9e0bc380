"""What a large evaluation needs: memory, and the time to find out that all of it is there."""

from __future__ import annotations

import subprocess
import sys
import tempfile

from benchmarks.pairing import Claim, Ratio, arguments, report

_LARGE = """
import resource, sys, time
from pathlib import Path
from benchmarks.answering_server import serving
from benchmarks.evaluation import evaluate, write_rows
rows, directory = int(sys.argv[1]), Path(sys.argv[2])
write_rows(directory / "rows", rows)
with serving(0.0) as url:
    evaluate(url, directory / "rows", directory / "store")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    evaluate(url, directory / "rows", directory / "store")
print(peak, time.perf_counter() - started)
"""


def _large(rows: int) -> tuple[int, float]:
    """Peak memory in KiB of a whole evaluation, and seconds to find out that all of it is there."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-c", _LARGE, str(rows), directory]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(said[0]), float(said[1])


def claims() -> list[Claim]:
    """Two data sets, one ten times as large as the other."""
    (small, _), (large, seconds) = _large(100_000), _large(1_000_000)
    ratio = large / small
    note = f"{large / 1024:.0f} MiB against {small / 1024:.0f} MiB"
    same = Ratio(ratio, ratio, ratio)
    resumed = Ratio(seconds, seconds, seconds)
    return [
        Claim("peak memory, 1,000,000 rows against 100,000", same, "×", at_most=1.15, note=note),
        Claim("taking up 1,000,000 answers that are all there", resumed, "seconds", at_most=5.0),
    ]


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    report("evaluation_size", claims(), write=options.write)


if __name__ == "__main__":
    main()
