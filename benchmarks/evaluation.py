"""How fast rows are answered: evaluation.run against a bare aiohttp loop, with the same server.

Every answer of ours is checked against the declared schema, kept in fsynced parts, put in order, counted and
committed; the bare loop parses the JSON and drops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.answering_server import serving
from benchmarks.pairing import Claim, Contender, Ratio, arguments, compare, report
from dyff_dagster import evaluation
from dyff_dagster.schema.platform import DataSchema, Evaluation, SchemaAdapter
from dyff_dagster.sessions import Session
from dyff_dagster.store import Inputs, Store
from tests.reference.environments import ReferenceUnavailable, reference_python

CONNECTIONS = 64
OUTPUT = DataSchema.make_output_schema(
    pa.schema([pa.field("answer", pa.string()), pa.field("probability", pa.float64())])
)
IN = [
    SchemaAdapter(
        kind="TransformJSON",
        configuration={"q": "$.question", "c": "$.context", "n": "$.number", "t": "$.topic"},
    )
]
OUT = [
    SchemaAdapter(
        kind="TransformJSON",
        configuration={
            "answer": "$.answer",
            "probability": "$.probability",
            "label": "$.label",
            "same": "$.answer",
        },
    )
]


def write_rows(directory: Path, number: int) -> None:
    """A data set of that many rows."""
    directory.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        [
            pa.field("_index_", pa.int64(), nullable=False),
            ("question", pa.string()),
            ("context", pa.string()),
            ("number", pa.int64()),
            ("topic", pa.string()),
        ]
    )
    with pq.ParquetWriter(directory / "rows.parquet", schema) as writer:
        for start in range(0, number, 65_536):
            indices = range(start, min(number, start + 65_536))
            rows = {
                "_index_": list(indices),
                "question": [f"What is the capital of country {i}?" for i in indices],
                "context": ["Answer in one sentence."] * len(indices),
                "number": list(indices),
                "topic": ["geography"] * len(indices),
            }
            writer.write_table(pa.table(rows, schema=schema))


def entity(pipelines: bool = False) -> Evaluation:
    """An evaluation of a hosted service."""
    interface: dict[str, Any] = {"endpoint": "http://unused/answer", "outputSchema": OUTPUT}
    if pipelines:
        interface |= {"inputPipeline": IN, "outputPipeline": OUT}
    service = {"id": "service", "account": "bench", "name": "service", "interface": interface}
    return Evaluation(
        id="evaluation",
        account="bench",
        dataset="rows",
        replications=1,
        workersPerReplica=CONNECTIONS,
        inferenceSession={"inferenceService": service},
    )


def evaluate(url: str, dataset: Path, root: Path, pipelines: bool = False) -> dict[str, Any]:
    """Run an evaluation into a store; returns what it says of itself."""

    @contextlib.contextmanager
    def session() -> Iterator[Session]:
        yield Session("evaluation", [url], root)

    store = Store(root)
    inputs = Inputs(spec="spec", upstream={"rows": "1" * 64})
    with store.lock("evaluation"):
        commit = evaluation.run(
            entity(pipelines),
            store,
            inputs=inputs,
            dataset=dataset,
            service_digest="0" * 64,
            session=session,
        )
    assert commit.facts.completeness is not None
    assert commit.facts.completeness.complete
    return commit.facts.notes


def bare_loop(url: str, dataset: Path) -> float:
    """Post every row, parse every reply; seconds."""

    async def run() -> None:
        table = pq.ParquetFile(dataset / "rows.parquet")
        rows = (row for batch in table.iter_batches(4096) for row in batch.to_pylist())
        replies: list[Any] = []

        async def work(http: aiohttp.ClientSession) -> None:
            for row in rows:
                del row["_index_"]
                async with http.post(url, data=json.dumps(row).encode()) as response:
                    replies.append(json.loads(await response.read()))
                if len(replies) > 10_000:
                    replies.clear()

        connector = aiohttp.TCPConnector(limit=0)
        headers = {"Content-Type": "application/json"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
            await asyncio.gather(*(work(http) for _ in range(CONNECTIONS)))

    started = time.perf_counter()
    asyncio.run(run())
    return time.perf_counter() - started


def _contenders(url: str, dataset: Path) -> tuple[dict[str, Contender], dict[str, Contender]]:
    """By the clock of the wall (the request phase, but for "whole"), and by that of the processor (all of it)."""

    def ours(pipelines: bool, clock: Callable[[], float] | None) -> float:
        root = Path(tempfile.mkdtemp(dir=dataset.parent))
        started = 0.0 if clock is None else clock()
        notes = evaluate(url, dataset, root, pipelines)
        seconds = notes["seconds"] if clock is None else clock() - started
        shutil.rmtree(root)
        return float(seconds)

    return {
        "bare": lambda: bare_loop(url, dataset),
        "ours": lambda: ours(False, None),
        "whole": lambda: ours(False, time.perf_counter),
        "pipelines": lambda: ours(True, None),
    }, {
        "ours": lambda: ours(False, time.process_time),
        "pipelines": lambda: ours(True, time.process_time),
    }


def _reference(url: str, rows: int) -> Contender | None:
    """The reference's client, scaled from some rows to all: it sends one after another."""
    try:
        python = reference_python("0.46.17")
    except ReferenceUnavailable as error:
        print(f"without the reference's client: {error.reason}")
        return None
    some = min(rows, 200)
    script = Path(__file__).parent / "reference" / "time_infer.py"
    base = url.rsplit("/", 1)[0]

    def contender() -> float:
        command = [str(python), str(script), base, str(some)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(done.stdout) * rows / some

    return contender


def _wrk(url: str, seconds: int = 3) -> str:
    """What wrk, which does nothing with the replies, gets from the same server."""
    if shutil.which("wrk") is None:
        return ""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            'wrk.method = "POST"; wrk.body = \'{"question": "What?", "number": 1}\'; '
            'wrk.headers["Content-Type"] = "application/json"'
        )
        script.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script.name, url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    return f", wrk {rate:,.0f}"


