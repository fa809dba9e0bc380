"""What another harness has asked and was answered, as a Dataset and an Evaluation marked ``imported``.

Its samples become rows, its epochs replications. A sample that errored there is a missing answer, and never a wrong
one; so is one that the log names and does not hold.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.arrow import decode_schema, open_dataset
from dyff_dagster.schema.arrow_text import format_schema
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.schema.ids import check_id
from dyff_dagster.schema.platform import DataSchema
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.import_data import ImportRefused
from dyff_dagster.sources.inspect_logs import read_inspect_log
from dyff_dagster.sources.lm_eval_samples import read_lm_eval
from dyff_dagster.sources.readers import INDEX
from dyff_dagster.sources.samples import SampleFile, Taken
from dyff_dagster.store import Progress, no_progress


def _read_json(path: Path) -> SampleFile:
    """A log of Inspect. lm-eval writes such files too, with its scores and without answers."""
    try:
        return read_inspect_log(path)
    except SourceError as error:
        if not path.name.startswith("results_"):
            raise
        raise SourceError(
            f"{path} is no log of Inspect, and lm-eval's results hold no answers: import the samples_*.jsonl beside "
            "it, which --log_samples writes",
            error.reason,
        ) from None


_READERS = {".eval": read_inspect_log, ".json": _read_json, ".jsonl": read_lm_eval}
_CHUNK_ROWS = 256
_CHUNK_CHARACTERS = 8 * 1024 * 1024
"""Rows are written at the first of these: a transcript of an agent may have megabytes."""


@dataclass(frozen=True)
class ImportedEvaluation:
    """What an import wrote.

    Attributes:
        manifests: Of the Dataset, the InferenceService and the Evaluation.
        rows: Of the Dataset.
        replications: How often each was asked.
        answered: Answers that are there.
        errors: Of the others, how many by class; ``not-in-log`` those of which the log says nothing.
    """

    manifests: tuple[Path, Path, Path]
    rows: int
    replications: int
    answered: int
    errors: dict[str, int]

    @property
    def missing(self) -> int:
        """Answers that are not there."""
        return self.rows * self.replications - self.answered


def import_eval(
    path: str | Path,
    *,
    account: str,
    out: Path,
    id: str | None = None,
    dataset: str | None = None,
    service: str | None = None,
    max_failed_rows: int | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> ImportedEvaluation:
    """Write the manifests and files of an evaluation that was run elsewhere.

    Args:
        path: A log of Inspect (``*.eval``, ``*.json``), or lm-eval's samples (``*.jsonl``).
        account: Who they belong to.
        out: The catalog: ``OUT/DATASET/``, ``OUT/SERVICE/`` and ``OUT/ID/`` are made there.
        id: The Evaluation's id; default the file's name.
        dataset: The Dataset's id, default ``ID-rows``; where it is there already it must have the same rows, so that
            several imports share it.
        service: The InferenceService's id, default made from the model's name.
        max_failed_rows: How many answers may be missing; none says so, and the evaluation fails where one is.
        overwrite: Replace an earlier import of the same id.
        progress: Told how many samples were read.

    Raises:
        ImportRefused: The file cannot be read, is of another kind, or something else is there already.
        IdError: An id is none.
    """
    path, out = Path(path), Path(out)
    evaluation_id = check_id(_id_of(path.stem) if id is None else id)
    dataset_id = check_id(f"{evaluation_id}-rows"[:128] if dataset is None else dataset)
    if not account.strip() or not account.isprintable():
        raise ImportRefused("the account is empty or has control characters; name who owns the evaluation")
    if (reader := _READERS.get(path.suffix.lower())) is None:
        raise ImportRefused(
            f"{path} is none that can be imported: logs of Inspect end in .eval or .json, samples of lm-eval in .jsonl"
        )
    if not path.is_file():
        raise ImportRefused(f"there is no file {path}; name a log")
    target = out / evaluation_id
    if target.exists() and not overwrite:
        raise ImportRefused(f"{target} is there already; import under another id, or say --overwrite")
    out.mkdir(parents=True, exist_ok=True)
    # On the same disk as its final place, so that a rename moves it there whole; hidden from catalogs.
    scratch = Path(tempfile.mkdtemp(prefix=f".{evaluation_id[:80]}.import-", dir=out))
    try:
        found = reader(path)
        service_id = check_id(
            service or _id_of(found.model if found.model != "lm-eval" else f"{evaluation_id}-service")
        )
        if len({evaluation_id, dataset_id, service_id}) < 3:
            raise ImportRefused("the Evaluation, its Dataset and its InferenceService need three ids")
        taken = _Import(found, scratch).run(progress)
        manifests = _manifests(found, account, evaluation_id, dataset_id, service_id, max_failed_rows)
        _publish_dataset(scratch, out / dataset_id, manifests[0])
        _publish_service(out / service_id, manifests[1])
        (scratch / "evaluation").mkdir()
        (scratch / "answers.parquet").rename(scratch / "evaluation" / "answers.parquet")
        (scratch / "evaluation" / "evaluation.yaml").write_text(manifests[2], "utf-8")
        target.mkdir(exist_ok=True)
        for name in ("answers.parquet", "evaluation.yaml"):
            (scratch / "evaluation" / name).replace(target / name)
    except SourceError as error:
        raise ImportRefused(str(error)) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ImportedEvaluation(
        (out / dataset_id / "dataset.yaml", out / service_id / "service.yaml", target / "evaluation.yaml"),
        rows=taken.rows,
        replications=found.replications,
        answered=taken.answered,
        errors=dict(sorted(taken.errors.items())),
    )


def _id_of(text: str) -> str:
    made = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100]
    if not made:
        raise ImportRefused("no id can be made from the file's name; say --id ID")
    return made


@dataclass
class _Sorted:
    """Rows in a file, and whether they came in the order of their index."""

    path: Path
    schema: pa.Schema
    ascending: bool = True
    _last: int = -1
    _size: int = 0
    _waiting: list[dict[str, Any]] = field(default_factory=list)
    _writer: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any]) -> None:
        self.ascending &= row[INDEX] > self._last
        self._last = max(self._last, row[INDEX])
        self._waiting.append(row)
        self._size += _characters(row)
        if len(self._waiting) >= _CHUNK_ROWS or self._size >= _CHUNK_CHARACTERS:
            self._write()

    def _write(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, self.schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self.schema))
        self._waiting, self._size = [], 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of them, in order; those that came out of order are put right in memory."""
        self._write()
        assert self._writer is not None  # noqa: S101 - for mypy
        self._writer.close()
        with pq.ParquetFile(self.path) as file:
            if self.ascending:
                yield from file.iter_batches(batch_size=_CHUNK_ROWS)
            else:
                yield from file.read().sort_by(INDEX).to_batches(max_chunksize=_CHUNK_ROWS)
        self.path.unlink()


