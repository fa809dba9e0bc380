"""Bytes from outside: downloads from the Hub, CSV and JSON Lines into Parquet, and the memory that they take.

The Hub is that of the tests, on loopback. What is written has its digests: of the rows, and of the file.
``DYFF_BENCH_GB`` sets the size of the file whose memory is measured (default 1; issue 8 asks for 10).
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from benchmarks.pairing import Claim, Contender, arguments, compare, report

ROWS = 400_000
MODEL_FILES = 6
MODEL_MB = 32
GB = float(os.environ.get("DYFF_BENCH_GB", "1"))
_WORDS = ["".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=3 + n % 7)) for n in range(4096)]
SCHEMA = {"question": "string!", "answer": "string", "level": "int64", "weight": "float64"}


def rows(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions of some twenty words, as data sets of language models have them."""
    chance = random.Random(seed)
    return [
        {
            "question": " ".join(chance.choices(_WORDS, k=24)),
            "answer": chance.choice(_WORDS),
            "level": chance.randrange(10),
            "weight": round(chance.random(), 6),
        }
        for _ in range(number)
    ]


def write(directory: Path, number: int) -> None:
    """The same rows as CSV and as JSON Lines."""
    found = rows(number)
    pyarrow.csv.write_csv(pa.Table.from_pylist(found), directory / "rows.csv")
    with (directory / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in found)


def ours(directory: Path, name: str) -> Contender:
    """An ingested file, with the digests of its rows and of the Parquet file."""
    from dyff_dagster.schema.platform import DataSchema, Dataset
    from dyff_dagster.sources.dataset import ingest_files
    from dyff_dagster.store import no_progress

    schema = pa.schema(
        [
            ("_index_", pa.int64()), pa.field("question", pa.string(), nullable=False), ("answer", pa.string()),
            ("level", pa.int64()), ("weight", pa.float64()),
        ]
    )  # fmt: skip
    entity = Dataset(
        id="rows", account="bench", name="rows", artifacts=[{"path": "data.parquet"}],
        schema=DataSchema.make_input_schema(schema.remove(0)),
    )  # fmt: skip
    from dyff_dagster.catalog.ingest import parse_ingest
    from dyff_dagster.store.digests import digest_file

    def contender() -> float:
        with tempfile.TemporaryDirectory(dir=directory) as target, tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            ingest_files(
                entity, {name: directory / name}, parse_ingest(None), Path(target), Path(scratch), no_progress
            )
            digest_file(Path(target) / "data.parquet")
            return time.perf_counter() - started

    return contender


def theirs(directory: Path, name: str) -> Contender:
    """pyarrow's reader, all cores and all in memory, and its writer with our compression."""
    read: Callable[[Path], pa.Table] = (
        pyarrow.csv.read_csv if name.endswith(".csv") else pyarrow.json.read_json
    )

    def contender() -> float:
        with tempfile.TemporaryDirectory(dir=directory) as target:
            started = time.perf_counter()
            pq.write_table(read(directory / name), Path(target) / "data.parquet", compression="zstd")
            return time.perf_counter() - started

    return contender


def main() -> None:
    options = arguments(__doc__)
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory(prefix="bench-sources-") as made:
        directory = Path(made)
        write(directory, ROWS)
        for name, what in (("rows.csv", "CSV"), ("rows.jsonl", "JSON Lines")):
            size = (directory / name).stat().st_size / 1e6
            seconds = compare(
                {"ours": ours(directory, name), "pyarrow": theirs(directory, name)}, repeats=options.repeats
            )
            rate = size / seconds.median("ours")
            claims.append(
                Claim(
                    f"ingest {size:.0f} MB of {what}, with digests",
                    seconds.speedup("ours", "pyarrow"),
                    "× pyarrow's reader and writer",
                    at_least=0.7,
                    note=f"{rate:.0f} MB/s",
                )
            )
    report("sources", claims, write=options.write)


if __name__ == "__main__":
    main()
