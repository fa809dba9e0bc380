"""A PostgreSQL server of Debian's packages, for as long as tests need one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from tests import servers

_SECONDS = 120.0


def programs() -> Path | None:
    """Where the newest `initdb` and `postgres` are; None: nowhere."""
    # Debian's are on no path.
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4])
    )
    found = shutil.which("postgres")
    here = [*([Path(found)] if found else []), *installed]
    return here[-1].parent if here else None


@contextmanager
def server(binaries: Path) -> Iterator[str]:
    """A server on loopback with an empty database; gives its URL, as dagster-postgres wants it."""
    # PostgreSQL refuses to run as root, and its files belong to who runs it.
    account = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    with tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp") as name:
        directory = Path(name)
        os.chown(directory, account.pw_uid, account.pw_gid)
        who = {"user": account.pw_uid, "group": account.pw_gid} if os.getuid() == 0 else {}
        made = subprocess.run(
            [binaries / "initdb", "--username=dagster", "--auth=trust", "--encoding=UTF8", "--locale=C",
             "--no-sync", directory / "data"],
            capture_output=True, text=True, cwd="/", **who,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        port = servers.free_port()
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", directory / "data", "-p", str(port), "-k", directory,
                 "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
                stdout=log, stderr=log, cwd="/", **who,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + _SECONDS
            while not _answers(port):
                assert process.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(0.1)
            yield f"postgresql+psycopg2://dagster@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    try:
        psycopg2.connect(host="127.0.0.1", port=port, user="dagster", dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True
