"""How long a catalog of 10,000 YAML manifests takes to load and check, beside what PyYAML alone takes.

Both read the same files from the disk. The catalog is a plausible one: data sets with short-form schemas,
services with pipelines, and for each evaluation a file with it, two measurements and a safety case.
"""

from __future__ import annotations

import gc
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from benchmarks.pairing import Claim, Ratio, arguments, compare, report, timed
from dyff_dagster.catalog import Catalog

ENTITIES = 10_000

_FIELDS = ("question", "context", "choices", "subject", "language", "difficulty", "answer")


def _data(number: int) -> str:
    fields = "".join(f"    {name}: string!\n" for name in _FIELDS)
    return f"""\
# Benchmark {number}, as its authors published it.
kind: DataSource
id: source-{number:03}
account: evaluation-team
name: Benchmark {number} (JSON Lines)
sourceKind: huggingface
source: benchmarks/benchmark-{number}
---
kind: Dataset
id: data-{number:03}
account: evaluation-team
name: Benchmark {number}, held-out part
labels:
  domain: general
  release: r{number % 7}
annotations:
  dyff-dagster/from: source-{number:03}
  # The service must never see the answer.
  dyff-dagster/withhold: answer, difficulty
schema:
  arrow:
{fields}"""


def _service(number: int) -> str:
    return f"""\
kind: Model
id: model-{number:03}
account: evaluation-team
name: Model {number}, 8 billion parameters
source:
  kind: HuggingFaceHub
  huggingFaceHub:
    repoID: models/model-{number}
    revision: 0e9e39f249a16976918f6564b8830bc894c89659
artifact:
  kind: HuggingFaceCache
  huggingFaceCache:
    repoID: models/model-{number}
    revision: 0e9e39f249a16976918f6564b8830bc894c89659
storage:
  medium: ObjectStorage
resources:
  storage: 32Gi
  memory: 48Gi
accelerators:
  - kind: GPU
    gpu:
      hardwareTypes: [nvidia.com/gpu-h100, nvidia.com/gpu-a100]
      count: 1
---
kind: InferenceService
id: service-{number:03}
account: evaluation-team
name: Model {number} behind vLLM
model: model-{number:03}
runner:
  kind: vllm
  args: [--served-model-name, model-{number}, --max-model-len, "8192"]
  resources:
    storage: 32Gi
    memory: 64Gi
interface:
  endpoint: v1/chat/completions
  outputSchema:
    arrow:
      text: string!
  inputPipeline:
    - kind: TransformJSON
      configuration:
        model: model-{number}
        temperature: 0.0
        max_tokens: 512
        messages:
          - role: system
            content: Answer with one letter.
          - role: user
            content: $.question
  outputPipeline:
    - kind: TransformJSON
      configuration:
        text: $.choices[0].message.content
"""


def _methods(number: int) -> str:
    return f"""\
kind: Module
id: scoring-{number:02}
account: evaluation-team
name: Scoring, version {number}
artifacts:
  - path: scoring.py
  - path: case.ipynb
---
kind: Method
id: judge-{number:02}
account: evaluation-team
name: Judge each answer
scope: Evaluation
implementation:
  kind: PythonFunction
  pythonFunction:
    fullyQualifiedName: scoring.judge
modules: [scoring-{number:02}]
inputs:
  - keyword: dataset
    kind: Dataset
    description: Questions with their answers
  - keyword: evaluation
    kind: Evaluation
    description: What the service said
output:
  kind: Measurement
  measurement:
    name: Judged answers
    description: One row for each answer.
    level: Instance
    schema:
      arrow:
        _index_: int64!
        _replication_: string!
        correct: bool!
---
kind: Method
id: summarize-{number:02}
account: evaluation-team
name: Accuracy
scope: Evaluation
implementation:
  kind: PythonFunction
  pythonFunction:
    fullyQualifiedName: scoring.summarize
modules: [scoring-{number:02}]
parameters:
  - keyword: confidence
inputs:
  - keyword: instances
    kind: Measurement
output:
  kind: Measurement
  measurement:
    name: Accuracy
    level: Dataset
    schema:
      arrow:
        score: string!
        value: float64!
        low: float64
        high: float64
        n: int64!
---
kind: Method
id: argue-{number:02}
account: evaluation-team
name: Is it right often enough?
scope: Evaluation
implementation:
  kind: JupyterNotebook
  jupyterNotebook:
    notebookModule: scoring-{number:02}
    notebookPath: case.ipynb
modules: [scoring-{number:02}]
parameters:
  - keyword: threshold
inputs:
  - keyword: accuracy
    kind: Measurement
output:
  kind: SafetyCase
  safetyCase:
    name: Is it right often enough?
"""


