"""Bytes from outside: downloads from the Hub, CSV and JSON Lines into Parquet, and the memory that they take.

The Hub is that of the tests, on loopback: once it sends as fast as it can, which is from memory, and once as fast as a
line of 1 Gbit/s lets it. What is written has its digests: of the rows, and of the file.
``DYFF_BENCH_GB`` sets the size of the file whose memory is measured (default 1; issue 8 asks for 10).
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from benchmarks.pairing import Claim, Contender, Ratio, arguments, compare, report

ROWS = 400_000
MODEL_FILES = 6
MODEL_MB = 96
LINE = 120e6
"""Bytes per second that come through a line of 1 Gbit/s, about, in all connections together."""
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

    def contender() -> float:
        with tempfile.TemporaryDirectory(dir=directory) as target, tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            ingest_files(
                entity, {name: directory / name}, parse_ingest(None), Path(target), Path(scratch), no_progress
            )
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


def serve(end: Any, seed: int) -> None:
    """The tests' Hub with one model, in a process of its own, until the other end says None; else how fast it shall be.

    The other end says bytes per second, shared out evenly among the large files, or infinity.
    """
    from tests.hub import Hub, Large, serve_hub

    chance = random.Random(seed)
    hub = Hub()
    files: dict[str, Any] = {"config.json": b"{}"}
    for number in range(MODEL_FILES):
        files[f"model-{number}.safetensors"] = Large(_safetensors(chance.randbytes(MODEL_MB << 20)))
    hub.repository("bench/model").commit(files)
    with serve_hub(hub):
        end.send(hub.url)
        while (rate := end.recv()) is not None:
            hub.bytes_per_second = None if math.isinf(rate) else rate / MODEL_FILES
            end.send(rate)


def _safetensors(data: bytes) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


def download(directory: Path, how: str, url: str) -> Contender:
    """A model's files, fetched into an empty cache by a process of its own; ours are verified and in a version."""

    def contender() -> float:
        with tempfile.TemporaryDirectory(dir=directory) as target:
            env = {
                **os.environ,
                "HF_ENDPOINT": url,
                "HF_HUB_CACHE": f"{target}/users",
                "HF_HUB_DISABLE_XET": "1",
            }
            line = [sys.executable, "-m", "benchmarks.sources", f"--{how}", target]
            done = subprocess.run(line, env=env, capture_output=True, text=True, check=True)
            return float(done.stdout.split()[-1])

    return contender


def fetch_ours(target: Path) -> float:
    """Seconds until a Model is committed, with the digests of its files checked against the Hub's."""
    from huggingface_hub import HfApi, hf_hub_url, snapshot_download  # noqa: F401 - their imports take time too

    from dyff_dagster.schema.platform import Model
    from dyff_dagster.sources import fetch, fingerprint
    from dyff_dagster.store import Inputs, Store

    model = Model.model_validate(
        {
            "id": "model", "account": "bench", "name": "model", "resources": {"storage": "1Gi"},
            "source": {"kind": "HuggingFaceHub", "huggingFaceHub": {"repoID": "bench/model", "revision": "main"}},
            "artifact": {
                "kind": "HuggingFaceCache", "huggingFaceCache": {"repoID": "bench/model", "revision": "v1"},
            },
            "storage": {"medium": "ObjectStorage"},
        }
    )  # fmt: skip
    started = time.perf_counter()
    inputs = Inputs(spec="s", extras=fingerprint(model, target))
    fetch(model, Store(target / "store"), inputs=inputs, files=target)
    return time.perf_counter() - started


def fetch_theirs(target: Path) -> float:
    """Seconds of ``snapshot_download`` alone."""
    from huggingface_hub import snapshot_download

    started = time.perf_counter()
    snapshot_download("bench/model", revision="main", cache_dir=target / "cache")
    return time.perf_counter() - started


def peak(directory: Path, name: str) -> float:
    """Megabytes that a process which ingests a file of GB takes at most."""
    source = directory / f"large-{name}"
    body = (directory / name).read_bytes()
    header = body[: body.index(b"\n") + 1] if name.endswith(".csv") else b""
    with source.open("wb") as file:
        file.write(header)
        while file.tell() < GB * 1e9:
            file.write(body[len(header) :])
    line = [sys.executable, "-m", "benchmarks.sources", "--ingest", str(source)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=True)
    finally:
        source.unlink()
    return float(done.stdout.split()[-1])


def ingest_alone(source: Path) -> float:
    """Ingest a file; the megabytes that this process took at most."""
    ours(source.parent, source.name)()
    # getrusage's figure begins with that of the process which started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


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
            megabytes = peak(directory, name)
            claims.append(
                Claim(
                    f"memory to ingest {GB:g} GB of {what}",
                    Ratio(megabytes, megabytes, megabytes),
                    "MB at most",
                    at_most=500,
                )
            )
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        server = context.Process(target=serve, args=(there, 1), daemon=True)
        server.start()
        url = here.recv()
        for line, what in ((LINE, "a Hub at 1 Gbit/s"), (math.inf, "a Hub at the speed of memory")):
            here.send(line)
            here.recv()
            seconds = compare(
                {how: download(directory, how, url) for how in ("ours", "theirs")}, repeats=options.repeats
            )
            rate = MODEL_FILES * MODEL_MB / seconds.median("ours")
            claims.append(
                Claim(
                    f"download {MODEL_FILES * MODEL_MB} MiB from {what}, verified and committed",
                    seconds.speedup("ours", "theirs"),
                    "× snapshot_download's speed",
                    at_least=0.95,
                    note=f"{rate:.0f} MiB/s",
                )
            )
        here.send(None)
        server.join(60)
    report("sources", claims, write=options.write)


_ALONE = {"--ours": fetch_ours, "--theirs": fetch_theirs, "--ingest": ingest_alone}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in _ALONE:
        print(_ALONE[sys.argv[1]](Path(sys.argv[2])))
    else:
        main()
