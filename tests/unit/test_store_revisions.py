"""Revisions: what an entity said, each time that it said something else, and who had it computed."""

from __future__ import annotations

import getpass
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.arrow import encode_schema
from dyff_dagster.schema.newer import held_fields, hold
from dyff_dagster.schema.platform import (
    Dataset,
    DyffEntity,
    Family,
    History,
    InferenceService,
    Method,
    Module,
    Revision,
)
from dyff_dagster.store import Commit, Facts, Inputs, Store, StoreError, changes, unified_diff
from dyff_dagster.store.held import held_parts, with_held
from dyff_dagster.store.revisions import current_user

INT, TEXT = pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.string())


def module(name: str = "code", **fields: Any) -> Module:
    return Module(id="m", account="acme", name=name, artifacts=[{"path": "a.txt"}], **fields)


def commit(
    store: Store, entity: DyffEntity | None = None, *, text: str = "one", run: str = "run-1"
) -> Commit:
    entity = entity or module()
    with store.draft(entity.id) as draft:
        (draft.path / "a.txt").write_text(text)
        return draft.commit(
            entity=entity, data_version="d" * 64, inputs=Inputs(spec="s"), facts=Facts(), run_id=run
        )


def names(store: Store, entity_id: str = "m") -> list[str]:
    return [str(revision.entity["name"]) for revision in store.revisions.of(entity_id)]


