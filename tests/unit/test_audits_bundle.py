"""Bundles: what is in them, and what is found in them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster.analysis import OWN_CODE, own_code_digest
from dyff_dagster.analysis.statistics import proportion
from dyff_dagster.audits.bundle import BundleError
from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.canonical import canonical_json
from dyff_dagster.store import Commit
from tests.unit.bundled_audit import (
    OTHER_KEY,
    PROMPT,
    BundledAudit,
    faults,
    members,
    resigned,
    verified,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> BundledAudit:
    """An audit that no test changes."""
    return BundledAudit(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def audit(tmp_path: Path) -> BundledAudit:
    """An audit of one's own."""
    return BundledAudit(tmp_path / "audit")


def test_a_bundle_that_nobody_touched_holds(shared: BundledAudit, tmp_path: Path) -> None:
    found = verified(shared.bundle(tmp_path / "b.zip").path)
    assert faults(found) == {}
    assert found.holds
    assert found.subject == "case"
    assert [check.name for check in found.checks] == [
        "container",
        "signature",
        "files",
        "provenance",
        "rows",
        "scores",
    ]


def test_it_has_everything_upstream_with_pages_code_and_scores(shared: BundledAudit, tmp_path: Path) -> None:
    content = members(shared.bundle(tmp_path / "b.zip").path)
    entities = {name.split("/")[1] for name in content if name.startswith("entities/")}
    assert entities == set(shared.catalog.entities)
    assert content["entities/case/files/index.html"] == b"<p>It is accurate."
    assert content["entities/code/files/functions.py"] == b"# judge and score\n"
    assert "entities/code/files/größe 名.txt" in content
    assert json.loads(content["entities/scores/commit.json"])["inputs"]["upstream"].keys() == {
        "code",
        "judged",
    }
    assert "entities/service/commit.json" not in content


def test_the_same_store_makes_the_same_bytes(shared: BundledAudit, tmp_path: Path) -> None:
    one, other = (shared.bundle(tmp_path / name) for name in ("one.zip", "other.zip"))
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.sha256 == other.sha256


def test_raw_data_and_columns_that_no_score_needs_stay_out(shared: BundledAudit, tmp_path: Path) -> None:
    written = shared.bundle(tmp_path / "b.zip")
    content = members(written.path)
    assert not [name for name, data in content.items() if PROMPT.encode() in data]
    assert not [name for name in content if name.endswith(".parquet") and "/scores/" not in name]
    assert set(written.left_out) == {"rows", "answers", "judged"}
    with pa.ipc.open_stream(content["entities/judged/rows.arrow"]) as reader:
        # label is used by a score, and has the name of a field that no service may see.
        assert reader.schema.names == ["_index_", "correct", "seconds", "group"]


def test_with_data_everything_is_in_it(shared: BundledAudit, tmp_path: Path) -> None:
    written = shared.bundle(tmp_path / "b.zip", with_data=True)
    assert written.left_out == {}
    assert {"entities/rows/files/part.parquet", "entities/judged/files/part.parquet"} <= set(
        members(written.path)
    )
    found = verified(written.path)
    assert found.holds
    assert next(check.notes for check in found.checks if check.name == "rows") == ()


def test_scores_are_made_again_or_said_to_be_asserted(shared: BundledAudit, tmp_path: Path) -> None:
    found = verified(shared.bundle(tmp_path / "b.zip").path)
    assert {(score.entity, score.name): (score.verdict, score.why) for score in found.scores} == {
        ("case", "accuracy"): ("recomputed", ""),
        ("scores", "accuracy"): ("recomputed", ""),
        ("scores", "accuracy_a"): ("recomputed", ""),
        ("scores", "share_a"): ("recomputed", ""),
        ("scores", "seconds"): ("recomputed", ""),
        ("scores", "labels"): ("asserted", "the field 'label' of judged is not in the bundle"),
        ("scores", "by_hand"): ("asserted", "its method does not say how it was made"),
    }


def test_a_bundle_of_a_measurement_has_what_is_upstream_of_it_only(
    shared: BundledAudit, tmp_path: Path
) -> None:
    written = shared.bundle(tmp_path / "b.zip", "scores")
    assert not [name for name in members(written.path) if "/case/" in name]
    assert verified(written.path).holds


