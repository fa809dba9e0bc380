"""How long methods take: a notebook beside bare papermill, a function beside a call of it, the page of many rows.

The function is measured twice: one that looks at each row in Python, as most do, and one that leaves the rows
to Arrow and so does next to nothing itself. What is ours beside the call: a process of its own, the check of
every row, Parquet files, the count against the evaluation, digests and the commit.

Time is the processor time of all processes together, since other work on the machine would be told by the clock.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.pairing import Claim, Contender, Ratio, arguments, compare, report, timed
from dyff_dagster import analysis
from dyff_dagster.analysis.comparison import compare as compare_systems
from dyff_dagster.analysis.comparison import compare_rows
from dyff_dagster.catalog import shipped
from dyff_dagster.schema.arrow import encode_schema, open_dataset
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.platform import Measurement, SafetyCase
from dyff_dagster.store import Commit, Inputs, Store

MANY = 10_000_000
EVALUATED = 100_000
BATCH = 65_536

JUDGED = pa.schema(
    [
        pa.field("_index_", pa.int64(), nullable=False),
        pa.field("_replication_", pa.string(), nullable=False),
        pa.field("right", pa.bool_(), nullable=False),
    ]
)

SCORING = """
import pyarrow as pa
import pyarrow.compute as pc

JUDGED = pa.schema(
    [
        pa.field("_index_", pa.int64(), nullable=False),
        pa.field("_replication_", pa.string(), nullable=False),
        pa.field("right", pa.bool_(), nullable=False),
    ]
)

def in_python(arguments, *, answers):
    for batch in answers.to_batches():
        yield pa.RecordBatch.from_pylist(
            [
                {
                    "_index_": answer["_index_"],
                    "_replication_": answer["_replication_"],
                    "right": answer["responses"][0]["answer"] == "yes",
                }
                for answer in batch.to_pylist()
            ],
            schema=JUDGED,
        )

def in_arrow(arguments, *, answers):
    for batch in answers.to_batches():
        said = pc.struct_field(pc.list_element(batch["responses"], 0), "answer")
        yield pa.record_batch([batch["_index_"], batch["_replication_"], pc.equal(said, "yes")], schema=JUDGED)
    print("peak", peak())

def peak():
    # In KiB, of this process: what getrusage says includes what its parent had.
    with open("/proc/self/status") as file:
        return next(line.split()[1] for line in file if line.startswith("VmHWM"))

def page(arguments, *, scores, rows, dataset, first, second):
    import matplotlib.pyplot as plt
    import numpy as np
    from dyff_dagster import AnalysisContext
    from dyff_dagster.analysis.statistics import rate, rate_by

    ctx = AnalysisContext()
    ctx.title("Does it know its capitals?", "100,000 questions")
    judged = rows.to_table()
    topics = dataset.to_table(columns=["_index_", "topic"])["topic"]
    right = judged["second"].to_numpy()
    ctx.score("right", rate(right, clusters=judged["_index_"].to_numpy()), title="Right answers")
    by_topic = rate_by(right, topics.to_pylist(), simultaneous=True)
    for number, (topic, found) in enumerate(by_topic.items()):
        ctx.score(f"topic_{number}", found, title=topic)
    yield "## Where it fails"
    figure, axes = plt.subplots()
    axes.bar(list(by_topic), [found.value for found in by_topic.values()])
    ctx.figure(figure, "Right answers by topic", headline=True)
    wrong = judged.filter(pc.equal(judged["second"], 0.0)).select(["_index_"])
    shown = wrong.join(dataset.to_table(columns=["_index_", "question", "answer"]), "_index_")
    said = second.to_table(columns=["_index_", "responses"])
    said = said.set_column(
        1, "said", pc.struct_field(pc.list_element(said["responses"].combine_chunks(), 0), "answer")
    )
    ctx.table(shown.join(said, "_index_").sort_by("_index_"), "Every row that is wrong")
    ctx.conclusion("It knows most of them.", holds=True)
