"""Rows of a measurement counted against those that they are about, as a person would count them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster.analysis import completeness
from dyff_dagster.analysis.completeness import check_completeness
from dyff_dagster.analysis.in_turn import keys_in_turn, number_of
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.parquet import open_dataset
from dyff_dagster.store import Completeness

Rows = list[dict[str, Any]]

TYPES = {"_index_": pa.int64(), "_replication_": pa.string(), "_response_index_": pa.int64()}


def write(path: Path, rows: Rows, keys: Sequence[str], cut: int = 0) -> None:
    """Two files, in row groups of two rows."""
    path.mkdir()
    schema = pa.schema([(key, TYPES[key]) for key in keys])
    for number, part in enumerate((rows[:cut], rows[cut:])):
        pq.write_table(pa.Table.from_pylist(part, schema), path / f"{number}.parquet", row_group_size=2)


def measurement(kind: str | None = "Evaluation") -> Any:
    """As much of a measurement as counting looks at."""
    named = [SimpleNamespace(keyword="about", entity="about", kind=kind)] if kind else []
    return SimpleNamespace(
        id="measured",
        scope=SimpleNamespace(evaluation="about", dataset="about"),
        inputs=named,
        method=SimpleNamespace(inputs=named),
    )


def count(path: Path, kind: str | None = "Evaluation") -> Completeness:
    return check_completeness(measurement(kind), open_dataset(path / "made"), {"about": path / "about"})


def by_hand(made: Rows, about: Rows | None, keys: list[str], parts: list[str]) -> tuple[int, ...]:
    def key(row: dict[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
        return tuple(row[name] for name in names)

    present = {key(row, keys) for row in made}
    counted = Counter((key(row, keys), key(row, parts)) for row in made)
    doubled = {one for (one, _), number in counted.items() if number > 1}
    wanted = present if about is None else {key(row, keys) for row in about}
    answered = len(wanted & present) - len(doubled & wanted)
    return len(wanted), answered, len(wanted - present), len(doubled), len(present - wanted)


@pytest.mark.parametrize("at_once", [3, 2_000_000])
@pytest.mark.parametrize("seed", range(60))
def test_rows_are_counted_as_by_hand(
    tmp_path: Path, seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completeness, "MOST_AT_ONCE", at_once)
    chance = random.Random(seed)
    replications = sorted(chance.sample(["a", "b", "c", "dd"], chance.randint(1, 3)))
    number = chance.randint(0, 12)

    def rows(keys: Sequence[str]) -> Rows:
        names = replications if "_replication_" in keys else [None]
        responses = (1, 2) if "_response_index_" in keys else (1,)
        return [
            {key: value for key, value in zip(TYPES, (3 * i, name, k), strict=True) if key in keys}
            for name in names
            for i in range(number)
            for k in range(chance.choice(responses))
        ]

    def some_keys() -> list[str]:
        return ["_index_", *(key for key in list(TYPES)[1:] if chance.random() < 0.5)]

    made_keys, about_keys = some_keys(), some_keys()
    made, about = rows(made_keys), rows(about_keys)
    change = chance.choice(["nothing", "less", "twice", "more", "order", "all"])
    if made and change in ("less", "all"):
        del made[chance.randrange(len(made))]
    if made and change in ("twice", "all"):
        made.insert(chance.randrange(len(made)), dict(chance.choice(made)))
    if made and change in ("more", "all"):
        made.append({**made[0], "_index_": 999})
    if change == "order":
        chance.shuffle(made)
    write(tmp_path / "made", made, made_keys, chance.randint(0, len(made)))
    write(tmp_path / "about", about, about_keys, chance.randint(0, len(about)))
    kind = chance.choice(["Evaluation", "Measurement", None])
    found = count(tmp_path, kind)

    keys = [key for key in ("_index_", "_replication_") if key in made_keys]
    if kind is not None:
        keys = [key for key in keys if key in about_keys]
    parts = [key for key in made_keys if key not in keys]
    expected = by_hand(made, about if kind else None, keys, parts)
    counted = (found.expected, found.answered, found.missing, found.duplicated, found.unexpected)
    assert counted == expected
    assert len(found.examples) == min(5, sum(expected[2:]))


def test_examples_are_the_first_rows_of_all_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "MOST_AT_ONCE", 4)
    name = replication_id("about", 0)
    about = [{"_replication_": name, "_index_": i} for i in range(40)]
    write(tmp_path / "about", about, ["_replication_", "_index_"])
    write(tmp_path / "made", [row for row in about if row["_index_"] % 3], ["_replication_", "_index_"])
    found = count(tmp_path)
    assert (found.missing, found.answered) == (14, 26)
    assert found.examples == tuple(f"row {i}, replication 0" for i in (0, 3, 6, 9, 12))


def test_rows_in_order_are_counted_without_being_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_needed(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(completeness, "_compare", not_needed)
    keys = ["_replication_", "_index_"]
    rows = [{"_replication_": name, "_index_": i} for name in ("a", "b") for i in range(50)]
    write(tmp_path / "about", rows, keys, 7)
    several = [{**row, "_response_index_": k} for row in rows for k in range(2)]
    write(tmp_path / "made", several, [*keys, "_response_index_"], 31)
    assert count(tmp_path) == Completeness(expected=100, answered=100)


@pytest.mark.parametrize(
    ("rows", "once", "number"),
    [
        ([("a", 1, 0), ("a", 2, 0), ("b", 1, 0)], True, 3),
        ([("a", 1, 0), ("a", 1, 1), ("a", 2, 0)], True, 2),
        ([("a", 1, 0), ("a", 1, 0)], True, None),
        ([("a", 1, 0), ("a", 1, 0)], False, 1),
        ([("a", 1, 1), ("a", 1, 0)], True, None),
        ([("a", 2, 0), ("a", 1, 0)], False, None),
        ([("b", 1, 0), ("a", 1, 0)], False, None),
        ([("a", 1, 0), ("b", 1, 0), ("a", 2, 0)], False, None),
        ([("a", None, 0)], False, None),
        ([(None, 1, 0)], False, None),
        ([], True, 0),
    ],
)
def test_keys_are_in_order_or_nothing_is_said_of_them(
    tmp_path: Path, rows: list[tuple[Any, ...]], once: bool, number: int | None
) -> None:
    names = ["_replication_", "_index_", "_response_index_"]
    made = [dict(zip(names, row, strict=True)) for row in rows]
    for cut in range(len(made) + 1):
        write(tmp_path / str(cut), made, names, cut)
        found = keys_in_turn(open_dataset(tmp_path / str(cut)), names, once=once)
        assert (None if found is None else number_of(found)) == number


def test_a_row_that_moves_to_another_replication_is_another_row(tmp_path: Path) -> None:
    names = ["_replication_", "_index_"]
    found = []
    for number, split in enumerate((2, 3)):
        rows = [{"_replication_": "a" if i < split else "b", "_index_": i} for i in range(5)]
        write(tmp_path / str(number), rows, names)
        found.append(keys_in_turn(open_dataset(tmp_path / str(number)), names, once=True))
    assert found[0] != found[1]
