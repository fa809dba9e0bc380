"""Parts, ledger and plan against a dictionary: what is asked, and what comes out, is what the model says."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dyff_dagster.evaluation import completeness, ledger, parts, plan, rows
from dyff_dagster.evaluation.errors import EvaluationError
from dyff_dagster.evaluation.ledger import Ledger
from dyff_dagster.evaluation.open_part import OpenPart
from dyff_dagster.evaluation.part import Answer
from dyff_dagster.evaluation.parts import Parts
from dyff_dagster.evaluation.plan import Plan
from dyff_dagster.evaluation.requests import RequestBuilder
from dyff_dagster.evaluation.rows import OrderedRows
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.store import Store, local_path

RESPONSES = pa.list_(
    pa.struct(
        [pa.field("_response_index_", pa.int64(), nullable=False), pa.field("y", pa.int64(), nullable=False)]
    )
)
SERVICE = "a" * 64
INDICES = st.one_of(
    st.integers(-8, 40), st.sampled_from([-(2**63), -(2**62) - 1, 2**62, 2**62 + 1, 2**63 - 1])
)


@dataclass(frozen=True)
class Kept:
    """An answer that lies in a part.

    Attributes:
        generation: Of the part.
        value: What was answered; no two answers are the same.
        part: Its file.
    """

    generation: int
    value: int
    part: str


Key = tuple[int, int, int]
"""(replication, ``_index_``, x): two rows of the same x ask the same."""


class Evaluations(RuleBasedStateMachine):
    """One evaluation whose data set, replications and luck change from run to run."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="parts-"))
        self.store = Store(self.directory / "store")
        self.rows: dict[int, int] = {}
        self.files = 1
        self.replications = 1
        self.kept: dict[Key, list[Kept]] = {}
        self.answered = 0
        self.begun = False
        self.since = 0
        """The generation of the last run that asked for all again: no earlier answer counts any more."""

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @initialize(rows=st.dictionaries(INDICES, st.integers(0, 5), min_size=1, max_size=40))
    def begin(self, rows: dict[int, int]) -> None:
        self.rows = rows

    # The author

    @rule(index=INDICES, x=st.integers(0, 5))
    def add_or_edit(self, index: int, x: int) -> None:
        self.rows[index] = x

    @precondition(lambda self: len(self.rows) > 1)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        del self.rows[data.draw(st.sampled_from(sorted(self.rows)))]

    @rule(seed=st.integers(0, 1000), files=st.integers(1, 3))
    def reorder(self, seed: int, files: int) -> None:
        items = sorted(self.rows.items())
        random.Random(seed).shuffle(items)
        self.rows, self.files = dict(items), files

    @rule()
    def put_in_order(self) -> None:
        self.rows = dict(sorted(self.rows.items()))

    @rule(replications=st.integers(1, 3))
    def replicate(self, replications: int) -> None:
        self.replications = replications

    # The disk

    @precondition(lambda self: self.part_files())
    @rule(data=st.data(), left=st.sampled_from([0, 3, 40, 0.5, 0.99]))
    def damage_a_part(self, data: st.DataObject, left: float) -> None:
        path = data.draw(st.sampled_from(self.part_files()))
        content = path.read_bytes()
        path.write_bytes(content[: int(left if left >= 1 or not left else left * len(content))])
        self.forget({path.name})

    @precondition(lambda self: self.ledger_files())
    @rule(data=st.data(), cut=st.booleans())
    def lose_a_piece_of_the_ledger(self, data: st.DataObject, cut: bool) -> None:
        path = data.draw(st.sampled_from(self.ledger_files()))
        if cut:
            path.write_bytes(path.read_bytes()[:-5])
        else:
            path.unlink()

    # Runs

    @rule(part_rows=st.integers(1, 9), fresh=st.booleans())
    def run(self, part_rows: int, fresh: bool) -> None:
        self.go(part_rows, fresh=fresh)

    @rule(part_rows=st.integers(1, 9), failing=st.sets(st.integers(0, 5), min_size=1), fresh=st.booleans())
    def run_with_failures(self, part_rows: int, failing: set[int], fresh: bool) -> None:
        self.go(part_rows, failing=frozenset(failing), fresh=fresh)

    @rule(part_rows=st.integers(1, 9), asked=st.integers(0, 60), fresh=st.booleans())
    def run_and_be_killed(self, part_rows: int, asked: int, fresh: bool) -> None:
        self.go(part_rows, killed_after=asked, fresh=fresh)

    def go(
        self,
        part_rows: int,
        *,
        failing: frozenset[int] = frozenset(),
        killed_after: int | None = None,
        fresh: bool = False,
    ) -> None:
        dataset = self.write_rows()
        ordered = OrderedRows(open_dataset(dataset), ["x"], self.directory / "sorting")
        try:
            self.go_through(ordered, part_rows, failing, killed_after, fresh)
        finally:
            ordered.close()

    def go_through(
        self,
        ordered: OrderedRows,
        part_rows: int,
        failing: frozenset[int],
        killed_after: int | None,
        fresh: bool,
    ) -> None:
        answers = Parts(self.store, "eval-1", SERVICE, RESPONSES)
        if fresh:
            answers.begin_again()
            if not self.begun:  # else it goes on with the one that was broken off
                self.begun, self.since = True, answers.generation
            assert answers.generation == self.since
        known = Ledger(self.store, "eval-1", self.context())
        if known.rows and not known.agrees_with(ordered.indices()):
            known.begin_again()
        known.forget_others()
        planned = Plan(ordered, RequestBuilder(None), known, answers, self.replications)
        expected = [key for key in self.keys() if self.best(key) is None]
        opened, waiting, asked = OpenPart(answers, part_rows), [], 0
        for replication, request in planned.pending():
            if asked == killed_after:
                return
            x = json.loads(request.body)["x"]
            assert (replication, request.index, x) == expected[asked]
            asked += 1
            if x in failing:
                continue
            self.answered += 1
            responses = [{"_response_index_": 0, "y": self.answered}]
            answer = Answer(replication, request.position, request.index, request.digest, responses)
            waiting.append((expected[asked - 1], self.answered))
            if opened.add(answer) >= part_rows:
                self.written(opened, waiting, answers.generation)
        self.written(opened, waiting, answers.generation)
        known.flush()
        assert asked == len(expected)
        assert planned.taken_up == len(self.keys()) - asked
        answers.look()
        self.compare(answers, known)
        if not failing:
            answers.retire()
            self.begun = False

    def written(self, opened: OpenPart, waiting: list[tuple[Key, int]], generation: int) -> None:
        before = {path.name for path in self.part_files()}
        opened.write()
        of_part = {}
        for path in self.part_files():
            if path.name not in before:
                table = pq.read_table(path)
                for replication, index in zip(
                    table["_replication_"].to_pylist(), table["_index_"].to_pylist(), strict=True
                ):
                    of_part[replication, index] = path.name
        assert len(of_part) == len(waiting)
        for key, value in waiting:
            self.kept.setdefault(key, []).append(Kept(generation, value, of_part[key[:2]]))
        waiting.clear()

    def compare(self, answers: Parts, known: Ledger) -> None:
        order = list(range(self.replications))
        batches = list(answers.answers(known.chunks, order))
        found = [
            (row["_replication_"], row["_index_"], row["responses"][0]["y"])
            for batch in batches
            for row in batch.to_pylist()
        ]
        wanted = {key: self.best(key) for key in self.keys()}
        assert found == [(key[0], key[1], kept.value) for key, kept in wanted.items() if kept is not None]

    # The model

    def keys(self) -> list[Key]:
        return [
            (replication, index, self.rows[index])
            for replication in range(self.replications)
            for index in sorted(self.rows)
        ]

    def best(self, key: Key) -> Kept | None:
        kept = [kept for kept in self.kept.get(key, ()) if kept.generation >= self.since]
        return max(kept, key=lambda k: k.generation, default=None)

    def forget(self, names: set[str]) -> None:
        self.kept = {
            key: [kept for kept in some if kept.part not in names] for key, some in self.kept.items()
        }

    def context(self) -> str:
        said = json.dumps(sorted(self.rows.items()))
        return hashlib.sha256(said.encode()).hexdigest()

    def write_rows(self) -> Path:
        dataset = self.directory / "rows"
        shutil.rmtree(dataset, ignore_errors=True)
        dataset.mkdir()
        items = list(self.rows.items())
        for number in range(self.files):
            some = items[number * len(items) // self.files : (number + 1) * len(items) // self.files]
            table = {
                "_index_": pa.array([i for i, _ in some], pa.int64()),
                "x": pa.array([x for _, x in some], pa.int64()),
            }
            pq.write_table(pa.table(table), dataset / f"{number}.parquet")
        return dataset

    def part_files(self) -> list[Path]:
        return sorted(local_path(self.store.working("eval-1")).glob("parts/*/*.parquet"))

    def ledger_files(self) -> list[Path]:
        return sorted(local_path(self.store.working("eval-1")).glob("requests/*/*.parquet"))

    @invariant()
    def no_two_current_answers_of_a_generation(self) -> None:
        for some in self.kept.values():
            assert len({kept.generation for kept in some}) == len(some)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that goes by thousands goes by handfuls, so that a few rows cross every border."""
    monkeypatch.setattr(ledger, "_CHUNK_ROWS", 7)
    monkeypatch.setattr(rows, "_BATCH_ROWS", 2)
    monkeypatch.setattr(plan, "_BUILD_ROWS", 3)
    monkeypatch.setattr(parts, "_SLICE_ROWS", 4)
    monkeypatch.setattr(parts, "_KEY_BYTES", 400)
    monkeypatch.setattr(parts, "_TABLE_BYTES", 400)
    monkeypatch.setattr(completeness, "_BATCH_ROWS", 3)


def test_whatever_happens_what_is_asked_and_kept_is_what_the_model_says(small: None) -> None:
    run_state_machine_as_test(
        Evaluations,
        settings=settings(
            max_examples=60,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


# Rows in order


def dataset(directory: Path, *files: list[int | None], type_: pa.DataType | None = None) -> Any:
    directory.mkdir()
    for number, indices in enumerate(files):
        column = pa.array(indices, type_ or pa.int64())
        pq.write_table(pa.table({"_index_": column, "x": column}), directory / f"{number}.parquet")
    return open_dataset(directory)


def ordered(tmp_path: Path, *files: list[int | None], **how: Any) -> OrderedRows:
    return OrderedRows(dataset(tmp_path / "rows", *files, **how), ["x"], tmp_path / "sorting")


def read(found: OrderedRows) -> list[tuple[int, int]]:
    return [(row["_index_"], row["x"]) for batch in found.batches() for row in batch.to_pylist()]


@pytest.mark.parametrize(
    "files",
    [
        [[3, 1, 2]],
        [[5, 6], [1, 2]],
        [[-1, -7, 10**12]],
        [[2**63 - 1, -(2**63), 0]],
        [[2**63 - 1], [-(2**63)]],
        [[2**63 - 1, -(2**63)]],
        [[2**62 + 2, 2**62, 2**62 + 1, 2**62 + 3]],
        [list(range(50, 0, -1))],
    ],
)
def test_rows_come_in_order_however_they_lie(
    tmp_path: Path, small: None, files: list[list[int | None]]
) -> None:
    found = ordered(tmp_path, *files)
    indices = sorted(index for file in files for index in file if index is not None)
    assert read(found) == [(index, index) for index in indices]
    assert np.concatenate(list(found.indices())).tolist() == indices
    assert found.count == len(indices)
    found.close()
    assert not (tmp_path / "sorting").exists()


@pytest.mark.parametrize("seed", range(5))
def test_sparse_rows_come_in_order_however_close_they_stand(tmp_path: Path, small: None, seed: int) -> None:
    chance = random.Random(seed)
    base = chance.choice([0, 2**53, 2**62, -(2**62)])
    indices = chance.sample(range(base - 200, base + 200), 150)
    assert read(ordered(tmp_path, *(indices[n::3] for n in range(3)))) == [(i, i) for i in sorted(indices)]


@pytest.mark.parametrize("files", [[[1, 2, 2]], [[1, 2], [2, 3]], [[3, 1, 2, 3]], [[3, 2], [1, 3]]])
def test_two_rows_of_the_same_index_are_refused(
    tmp_path: Path, small: None, files: list[list[int | None]]
) -> None:
    with pytest.raises(EvaluationError, match=r"more than one row whose _index_ is [23]: number them anew"):
        ordered(tmp_path, *files)


def test_rows_without_an_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="the data set has 2 rows without _index_: number them"):
        ordered(tmp_path, [1, None, None, 4])


def test_an_index_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="field _index_ is int32: it must be int64"):
        ordered(tmp_path, [1, 2], type_=pa.int32())


def test_a_data_set_without_an_index_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(EvaluationError, match="no field _index_: import it with dyff-dagster import-data"):
        OrderedRows(open_dataset(tmp_path), ["x"], tmp_path / "sorting")


def test_a_data_set_of_no_rows_has_none(tmp_path: Path) -> None:
    found = ordered(tmp_path, [])
    assert (found.count, read(found), list(found.indices())) == (0, [], [])


# Completeness


def by_brute_force(indices: list[int], answers: list[tuple[str, int]], replications: int) -> tuple[int, ...]:
    asked = {(replication_id("e", number), index) for number in range(replications) for index in indices}
    times = {key: answers.count(key) for key in asked}
    return (
        len(asked),
        sum(n == 1 for n in times.values()),
        sum(n == 0 for n in times.values()),
        sum(n > 1 for n in times.values()),
        sum(key not in asked for key in answers),
    )


def windows(indices: list[int], size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(indices), size):
        yield np.array(indices[start : start + size], np.int64)


@pytest.mark.parametrize("seed", range(40))
def test_the_count_is_that_of_brute_force(tmp_path: Path, small: None, seed: int) -> None:
    chance = random.Random(seed)
    far = [-(2**63), 2**63 - 1] if seed % 4 == 0 else []
    indices = sorted(chance.sample(range(-20, 60), chance.randint(0, 40)) + far)
    replications = chance.randint(1, 3)
    names = [replication_id("e", number) for number in range(replications + (seed % 3 == 0))]
    answers = [(name, index) for name in names for index in indices if chance.random() < 0.9]
    answers += [(chance.choice(names), chance.randint(-25, 65)) for _ in range(chance.choice([0, 0, 3]))]
    answers += chance.sample(answers, min(len(answers), chance.choice([0, 0, 2])))
    answers.sort()
    table = pa.table(
        {
            "_replication_": pa.array([name for name, _ in answers], pa.string()),
            "_index_": pa.array([index for _, index in answers], pa.int64()),
        }
    )
    pq.write_table(table, tmp_path / "answers.parquet", row_group_size=7)
    found = completeness.count("e", tmp_path, lambda: windows(indices, 5), replications)
    assert (
        found.expected,
        found.answered,
        found.missing,
        found.duplicated,
        found.unexpected,
    ) == by_brute_force(indices, answers, replications)
    assert bool(found.examples) == bool(found.missing or found.duplicated)
    assert len(found.examples) <= 10