class _Import:
    """One file on its way into ``data.parquet`` and ``answers.parquet``."""

    def __init__(self, found: SampleFile, scratch: Path) -> None:
        self._found = found
        self._scratch = scratch
        self._places = {name: place for place, name in enumerate(found.named)}
        self._asked: set[str] = set()
        self._seen: set[tuple[int, int]] = set()
        self.answered = 0
        self.errors: Counter[str] = Counter()
        self._question = pa.schema([pa.field(INDEX, pa.int64(), nullable=False), *found.question])
        responses = decode_schema(DataSchema.make_output_schema(found.response).arrowSchema).field(
            "responses"
        )
        self._answer = pa.schema(
            [
                pa.field("_replication_", pa.int32(), nullable=False),
                pa.field(INDEX, pa.int64(), nullable=False),
                pa.field("responses", responses.type),
                pa.field("_class_", pa.string()),
            ]
        )

    @property
    def rows(self) -> int:
        return len(self._places)

    def run(self, progress: Progress) -> _Import:
        questions = _Sorted(self._scratch / "questions", self._question)
        answers = [
            _Sorted(self._scratch / f"answers-{number}", self._answer)
            for number in range(self._found.replications)
        ]
        for taken in self._found.samples():
            self._take(taken, questions, answers)
            progress("samples", len(self._seen), len(self._places) * self._found.replications)
        if not self._places:
            raise ImportRefused(f"{self._found.label} has no samples; there would be nothing to evaluate")
        for name, place in self._places.items():
            if name not in self._asked:
                questions.add({INDEX: place, **self._found.unasked(name)})
        if lost := self.rows * self._found.replications - len(self._seen):
            self.errors["not-in-log"] += lost
        _write(questions.batches(), self._question, self._scratch / "data.parquet")
        _write(
            (batch for one in answers for batch in one.batches()),
            self._answer,
            self._scratch / "answers.parquet",
        )
        return self

    def _take(self, taken: Taken, questions: _Sorted, answers: list[_Sorted]) -> None:
        place = self._places.setdefault(taken.name, len(self._places))
        if not 0 <= taken.replication < self._found.replications:
            raise ImportRefused(
                f"{self._found.label}: a sample has epoch {taken.replication + 1}, and the log says there are "
                f"{self._found.replications}: it was put together from several; import each by itself"
            )
        if (place, taken.replication) in self._seen:
            raise ImportRefused(
                f"{self._found.label}: row {place} is there twice in epoch {taken.replication + 1}: import a log in "
                "which each sample is once"
            )
        self._seen.add((place, taken.replication))
        if taken.name not in self._asked:
            self._asked.add(taken.name)
            questions.add({INDEX: place, **_clean(taken.question)})
        responses = None
        if taken.error is None:
            self.answered += 1
            given = [_clean(response) for response in taken.responses or ()]
            responses = [{"_response_index_": at, **response} for at, response in enumerate(given)]
        else:
            self.errors[taken.error] += 1
        answers[taken.replication].add(
            {
                "_replication_": taken.replication, INDEX: place, "responses": responses, "_class_": taken.error,
            }
        )  # fmt: skip


