"""Methods that make nonsense: each fails in one sentence with its place, and what was published stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import Measurement, SafetyCase
from dyff_dagster.store import Commit
from tests.integration.analysis_support import BY_NOTEBOOK, SCORES, Bench

INSTANCES = """
import os, sys
import pyarrow as pa
def judge(arguments, rows, answers):
    table = answers.to_table().drop(["responses"])
    whole = table.append_column("correct", [[True] * 8])
    YIELD
"""
SCORING = """
import pyarrow as pa
def judge(arguments, rows, answers):
    row = {"score": "auc", "value": 0.9, "low": 0.8, "high": 0.95, "n": 4}
    yield pa.Table.from_pylist([ROWS], schema=pa.schema([
        ("score", pa.string()), ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64()),
        ("n", pa.int64())]))
"""
NOTEBOOK = ("from dyff_dagster import AnalysisContext\nctx = AnalysisContext()", "LAST")
WRITING = (
    "from dyff_dagster import AnalysisContext\nimport pyarrow as pa\nctx = AnalysisContext()\n"
    "table = ctx.inputs('answers').to_table().drop(['responses'])\n"
    "whole = table.append_column('correct', [[True] * 8])",
    "LAST",
)


class Published:
    """A bench where each kind of analysis has a version that is published."""

    def __init__(self, root: Path) -> None:
        self.bench = Bench(root)
        self.instances = self.bench.measurement()
        self.scores = self.bench.measurement(schema=SCORES, level="Dataset", id="scored")
        self.case = self.bench.safety_case()
        self.rows = self.bench.measurement(by=BY_NOTEBOOK, id="written")
        for entity, code in (
            (self.instances, "yield whole"),
            (self.scores, "row"),
            (self.case, "ctx.score('auc', 0.9)"),
            (self.rows, "ctx.write(whole)"),
        ):
            self.run(entity, code)

    def run(self, entity: Measurement | SafetyCase, code: str) -> Commit:
        if entity is self.instances:
            self.bench.function(INSTANCES.replace("YIELD", code))
        elif entity is self.scores:
            self.bench.function(SCORING.replace("ROWS", code))
        else:
            cells = NOTEBOOK if entity is self.case else WRITING
            self.bench.notebook(*(cell.replace("LAST", code) for cell in cells))
        return self.bench.run(entity)

    def refuses(self, entity: Measurement | SafetyCase, code: str, message: str) -> None:
        """Run what must fail, and see that nobody else sees anything of it."""
        before, view = self.bench.store.current(entity.id), self.view(entity.id)
        assert before is not None
        with pytest.raises(DyffError) as raised:
            self.run(entity, code)
        sentence = str(raised.value)
        assert sentence.startswith(f"{entity.id}: ")
        assert re.search(message, sentence), sentence
        assert "\n" not in sentence
        assert self.bench.store.current(entity.id) == before
        assert self.bench.store.intact(before)
        assert self.view(entity.id) == view
        assert self.bench.leftovers(entity.id) == []

    def view(self, entity_id: str) -> dict[str, bytes]:
        """What other tools read, and every version that was ever finished."""
        directory = Path(self.bench.store.directory(entity_id))
        left = ("logs.txt", "lock", "failed/notebook.ipynb")
        return {
            str(path): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file() and not str(path).endswith(left)
        }


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    yield Published(tmp_path_factory.mktemp("published"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "raise KeyError('the patient is 41')",
            r"raised KeyError at scoring_under_test.py:7; the traceback is in",
        ),
        ("yield whole; raise KeyError", r"raised KeyError at scoring_under_test.py:7;"),
        ("yield whole; sys.exit(0)", r"raised SystemExit at scoring_under_test.py:7;"),
        ("os._exit(3)", r"its process ended with exit status 3 before it was done"),
        (
            "yield whole.slice(0, 7)",
            r"1 missing \(row \d, replication \d\); the method must yield one row for each",
        ),
        ("yield whole; yield whole.slice(2, 1)", r"1 more than once \(row \d, replication \d\)"),
        (
            "yield whole.slice(0, 4); yield whole.slice(4).set_column(1, '_index_', [[7, 8, 9, 3]])",
            r"3 missing, 3 that the input does not have",
        ),
        ("return; yield", r"8 missing"),
        ("yield table", r"field 'correct' is not there|field 'correct'"),
        (
            "yield table.append_column('correct', [[True] * 5 + [None] * 3])",
            r"field 'correct' is null in \d rows, but declared not null, first in the row with _index_ \d",
        ),
        ("yield table.append_column('correct', [['yes'] * 8])", r"field 'correct' is string"),
        ("yield whole.append_column('more', [[1] * 8])", r"field 'more' is not in the schema"),
        ("yield {'correct': True}", r"record batches, and this one yielded a dict"),
        ("yield None", r"record batches, and this one yielded a NoneType"),
    ],
)
def test_a_function_that_yields_nonsense(published: Published, code: str, message: str) -> None:
    published.refuses(published.instances, code, message)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "{**row, 'value': float('nan')}",
            r"value of score 'auc' is not a finite number; where the data do not",
        ),
        ("{**row, 'value': float('inf')}", r"value of score 'auc' is not a finite number"),
        ("{**row, 'low': float('nan')}", r"low of score 'auc' is not a finite number"),
        ("{**row, 'low': 0.99}", r"score 'auc' has low 0.99 above high 0.95"),
        ("row, row", r"score 'auc' was reported already"),
        ("{**row, 'score': 'a-b'}", r"score 'a-b' has a name that thresholds cannot use"),
        ("{**row, 'score': None}", r"field 'score' is null"),
    ],
)
def test_a_function_that_scores_nonsense(published: Published, rows: str, message: str) -> None:
    published.refuses(published.scores, rows, message)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "raise KeyError('the patient is 41')",
            r"\(cell 2\): it raised KeyError; see it as far as it came in",
        ),
        ("ctx.score('auc', float('nan'))", r"\(cell 2\): it raised AnalysisError;"),
        ("import os; os._exit(0)", r"\(cell 2\): its kernel died;"),
        (
            "ctx.score('auc', 1); (ctx.output_path / '.dyff/scores.json').write_text('{')",
            r"scores\.json of the analysis is no JSON",
        ),
        (
            "ctx.score('auc', 1); (ctx.output_path / '.dyff/scores.json').write_text("
            '\'{"scores": [{"name": "auc", "quantity": NaN}]}\')',
            r"value of score 'auc' is not a finite number",
        ),
        (
            "(ctx.output_path / 'commits').symlink_to('/')",
            r"commits is a symbolic link; write the file itself",
        ),
    ],
)
def test_a_notebook_that_comes_to_nonsense(published: Published, code: str, message: str) -> None:
    published.refuses(published.case, code, message)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("pass", r"its method wrote no rows; .* call ctx\.write in the notebook"),
        ("ctx.write(whole.slice(0, 7))", r"1 missing \(row \d, replication \d\)"),
        ("ctx.write(table)", r"\(cell 2\): it raised \w+;"),
        ("ctx.write(whole); ctx.write(whole)", r"\(cell 2\): it raised AnalysisError;"),
        (
            "import pyarrow.parquet as pq; pq.write_table(table, ctx.output_path / 'data.parquet')",
            r"do not have the declared schema",
        ),
    ],
)
def test_a_notebook_that_writes_nonsense(published: Published, code: str, message: str) -> None:
    published.refuses(published.rows, code, message)
