"""Rows of committed versions over HTTP: what a person may look at, and what it may cost."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster.analysis.page_server import PageServer
from dyff_dagster.schema.arrow import encode_schema
from dyff_dagster.schema.platform import Dataset
from dyff_dagster.store import Commit, Facts, Inputs, Store
from dyff_dagster.store.facts import columns_of

VERSION = "a" * 64
EVIL = '<script>alert(1)</script> & "quoted"'


def commit(store: Store, entity_id: str, tables: dict[str, pa.Table], group: int | None = None) -> Commit:
    schema = next(iter(tables.values())).schema
    entity = Dataset.model_validate(
        {
            "id": entity_id,
            "account": "acme",
            "name": f"Rows <of> {entity_id}",
            "artifacts": [{"path": "data.parquet"}],
            "schema": {"arrowSchema": encode_schema(schema)},
        }
    )
    with store.draft(entity_id) as draft:
        for name, table in tables.items():
            path = Path(draft.path) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, row_group_size=group)
        rows = sum(table.num_rows for table in tables.values())
        facts = Facts(rows=rows, columns=columns_of(schema))
        return draft.commit(entity=entity, data_version=VERSION, inputs=Inputs(spec="s"), facts=facts)


def numbered(first: int, last: int) -> pa.Table:
    return pa.table({"_index_": pa.array(range(first, last)), "text": [f"t{n}" for n in range(first, last)]})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("rows"))
    commit(store, "several", {"a.parquet": numbered(0, 70), "b.parquet": numbered(70, 175)}, group=30)
    odd = {
        "evil": [EVIL, None],
        "long": ["x" * 5000, ""],
        "bytes": [b"\x00secret", b""],
        "nested": [[{"a": 1, "b": b"xyz"}], []],
        "number": [float("nan"), 0.1],
    }
    commit(store, "odd", {"data.parquet": pa.table(odd)})
    commit(store, "empty", {"data.parquet": numbered(0, 0)})
    commit(
        store,
        "parted",
        {"kind=wet/x.parquet": pa.table({"n": [1]}), "kind=dry/x.parquet": pa.table({"n": [2]})},
    )
    return store


def test_values_that_python_has_none_for_are_shown_as_far_as_they_can_be(tmp_path: Path) -> None:
    store = Store(tmp_path)
    table = pa.table(
        {
            "day": pa.array([10**7, 0], pa.date32()),
            "nano": pa.array([1, None], pa.timestamp("ns")),
            "broken": pa.array([b"\xff\xfe", b"ok"], pa.binary()).view(pa.string()),
            "span": pa.array([10**18, 0], pa.duration("s")),
            "deep": pa.array([[10**7], []], pa.list_(pa.date32())),
        }
    )
    commit(store, "strange", {"data.parquet": table})
    with PageServer(store) as server:
        first, second = rows(server, "strange")
    assert first[1].startswith("1970-01-01 00:00:00.000000001") and second[1] == "–"
    assert first[2] == first[3] == first[4] == "(cannot be shown)"
    assert second[0] == "1970-01-01" and second[2] == "ok"


@pytest.fixture(scope="module")
def server(store: Store) -> Iterator[PageServer]:
    with PageServer(store) as server:
        yield server


def ask(server: PageServer, path: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def rows(server: PageServer, entity_id: str, query: str = "") -> list[list[str]]:
    status, _, text = ask(server, f"/{entity_id}/{VERSION[:16]}/rows{query}")
    assert status == 200, text
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    found = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]
    return [[unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row] for row in found]


def test_one_reads_a_table_from_its_first_page_to_its_last(server: PageServer) -> None:
    seen: list[str] = []
    query = ""
    while True:
        seen += [row[0] for row in rows(server, "several", query)]
        text = ask(server, f"/several/{VERSION}/rows{query}")[2]
        following = re.search(r'href="rows(\?from=\d+)" rel="next"', text)
        if following is None:
            break
        query = following[1]
    assert seen == [str(n) for n in range(175)]
    assert "Rows 151 to 175 of 175" in text
    assert 'href="rows?from=100" rel="prev"' in text


def test_a_page_may_begin_anywhere(server: PageServer) -> None:
    assert [row[1] for row in rows(server, "several", "?from=69")][:2] == ["t69", "t70"]
    assert [row[1] for row in rows(server, "several", "?from=174")] == ["t174"]


@pytest.mark.parametrize("query", ["from=175", "from=-1", "from=x", "from=" + "9" * 400, "from=%00"])
def test_where_no_row_is_there_is_no_page(server: PageServer, query: str) -> None:
    assert ask(server, f"/several/{VERSION}/rows?{query}")[0] == 404


def test_values_are_shown_as_text_and_cut(server: PageServer) -> None:
    text = ask(server, f"/odd/{VERSION}/rows")[2]
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "Rows &lt;of&gt; odd" in text
    (first, second) = rows(server, "odd")
    assert first[0] == EVIL
    assert first[1].startswith("x" * 400 + "…") and "(4,600 more characters)" in first[1]
    assert first[2] == "(7 bytes)" and "secret" not in text
    assert first[3] == '[{"a": 1, "b": "(3 bytes)"}]'
    assert first[4] == "nan"
    assert second == ["–", "", "(0 bytes)", "[]", "0.1"]


def test_a_table_without_rows_has_a_page(server: PageServer) -> None:
    assert "No rows" in ask(server, f"/empty/{VERSION}/rows")[2]


def test_keys_in_names_of_directories_are_columns(server: PageServer) -> None:
    assert rows(server, "parted") == [["2"], ["1"]]


def test_a_table_is_reached_by_its_id_alone(server: PageServer) -> None:
    assert ask(server, "/several/")[1]["Location"] == f"/several/{VERSION}/"
    assert ask(server, f"/several/{VERSION}/")[1]["Location"] == f"/several/{VERSION}/rows"


def test_rows_are_as_shut_in_as_pages(server: PageServer) -> None:
    headers = ask(server, f"/odd/{VERSION}/rows")[1]
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_damaged_file_is_told_without_a_traceback(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = commit(store, "broken", {"data.parquet": numbered(0, 3)})
    path = Path(str(made.path)) / "data.parquet"
    path.chmod(0o644)
    path.write_bytes(b"PAR1 no more")
    with PageServer(store) as server:
        status, _, text = ask(server, f"/broken/{VERSION}/rows")
    assert status == 500 and "Traceback" not in text and str(tmp_path) not in text


LARGE = """
import re, sys
from pathlib import Path
from dyff_dagster.analysis.row_pages import read_rows, row_files
from dyff_dagster.store import Store
def peak():  # of this process: what getrusage says is inherited
    return int(re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1])
def read(entity_id):
    commit = Store(sys.argv[1]).current(entity_id)
    files = [(name, commit.path / name) for name in row_files(commit)]
    return commit, read_rows(files, commit.facts.columns, commit.facts.rows, commit.facts.rows - 3)
read("small")  # what has to be loaded for any
before = peak()
commit, page = read("large")
assert [row[0].text for row in page.rows] == [str(commit.facts.rows - n) for n in (3, 2, 1)]
print(peak() - before)
"""


def test_the_last_rows_of_a_large_row_group_do_not_take_its_memory(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, "small", {"data.parquet": numbered(0, 9)})
    count, width = 15_000, 10_000  # 150 MB in one row group
    table = pa.table(
        {"_index_": pa.array(range(count)), "text": [f"{n:06d}" * (width // 6) for n in range(count)]}
    )
    commit(store, "large", {"data.parquet": table}, group=count)
    done = subprocess.run([sys.executable, "-c", LARGE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120_000, "kilobytes: read at once it is more than twice as much"