def test_a_score_that_is_not_what_its_estimator_makes_differs(
    audit: BundledAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = audit._make_scores

    def exaggerated(path: Path) -> str:
        version = make(path)
        scores = path / ".dyff" / "scores.json"
        data = json.loads(scores.read_text())
        data["scores"][0]["quantity"] += 1e-6
        scores.write_text(json.dumps(data))
        return version

    monkeypatch.setattr(audit, "_make_scores", exaggerated)
    audit.commit("scores")
    found = verified(audit.bundle(tmp_path / "b.zip", "scores").path)
    assert not found.holds
    assert list(faults(found)) == ["scores"]
    assert faults(found)["scores"] == [
        "scores: accuracy: made again it is 0.75 [0.5312991223812561, 0.8881382985923344] (n = 20), not "
        "0.750001 [0.5312991223812561, 0.8881382985923344] (n = 20)"
    ]


def test_a_score_that_other_code_of_the_package_made_is_told_so_where_it_differs(
    audit: BundledAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for digest in (own_code_digest(), "f" * 64):
        audit.commit("scores", {OWN_CODE: digest})
        assert verified(audit.bundle(tmp_path / f"{digest}.zip", "scores").path).holds
    # The estimator is corrected after the bundle was made.
    monkeypatch.setattr(
        "dyff_dagster.analysis.statistics.proportions.proportion", lambda k, n, *_: proportion(k, n, 0.5)
    )
    (fault, *_) = faults(verified(tmp_path / f"{'f' * 64}.zip"))["scores"]
    assert fault.endswith("; it was made with other code of dyff-dagster than is installed here")
    (fault, *_) = faults(verified(tmp_path / f"{own_code_digest()}.zip"))["scores"]
    assert "other code" not in fault


def test_a_quotation_is_as_good_as_what_is_quoted(
    audit: BundledAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = audit._make_case

    def quoting_what_is_asserted(path: Path) -> None:
        make(path)
        for name, old, new in (
            ("estimators.json", '"score": "accuracy"', '"score": "by_hand"'),
            ("scores.json", '"quantity": 0.75', '"quantity": 0.5'),
        ):
            file = path / ".dyff" / name
            assert old in file.read_text()
            file.write_text(file.read_text().replace(old, new))
        (path / ".dyff" / "intervals.json").write_text('{"accuracy": {"n": 3}}')

    monkeypatch.setattr(audit, "_make_case", quoting_what_is_asserted)
    audit.commit("case")
    (score,) = [s for s in verified(audit.bundle(tmp_path / "b.zip").path).scores if s.entity == "case"]
    assert score.value == 0.5
    assert (score.verdict, score.why) == (
        "asserted",
        "it is quoted from scores, where by_hand is not recomputed",
    )


# What is wrong in the store is told when a bundle is written


def test_what_was_never_computed_is_named(audit: BundledAudit, tmp_path: Path) -> None:
    shutil.rmtree(audit.directory / "store" / "answers")
    with pytest.raises(BundleError, match=r"answers \(Evaluation\) was never materialized"):
        audit.bundle(tmp_path / "b.zip")
    assert list(tmp_path.glob("*.zip")) == []


def test_a_manifest_that_says_something_else_by_now_is_named(audit: BundledAudit, tmp_path: Path) -> None:
    manifest = audit.directory / "catalog" / "audit.yaml"
    manifest.write_text(manifest.read_text().replace("dataset: rows\n", "dataset: rows\nreplications: 2\n"))
    audit.catalog = Catalog.load(manifest.parent)
    with pytest.raises(BundleError, match="answers: its manifest says something else"):
        audit.bundle(tmp_path / "b.zip")


def test_the_version_that_was_read_is_taken_though_there_is_a_later_one(
    audit: BundledAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = audit.store.current("answers")
    assert read is not None
    monkeypatch.setattr(audit, "_make_answers", audit._make_rows)
    later = audit.commit("answers")
    assert later.data_version != read.data_version
    content = members(audit.bundle(tmp_path / "b.zip").path)
    assert json.loads(content["entities/answers/commit.json"])["version"] == read.data_version


def test_two_versions_of_one_entity_are_refused(
    audit: BundledAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        audit, "_make_code", lambda path: (path / "functions.py").write_text("other") and None
    )
    audit.commit("code")
    audit.commit("case")
    with pytest.raises(BundleError, match="made from different versions of code"):
        audit.bundle(tmp_path / "b.zip")


def test_a_file_that_was_changed_in_the_store_is_refused(audit: BundledAudit, tmp_path: Path) -> None:
    commit = audit.store.current("case")
    assert commit is not None
    page = Path(commit.path / "index.html")
    page.chmod(0o644)
    page.write_text("<p>It is Accurate.")
    with pytest.raises(BundleError, match=r"case: index\.html in .* is not what was committed"):
        audit.bundle(tmp_path / "b.zip")


def test_a_file_that_is_there_is_not_replaced_unless_it_is_said(shared: BundledAudit, tmp_path: Path) -> None:
    out = tmp_path / "b.zip"
    out.write_text("mine")
    with pytest.raises(FileExistsError):
        shared.bundle(out)
    assert out.read_text() == "mine"
    assert os.listdir(tmp_path) == ["b.zip"]
    shared.bundle(out, overwrite=True)
    assert verified(out).holds
    assert os.listdir(tmp_path) == ["b.zip"]


# The chain: what only the signer himself can get wrong


def changed_commit(content: dict[str, bytes], owner: str, **changes: Any) -> dict[str, bytes]:
    name = f"entities/{owner}/commit.json"
    return {**content, name: canonical_json({**json.loads(content[name]), **changes})}


def test_a_chain_that_is_broken_is_named(audit: BundledAudit, tmp_path: Path) -> None:
    other = "0" * 64
    commit = audit.commit("scores", judged=other)
    content = members(audit.bundle(tmp_path / "b.zip", "judged").path)
    scores = members_of_scores(audit, commit)
    found = verified(resigned(tmp_path / "b.zip", {**content, **scores}, subject="scores"))
    judged = audit.store.current("judged")
    assert judged is not None
    assert faults(found) == {
        "provenance": [
            f"scores was made from version {other} of judged, and the bundle has version {judged.data_version}"
        ]
    }


def members_of_scores(audit: BundledAudit, commit: Commit) -> dict[str, bytes]:
    """What a bundle has of the measurement ``scores`` and its method, in this commit."""
    from dyff_dagster.schema.interchange import full_form

    made = {
        f"entities/{name}/entity.json": canonical_json(full_form(audit.catalog.get(name)))
        for name in ("scores", "score")
    }
    made["entities/scores/commit.json"] = canonical_json(commit.to_json())
    for name in commit.files:
        made[f"entities/scores/files/{name}"] = Path(commit.path / name).read_bytes()
    return made


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("entities/judged/commit.json", "of judged, of which the bundle has no commit"),
        ("entities/judge/entity.json", "judged depends on judge, which is not in the bundle"),
        ("entities/code/files/functions.py", "functions.py is neither in the bundle nor stated as left out"),
        ("entities/case/commit.json", "the bundle is about case, and has no version of it"),
    ],
)
def test_what_the_chain_needs_is_missed(
    shared: BundledAudit, tmp_path: Path, without: str, said: str
) -> None:
    content = members(shared.bundle(tmp_path / "b.zip").path)
    del content[without]
    found = verified(resigned(tmp_path / "b.zip", content))
    assert list(faults(found)) == ["provenance"]
    assert [fault for fault in faults(found)["provenance"] if said in fault]
    assert found.scores == ()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("entities/code/files/more.py", b"1", "more.py is in the bundle, and was not committed"),
        ("entities/code/files/functions.py", b"1", "functions.py has SHA-256"),
        ("entities/code/notes.txt", b"1", "is nothing that a bundle of this format has"),
        ("notes/a/entity.json", b"{}", "is nothing that a bundle of this format has"),
        ("entities/code/entity.json", b"{}", "code: kind: is missing"),
        ("entities/code/entity.json", b"[]", "is no JSON object"),
        ("entities/code/entity.json", b"[" * 100_000, "is no JSON object"),
        ("entities/code/commit.json", b"{}", "is no commit record"),
        ("entities/code/commit.json", b"\xff", "is damaged"),
    ],
)
def test_what_does_not_belong_is_named(
    shared: BundledAudit, tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    content = members(shared.bundle(tmp_path / "b.zip").path)
    found = verified(resigned(tmp_path / "b.zip", {**content, name: data}))
    assert list(faults(found)) == ["provenance"]
    assert [fault for fault in faults(found)["provenance"] if said in fault]


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": {"spec": "1" * 64, "upstream": {}, "extras": {}}},
        {"codeVersion": "1" * 64},
        {"entity": "case"},
        {"kind": "Dataset"},
        {"version": "1" * 64},
        {"inputs": []},
        {"inputs": {"spec": "1" * 64, "upstream": [], "extras": None}},
        {"files": []},
    ],
)
def test_a_commit_that_contradicts_itself_is_refused(
    shared: BundledAudit, tmp_path: Path, changes: dict[str, Any]
) -> None:
    content = changed_commit(members(shared.bundle(tmp_path / "b.zip").path), "code", **changes)
    found = verified(resigned(tmp_path / "b.zip", content))
    assert list(faults(found)) == ["provenance"]
    assert [fault for fault in faults(found)["provenance"] if fault.startswith("code")]