"""


class Bench:
    """Entities, inputs and a module on disk, and analyses of them run for real."""

    def __init__(self, root: Path, **inputs: Path) -> None:
        self.root = root
        self.inputs = dict(inputs)
        self.modules = {"comparison": Path(shipped.files_directory(root, "dyff-dagster:comparison"))}
        self.modules["scoring"] = root / "scoring"
        self.modules["scoring"].mkdir(parents=True)
        (self.modules["scoring"] / "benchmarked_scoring.py").write_text(SCORING)

    def put(self, name: str, batches: Iterator[pa.RecordBatch]) -> None:
        """An input: the rows as one Parquet file."""
        self.inputs[name] = self.root / name
        self.inputs[name].mkdir()
        first = next(batches)
        with pq.ParquetWriter(self.inputs[name] / "data.parquet", first.schema, compression="zstd") as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)

    def run(self, entity: Measurement | SafetyCase) -> Commit:
        """Run it into a store of its own."""
        shutil.rmtree(self.root / "store", ignore_errors=True)
        modules = {name: self.modules[name] for name in entity.method.modules}
        upstream = dict.fromkeys([*self.inputs, *modules], "a" * 64)
        return analysis.run(
            entity,
            Store(self.root / "store"),
            inputs=Inputs(spec="5" * 64, upstream=upstream),
            input_paths=self.inputs,
            modules=modules,
        )


def processors() -> float:
    """Seconds of processor time that this process and those that it waited for have used."""
    return sum(os.times()[:4])


def clocked(work: Callable[[], object], on_the_clock: list[float]) -> Contender:
    """Times work by the processor time of all its processes; what the clock says goes into the list."""
    contender = timed(work, processors)

    def both() -> float:
        started = time.perf_counter()
        seconds = contender()
        on_the_clock.append(time.perf_counter() - started)
        return seconds

    return both


def answers(evaluation: str, number: int, right: int) -> Iterator[pa.RecordBatch]:
    """An evaluation's rows; of each hundred, ``right`` are right, and the others are shuffled in."""
    rng = np.random.default_rng(right)
    words = pa.array(["no", "yes"])
    for start in range(0, number, BATCH):
        size = min(BATCH, number - start)
        said = words.take(pa.array((rng.random(size) * 100 < right).astype(np.int8)))
        numbers = pa.array(np.zeros(size, np.int64))
        response = pa.StructArray.from_arrays([numbers, said], ["_response_index_", "answer"])
        yield pa.record_batch(
            {
                "_replication_": pa.array([replication_id(evaluation, 0)] * size),
                "_index_": pa.array(np.arange(start, start + size)),
                "responses": pa.ListArray.from_arrays(
                    pa.array(np.arange(size + 1, dtype=np.int32)), response
                ),
            }
        )


def questions(number: int) -> Iterator[pa.RecordBatch]:
    """A data set's rows, with prompts of some sentences."""
    topics = ["rivers", "capitals", "mountains", "islands", "borders"]
    for start in range(0, number, BATCH):
        indices = range(start, min(number, start + BATCH))
        yield pa.record_batch(
            {
                "_index_": list(indices),
                "question": [
                    f"Is place {i} where the map of the year {i % 500} has it? Say yes or no. " * 3
                    for i in indices
                ],
                "topic": [topics[i % 5] for i in indices],
                "answer": ["yes"] * len(indices),
            }
        )


def function(name: str) -> Measurement:
    """A Measurement of level Instance, by a function of :data:`SCORING`."""
    spec = {"name": "Judged", "level": "Instance", "schema": {"arrowSchema": encode_schema(JUDGED)}}
    return Measurement.model_validate(
        {
            "id": "judged",
            "account": "bench",
            **spec,
            **_analysis(
                _by_function(name),
                {"kind": "Measurement", "measurement": spec},
                {"answers": ("answers", "Evaluation")},
                ["scoring"],
            ),
        }
    )


PAGE_INPUTS = {
    "scores": ("scores", "Measurement"),
    "rows": ("rows", "Measurement"),
    "dataset": ("questions", "Dataset"),
}


def comparison_page() -> SafetyCase:
    """The page that ships with the package."""
    notebook = {"notebookModule": "comparison", "notebookPath": "comparison.ipynb"}
    return _case({"kind": "JupyterNotebook", "jupyterNotebook": notebook}, PAGE_INPUTS, "comparison")


def function_page() -> SafetyCase:
    """A page by a function, from scores to the rows, prompts and answers."""
    systems = {name: (name, "Evaluation") for name in ("first", "second")}
    return _case(_by_function("page"), {**PAGE_INPUTS, **systems}, "scoring")