def _write(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _clean(value: Any) -> Any:
    """Text that UTF-8 can hold: JSON may have halves of characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _clean(item) for name, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(_characters, value)) if isinstance(value, list) else 8


def _manifests(
    found: SampleFile, account: str, evaluation: str, dataset: str, service: str, max_failed_rows: int | None
) -> tuple[str, str, str]:
    marks = {f"{PREFIX}imported": "answers.parquet", "imported-from": found.made}
    if max_failed_rows is not None:
        marks[f"{PREFIX}max-failed-rows"] = str(max_failed_rows)
    rows = {
        "kind": "Dataset",
        "id": dataset,
        "account": account,
        "name": f"What was asked in {found.label}",
        "annotations": {f"{PREFIX}withhold": ", ".join(found.withhold)},
        "artifacts": [{"path": "data.parquet"}],
        "schema": {"arrow": format_schema(found.question)},
    }
    asked = {
        "kind": "InferenceService",
        "id": service,
        "account": account,
        "name": found.model,
        "interface": {"endpoint": "imported", "outputSchema": {"arrow": format_schema(found.response)}},
    }
    answered = {
        "kind": "Evaluation",
        "id": evaluation,
        "account": account,
        "annotations": marks,
        "dataset": dataset,
        "replications": found.replications,
        "inferenceSession": {"inferenceService": service},
    }
    texts = [
        yaml.safe_dump(one, sort_keys=False, allow_unicode=True, width=100) for one in (rows, asked, answered)
    ]
    return texts[0], texts[1], texts[2]


def _publish_dataset(scratch: Path, target: Path, manifest: str) -> None:
    """Where it is there already its rows must be these: answers belong to rows by their index."""
    if (target / "dataset.yaml").exists():
        if digest_dataset(open_dataset(target)) == digest_dataset(open_dataset(scratch / "data.parquet")):
            return
        raise ImportRefused(
            f"the rows in {target} are not those that this log asks: import it under another id, or name another "
            "data set with --dataset"
        )
    target.mkdir(exist_ok=True)
    (scratch / "data.parquet").replace(target / "data.parquet")
    (scratch / "manifest").write_text(manifest, "utf-8")
    (scratch / "manifest").replace(target / "dataset.yaml")


def _publish_service(target: Path, manifest: str) -> None:
    path = target / "service.yaml"
    if path.exists():
        if yaml.safe_load(path.read_text("utf-8")) == yaml.safe_load(manifest):
            return
        raise ImportRefused(f"{path} says something else of that service: name another with --service")
    target.mkdir(exist_ok=True)
    path.write_text(manifest, "utf-8")
