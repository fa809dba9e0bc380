"""A small world for evaluations: a data set, a store, and services given by their addresses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster import evaluation
from dyff_dagster.evaluation import EvaluationOptions
from dyff_dagster.schema.platform import DataSchema, Evaluation
from dyff_dagster.sessions import Session
from dyff_dagster.sessions.session import Places
from dyff_dagster.store import Commit, Inputs, Store, local_path

OUTPUT = DataSchema.make_output_schema(pa.schema([pa.field("y", pa.int64(), nullable=False)]))
SCHEMA = pa.schema([pa.field("_index_", pa.int64(), nullable=False), ("x", pa.int64())])
QUICK = EvaluationOptions(
    attempts=6, connect_timeout=5, attempt_timeout=5, idle_timeout=5, tail_timeout=5, patience=60
)
"""Nothing waits long. A test that is about a timeout makes that one shorter still."""


def make_evaluation(
    urls: Sequence[str], replications: int = 1, *, id: str = "eval-1", workers: int = 4, **interface: Any
) -> Evaluation:
    """An Evaluation of a hosted service; ``workers`` for each of its addresses."""
    return Evaluation(
        id=id,
        account="acme",
        dataset="rows",
        replications=replications,
        workersPerReplica=workers,
        inferenceSession={
            "replicas": len(urls),
            "inferenceService": {
                "id": "svc",
                "account": "acme",
                "name": "doubler",
                "interface": {"endpoint": urls[0], "outputSchema": OUTPUT, **interface},
            },
        },
    )


class World:
    """A data set and a store.

    Attributes:
        urls: Of the service's replicas.
        headers: Sent with every request.
        version: Of the data set; None: of no known version, as where it was not committed.
        moving: Of a session whose replicas come and go, else None.
    """

    def __init__(self, directory: Path, urls: Sequence[str], rows: int | None = 40) -> None:
        self.urls = list(urls)
        self.store = Store(directory / "store")
        self.dataset = directory / "rows"
        self.sessions = directory / "sessions"
        self.headers: dict[str, str] = {}
        self.version: str | None = None
        self.moving: Callable[[int], Places] | None = None
        if rows is not None:  # None: they are there
            self.write_rows({index: index for index in range(rows)})

    def write_rows(self, values: dict[int, int], files: int = 1) -> None:
        """Rows of the data set, ``{_index_: x}``, in this order, in so many files."""
        self.dataset.mkdir(parents=True, exist_ok=True)
        for old in self.dataset.glob("*.parquet"):
            old.unlink()
        rows = [{"_index_": index, "x": x} for index, x in values.items()]
        for number in range(files):
            some = rows[number * len(rows) // files : (number + 1) * len(rows) // files]
            pq.write_table(pa.Table.from_pylist(some, schema=SCHEMA), self.dataset / f"{number:03d}.parquet")

    def evaluation(self, replications: int = 1, **how: Any) -> Evaluation:
        """An Evaluation of this world's service."""
        return make_evaluation(self.urls, replications, **how)

    def run(
        self,
        entity: Evaluation | None = None,
        options: EvaluationOptions = QUICK,
        *,
        service: str = "service-1",
        **arguments: Any,
    ) -> Commit:
        """Run it, under its lock."""
        entity = entity or self.evaluation()

        @contextmanager
        def session() -> Iterator[Session]:
            yield Session(entity.id, self.urls, self.sessions, self.headers, moving=self.moving)

        upstream = {} if self.version is None else {"rows": self.version}
        with self.store.lock(entity.id):
            return evaluation.run(
                entity,
                self.store,
                inputs=Inputs(spec="s", upstream=upstream),
                dataset=self.dataset,
                service_digest=service,
                session=session,
                options=options,
                **arguments,
            )

    def answers(self, commit: Commit) -> list[dict[str, Any]]:
        """The committed rows."""
        rows: list[dict[str, Any]] = pq.read_table(local_path(commit.path) / "answers.parquet").to_pylist()
        return rows

    def errors(self, id: str = "eval-1") -> list[dict[str, Any]]:
        """The rows of ``errors.parquet``."""
        path = local_path(self.store.working(id)) / "errors.parquet"
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows

    def summary(self, id: str = "eval-1") -> dict[str, Any]:
        """``summary.json``."""
        said: dict[str, Any] = json.loads(self.store.get_working(id, "summary.json"))
        return said

    def parts(self, id: str = "eval-1") -> list[Path]:
        """The durable parts."""
        return sorted(local_path(self.store.working(id)).glob("parts/*/*.parquet"))