def _case(implementation: dict[str, Any], inputs: dict[str, tuple[str, str]], module: str) -> SafetyCase:
    made = _analysis(implementation, {"kind": "SafetyCase", "safetyCase": {"name": "Page"}}, inputs, [module])
    if module == "comparison":
        given = {"first": "Old", "second": "New", "fields": "question,answer"}
        made["arguments"] = [{"keyword": name, "value": value} for name, value in given.items()]
        made["method"]["parameters"] = [{"keyword": name} for name in given]
    return SafetyCase.model_validate({"id": "page", "account": "bench", "name": "Page", **made})


def _by_function(name: str) -> dict[str, Any]:
    return {
        "kind": "PythonFunction",
        "pythonFunction": {"fullyQualifiedName": f"benchmarked_scoring.{name}"},
    }


def _analysis(
    implementation: dict[str, Any],
    output: dict[str, Any],
    inputs: dict[str, tuple[str, str]],
    modules: list[str],
) -> dict[str, Any]:
    return {
        "scope": {"evaluation": "answers", "inferenceService": "service", "dataset": "questions"},
        "arguments": [],
        "inputs": [{"keyword": keyword, "entity": entity} for keyword, (entity, _) in inputs.items()],
        "method": {
            "id": "method",
            "account": "bench",
            "name": "Method",
            "scope": "Evaluation",
            "implementation": implementation,
            "parameters": [],
            "inputs": [{"keyword": keyword, "kind": kind} for keyword, (_, kind) in inputs.items()],
            "output": output,
            "modules": modules,
        },
    }


def compared(root: Path, number: int) -> Bench:
    """Two evaluations of so many rows, and what the shipped comparison makes of them."""
    bench = Bench(root)
    bench.put("questions", questions(number))
    bench.put("first", answers("first", number, 80))
    bench.put("second", answers("second", number, 85))
    systems = {name: open_dataset(bench.inputs[name]) for name in ("first", "second")}
    dataset = open_dataset(bench.inputs["questions"])
    given = {"prediction": "answer", "label": "answer"}
    bench.put("scores", compare_systems(given, **systems, dataset=dataset))
    bench.put("rows", compare_rows(given, **systems, dataset=dataset))
    return bench


def papermill(bench: Bench, case: SafetyCase) -> Callable[[], object]:
    """The same notebook, with the same data, by papermill's own command."""
    root = bench.root / "bare"
    root.mkdir()
    for name in ("scores", "rows", "questions"):
        (root / name).symlink_to(bench.inputs[name])
    spec = case.model_dump(mode="json", by_alias=True)
    config = {"spec": {name: spec[name] for name in ("id", "scope", "arguments", "inputs", "method")}}
    (bench.root / "analysis.yaml").write_text(yaml.safe_dump(config))
    environment = {
        **os.environ,
        "DYFF_AUDIT_LOCAL_STORAGE_ROOT": str(root),
        "DYFF_AUDIT_ANALYSIS_CONFIG_FILE": str(bench.root / "analysis.yaml"),
    }
    source = bench.modules["comparison"] / "comparison.ipynb"
    command = [sys.executable, "-m", "papermill", "-k", "python3", str(source), str(root / "executed.ipynb")]

    def work() -> None:
        shutil.rmtree(root / "page", ignore_errors=True)
        (root / "page" / ".dyff").mkdir(parents=True)
        subprocess.run(
            [*command, "--no-progress-bar"], env=environment, cwd=root, check=True, capture_output=True
        )

    return work


def direct(bench: Bench, name: str, written: bool) -> Callable[[], object]:
    """Call the function on the data set, and count what it yields, or write that as it comes."""
    sys.path.insert(0, str(bench.modules["scoring"]))
    made: Callable[..., Iterator[pa.RecordBatch]] = getattr(
        importlib.import_module("benchmarked_scoring"), name
    )

    def work() -> None:
        batches = made({}, answers=open_dataset(bench.inputs["answers"]))
        if not written:
            assert sum(batch.num_rows for batch in batches) == MANY
            return
        with pq.ParquetWriter(bench.root / "written.parquet", JUDGED) as writer:
            for batch in batches:
                writer.write_batch(batch)

    return work


