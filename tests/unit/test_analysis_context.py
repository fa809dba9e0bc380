"""What a method's code sees and reports, without a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from dyff_dagster.analysis import AnalysisContext, AnalysisError, Estimate, UnknownKeyword, WrongRow
from dyff_dagster.analysis.display import conclusion_card, figure_png, table_block
from dyff_dagster.analysis.records import read_conclusion, read_scores
from dyff_dagster.analysis.rows import write_rows
from dyff_dagster.schema.platform import Analysis
from tests.integration.analysis_support import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def context(bench: Bench) -> AnalysisContext:
    case = bench.safety_case()
    analysis = Analysis.model_validate(
        {name: value for name, value in case.model_dump().items() if name in Analysis.model_fields}
    )
    return AnalysisContext(analysis=analysis, id="case", local_storage_root=bench.root)


def test_arguments_and_inputs_are_found_by_keyword(context: AnalysisContext) -> None:
    assert context.args("threshold") == context.get_argument("threshold") == "0.9"
    assert context.inputs == ["rows", "answers"]
    assert context.inputs("rows").count_rows() == context.open_input_dataset("rows").count_rows() == 4
    assert context.arguments == {"threshold": "0.9"}


def test_a_wrong_keyword_names_the_known_ones(context: AnalysisContext) -> None:
    with pytest.raises(UnknownKeyword, match=r"no argument 'treshold'; it has: threshold"):
        context.args("treshold")
    with pytest.raises(UnknownKeyword, match=r"no input 'row'; it has: rows, answers"):
        context.inputs("row")


def test_the_environment_configures_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = json.loads(bench.safety_case().model_dump_json())
    # As a cluster writes it: without the method's identity, and with fields that an Analysis has not.
    del spec["method"]["id"], spec["method"]["account"]
    config = bench.root / "config.yaml"
    config.write_text(yaml.safe_dump({"kind": "Analysis", "spec": spec}))
    monkeypatch.setenv("DYFF_AUDIT_ANALYSIS_CONFIG_FILE", str(config))
    monkeypatch.setenv("DYFF_AUDIT_LOCAL_STORAGE_ROOT", str(bench.root))
    context = AnalysisContext()
    assert context.id == "case" and context.output_path == bench.root / "case"
    assert context.analysis.method.id == "0" * 32
    assert context.local_storage_root == bench.root


def test_outside_of_an_analysis_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYFF_AUDIT_LOCAL_STORAGE_ROOT", raising=False)
    with pytest.raises(AnalysisError, match="DYFF_AUDIT_LOCAL_STORAGE_ROOT is not set"):
        AnalysisContext()


def test_the_storage_root_must_be_absolute(bench: Bench) -> None:
    with pytest.raises(AnalysisError, match="absolute path"):
        AnalysisContext(local_storage_root="here")


def test_scores_are_recorded_in_order_with_one_primary(context: AnalysisContext) -> None:
    context.score("first", 0.5, low=0.4, high=0.6, n=10)
    context.score("second", 0.25, interval=(0.2, 0.3))
    context.score("third", Estimate(0.9, 0.8, 0.95, 40), primary=True)
    context.score("fourth", None)
    scores = read_scores(context.output_path)
    assert [str(score) for score in scores[:3]] == [
        "third 0.900 [0.800, 0.950] n=40",
        "first 0.500 [0.400, 0.600] n=10",
        "second 0.250 [0.200, 0.300]",
    ]
    assert scores[3].value != scores[3].value
    written = json.loads((context.output_path / ".dyff/scores.json").read_text())["scores"]
    assert [score["priority"] for score in written] == ["secondary", "secondary", "primary", "secondary"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a b", "value": 1}, "name that thresholds cannot use"),
        ({"name": "a", "value": float("nan")}, "value of score 'a' is not a finite number"),
        ({"name": "a", "value": 1, "low": 2, "high": 1}, "low 2 above high 1"),
        ({"name": "a", "value": 1, "low": 0, "interval": (0, 1)}, "its interval twice"),
        ({"name": "a", "value": Estimate(1, 0, 2, 3), "low": 0}, "its interval twice"),
        ({"name": "a", "value": 1, "format": "{x}"}, "no Python format of 'quantity'"),
        ({"name": "a", "value": 1, "format": "constant"}, "no Python format of 'quantity'"),
    ],
)
def test_a_score_that_cannot_be_used_is_refused(
    context: AnalysisContext, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(AnalysisError, match=message):
        context.score(**arguments)  # type: ignore[arg-type]


GOOD = {"name": "auc", "quantity": 0.9}


@pytest.mark.parametrize(
    ("scores", "intervals", "message"),
    [
        ([], {}, "scores.json of the analysis is not in the form"),
        ({"scores": {}}, {}, "scores.json of the analysis is not in the form"),
        ({"scores": ["auc"]}, {}, "scores.json of the analysis is not in the form"),
        ({"scores": [{"quantity": 1}]}, {}, "score number 1 has no name"),
        ({"scores": [{**GOOD, "name": 5}]}, {}, "score number 1 has no name"),
        ({"scores": [{**GOOD, "name": "<b>"}]}, {}, "name that thresholds cannot use"),
        ({"scores": [GOOD, GOOD]}, {}, "score 'auc' is there twice"),
        ({"scores": [{"name": "auc"}]}, {}, "score 'auc' has no quantity"),
        ({"scores": [{**GOOD, "quantity": "0.9"}]}, {}, "quantity of score 'auc' is no number"),
        ({"scores": [{**GOOD, "quantity": True}]}, {}, "quantity of score 'auc' is no number"),
        ({"scores": [{**GOOD, "quantity": 10**400}]}, {}, "value of score 'auc' is not a finite number"),
        ({"scores": [{**GOOD, "quantity": float("inf")}]}, {}, "value of score 'auc' is not a finite number"),
        ({"scores": [GOOD]}, {"auc": 5}, "intervals.json of the analysis is not in the form"),
        ({"scores": [GOOD]}, [], "intervals.json of the analysis is not in the form"),
        ({"scores": [GOOD]}, {"auc": {"low": "x"}}, "low of score 'auc' is no number"),
        ({"scores": [GOOD]}, {"auc": {"high": float("nan")}}, "high of score 'auc' is not a finite number"),
        ({"scores": [GOOD]}, {"auc": {"low": 2, "high": 1}}, "has low 2 above high 1"),
        ({"scores": [GOOD]}, {"auc": {"n": 1.5}}, "n of score 'auc' is no count"),
        ({"scores": [GOOD]}, {"auc": {"n": True}}, "n of score 'auc' is no count"),
        ({"scores": [GOOD]}, {"auc": {"n": -1}}, "n of score 'auc' is no count"),
    ],
)
def test_scores_that_were_written_by_hand_are_checked(
    context: AnalysisContext, scores: object, intervals: object, message: str
) -> None:
    (context.output_path / ".dyff").mkdir(parents=True)
    (context.output_path / ".dyff/scores.json").write_text(json.dumps(scores))
    (context.output_path / ".dyff/intervals.json").write_text(json.dumps(intervals))
    with pytest.raises(AnalysisError, match=message):
        read_scores(context.output_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\x80", "9" * 5000])
def test_a_record_that_cannot_be_parsed_is_one_sentence(context: AnalysisContext, text: str) -> None:
    (context.output_path / ".dyff").mkdir(parents=True)
    (context.output_path / ".dyff/scores.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(AnalysisError, match=r"^scores\.json of the analysis is no JSON"):
        read_scores(context.output_path)


def test_scores_as_the_reference_writes_them_are_read(context: AnalysisContext) -> None:
    (context.output_path / ".dyff").mkdir(parents=True)
    scores = [{**GOOD, "priority": "secondary"}, {"name": "n", "quantity": 3, "priority": "primary"}]
    (context.output_path / ".dyff/scores.json").write_text(json.dumps({"scores": scores}))
    assert [(score.name, score.value, score.low) for score in read_scores(context.output_path)] == [
        ("n", 3.0, None),
        ("auc", 0.9, None),
    ]


@pytest.mark.parametrize("found", [[], {}, {"text": 5, "holds": True}, {"text": "x", "holds": "yes"}])
def test_a_conclusion_that_was_written_by_hand_is_checked(context: AnalysisContext, found: object) -> None:
    (context.output_path / ".dyff").mkdir(parents=True)
    (context.output_path / ".dyff/conclusion.json").write_text(json.dumps(found))
    with pytest.raises(AnalysisError, match=r"conclusion\.json of the analysis is not in the form"):
        read_conclusion(context.output_path)


def test_a_score_is_reported_once(context: AnalysisContext) -> None:
    context.score("auc", 0.9)
    with pytest.raises(AnalysisError, match="'auc' was reported already"):
        context.score("auc", 0.8)


def test_there_is_one_conclusion(context: AnalysisContext) -> None:
    context.conclusion("It does not.", holds=False)
    assert read_conclusion(context.output_path) == ("It does not.", False)
    with pytest.raises(AnalysisError, match="has a conclusion already"):
        context.conclusion("It does.", holds=True)


def test_a_conclusion_is_read_without_its_colour() -> None:
    assert "Does not hold" in conclusion_card("x", False)
    assert "Holds" in conclusion_card("x", True)
    assert "Open" in conclusion_card("x", None)


def test_a_case_writes_no_rows(context: AnalysisContext) -> None:
    with pytest.raises(AnalysisError, match="makes no Measurement"):
        context.write(pa.table({"a": [1]}))


def test_importing_it_loads_no_heavy_package() -> None:
    code = (
        "import sys; from dyff_dagster import AnalysisContext; "
        "heavy = ('dagster', 'papermill', 'matplotlib', 'nbconvert', 'scipy', 'aiohttp'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_figure_is_the_same_bytes_each_time() -> None:
    from matplotlib.figure import Figure

    def draw() -> bytes:
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([0, 1])
        return figure_png(figure)

    assert draw() == draw()
    assert b"Software" not in draw()


def test_a_table_shows_numbers_short_and_text_escaped() -> None:
    html = table_block([{"a": 1 / 3, "b": "<x>", "c": True}, {"a": None, "b": None, "c": False}], "Two & two")
    assert '<td class="dyff-number">0.3333</td><td>&lt;x&gt;</td><td>yes</td>' in html
    assert '<td class="dyff-number">–</td><td>–</td><td>no</td>' in html
    assert "<caption>Two &amp; two</caption>" in html


def test_a_long_table_says_how_much_it_leaves_out() -> None:
    assert "and 1,800 more rows" in table_block(pa.table({"a": range(2000)}), "")


# Rows

SCHEMA = pa.schema(
    [pa.field("_index_", pa.int64(), nullable=False), pa.field("x", pa.int32(), nullable=False)]
)


def test_rows_may_come_in_wider_types_and_other_order(tmp_path: Path) -> None:
    batch = pa.record_batch({"x": pa.array([1, 2], pa.int64()), "_index_": pa.array([0, 1], pa.int16())})
    assert write_rows([batch, batch], SCHEMA, tmp_path) == 4


@pytest.mark.parametrize(
    ("values", "kind", "index", "why"),
    [
        ([1, 2, None, 4], pa.int32(), 12, "null"),
        ([1, 2, 3, 2**40], pa.int64(), 13, "does not fit"),
        ([1.0, 2.5, 3.0, 4.0], pa.float64(), 11, "does not fit"),
    ],
)
def test_the_first_wrong_row_is_found(
    tmp_path: Path, values: list[object], kind: pa.DataType, index: int, why: str
) -> None:
    batch = pa.record_batch({"_index_": pa.array([10, 11, 12, 13]), "x": pa.array(values, kind)})
    with pytest.raises(WrongRow, match=f"{why}.* _index_ {index}$") as caught:
        write_rows(batch, SCHEMA, tmp_path)
    assert caught.value.field == "x"


def test_a_row_without_an_index_is_named_by_its_position(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("x", pa.int32(), nullable=False)])
    good, bad = (pa.record_batch({"x": pa.array(values, pa.int32())}) for values in ([1, 2], [3, None]))
    with pytest.raises(WrongRow, match=r"position 3$"):
        write_rows([good, bad], schema, tmp_path)


@pytest.mark.parametrize("data", [[{"x": 1}], {"x": [1]}, None, "rows"])
def test_what_is_no_record_batch_is_refused(tmp_path: Path, data: object) -> None:
    with pytest.raises(AnalysisError, match="yields Arrow record batches"):
        write_rows(data, SCHEMA, tmp_path)  # type: ignore[arg-type]