def test_scores_of_the_commit_that_are_not_those_of_the_files_are_named(
    shared: BundledAudit, tmp_path: Path
) -> None:
    content = members(shared.bundle(tmp_path / "b.zip").path)
    commit = json.loads(content["entities/case/commit.json"])
    for value in (0.76, "much", None):
        commit["facts"]["scores"][0]["value"] = value
        content["entities/case/commit.json"] = canonical_json(commit)
        found = verified(resigned(tmp_path / "b.zip", content))
        assert faults(found) == {"scores": ["case: the scores of its commit are not those of its files"]}


def test_an_entity_that_is_not_the_one_committed_is_refused(shared: BundledAudit, tmp_path: Path) -> None:
    content = members(shared.bundle(tmp_path / "b.zip").path)
    name = "entities/case/entity.json"
    content[name] = content[name].replace(b'"name":"Case"', b'"name":"Other"')
    found = verified(resigned(tmp_path / "b.zip", content))
    assert "case was committed as an entity of digest" in faults(found)["provenance"][0]


def test_rows_that_are_not_those_of_the_version_are_refused(shared: BundledAudit, tmp_path: Path) -> None:
    content = members(shared.bundle(tmp_path / "b.zip").path)
    name = "entities/judged/rows.arrow"
    with pa.ipc.open_stream(content[name]) as reader:
        table = reader.read_all()
    flipped = table.set_column(1, table.schema.field(1), pa.array([True] * 20))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, flipped.schema) as writer:
        writer.write_table(flipped)
    content[name] = sink.getvalue().to_pybytes()
    found = verified(resigned(tmp_path / "b.zip", content))
    assert not found.holds
    assert faults(found)["rows"][0].startswith("judged: its rows make the version")
    # What was made of them is not said to be made again.
    assert {score.verdict for score in found.scores if score.name == "accuracy_a"} == {"asserted"}


