"""A small audit on disk: ten rows, a service that doubles, two measurements and no notebook."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SERVICE = """
import http.server, json, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.reply(200, b"{}")
    def do_POST(self):
        row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open("requests.log", "a") as log:
            log.write(json.dumps(row) + "\\n")
        if os.path.exists("die"):
            print("prompt-that-must-stay-here", file=sys.stderr, flush=True)
            os._exit(7)
        if os.path.exists("garbage"):
            return self.reply(200, b"<html>")
        self.reply(200, json.dumps({"y": FACTOR * row["x"]}).encode())
    def log_message(self, *args):
        pass

FACTOR = 2
http.server.ThreadingHTTPServer((os.environ["DYFF_HOST"], int(os.environ["DYFF_PORT"])), Handler).serve_forever()
"""

FUNCTIONS = """
import pyarrow as pa

def judge(arguments, rows, answers):
    labels = {row["_index_"]: row["label"] for row in rows.to_table().to_pylist()}
    out = []
    for row in answers.to_table().to_pylist():
        y = row["responses"][0]["y"]
        key = {"_index_": row["_index_"], "_replication_": row["_replication_"]}
        out.append({**key, "correct": y == labels[row["_index_"]]})
    yield from pa.Table.from_pylist(
        out,
        schema=pa.schema([
            pa.field("_index_", pa.int64(), nullable=False),
            pa.field("_replication_", pa.string(), nullable=False),
            pa.field("correct", pa.bool_(), nullable=False),
        ]),
    ).to_batches()

def score(arguments, judged):
    from dyff_dagster.analysis.statistics import proportion
    values = judged.to_table().column("correct").to_pylist()
    e = proportion(sum(values), len(values))
    yield from pa.Table.from_pylist(
        [{"score": "accuracy", "value": e.value, "low": e.low, "high": e.high, "n": e.n}],
        schema=pa.schema([
            pa.field("score", pa.string(), nullable=False), pa.field("value", pa.float64(), nullable=False),
            ("low", pa.float64()), ("high", pa.float64()), pa.field("n", pa.int64(), nullable=False),
        ]),
    ).to_batches()
"""

MANIFESTS = """
kind: Dataset
id: rows
account: acme
name: Ten rows
annotations: {dyff-dagster/withhold: label, dyff-dagster/files: data}
artifacts: [{path: data.parquet}]
schema: {arrow: {x: int64!, label: int64!}}
---
kind: InferenceService
id: doubler
account: acme
name: Doubles
runner: {kind: standalone, args: [python, serve.py], resources: {storage: 1Mi}}
interface: {endpoint: answer, outputSchema: {arrow: {y: int64!}}}
---
kind: Evaluation
id: doubled
account: acme
dataset: rows
replications: 2
workersPerReplica: 2
inferenceSession: {inferenceService: doubler}
---
kind: Module
id: functions
account: acme
name: Functions
annotations: {dyff-dagster/files: code}
artifacts: [{path: small_functions.py}]
---
kind: Method
id: judge
account: acme
name: Judge
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: small_functions.judge}}
modules: [functions]
inputs: [{keyword: rows, kind: Dataset}, {keyword: answers, kind: Evaluation}]
output:
  kind: Measurement
  measurement:
    name: Judged
    level: Instance
    schema: {arrow: {_index_: int64!, _replication_: string!, correct: bool!}}
---
kind: Measurement
id: judged
account: acme
method: judge
scope: {evaluation: doubled, inferenceService: doubler, dataset: rows}
inputs: [{keyword: rows, entity: rows}, {keyword: answers, entity: doubled}]
---
kind: Method
id: score
account: acme
name: Score
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: small_functions.score}}
modules: [functions]
inputs: [{keyword: judged, kind: Measurement}]
output:
  kind: Measurement
  measurement:
    name: Scores
    level: Dataset
    schema: {arrow: {score: string!, value: float64!, low: float64, high: float64, n: int64!}}
---
kind: Measurement
id: scores
account: acme
method: score
annotations: {dyff-dagster/checks: "accuracy >= 0.9; lower(accuracy) >= 0.999; accuracy <= 1"}
scope: {evaluation: doubled, inferenceService: doubler, dataset: rows}
inputs: [{keyword: judged, entity: judged}]
"""


def write(directory: Path, rows: int = 10) -> Path:
    """Write the catalog and what it needs; returns its directory."""
    (directory / "data").mkdir(parents=True)
    (directory / "code").mkdir()
    (directory / "audit.yaml").write_text(MANIFESTS)
    (directory / "serve.py").write_text(SERVICE)
    (directory / "code" / "small_functions.py").write_text(FUNCTIONS)
    write_rows(directory, rows)
    return directory


def write_rows(directory: Path, rows: int) -> None:
    """The data set: label is twice x."""
    schema = pa.schema([pa.field(name, pa.int64(), nullable=False) for name in ("_index_", "x", "label")])
    table = pa.Table.from_pylist([{"_index_": i, "x": i, "label": 2 * i} for i in range(rows)], schema=schema)
    pq.write_table(table, directory / "data" / "data.parquet")
