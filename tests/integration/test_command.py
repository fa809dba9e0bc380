"""The command, as a person types it."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from dyff_dagster import Catalog, DyffStorage, build_definitions
from dyff_dagster.cli import main
from tests.integration import small_catalog


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return small_catalog.write(tmp_path / "catalog")


def test_validate_counts_what_it_found(catalog: Path) -> None:
    done = run("validate", catalog)
    assert done.exit_code == 0
    assert "8 entities, no problems" in done.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("replications: 2", "replication: 2", "replications"),
        ("dataset: rows\nreplications", "dataset: rowz\nreplications", "rows"),
        ("id: judge\n", "id: score\n", "score"),
        ("path: small_functions.py", "path: ../serve.py", ".."),
        ("path: small_functions.py", "path: /etc/passwd", "/etc/passwd"),
    ],
)
def test_validate_names_file_line_and_field_of_every_problem(
    catalog: Path, old: str, new: str, message: str
) -> None:
    path = catalog / "audit.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done = run("validate", catalog)
    assert done.exit_code == 1
    assert f"{path}:" in done.output
    assert message in done.output
    assert "Traceback" not in done.output
    problems = json.loads(run("validate", catalog, "--json").output)
    assert all(problem["line"] >= 1 for problem in problems)


def test_validate_shows_a_cycle_as_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "kind: Measurement\nid: one\naccount: a\nmethod: m\ninputs: [{keyword: x, entity: two}]\n---\n"
        "kind: Measurement\nid: two\naccount: a\nmethod: m\ninputs: [{keyword: x, entity: one}]\n---\n"
        "kind: Method\nid: m\naccount: a\nname: m\nscope: Evaluation\n"
        "implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: a.b}}\n"
        "inputs: [{keyword: x, kind: Measurement}]\n"
        "output: {kind: Measurement, measurement: {name: m, level: Dataset, schema: {arrow: {score: string!}}}}\n"
    )
    done = run("validate", tmp_path)
    assert done.exit_code == 1
    assert "one → two → one" in done.output or "two → one → two" in done.output


def test_imported_rows_are_a_catalog_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text(
        '{"question": "1+1", "answer": "2"}\n{"question": "2+2", "answer": "4"}\n'
    )
    done = run(
        "import-data",
        tmp_path / "questions.jsonl",
        "--account",
        "me",
        "--withhold",
        "answer",
        "--out",
        tmp_path,
    )
    assert done.exit_code == 0, done.output
    assert "2 rows" in done.output
    checked = run("validate", tmp_path / "questions")
    assert checked.exit_code == 0, checked.output
    assert "warning" not in checked.output


def test_rows_with_something_like_a_label_are_not_imported_without_a_word_about_it(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    done = run("import-data", tmp_path / "q.jsonl", "--account", "me", "--out", tmp_path)
    assert done.exit_code == 1
    assert "--withhold" in done.output


def test_status_before_and_after_a_run(catalog: Path, tmp_path: Path) -> None:
    storage = tmp_path / "store"

    def states() -> dict[str, dict[str, object]]:
        done = run("status", "--catalog", catalog, "--storage", storage, "--json")
        return {state["id"]: state for state in json.loads(done.output)}

    before = states()
    assert before["scores"]["status"] == "Created"
    assert before["judge"]["status"] == "Ready"
    defs = build_definitions(Catalog.load(catalog), storage=DyffStorage(root=str(storage)))
    assert (
        defs.resolve_implicit_global_asset_job_def()
        .execute_in_process(instance=dg.DagsterInstance.ephemeral())
        .success
    )
    after = states()
    assert {state["status"] for state in after.values()} == {"Ready", "Complete"}
    assert after["scores"]["failed_checks"] == ["lower_accuracy_at_least_0_999"]
    headline = after["scores"]["headline"]
    assert isinstance(headline, dict)
    assert headline["value"] == 1.0
    small_catalog.write_rows(catalog, rows=12)
    assert states()["rows"]["status"] == "Stale"
    table = run("status", "--catalog", catalog, "--storage", storage).output
    assert "accuracy 1.000 [0.8" in table


def test_open_says_where_the_page_is_or_why_there_is_none(catalog: Path, tmp_path: Path) -> None:
    done = run("open", "scores", "--storage", tmp_path / "store")
    assert done.exit_code == 1
    assert "scores was never materialized" in done.output


def test_help_names_every_verb() -> None:
    done = run("--help")
    for verb in ("validate", "import-data", "status", "open", "serve-pages"):
        assert verb in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("import-data", "a.jsonl", "--account", "me", "--out", "a.jsonl/x"),
            "Not a directory; name a directory",
        ),
        (
            ("import-data", "a.jsonl", "--account", "me", "--out", "y" * 300),
            "File name too long; choose a shorter",
        ),
        (("status", "--storage", "foo://x"), "DYFF_STORAGE_ROOT must name a directory"),
        (("status", "--storage", "http://[::1"), "DYFF_STORAGE_ROOT must name a directory"),
        (("status", "--storage", "y" * 300), "File name too long; choose a shorter"),
        (("validate", "y" * 300), "File name too long"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYFF_CATALOG", str(catalog))
    (tmp_path / "a.jsonl").write_text('{"question": "1+1"}\n')
    done = run(*arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_a_storage_root_whose_package_is_missing_names_it(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    done = run("status", "--catalog", catalog, "--storage", "s3://key:s3cret@bucket/x")
    assert done.exit_code == 1
    assert "the storage root needs a package that is not installed" in done.output
    assert "s3fs" in done.output
    assert "DYFF_STORAGE_ROOT" in done.output
    assert "s3cret" not in done.output


def test_a_reader_that_goes_away_is_told_nothing_more(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []

    def broken(text: object, **_: object) -> None:
        said.append(text)
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("click.echo", broken)
    done = CliRunner().invoke(main, ["validate", str(catalog)])
    assert done.exit_code == 1
    assert len(said) == 1


def test_a_number_that_nobody_can_read_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text('{"kind": "Evaluation", "id": "a", "replications": ' + "9" * 6000 + "}")
    for verb in ("validate", "import"):
        done = run(verb, path)
        assert done.exit_code == 1
        assert "9999" not in done.output
        assert f"{path}" in done.output
    assert "a number has more than 1000 digits" in run("validate", path).output


def test_a_kind_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text('{"kind": ["x"], "id": {}}')
    done = run("import", path, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "kind" in done.output
    assert not (tmp_path / "out").exists()


def test_what_a_terminal_would_obey_is_not_said(catalog: Path) -> None:
    done = run("show", "a\x1b[31m\x07b", "--catalog", catalog)
    assert done.exit_code == 1
    assert not set(done.output) & {"\x1b", "\x07"}