def test_parquet_rows_that_are_not_those_of_the_version_are_refused(
    audit: BundledAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = audit._make_rows

    def other_rows(path: Path) -> str:
        version = make(path)
        pq.write_table(pa.table({"_index_": range(19)}), path / "part.parquet")
        return version

    # A version whose files were exchanged before they were committed.
    monkeypatch.setattr(audit, "_make_rows", other_rows)
    audit.commit("rows")
    found = verified(audit.bundle(tmp_path / "b.zip", "rows", with_data=True).path)
    assert faults(found)["rows"][0].startswith("rows: its rows make the version")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.arrow", b""),
        ("rows.arrow", b"nonsense" * 100),
        ("rows.json", b'{"columns":[["_index_"]],"rows":20}'),
        ("rows.json", b'{"columns":[["_index_","x",["zz"]]],"rows":20}'),
        ("rows.json", b'{"columns":7,"rows":20}'),
        ("rows.json", b"{}"),
    ],
)
def test_rows_that_are_damaged_are_refused(
    shared: BundledAudit, tmp_path: Path, name: str, data: bytes
) -> None:
    content = members(shared.bundle(tmp_path / "b.zip").path)
    content[f"entities/judged/{name}"] = data
    found = verified(resigned(tmp_path / "b.zip", content))
    assert not found.holds
    assert faults(found)["rows"][0].startswith("judged: its rows cannot be read")


def test_rows_without_their_description_are_refused(shared: BundledAudit, tmp_path: Path) -> None:
    content = members(shared.bundle(tmp_path / "b.zip").path)
    del content["entities/judged/rows.json"]
    found = verified(resigned(tmp_path / "b.zip", content))
    assert "one of rows.json and rows.arrow" in faults(found)["rows"][0]


def test_nothing_is_read_where_the_signature_does_not_hold(
    shared: BundledAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared.bundle(tmp_path / "b.zip", key=OTHER_KEY).path

    def forbidden(*_: object) -> None:
        raise AssertionError("a stranger's content was read")

    monkeypatch.setattr("dyff_dagster.audits.bundle.verifying.read_chain", forbidden)
    found = verified(path)
    assert {check.name: check.state for check in found.checks} == {
        "container": "holds",
        "signature": "fails",
        "files": "holds",
        "provenance": "skipped",
        "rows": "skipped",
        "scores": "skipped",
    }
    assert not found.holds