_CATALOG = """\
kind: Dataset
id: rows
account: bench
name: rows
annotations: {{dyff-dagster/files: {files.name}, dyff-dagster/withhold: ""}}
schema: {{arrow: {{question: string, context: string, number: int64, topic: string}}}}
---
kind: InferenceService
id: service
account: bench
name: service
interface:
  endpoint: {url}
  outputSchema: {{arrow: {{answer: string, probability: double}}}}
---
kind: Evaluation
id: evaluation
account: bench
dataset: rows
workersPerReplica: 64
inferenceSession: {{inferenceService: service}}
"""


def _step(url: str, dataset: Path) -> Claim:
    """What the Dagster step adds: an evaluation of a hundred rows as an asset, beside an asset that does nothing."""
    import dagster as dg

    from dyff_dagster import Catalog, DyffStorage, build_definitions

    (dataset.parent / "catalog.yaml").write_text(_CATALOG.format(files=dataset, url=url))
    catalog = Catalog.load(dataset.parent / "catalog.yaml")

    @dg.asset
    def nothing() -> None:
        pass

    def materialize(assets: Any, **how: Any) -> float:
        with dg.DagsterInstance.ephemeral() as instance:
            started = time.perf_counter()
            assert dg.materialize(assets, instance=instance, **how).success
            return time.perf_counter() - started

    seconds: list[float] = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as root:
            definitions = build_definitions(catalog, storage=DyffStorage(root=root))
            assets = list(definitions.assets or ())
            resources = definitions.resources
            data = dg.AssetKey(["datasets", "rows"])
            key = dg.AssetKey(["evaluations", "evaluation"])
            with dg.DagsterInstance.ephemeral() as instance:
                dg.materialize(assets, instance=instance, resources=resources, selection=[data])
            whole = materialize(assets, resources=resources, selection=[key])
            alone = materialize([nothing])
            with tempfile.TemporaryDirectory() as directory:
                started = time.perf_counter()
                evaluate(url, dataset, Path(directory))
                room = time.perf_counter() - started
        seconds.append(whole - alone - room)
    seconds.sort()
    ratio = Ratio(seconds[2], seconds[0], seconds[-1])
    return Claim("a step around an evaluation, beside Dagster's own", ratio, "seconds more", at_most=1.0)


def _repeats(wanted: int, rows: int, latency: float) -> int:
    """What takes half a second is hidden by whatever else the machine does, unless it is measured often."""
    if rows >= 10_000:
        return max(3, wanted // 2)
    return wanted if latency else 5 * wanted


def _claims(directory: Path, rows: int, latency: float, at_least: float, wanted: int) -> list[Claim]:
    """What is measured with one data set and one latency; ``wanted``: repeats, as the command line has them."""
    dataset = directory / f"rows-{rows}"
    write_rows(dataset, rows)
    short = rows < 10_000
    what, unit = f"{rows:,} rows, {1000 * latency:.0f} ms", "× the bare loop's rows/s"
    with_pipelines = f"{what}: four-path pipelines on both sides"
    with serving(latency) as url:
        contenders, computing = _contenders(url, dataset)
        repeats = _repeats(wanted, rows, latency)
        seconds = compare(contenders, repeats=repeats)
        rate = f"bare loop {rows / seconds.median('bare'):,.0f} rows/s{_wrk(url)}"
        claims = [
            Claim(f"{what}: asking", seconds.speedup("ours", "bare"), unit, at_least=at_least, note=rate),
            Claim(f"{what}: from start to commit", seconds.speedup("whole", "bare"), unit),
            Claim(with_pipelines, seconds.speedup("pipelines", "ours"), "× the rate without", at_least=0.9),
        ]
        if short and not latency:
            speedup = compare(computing, repeats=repeats).speedup("pipelines", "ours")
            with_pipelines += ", by processor time from start to commit"
            claims.append(Claim(with_pipelines, speedup, "× the rate without", at_least=0.9))
        reference = _reference(url, rows) if short else None
        if reference is not None:
            beside = compare({"whole": contenders["whole"], "reference": reference}, repeats=wanted)
            speedup = beside.speedup("whole", "reference")
            claims.append(Claim(f"{what}: from start to commit", speedup, "× the reference's client"))
    return claims


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory() as directory:
        for rows, latency, at_least in ((2_000, 0.05, 0.95), (2_000, 0.0, 0.6), (100_000, 0.0, 0.6)):
            claims += _claims(Path(directory), rows, latency, at_least, options.repeats)
        dataset = Path(directory) / "rows-100"
        write_rows(dataset, 100)
        with serving(0.0) as url:
            claims.append(_step(url, dataset))
    report("evaluation", claims, write=options.write)


if __name__ == "__main__":
    main()
