"""A confined command writes where it may and nowhere else, and so does whatever it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyff_dagster.processes import can_confine, confined

pytestmark = pytest.mark.skipif(not can_confine(), reason="this kernel has no Landlock")


class Place:
    """Two directories beside each other, one of which may be written, and a file in the other one."""

    def __init__(self, path: Path) -> None:
        self.mine, self.others = path / "mine", path / "others"
        self.mine.mkdir()
        self.others.mkdir()
        self.file = self.others / "file"
        self.file.write_text("as it was")
        (self.mine / "link").symlink_to(self.others)
        self.before = self.state()

    def state(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.others)): "" if path.is_dir() else path.read_text()
            for path in self.others.rglob("*")
        }

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        head = f"import os, pathlib, subprocess, sys\nfile = pathlib.Path({str(self.file)!r})\n"
        return subprocess.run(
            confined([sys.executable, "-c", head + code], [self.mine, self.mine.parent / "not there"]),
            cwd=self.mine,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    "code",
    [
        "file.write_text('x')",
        "file.open('r+').write('x')",
        "os.open(file, os.O_WRONLY | os.O_TRUNC)",
        "os.truncate(file, 0)",
        "file.unlink()",
        "file.rename(file.with_name('other'))",
        "pathlib.Path('new').write_text('x'); os.replace('new', file)",
        "(file.parent / 'new').write_text('x')",
        "(file.parent / 'new').mkdir()",
        "(file.parent / 'new').symlink_to('file')",
        "os.mkfifo(file.parent / 'new')",
        "os.link(file, file.parent / 'new')",
        "os.link(file, 'mine'); pathlib.Path('mine').write_text('x')",
        "pathlib.Path('link/file').write_text('x')",
        "pathlib.Path('link/new').write_text('x')",
        "pathlib.Path('../others/file').write_text('x')",
        "subprocess.run(['sh', '-c', f'echo x > {file}'], check=True)",
        "pathlib.Path(f'/proc/{os.getppid()}/root{file}').write_text('x')",
        "os.fork() or file.write_text('x'); os.wait()",
        "subprocess.run(['mount', '--bind', '.', str(file.parent)], check=True)",
    ],
)
def test_what_is_elsewhere_stays_as_it_is(place: Place, code: str) -> None:
    done = place.run(code)
    assert place.state() == place.before
    assert "Error" in done.stderr, "it was told nothing"


@pytest.mark.parametrize(
    "code",
    [
        "pathlib.Path('a').write_text('x')",
        "os.makedirs('a/b'); pathlib.Path('a/b/c').write_text('x'); os.rename('a/b/c', 'd'); os.rmdir('a/b')",
        "assert file.read_text() == 'as it was'",
        "open('/dev/null', 'w').write('x')",
        "subprocess.run(['sh', '-c', 'echo x > made'], check=True)",
        "import multiprocessing; multiprocessing.Lock()",
        "from multiprocessing import shared_memory as m; m.SharedMemory(create=True, size=9).unlink()",
        "import threading; threading.Thread(target=pathlib.Path('a').write_text, args=('x',)).start()",
    ],
)
def test_what_is_its_own_is_written_and_everything_is_read(place: Place, code: str) -> None:
    done = place.run(code)
    assert done.returncode == 0, done.stderr


def test_the_environment_of_another_process_is_not_read(place: Place) -> None:
    """That of whoever started it holds the keys that it must not have."""
    other = subprocess.Popen(
        ["sh", "-c", "echo ready; read end"],
        env={**os.environ, "MY_API_TOKEN": "hunter2"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "ready\n"  # before it runs, the kernel does not show it
        environment = Path(f"/proc/{other.pid}/environ")
        assert "hunter2" in environment.read_text()
        done = place.run(f"print(pathlib.Path({str(environment)!r}).read_text())")
    finally:
        other.kill()
        other.communicate()
    assert "PermissionError" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_it_becomes_the_command_and_keeps_its_process_and_status(place: Place) -> None:
    process = subprocess.Popen(
        confined([sys.executable, "-c", "import os, sys; print(os.getpid()); sys.exit(7)"], [place.mine]),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert int(process.stdout.read()) == process.pid
    assert process.wait() == 7


def test_a_program_that_is_not_there_is_no_success(place: Place) -> None:
    done = subprocess.run(confined(["no-such-program"], []), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no-such-program" in done.stderr or "FileNotFoundError" in done.stderr


def test_whoever_starts_it_is_not_confined(place: Place) -> None:
    place.run("pass")
    place.file.write_text("changed")
    assert place.file.read_text() == "changed"
    assert os.access(place.others, os.W_OK)