@contextmanager
def judged(number: int) -> Iterator[Bench]:
    """An evaluation of so many rows."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        bench.put("answers", answers("answers", number, 80))
        yield bench


def notebook_claims(repeats: int) -> list[Claim]:
    """A notebook beside bare papermill."""
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        bench = compared(Path(directory), 1_000)
        case = comparison_page()
        seconds = compare(
            {"ours": clocked(lambda: bench.run(case), ours), "bare": clocked(papermill(bench, case), bare)},
            repeats=repeats,
        )
    pairs = zip(seconds.by_name["ours"], seconds.by_name["bare"], strict=True)
    ratios = sorted((one - 1) / other for one, other in pairs)
    used = f"{seconds.median('ours'):.1f} s against {seconds.median('bare'):.1f} s"
    clock = f"{np.median(ours):.1f} s against {np.median(bare):.1f} s by the clock"
    return [
        Claim(
            "a notebook: run, page, commit",
            Ratio(float(np.median(ratios)), ratios[0], ratios[-1]),
            "× the time of papermill's own command, after the first second",
            at_most=1.15,
            note=f"{used}; {clock}",
        )
    ]


def function_claims(repeats: int) -> list[Claim]:
    """Functions beside a call of them."""
    claims = []
    with judged(MANY) as bench:
        for name, what in (("in_python", "in Python, row by row"), ("in_arrow", "in Arrow")):
            entity = function(name)
            contenders = {
                "called": timed(direct(bench, name, written=False), processors),
                "written": timed(direct(bench, name, written=True), processors),
                "ours": timed(lambda entity=entity: bench.run(entity), processors),
            }
            seconds = compare(contenders, repeats=repeats, warm_up=0)
            rate = " against ".join(f"{MANY / seconds.median(one):,.0f}" for one in ("ours", "called"))
            claims += [
                Claim(
                    f"a function {what}, {MANY:,} rows",
                    seconds.speedup("ours", base),
                    unit,
                    at_least=0.8 if (name, base) == ("in_python", "called") else None,
                    note=f"{rate} rows/s" if base == "called" else "",
                )
                for base, unit in (
                    ("called", "× the speed of the call"),
                    ("written", "× that of the call that writes Parquet"),
                )
            ]
    return claims


_PEAK = """
import sys
from pathlib import Path
from benchmarks.analysis import Bench, function
bench = Bench(Path(sys.argv[1]), answers=Path(sys.argv[2]))
commit = bench.run(function("in_arrow"))
assert commit.facts.completeness.answered == commit.facts.rows > 0
sys.path.insert(0, str(bench.modules["scoring"]))
from benchmarked_scoring import peak
print(peak(), (bench.root / "store" / "judged" / ".dyff" / "logs.txt").read_text().split()[1])
"""


def memory_claims() -> list[Claim]:
    """Peak memory of the step and of the method's process."""

    def peaks(number: int) -> list[int]:
        with judged(number) as bench:
            command = [sys.executable, "-c", _PEAK, str(bench.root / "again"), str(bench.inputs["answers"])]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return [int(one) // 1024 for one in said]

    small, large = peaks(MANY // 10), peaks(MANY)
    return [
        Claim(
            f"peak memory of {whose}, {MANY:,} rows against {MANY // 10:,}",
            Ratio(after / before, after / before, after / before),
            "×",
            at_most=1.5,
            note=f"{after} MiB against {before} MiB",
        )
        for whose, before, after in zip(("the step", "the method's process"), small, large, strict=True)
    ]


def page_claims(repeats: int) -> list[Claim]:
    """The page of a large evaluation."""
    claims = []
    with tempfile.TemporaryDirectory() as directory:
        bench = compared(Path(directory), EVALUATED)
        for case, what in ((comparison_page(), "of the comparison"), (function_page(), "by a function")):
            clock: list[float] = []
            contender = clocked(lambda case=case: bench.run(case), clock)
            seconds = sorted(contender() for _ in range(repeats))
            size = (bench.root / "store" / "page" / "index.html").stat().st_size / 1e6
            claims += [
                Claim(
                    f"the page {what}, {EVALUATED:,} rows",
                    Ratio(float(np.median(seconds)), seconds[0], seconds[-1]),
                    "seconds",
                    at_most=5.0,
                    note=f"{np.median(clock):.1f} s by the clock",
                ),
                Claim(f"the page {what}: its file", Ratio(size, size, size), "MB", at_most=5.0),
            ]
    return claims


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    claims = notebook_claims(options.repeats)
    claims += page_claims(max(1, options.repeats // 2))
    claims += function_claims(max(1, options.repeats // 3))
    claims += memory_claims()
    report("analysis", claims, write=options.write)


if __name__ == "__main__":
    main()
