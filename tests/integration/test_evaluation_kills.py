"""Evaluations whose process is killed, interrupted, or finds the disk full: what was paid for is kept."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.store import local_path
from tests.integration import kill_child
from tests.integration.evaluation_support import World
from tests.integration.fault_server import ANSWER, Asked, Fault, FaultServer
from tests.integration.kill_child import PART_ROWS, WORKERS, Job

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.integration.kill_child", "pytest", "aiohttp", "tenacity", "dyff_dagster.evaluation.run"]
)

ROWS = 900
KILLS = 25
SECONDS_ENOUGH = 60

HELD = PART_ROWS + 3 * WORKERS
"""Answers that a kill can cost at most: what the two halves of the open part hold, where each worker brought one more
to either, and what was in flight."""


@contextmanager
def child(what: Callable[[Job, Connection], None], job: Job) -> Iterator[tuple[Any, Connection]]:
    """A process that does it, and a pipe to it; it is dead afterwards."""
    here, there = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=what, args=(job, there), daemon=True)
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.kill()
        process.join(SECONDS_ENOUGH)
        here.close()


def outcome(process: Any, here: Connection) -> tuple[str, ...] | None:
    """What a process said at its end; None where it was killed."""
    try:
        said: tuple[str, ...] = here.recv()
    except (EOFError, ConnectionError):
        said = ()
    process.join(SECONDS_ENOUGH)
    if not said:
        assert process.exitcode == -signal.SIGKILL
    return said or None


def durable(w: World) -> int:
    """Answers in whole parts."""
    return sum(pq.read_metadata(part).num_rows for part in w.parts())


def undisturbed(directory: Path, rows: int, replications: int = 2) -> str:
    with FaultServer().running() as server:
        w = World(directory, [server.url], rows)
        return w.run(w.evaluation(replications)).data_version


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_again_and_again_it_pays_for_little_twice_and_comes_to_the_same(
    tmp_path: Path, seed: int
) -> None:
    """Half the deaths come with a request, half at a step on the file system, wherever that may be."""
    chance = random.Random(seed)
    expected = undisturbed(tmp_path / "undisturbed", ROWS)
    victim: list[int] = []
    due = 0

    def kill(asked: Asked) -> None:
        if victim and due and asked.number >= due:
            os.kill(victim.pop(), signal.SIGKILL)

    deaths, said, before, losses = 0, None, 0, []
    with FaultServer(on_request=kill, copies=2).running() as server:
        w = World(tmp_path, [server.url], ROWS)
        while said is None:
            by_request, step = 0, 0
            if deaths < KILLS and chance.random() < 0.5:
                by_request = chance.randint(1, 3 * PART_ROWS)
            elif deaths < KILLS:
                step = chance.randint(1, 12)
            due = len(server.record) + by_request if by_request else 0
            with child(kill_child.run, Job(w.dataset.parent, (server.url,), 2, step)) as (process, here):
                victim[:] = [process.pid]
                said = outcome(process, here)
                victim.clear()
            deaths += said is None
            # What was asked since the last death and is not in a part is lost.
            asked, there = len(server.record), durable(w)
            losses.append(asked - before - there)
            before = asked - there
        assert said == ("done", expected)
        assert deaths == KILLS
        assert max(losses) <= HELD
        assert len(server.record) == 2 * ROWS + sum(losses)
        assert server.doubled == []
        commit = w.store.current("eval-1")
        assert commit is not None
        assert digest_dataset(open_dataset(local_path(commit.path))) == expected


def test_killed_while_it_commits_it_commits_the_next_time_and_asks_nobody(tmp_path: Path) -> None:
    """From the last part on, it is killed at each step in turn."""
    rows = 2 * PART_ROWS
    expected = undisturbed(tmp_path / "undisturbed", rows, 1)
    with FaultServer().running() as server:
        w = World(tmp_path, [server.url], rows)
        with child(kill_child.run, Job(w.dataset.parent, (server.url,), 1)) as (process, here):
            assert outcome(process, here) == ("done", expected)
        asked = len(server.record)
        said, step = None, 0
        while said is None:
            step += 1
            # All of it but the parts goes: so each time there is everything to commit.
            working = local_path(w.store.working("eval-1"))
            for name in ("versions", "commits", "drafts", "commit.json"):
                target = working / name
                shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            for _ in range(2):
                with child(kill_child.run, Job(w.dataset.parent, (server.url,), 1, step)) as (process, here):
                    said = outcome(process, here)
                step += (
                    said is None
                )  # what was killed once is killed a step further on, where it was taken up
            commit = w.store.current("eval-1")
            if commit is not None:
                assert commit.data_version == expected
                assert w.store.intact(commit)
        assert said == ("done", expected)
        assert len(server.record) == asked


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("seed", range(2))
def test_what_was_answered_before_a_signal_is_kept(tmp_path: Path, number: signal.Signals, seed: int) -> None:
    due = random.Random(seed).randint(5, 60)
    victim: list[int] = []

    def plan(asked: Asked) -> Fault:
        return ANSWER if asked.number < due else Fault("hold")

    def interrupt(asked: Asked) -> None:
        if asked.number == due + WORKERS - 1:  # all of them wait: what was answered has been taken in
            os.kill(victim.pop(), number)

    with FaultServer(plan, on_request=interrupt).running() as server:
        w = World(tmp_path, [server.url], 100)
        with child(kill_child.run_until_terminated, Job(w.dataset.parent, (server.url,), 1)) as (
            process,
            here,
        ):
            victim.append(process.pid)
            assert outcome(process, here) == ("interrupted",)
        assert durable(w) == due
        server.plan = lambda asked: ANSWER
        assert w.run().facts.notes["takenUp"] == due
        assert len(server.record) == 100 + WORKERS


def test_a_signal_that_nobody_handles_costs_an_open_part_at_most(tmp_path: Path) -> None:
    victim: list[int] = []

    def kill(asked: Asked) -> None:
        if victim and asked.number == 70:
            os.kill(victim.pop(), signal.SIGTERM)

    with FaultServer(on_request=kill).running() as server:
        w = World(tmp_path, [server.url], 100)
        with child(kill_child.run, Job(w.dataset.parent, (server.url,), 1)) as (process, here):
            victim.append(process.pid)
            with pytest.raises(EOFError):
                here.recv()
            process.join(SECONDS_ENOUGH)
            assert process.exitcode == -signal.SIGTERM
        commit = w.run()
        assert commit.facts.completeness is not None
        assert commit.facts.completeness.complete
        assert len(server.record) <= 100 + HELD


def test_of_two_runs_at_once_one_works_and_the_other_says_who_does(tmp_path: Path) -> None:
    with FaultServer().running() as server:
        w = World(tmp_path, [server.url], 20)
        job = Job(w.dataset.parent, (server.url,), 1)
        with child(kill_child.hold_lock, job) as (holder, there):
            assert there.recv() == "held"
            with child(kill_child.run, job) as (process, here):
                said = outcome(process, here)
            assert said is not None
            assert said[:2] == ("error", "EntityBusy")
            assert f"process {holder.pid}" in said[2]
        assert server.asked == []


def test_of_two_runs_that_start_together_none_asks_twice(tmp_path: Path) -> None:
    with FaultServer(lambda asked: Fault("hold")).running() as server:
        w = World(tmp_path, [server.url], 20)
        job = Job(w.dataset.parent, (server.url,), 1)
        with child(kill_child.run, job) as (_, first), child(kill_child.run, job) as (_, second):
            # The one that has the lock waits for the service; so the other must be the first to end.
            multiprocessing.connection.wait([first, second], SECONDS_ENOUGH)
            loser = first if first.poll() else second
            assert loser.recv()[:2] == ("error", "EntityBusy")
            server.release()
            winner = second if loser is first else first
            assert winner.recv()[0] == "done"
        assert len(server.record) == 20


def test_a_run_goes_on_where_one_that_was_killed_held_the_lock(tmp_path: Path) -> None:
    with FaultServer().running() as server:
        w = World(tmp_path, [server.url], 20)
        job = Job(w.dataset.parent, (server.url,), 1)
        with child(kill_child.hold_lock, job) as (holder, there):
            assert there.recv() == "held"
            holder.kill()
            holder.join(SECONDS_ENOUGH)
        assert w.run().facts.rows == 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False)


def test_a_full_disk_fails_the_run_and_keeps_what_it_took(tmp_path: Path, small_disk: Path) -> None:
    rows = 600
    expected = undisturbed(tmp_path / "undisturbed", rows, 1)
    filler = small_disk / "filler"
    with FaultServer().running() as server:
        w = World(tmp_path, [server.url], rows)
        w.store = type(w.store)(small_disk / "store")
        options = replace(kill_child.OPTIONS, part_rows=8)
        entity = w.evaluation(workers=WORKERS)
        filler.write_bytes(b"x" * 200 * 1024)
        with pytest.raises(OSError, match="No space left on device"):
            w.run(entity, options)
        kept, asked = durable(w), len(server.record)
        assert 0 < kept < rows
        assert asked - kept <= 2 * 4 * 8 + WORKERS
        assert w.store.current("eval-1") is None
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        commit = w.run(entity, options)
        assert commit.data_version == expected
        assert commit.facts.notes["takenUp"] == kept
        assert len(server.record) == asked + rows - kept
