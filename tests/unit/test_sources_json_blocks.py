"""JSON Lines that Arrow's parser reads: the very same rows, or errors, as Python's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.sources import json_blocks
from dyff_dagster.sources.json_blocks import QuickParser, read_blocks
from dyff_dagster.sources.raw_files import RawFile, read_files

TYPES: dict[str, pa.DataType | None] = {
    "_index_": pa.int64(),
    "t": pa.string(),
    "i": pa.int64(),
    "f": pa.float64(),
    "b": pa.bool_(),
    "l": pa.list_(pa.string()),
    "s": pa.struct([("x", pa.int64()), ("y", pa.list_(pa.float64()))]),
}

texts = st.text(max_size=8) | st.sampled_from(
    ["2024-01-01", "NaN", "12", "", "null", ': "NaN', "\u0000", "\U0001f600"]
)
whole = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)
floats = st.floats(allow_nan=False, allow_infinity=False)
right = {
    "t": texts,
    "i": whole,
    "f": floats | st.integers(-(2**53), 2**53),
    "b": st.booleans(),
    "l": st.lists(texts | st.none(), max_size=3),
    "s": st.fixed_dictionaries(
        {}, optional={"x": whole | st.none(), "y": st.lists(floats, max_size=2), "z": texts}
    ),
    "other": st.none()
    | texts
    | whole
    | st.lists(whole, max_size=2)
    | st.dictionaries(texts, texts, max_size=2),
}
anything = st.recursive(
    st.none() | st.booleans() | whole | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def objects(draw: Any) -> str:
    """An object as a line: mostly what the types want, and sometimes anything else."""
    row = {name: draw(right[name]) for name in draw(st.sets(st.sampled_from(sorted(right)), max_size=7))}
    if draw(st.integers(0, 9)) == 0:
        row[draw(st.sampled_from(sorted(right)))] = draw(anything)
    if draw(st.integers(0, 3)) == 0:
        row["_index_"] = draw(whole | st.none())
    text: str = json.dumps(row, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 15)) == 0:
        text = draw(
            st.sampled_from(
                [
                    "", "  ", "null", "[1]", text + text, text[:-1] + "\n}", text + " ", " " + text,
                    '{"t": "a", "t": "b"}',
                    '{"f": 1e400}', '{"f": -Infinity}', '{"other": NaN}', '{"other": Inf}', '{"i": 1.0}', '{"i": 1e2}',
                    '{"f": ' + "9" * 5000 + "}", '{"t": "\\ud800"}', '{"\\u005findex_": null}',
                    '{"s": {"x": 1, "x": 2}}',
                    '{"i": 01}', "{'t': 1}", '{"t": "a"} {"t": "b"}', '{"f": -0.0}', '{"i": -0}', '{"t": "a",}',
                    '{"t": "\t"}', '{"l": [[]]}', '{"s": {}}', '{"b": 1}', '{"t": 1}', "{}",
                ]
            )
        )  # fmt: skip
    return text


def outcome(path: Path, types: dict[str, pa.DataType | None]) -> Any:
    try:
        batches = [
            batch for _, _, batch in read_files("jsonl", [RawFile("rows.jsonl", path, {})], types, DyffError)
        ]
    except DyffError as error:
        return str(error)
    if not batches:
        return []
    return [batches[0].schema.names, repr([row for batch in batches for row in batch.to_pylist()])]


@example(lines=['{"s": [], "_index_": 0}', '{"s": {}, "i": 0, "_index_": 1}'], newline="\n", last=True)
@example(lines=['{"s": []}'], newline="\n", last=True)
@given(lines=st.lists(objects(), max_size=6), newline=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_what_arrow_reads_is_what_python_reads(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], newline: str, last: bool
) -> None:
    path = tmp_path_factory.mktemp("json") / "rows.jsonl"
    text = newline.join(lines) + (newline if last else "")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    quick = outcome(path, TYPES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QuickParser, "parse", lambda self, block: None)
        assert quick == outcome(path, TYPES)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (TYPES["s"], []),
        (pa.list_(TYPES["s"]), [{}, []]),
        (pa.struct([("inner", TYPES["s"])]), {"inner": []}),
        (pa.map_(pa.string(), TYPES["s"]), {"a": []}),
    ],
)
def test_an_empty_list_is_no_object_without_values(tmp_path: Path, kind: pa.DataType, value: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"x": None}) + "\n" + json.dumps({"x": value}) + "\n")
    said = outcome(path, {"x": kind})
    assert said == f"field x about line 2 of rows.jsonl does not fit {kind}: correct the value or the schema"


@pytest.mark.parametrize(
    ("more", "indexed"),
    [({}, False), ({"_index_": 1}, True), ({"nobody": [1, {}]}, False), ({"nobody": 1, "_index_": 1}, True)],
)
def test_plain_rows_do_go_the_quick_way(tmp_path: Path, more: dict[str, Any], indexed: bool) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"t": f"é {n}", "i": n, "l": ["a"], **more}) + "\n" for n in range(5000))
    )
    (block,) = read_blocks(path)
    parser = QuickParser({name: TYPES[name] for name in ("_index_", "t", "i", "l")}, "_index_")
    quick = parser.parse(block)
    assert quick is not None
    assert quick.indexed == indexed
    assert quick.table.column("i").to_pylist() == list(range(5000))


@pytest.mark.parametrize("size", [1, 2, 5, 7, 64])
def test_blocks_are_whole_lines_with_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(json_blocks, "_BLOCK", size)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{}\n\n{"a": 1}\nlast')
    found = {block.first + at: line for block in read_blocks(path) for at, line in enumerate(block.lines())}
    assert found == {1: b"{}\n", 2: b"\n", 3: b'{"a": 1}\n', 4: b"last"}


def test_bytes_that_are_no_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"t": "a"}\n{"no": "\xff"}\n')
    assert "rows.jsonl:2: is not UTF-8 text" in outcome(path, {"t": pa.string()})
