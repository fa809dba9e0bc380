"""The store: versions that never change, a pointer that never points at half of one."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from upath import UPath

from dyff_dagster.schema.platform import Module
from dyff_dagster.store import (
    Commit,
    CommitConflict,
    Completeness,
    EntityBusy,
    Facts,
    Inputs,
    Score,
    Store,
    StoreError,
)
from dyff_dagster.store.digests import digest_file, list_files, tree_digest
from dyff_dagster.store.paths import PathOutside, resolve_inside


def module(entity_id: str = "m") -> Module:
    return Module(id=entity_id, account="acme", name="code", artifacts=[{"path": "a.txt"}])


def commit(
    store: Store,
    text: str,
    *,
    name: str = "a.txt",
    entity_id: str = "m",
    spec: str = "s1",
    facts: Facts | None = None,
) -> Commit:
    with store.draft(entity_id) as draft:
        (draft.path / name).write_text(text)
        files = {found: digest_file(draft.path / found) for found in list_files(draft.path)}
        return draft.commit(
            entity=module(entity_id),
            data_version=tree_digest(files),
            inputs=Inputs(spec=spec),
            facts=facts or Facts(),
            run_id="run-1",
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def test_nothing_is_current_before_the_first_commit(store: Store) -> None:
    assert store.current("m") is None
    assert store.commits("m") == []


def test_a_commit_is_current_and_reads_back_whole(store: Store) -> None:
    facts = Facts(
        rows=3,
        scores=(Score("auc", 0.9, 0.8, 0.95, 120),),
        completeness=Completeness(6, 5, missing=1, examples=("row 4, replication 0",)),
        sent_fields=("a", "b"),
        notes={"requests": 7},
    )
    made = commit(store, "one", facts=facts)
    read = store.current("m")
    assert read == made
    assert read is not None
    assert read.facts.headline == Score("auc", 0.9, 0.8, 0.95, 120)
    assert (read.path / "a.txt").read_text() == "one"


def test_an_earlier_version_stays_when_a_later_one_is_committed(store: Store) -> None:
    first = commit(store, "one")
    second = commit(store, "two")
    assert (first.path / "a.txt").read_text() == "one"
    assert store.current("m") == second
    assert [c.sequence for c in store.commits("m")] == [1, 2]


def test_the_published_view_shows_the_current_version_and_drops_what_it_no_longer_has(
    store: Store, tmp_path: Path
) -> None:
    commit(store, "one", name="old.txt")
    commit(store, "two", name="new.txt")
    root = tmp_path / "root" / "m"
    assert (root / "new.txt").read_text() == "two"
    assert not (root / "old.txt").exists()
    assert json.loads((root / ".module.json").read_text())["status"] == "Ready"
    assert json.loads((root / ".dyff" / "commit.json").read_text())["sequence"] == 2


def test_creation_time_is_set_once(store: Store) -> None:
    commit(store, "one")
    first = store.entity_json("m")
    commit(store, "two")
    second = store.entity_json("m")
    assert first is not None
    assert second is not None
    assert first["creationTime"] == second["creationTime"]


def test_a_file_of_a_version_is_read_only(store: Store) -> None:
    made = commit(store, "one")
    assert Path(made.path / "a.txt").stat().st_mode & 0o222 == 0


def test_the_same_content_keeps_the_files_that_are_there(store: Store) -> None:
    first = commit(store, "one", spec="s1")
    inode = os.stat(first.path / "a.txt").st_ino
    second = commit(store, "one", spec="s2")
    assert second.sequence == 2
    assert second.code_version == "s2"
    assert os.stat(second.path / "a.txt").st_ino == inode


def test_files_have_both_digests(store: Store) -> None:
    digest = commit(store, "hello\n").files["a.txt"]
    assert digest.sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert base64.b64decode(digest.md5).hex() == "b1946ac92492d2347c6235b4d2611184"
    assert digest.size == 6


def test_a_draft_that_is_not_committed_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), store.draft("m") as draft:
        (draft.path / "a.txt").write_text("half")
        raise RuntimeError
    assert store.current("m") is None
    assert [p for p in (tmp_path / "root").rglob("*") if p.is_file()] == []


def test_of_two_writers_at_once_one_wins_and_the_other_is_told(store: Store) -> None:
    with store.draft("m") as slow:
        (slow.path / "a.txt").write_text("slow")
        seen = store._sequence_numbers("m")  # the slow writer looked before the quick one committed
        store._sequence_numbers = lambda entity_id: seen  # type: ignore[method-assign]
        commit(Store(store.root), "quick")
        with pytest.raises(CommitConflict, match="another run committed version number 1"):
            slow.commit(entity=module(), data_version="d" * 64, inputs=Inputs(spec="s"), facts=Facts())
    current = Store(store.root).current("m")
    assert current is not None
    assert (current.path / "a.txt").read_text() == "quick"


def test_a_half_written_version_is_completed_by_the_next_writer(store: Store) -> None:
    version = store.working("m") / "versions"
    with store.draft("m") as draft:
        (draft.path / "a.txt").write_text("one")
        data_version = tree_digest({"a.txt": digest_file(draft.path / "a.txt")})
    Path(version / data_version).mkdir(parents=True)
    Path(version / data_version / "a.txt").write_text("o")  # what a killed writer left
    made = commit(store, "one")
    assert made.data_version == data_version
    assert (made.path / "a.txt").read_text() == "one"


def test_a_view_that_a_crash_left_behind_is_repaired(store: Store, tmp_path: Path) -> None:
    commit(store, "one")
    second = commit(store, "two")
    view = tmp_path / "root" / "m"
    # As if the process had died right after creating commit number 2.
    (view / "a.txt").unlink()
    (view / "a.txt").write_text("one")
    record = json.loads((view / ".dyff" / "commits" / "00000001.json").read_text())
    (view / ".dyff" / "commit.json").write_text(json.dumps(record))
    store.repair(second)
    assert (view / "a.txt").read_text() == "two"
    assert json.loads((view / ".dyff" / "commit.json").read_text())["sequence"] == 2


def test_a_version_with_a_missing_file_is_not_intact(store: Store) -> None:
    made = commit(store, "one")
    assert store.intact(made)
    Path(made.path / "a.txt").unlink()
    assert not store.intact(made)


def test_a_version_that_lost_a_file_is_made_whole_by_the_same_content(store: Store) -> None:
    first = commit(store, "one")
    Path(first.path / "a.txt").unlink()
    second = commit(store, "one")
    assert second.data_version == first.data_version
    assert (second.path / "a.txt").read_text() == "one"
    assert store.intact(second)


def test_files_that_a_killed_writer_left_are_no_part_of_the_next_version(store: Store) -> None:
    with store.draft("m") as draft:
        (draft.path / "a.txt").write_text("one")
        data_version = tree_digest({"a.txt": digest_file(draft.path / "a.txt")})
    orphan = Path(store.working("m") / "versions" / data_version)
    orphan.mkdir(parents=True)
    (orphan / "orphan.parquet").write_text("rows that were never committed")
    made = commit(store, "one")
    assert sorted(path.name for path in Path(made.path).iterdir()) == [".files.json", "a.txt"]


def test_files_of_a_commit_whose_publishing_was_cut_short_do_not_stay_in_the_view(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store, "one", name="first.txt")
    put = store._files.put

    def die_before_the_pointer(path: UPath, data: bytes) -> None:
        if path.name == "commit.json":
            raise KeyboardInterrupt
        put(path, data)

    monkeypatch.setattr(store._files, "put", die_before_the_pointer)
    with pytest.raises(KeyboardInterrupt):
        commit(store, "two", name="second.txt")
    monkeypatch.undo()
    commit(store, "three", name="third.txt")
    view = tmp_path / "root" / "m"
    assert sorted(path.name for path in view.glob("*.txt")) == ["third.txt"]


def test_the_same_content_with_other_files_has_a_directory_of_its_own(store: Store) -> None:
    def with_figure(figure: bytes | None) -> Commit:
        with store.draft("m") as draft:
            (draft.path / "rows.txt").write_text("the same rows")
            if figure:
                (draft.path / "figure.png").write_bytes(figure)
            return draft.commit(
                entity=module(),
                data_version="d" * 64,
                inputs=Inputs(spec="s"),
                facts=Facts(figure="figure.png" if figure else None),
            )

    plain, drawn = with_figure(None), with_figure(b"png")
    assert plain.data_version == drawn.data_version
    assert (drawn.path / "figure.png").read_bytes() == b"png"
    assert list(plain.files) == ["rows.txt"]
    assert store.current("m") == drawn
    assert not (plain.path / "figure.png").exists()


def test_a_damaged_commit_record_is_one_sentence(store: Store) -> None:
    commit(store, "one")
    path = Path(store.working("m") / "commits" / "00000001.json")
    path.write_text("{")
    with pytest.raises(StoreError, match=r"00000001\.json is no commit record .* restore it"):
        store.current("m")


def test_an_artifact_may_not_take_the_stores_own_names(store: Store) -> None:
    with store.draft("m") as draft:
        (draft.path / ".dyff").mkdir()
        (draft.path / ".dyff" / "commit.json").write_text("{}")
        with pytest.raises(StoreError, match=r"may not be named \.dyff/commit\.json"):
            draft.commit(entity=module(), data_version="d" * 64, inputs=Inputs(spec="s"), facts=Facts())


@pytest.mark.parametrize("name", ["link.txt", "deep/er/link.txt", ".dyff/link"])
def test_a_symbolic_link_is_no_part_of_an_artifact(store: Store, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("somebody else's")
    outside.chmod(0o640)
    with store.draft("m") as draft:
        link = draft.path / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(outside)
        with pytest.raises(StoreError, match=f"m: {name} is a symbolic link; write the file itself"):
            draft.commit(entity=module(), data_version="d" * 64, inputs=Inputs(spec="s"), facts=Facts())
    assert outside.stat().st_mode & 0o777 == 0o640
    assert store.current("m") is None


@pytest.mark.parametrize("target", [".", "nowhere"])
def test_a_link_to_a_directory_or_to_nothing_is_refused_too(
    store: Store, tmp_path: Path, target: str
) -> None:
    with store.draft("m") as draft:
        (draft.path / "link").symlink_to(tmp_path / target)
        with pytest.raises(StoreError, match="m: link is a symbolic link"):
            draft.commit(entity=module(), data_version="d" * 64, inputs=Inputs(spec="s"), facts=Facts())


def test_a_link_is_refused_by_a_remote_store_too(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("somebody else's")
    with Store("memory://dyff-test-links").draft("m") as draft:
        (draft.path / "link").symlink_to(tmp_path / "outside.txt")
        with pytest.raises(StoreError, match="m: link is a symbolic link"):
            draft.commit(entity=module(), data_version="d" * 64, inputs=Inputs(spec="s"), facts=Facts())


def test_a_file_is_not_taken_through_a_symbolic_link(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("somebody else's")
    outside.chmod(0o640)
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(OSError):
        store._files.take(tmp_path / "link", store.working("m") / "taken")
    assert outside.stat().st_mode & 0o777 == 0o640


def test_links_are_left_out_of_a_list_of_files_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    assert list_files(tmp_path, links=False) == ["a.txt"]
    assert list_files(tmp_path) == ["a.txt", "link"]


def test_the_listing_of_a_finished_version_is_read_only(store: Store) -> None:
    made = commit(store, "one")
    assert Path(made.path / ".files.json").stat().st_mode & 0o777 == 0o444


def test_a_finished_version_can_be_removed(store: Store) -> None:
    made = commit(store, "one")
    shutil.rmtree(Path(made.path))
    again = commit(store, "one")
    assert (again.path / "a.txt").read_text() == "one"


def test_an_id_that_is_a_path_is_refused(store: Store) -> None:
    for wrong in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(Exception, match="id"):
            store.directory(wrong)


def _hold(root: str, ready: object, go: object) -> None:
    with Store(root).lock("m"):
        ready.set()  # type: ignore[attr-defined]
        go.wait(30)  # type: ignore[attr-defined]


def test_a_second_process_is_told_that_the_entity_is_busy_and_a_killed_one_lets_go(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(store.root), ready, go))
    holder.start()
    try:
        assert ready.wait(30)
        with pytest.raises(EntityBusy, match=f"process {holder.pid}"), store.lock("m"):
            pass
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGKILL)
        holder.join(30)
        with store.lock("m"):
            pass
    finally:
        holder.kill()


def test_a_store_in_memory_behaves_as_one_on_disk() -> None:
    store = Store("memory://dyff-test-store")
    first = commit(store, "one")
    second = commit(store, "two")
    assert store.current("m") == second
    assert (first.path / "a.txt").read_text() == "one"
    assert (store.directory("m") / "a.txt").read_text() == "two"


def test_inputs_digest_depends_on_every_part_and_on_no_order() -> None:
    one = Inputs(spec="s", upstream={"a": "1", "b": "2"}, extras={"f": "3"})
    assert one.digest == Inputs(spec="s", upstream={"b": "2", "a": "1"}, extras={"f": "3"}).digest
    others = [
        Inputs(spec="t", upstream=one.upstream, extras=one.extras),
        Inputs(spec="s", upstream={"a": "1", "b": "9"}, extras=one.extras),
        Inputs(spec="s", upstream=one.upstream, extras={"f": "9"}),
        Inputs(spec="s", upstream=one.upstream, extras={"g": "3"}),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 5


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "C:\\x", "a\\..\\..\\x"])
def test_a_path_that_leaves_its_directory_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(PathOutside):
        resolve_inside(tmp_path, path)


def test_a_symbolic_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("x")
    (inside / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(PathOutside, match="symbolic link"):
        resolve_inside(inside, "link")


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    assert resolve_inside(tmp_path, "link").read_text() == "x"


def test_a_root_without_a_name_is_not_the_working_directory() -> None:
    with pytest.raises(
        StoreError, match="the storage root is empty: DYFF_STORAGE_ROOT must name a directory"
    ):
        Store("")