def _evaluation(number: int, service: int, data: int, method: int) -> str:
    name = f"s{service:03}-d{data:03}-{number:04}"
    scope = f"""\
scope:                           # what the result is about
  evaluation: eval-{name}
  inferenceService: service-{service:03}
  dataset: data-{data:03}
  model: model-{service:03}
"""
    return f"""\
kind: Evaluation
id: eval-{name}
account: evaluation-team
labels:
  campaign: spring
dataset: data-{data:03}
replications: 3
workersPerReplica: 16
inferenceSession:
  inferenceService: service-{service:03}
  replicas: 2
  useSpotPods: true
annotations:
  dyff-dagster/max-failed-rows: "0.01"
---
kind: Measurement
id: judged-{name}
account: evaluation-team
method: judge-{method:02}
{scope}inputs:
  - keyword: dataset
    entity: data-{data:03}
  - keyword: evaluation
    entity: eval-{name}
---
kind: Measurement
id: accuracy-{name}
account: evaluation-team
method: summarize-{method:02}
annotations:
  dyff-dagster/checks: accuracy >= 0.9; lower(accuracy) >= 0.85
{scope}arguments:
  - keyword: confidence
    value: "0.95"
inputs:
  - keyword: instances
    entity: judged-{name}
---
kind: SafetyCase
id: case-{name}
account: evaluation-team
name: Is model {service} right often enough on benchmark {data}?
method: argue-{method:02}
{scope}arguments:
  - keyword: threshold
    value: "0.9"
inputs:
  - keyword: accuracy
    entity: accuracy-{name}
"""


def manifests(entities: int) -> Iterator[tuple[str, str]]:
    """Yield names and texts of the files of a catalog with about ``entities`` entities."""
    services = sources = max(1, entities // 100)
    methods = max(1, entities // 1000)
    for number in range(sources):
        yield f"data/benchmark-{number:03}.yaml", _data(number)
    for number in range(services):
        yield f"models/model-{number:03}.yaml", _service(number)
    for number in range(methods):
        yield f"methods/version-{number:02}.yaml", _methods(number)
    rest = max(1, (entities - 2 * sources - 2 * services - 4 * methods) // 4)
    for number in range(rest):
        service = number % services
        data = (number // services + service) % sources
        text = _evaluation(number, service, data, number % methods)
        yield f"evaluations/model-{service:03}/{number:04}.yaml", text


def write(folder: Path, entities: int) -> list[Path]:
    """Write such a catalog into ``folder`` and return its manifest files."""
    written = []
    for name, text in manifests(entities):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    for name in ("scoring.py", "case.ipynb"):
        (folder / "methods" / name).touch()
    return written


def load_yaml(files: list[Path]) -> int:
    """Read the files with PyYAML's C loader alone; return the number of documents."""
    return sum(sum(1 for _ in yaml.load_all(path.read_bytes(), yaml.CSafeLoader)) for path in files)


def load_catalog(folder: Path) -> int:
    """Load and check the catalog; return the number of its entities."""
    return len(Catalog.load(folder))


def peak(work: Callable[[], int]) -> int:
    """The most memory, in bytes, that Python holds during ``work``."""
    gc.collect()
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def main() -> None:
    """Time both by turns, and see how the memory grows."""
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder, smaller = Path(name, "whole"), Path(name, "quarter")
        files = write(folder, ENTITIES)
        write(smaller, ENTITIES // 4)
        size = sum(path.stat().st_size for path in files)
        count = load_catalog(folder)
        # The clock of the processor: nothing here waits, and others may be at work on the machine.
        seconds = compare(
            {
                "ours": timed(lambda: load_catalog(folder), time.process_time),
                "PyYAML": timed(lambda: load_yaml(files), time.process_time),
            },
            repeats=options.repeats,
        )
        memory = peak(lambda: load_catalog(folder)) / count
        growth = memory / (peak(lambda: load_catalog(smaller)) / load_catalog(smaller))
    report(
        "catalog",
        [
            Claim(
                f"load and check {count:,} manifests in {len(files):,} files ({size / 1e6:.1f} MB)",
                seconds.ratio("ours", "PyYAML"),
                "× the time of PyYAML's C loader alone",
                at_most=2.5,
                note=f"{seconds.median('ours'):.1f} s against {seconds.median('PyYAML'):.1f} s",
            ),
            Claim(
                f"peak memory for each manifest, {count:,} of them against {count // 4:,}",
                Ratio(growth, growth, growth),
                "×",
                at_most=1.1,
                note=f"{memory / 1e3:.1f} kB each",
            ),
        ],
        write=options.write,
    )


if __name__ == "__main__":
    main()