@pytest.fixture(params=["disk", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path / "root" if request.param == "disk" else f"memory://revisions/{tmp_path.name}")


@pytest.fixture
def disk(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


@pytest.fixture(autouse=True)
def ada(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYFF_USER", "ada@lab")


def test_an_entity_that_was_never_committed_has_no_history(store: Store) -> None:
    assert store.revisions.of("m") == []
    assert store.revisions.history("m") is None


def test_the_first_commit_is_the_first_revision(store: Store) -> None:
    made = commit(store)
    (revision,) = store.revisions.of("m")
    assert (revision.number, revision.entity_id, revision.entity["name"]) == (1, "m", "code")
    assert (revision.user, revision.run_id, revision.commit) == ("ada@lab", "run-1", "m/1")
    assert revision.created == made.committed


def test_a_commit_that_says_the_same_is_no_revision(store: Store) -> None:
    commit(store)
    commit(store, text="two")
    assert [found.number for found in store.revisions.of("m")] == [1]


@pytest.mark.parametrize(
    "changed",
    [
        module("other"),
        module(labels={"tier": "gold"}),
        module(annotations=[{"key": "dyff-dagster/automation", "value": "eager"}]),
    ],
    ids=["field", "label", "annotation that changes no result"],
)
def test_a_commit_that_says_something_else_is_a_revision(store: Store, changed: Module) -> None:
    commit(store)
    commit(store, changed, run="run-2")
    first, second = store.revisions.of("m")
    assert (second.number, second.run_id, second.commit) == (2, "run-2", "m/2")
    assert first.id != second.id


def test_what_was_said_before_and_is_said_again_is_a_revision_too(store: Store) -> None:
    for name in ("code", "other", "code"):
        commit(store, module(name))
    assert names(store) == ["code", "other", "code"]


def test_the_order_of_annotations_is_no_change(store: Store) -> None:
    pair = [{"key": "a.example/x", "value": "1"}, {"key": "a.example/y", "value": "2"}]
    commit(store, module(annotations=pair))
    commit(store, module(annotations=list(reversed(pair))))
    assert len(store.revisions.of("m")) == 1


def test_ids_follow_from_the_entity_and_the_number(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    for where in (store, other):
        commit(where)
        commit(where, module("other"))
    assert [r.id for r in store.revisions.of("m")] == [r.id for r in other.revisions.of("m")]


def test_what_is_stored_is_the_platforms_revision_and_history(disk: Store) -> None:
    commit(disk)
    commit(disk, module("other"))
    folder = Path(disk.working("m"))
    found = [
        Revision.model_validate_json(path.read_bytes()) for path in sorted((folder / "revisions").iterdir())
    ]
    assert [revision.entity.name for revision in found if isinstance(revision.entity, Module)] == [
        "code",
        "other",
    ]
    assert all(revision.labels == {} and revision.account == "acme" for revision in found)
    history = History.model_validate_json((folder / "history.json").read_bytes())
    assert history.latest == found[1].id
    assert {name: one.creationTime for name, one in history.revisions.items()} == {
        revision.id: revision.creationTime for revision in found
    }
    assert history == disk.revisions.history("m")


def test_stored_revisions_can_stand_in_a_catalog(disk: Store, tmp_path: Path) -> None:
    commit(disk)
    history = disk.revisions.history("m")
    assert history is not None
    catalog = Catalog([*(found.revision() for found in disk.revisions.of("m")), history])
    assert len(catalog) == 2
    folder = tmp_path / "catalog"
    folder.mkdir()
    for entity in catalog.entities.values():
        (folder / f"{entity.id}.json").write_text(entity.model_dump_json(exclude={"status", "reason"}))
    assert set(Catalog.load(folder).entities) == set(catalog.entities)


def test_the_time_of_creation_stays_through_revisions(store: Store) -> None:
    commit(store)
    commit(store, module("other"))
    first, second = store.revisions.of("m")
    assert first.entity["creationTime"] == second.entity["creationTime"] == first.created.isoformat()


def test_reading_writes_nothing(disk: Store, tmp_path: Path) -> None:
    disk.revisions.of("m")
    disk.revisions.history("m")
    assert not (tmp_path / "root").exists()


# What is only declared


def service(name: str = "Service") -> InferenceService:
    return InferenceService(
        id="s",
        account="acme",
        name=name,
        interface={"endpoint": "e", "outputSchema": {"arrowSchema": encode_schema(pa.schema([INT]))}},
    )


def test_what_is_only_declared_is_recorded_on_the_occasion_of_a_commit(store: Store) -> None:
    store.revisions.record(service(), run_id="run-1", commit="e/1")
    store.revisions.record(service(), run_id="run-2", commit="e/2")
    store.revisions.record(service("Other"), run_id="run-3", commit="e/3")
    first, second = store.revisions.of("s")
    assert [(r.number, r.run_id, r.commit) for r in (first, second)] == [
        (1, "run-1", "e/1"),
        (2, "run-3", "e/3"),
    ]
    assert first.entity["creationTime"] == second.entity["creationTime"]
    assert second.revision().entity.status == "Ready"
    assert store.commits("s") == []


def test_a_new_label_on_a_version_that_is_taken_over_is_a_revision_and_the_next_commit_none(
    store: Store,
) -> None:
    commit(store)
    labelled = module(labels={"tier": "gold"})
    store.revisions.record(labelled, run_id="run-2", commit="m/1")
    commit(store, labelled, run="run-3")
    assert [(r.number, r.run_id) for r in store.revisions.of("m")] == [(1, "run-1"), (2, "run-2")]


def test_an_id_that_is_declared_and_was_committed_gets_one_revision(store: Store) -> None:
    commit(store)
    declared = service().model_copy(update={"id": "m"})
    for _ in range(2):
        store.revisions.record(declared)
    assert [r.entity["kind"] for r in store.revisions.of("m")] == ["Module", "InferenceService"]


def test_a_member_of_a_family_keeps_its_time_until_it_stands_for_something_else(store: Store) -> None:
    def family(**members: str) -> Family:
        named = {n: {"name": n, "family": "f", "resource": r} for n, r in members.items()}
        return Family(id="f", account="acme", memberKind="Dataset", members=named)

    store.revisions.record(family(a="one", b="one"))
    store.revisions.record(family(a="one", b="two"))
    first, second = (revision.entity["members"] for revision in store.revisions.of("f"))
    assert first["a"]["creationTime"] == second["a"]["creationTime"]
    assert first["b"]["creationTime"] < second["b"]["creationTime"]
    store.revisions.record(family(a="one", b="two"))
    assert len(store.revisions.of("f")) == 2


# Crashes and writers


def killed_before_the_revision(root: str, name: str) -> None:
    """Commit, and be killed when the revision is about to be written."""
    store = Store(root)
    create = store._files.create

    def die(path: Any, data: bytes) -> None:
        if path.parent.name == "revisions":
            os.kill(os.getpid(), signal.SIGKILL)
        create(path, data)

    store._files.create = die  # type: ignore[method-assign]
    commit(store, module(name), run="killed")


def in_a_process(target: Callable[..., None], *arguments: object) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def test_a_revision_that_a_kill_kept_from_being_written_is_seen_by_readers(disk: Store) -> None:
    commit(disk)
    assert in_a_process(killed_before_the_revision, str(disk.root), "other") == -signal.SIGKILL
    assert disk._files.names(disk.working("m") / "revisions") == ["00000001.json"]
    second = disk.revisions.of("m")[1]
    assert (second.entity["name"], second.run_id, second.user) == ("other", "killed", "ada@lab")
    assert disk._files.names(disk.working("m") / "revisions") == ["00000001.json"]


@pytest.mark.parametrize("later", ["code", "other", "third"])
def test_the_next_commit_makes_up_for_a_revision_that_was_not_written(disk: Store, later: str) -> None:
    commit(disk)
    in_a_process(killed_before_the_revision, str(disk.root), "other")
    seen = disk.revisions.of("m")[1]
    commit(disk, module(later))
    assert names(disk) == ["code", "other"] + ([] if later == "other" else [later])
    assert disk.revisions.of("m")[1] == seen
    assert len(disk._files.names(disk.working("m") / "revisions")) == len(names(disk))


def test_taking_a_version_over_makes_up_for_it_too(disk: Store) -> None:
    in_a_process(killed_before_the_revision, str(disk.root), "code")
    disk.revisions.record(module(), run_id="later")
    assert [r.run_id for r in disk.revisions.of("m")] == ["killed"]
    history = json.loads(Path(disk.working("m") / "history.json").read_text())
    assert history["latest"] == disk.revisions.of("m")[0].id


def test_commits_of_a_release_without_revisions_become_revisions(disk: Store) -> None:
    for name in ("code", "code", "other"):
        commit(disk, module(name))
    for path in [*Path(disk.working("m") / "revisions").iterdir(), Path(disk.working("m") / "history.json")]:
        path.unlink()
    for path in Path(disk.working("m") / "commits").iterdir():
        record = json.loads(path.read_text())
        del record["by"]
        path.write_text(json.dumps(record))
    assert [(r.number, r.commit, r.user) for r in disk.revisions.of("m")] == [(1, "m/1", ""), (2, "m/3", "")]
    commit(disk, module("other"))
    assert names(disk) == ["code", "other"]


def record_many(root: str, name: str, start: Any) -> None:
    store = Store(root)
    start.wait(30)
    for _ in range(20):
        store.revisions.record(service(name), run_id=name)


def test_two_writers_at_once_leave_one_unbroken_row_of_revisions(disk: Store) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Event()
    writers = [
        context.Process(target=record_many, args=(str(disk.root), name, start)) for name in ("One", "Two")
    ]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    found = names(disk, "s")
    assert [r.number for r in disk.revisions.of("s")] == list(range(1, len(found) + 1))
    assert all(one != other for one, other in pairwise(found))
    assert set(found) == {"One", "Two"}


def test_a_writer_that_comes_second_with_the_same_change_adds_nothing(
    disk: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = disk._files.create

    def after_another(path: Any, data: bytes) -> None:
        monkeypatch.undo()
        monkeypatch.setenv("DYFF_USER", "ada@lab")
        Store(disk.root).revisions.record(service(), run_id="first")
        create(path, data)

    monkeypatch.setattr(disk._files, "create", after_another)
    latest = disk.revisions.record(service(), run_id="second")
    assert latest is not None
    assert latest.run_id == "first"
    assert len(disk.revisions.of("s")) == 1


def test_a_damaged_revision_is_one_sentence(disk: Store) -> None:
    commit(disk)
    Path(disk.working("m") / "revisions" / "00000001.json").write_text("{}")
    with pytest.raises(
        StoreError, match=r"00000001\.json is no Revision that this project wrote .* restore it"
    ):
        disk.revisions.of("m")


def test_a_revision_that_nests_too_deeply_is_one_sentence(disk: Store) -> None:
    commit(disk)
    Path(disk.working("m") / "revisions" / "00000001.json").write_text("[" * 100_000)
    with pytest.raises(StoreError, match=r"00000001\.json is no Revision that this project wrote"):
        disk.revisions.of("m")


def test_a_damaged_history_is_written_anew(disk: Store) -> None:
    commit(disk)
    path = Path(disk.working("m") / "history.json")
    path.write_text("{")
    commit(disk)
    assert json.loads(path.read_text())["kind"] == "History"


@pytest.mark.parametrize("name", [".dyff/history.json", ".dyff/revisions/00000001.json"])
def test_an_artifact_may_not_take_the_names_of_revisions(disk: Store, name: str) -> None:
    with disk.draft("m") as draft:
        (draft.path / name).parent.mkdir(parents=True)
        (draft.path / name).write_text("{}")
        with pytest.raises(StoreError, match="the store keeps its own there"):
            draft.commit(entity=module(), data_version="d" * 64, inputs=Inputs(spec="s"), facts=Facts())


# Who


def test_dyff_user_says_who() -> None:
    assert current_user({"DYFF_USER": " Ada Lovelace <ada@lab> "}) == "Ada Lovelace <ada@lab>"


def test_without_it_the_login_name_does() -> None:
    assert current_user({}) == getpass.getuser()


def test_a_name_that_is_no_line_of_text_becomes_one() -> None:
    assert current_user({"DYFF_USER": "ada\x1b[31m\nroot" + "x" * 999}).startswith("ada[31mrootx")
    assert len(current_user({"DYFF_USER": "x" * 999})) == 200


def test_an_account_without_a_name_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert current_user({}) == f"uid {os.getuid()}"


# What is held for dyff-schema 0.46


def runner(*env: dict[str, str]) -> InferenceService:
    service = InferenceService.model_validate(
        {
            "id": "m",
            "account": "acme",
            "name": "Service",
            "runner": {"kind": "standalone", "args": ["serve"], "resources": {"storage": "1Gi"}},
            "interface": {"endpoint": "e", "outputSchema": {"arrowSchema": encode_schema(pa.schema([INT]))}},
        }
    )
    assert service.runner is not None
    held = hold(service.runner, {"env": list(env)})
    return service.model_copy(update={"runner": held})


def documented(title: str, **metadata: Any) -> Module:
    return hold(module(), {"metadata": {"documentation": {"title": title}, **metadata}})


def test_a_change_of_what_is_held_alone_is_a_revision(store: Store) -> None:
    commit(store, module())
    commit(store, documented("One"))
    commit(store, documented("One"))
    commit(store, documented("Two"))
    found = store.revisions.of("m")
    assert [revision.number for revision in found] == [1, 2, 3]
    assert [[change.field for change in changes(a.whole, b.whole)] for a, b in pairwise(found)] == [
        ["metadata"],
        ["metadata.documentation.title"],
    ]


def test_a_change_of_what_is_held_is_recorded_of_what_is_only_declared(store: Store) -> None:
    for entity in (documented("One"), documented("One"), documented("Two")):
        store.revisions.record(entity)
    assert [revision.held["metadata"]["documentation"]["title"] for revision in store.revisions.of("m")] == [
        "One",
        "Two",
    ]


def test_a_change_of_a_methods_scores_is_shown_field_by_field(store: Store) -> None:
    method = Method.model_validate(
        {
            "id": "m",
            "account": "acme",
            "name": "Counted",
            "scope": "Evaluation",
            "implementation": {"kind": "PythonFunction", "pythonFunction": {"fullyQualifiedName": "a.b"}},
            "output": {"kind": "SafetyCase", "safetyCase": {"name": "Counted"}},
        }
    )
    for title in ("Rows", "All rows"):
        score = {"name": "rows", "title": title, "summary": "How many rows there are"}
        store.revisions.record(hold(method, {"scores": [score]}))
    first, second = store.revisions.of("m")
    assert [(change.field, change.old, change.new) for change in changes(first.whole, second.whole)] == [
        ("scores[0].title", "Rows", "All rows")
    ]
    lines = unified_diff(first.whole, second.whole, "old", "new")
    assert [line for line in lines if line.startswith(("-  ", "+  "))] == [
        "-  title: Rows",
        "+  title: All rows",
    ]


def test_what_the_platform_assigns_in_metadata_makes_no_revision(store: Store) -> None:
    commit(store, documented("One"))
    commit(store, documented("One", revision="f" * 32))
    assert len(store.revisions.of("m")) == 1


def test_a_revision_that_was_not_written_has_what_was_held(disk: Store) -> None:
    commit(disk, documented("One"))
    shutil.rmtree(Path(disk.working("m")) / "revisions")
    assert disk.revisions.of("m")[0].held == {"metadata": {"documentation": {"title": "One"}}}


def test_files_for_other_tools_have_the_form_of_the_page(disk: Store) -> None:
    commit(disk, runner({"name": "MODE", "value": "fast"}))
    folder = Path(disk.directory("m"))
    (revision,) = (folder / ".dyff" / "revisions").iterdir()
    for text in (
        (folder / ".inferenceservice.json").read_text(),
        json.dumps(json.loads(revision.read_text())["entity"]),
    ):
        assert "env" not in json.loads(text)["runner"]


def test_the_platforms_revision_holds_it_again(disk: Store) -> None:
    entity = runner({"name": "MODE", "value": "fast"})
    commit(disk, entity)
    (found,) = disk.revisions.of("m")
    revised = found.revision().entity
    assert isinstance(revised, InferenceService)
    assert revised.runner is not None
    assert held_fields(revised.runner) == {"env": [{"name": "MODE", "value": "fast"}]}


def test_a_secret_in_the_environment_of_a_runner_is_not_shown(disk: Store) -> None:
    commit(disk, runner({"name": "MODE", "value": "fast"}))
    commit(disk, runner({"name": "MODE", "value": "slow"}, {"name": "API_KEY", "value": "sk-written-down"}))
    old, new = disk.revisions.of("m")
    text = "\n".join(unified_diff(old.whole, new.whole, "old", "new"))
    assert "slow" in text
    assert "(not shown)" in text
    assert "sk-written-down" not in text


def test_held_parts_have_the_shape_of_the_wire_form_and_go_back_into_it() -> None:
    entity = hold(runner({"name": "MODE", "value": "fast"}), {"metadata": {"documentation": {"title": "T"}}})
    held = held_parts(entity)
    assert held == {
        "metadata": {"documentation": {"title": "T"}},
        "runner": {"env": [{"name": "MODE", "value": "fast"}]},
    }
    wire = entity.model_dump(mode="json")
    assert InferenceService.model_validate(with_held(wire, held)) == entity
    assert held_parts(InferenceService.model_validate(with_held(wire, held))) == held
    assert "env" not in wire["runner"]


def test_what_members_of_a_list_hold_stands_under_their_positions() -> None:
    first, second = module(), documented("Two")
    assert held_parts([first, second]) == {"1": {"metadata": {"documentation": {"title": "Two"}}}}
    assert with_held({"x": [{"id": "a"}, {"id": "b"}]}, {"x": {"1": {"held": 1}}}) == {
        "x": [{"id": "a"}, {"id": "b", "held": 1}]
    }


# What differs


def dataset(*fields: pa.Field, **more: Any) -> dict[str, Any]:
    entity = Dataset(
        id="d",
        account="acme",
        name="Rows",
        artifacts=[{"path": "a.parquet"}],
        schema={"arrowSchema": encode_schema(pa.schema(fields))},
        **more,
    )
    return dict(json.loads(entity.model_dump_json()))


def test_a_schema_is_shown_as_types() -> None:
    old, new = dataset(INT), dataset(INT, TEXT)
    lines = unified_diff(old, new, "old", "new")
    assert "+    y: string" in lines
    assert "     x: int64!" in lines
    assert old["schema"]["arrowSchema"] not in "\n".join(lines)
    assert [(c.field, c.old, c.new) for c in changes(old, new)] == [("schema.arrow.y", None, "string")]


def test_a_schema_that_differs_in_a_description_alone_differs() -> None:
    said = INT.with_metadata({"__doc__": "how many"})
    assert [change.field for change in changes(dataset(INT), dataset(said))] == ["schema.arrowSchema"]


def test_a_changed_field_is_named_as_manifests_name_it() -> None:
    old, new = dataset(INT), dataset(INT, annotations=[{"key": "dyff-dagster/withhold", "value": "x"}])
    new["artifacts"][0]["path"] = "b.parquet"
    found = [(change.field, change.old, change.new) for change in changes(old, new)]
    assert found == [
        ("artifacts[0].path", "a.parquet", "b.parquet"),
        ("annotations", None, {"dyff-dagster/withhold": "x"}),
    ]


def test_the_same_has_no_diff() -> None:
    assert unified_diff(dataset(INT), dataset(INT), "old", "new") == []
    assert changes(dataset(INT), dataset(INT)) == []


def test_what_the_system_assigns_is_no_difference() -> None:
    new = {**dataset(INT), "status": "Ready", "reason": "x", "creationTime": "2020-01-01T00:00:00Z"}
    assert changes(dataset(INT), new) == []


def test_an_empty_field_of_a_later_release_is_no_difference() -> None:
    assert changes(dataset(INT), {**dataset(INT), "metadata": None, "nodes": []}) == []


def test_null_inside_a_configuration_is_a_difference() -> None:
    def adapted(configuration: dict[str, Any]) -> dict[str, Any]:
        return {"interface": {"inputPipeline": [{"kind": "TransformJSON", "configuration": configuration}]}}

    found = changes(adapted({"a": 1}), adapted({"a": 1, "b": None}))
    assert [change.field for change in found] == ["interface.inputPipeline[0].configuration.b"]


def test_a_header_from_the_environment_is_shown_unresolved_and_a_written_secret_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("API_KEY", "from-the-environment")

    def with_headers(headers: dict[str, str]) -> dict[str, Any]:
        value = json.dumps(headers)
        return dataset(INT, annotations=[{"key": "dyff-dagster/headers", "value": value}])

    old = with_headers({"Authorization": "Bearer ${API_KEY}", "X-Version": "1"})
    new = with_headers({"Authorization": "Bearer sk-written-down", "X-Version": "2"})
    text = "\n".join(unified_diff(old, new, "old", "new"))
    assert "Bearer ${API_KEY}" in text
    assert "(not shown)" in text
    assert "X-Version: '2'" in text
    assert "sk-written-down" not in text
    assert "from-the-environment" not in text
