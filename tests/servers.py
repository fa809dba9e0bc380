"""Real servers of this project as processes of their own: Dagster's web server, and the pages'.

Each runs in a session (a group of processes) of its own, which ends as a whole; whoever starts one finds out
if anything of it is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "breast_cancer"
_STARTUP_SECONDS = 90.0
_RUN_SECONDS = 120.0


def command(name: str, *arguments: str | Path) -> list[str]:
    """A console script of the environment that the tests run in."""
    return [str(Path(sys.executable).with_name(name)), *map(str, arguments)]


def environment(home: Path, **variables: str | Path) -> dict[str, str]:
    """The tests' environment with a DAGSTER_HOME of its own, and nothing else of Dagster's or ours.

    Args:
        home: Made, with the repository's dagster.yaml in it: no telemetry, no dialogs.
        variables: What to set besides.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DYFF_", "DAGSTER_"))}
    return {
        **inherited,
        "DAGSTER_HOME": str(home),
        # dg and create-dagster would ask PyPI whether they are the newest.
        "DAGSTER_DG_UPDATE_CHECK_ENABLED": "0",
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        # As if it were activated: dg warns of a project's .venv that is not.
        "VIRTUAL_ENV": sys.prefix,
        # A narrow terminal cuts what dg lists.
        "COLUMNS": "200",
        **{name: str(value) for name, value in variables.items()},
    }


def run(arguments: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its exit status must be 0."""
    done = subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


@contextmanager
def background(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all that it starts, ended together.

    Args:
        arguments: The command line.
        cwd: Working directory.
        env: Environment.
        log: Where its standard error goes; standard output is a pipe of the process that is yielded.
    """
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            arguments, cwd=cwd, env=dict(env), stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
    try:
        yield process
    finally:
        _end(process)


def session_members(leader: int) -> list[str]:
    """Command lines of the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # After the command's name, which may hold anything: state, parent, group, session.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def pages(storage: Path, cwd: Path, env: Mapping[str, str], log: Path) -> Iterator[str]:
    """``dyff-dagster serve-pages`` on a free port; gives its URL."""
    line = command("dyff-dagster", "serve-pages", "--storage", storage, "--port", "0")
    with background(line, cwd, env, log) as process:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], _STARTUP_SECONDS)
        said = process.stdout.readline().decode() if readable else ""
        assert said.startswith("pages at http://127.0.0.1:"), said + log.read_text()
        yield said.split()[-1]


@dataclass(frozen=True)
class Webserver:
    """Dagster's web server, as its UI uses it.

    Attributes:
        url: Where it answers.
        log: What it says.
    """

    url: str
    log: Path

    def graphql(self, query: str, **variables: Any) -> Any:
        """Ask; an error in the answer fails."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def check_loaded(self) -> None:
        """A definitions.py that cannot be loaded is an entry with an error, and the server runs all the same."""
        data = self.graphql(
            """{ workspaceOrError { ... on Workspace { locationEntries {
                 loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
        )
        for entry in data["workspaceOrError"]["locationEntries"]:
            assert entry["loadStatus"] == "LOADED"
            assert entry["locationOrLoadError"]["__typename"] == "RepositoryLocation", entry

    def selector(self) -> dict[str, str]:
        """Name and location of the one repository."""
        data = self.graphql(
            """{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"""
        )
        (node,) = data["repositoriesOrError"]["nodes"]
        return {"repositoryName": node["name"], "repositoryLocationName": node["location"]["name"]}

    def launch(self, assets: Sequence[Sequence[str]], ends: str = "SUCCESS") -> str:
        """Materialize assets as the UI's button does; returns the run's id once it has ended as it must."""
        data = self.graphql(
            """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
                 __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }""",
            params={
                "mode": "default",
                "runConfigData": "{}",
                "selector": {
                    **self.selector(),
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": list(path)} for path in assets],
                },
            },
        )
        assert data["launchRun"]["__typename"] == "LaunchRunSuccess", data
        run_id = data["launchRun"]["run"]["runId"]
        status = self._finished(run_id)
        assert status == ends, f"run {run_id}: {status}\n{self.log.read_text()[-4000:]}"
        return str(run_id)

    def _finished(self, run_id: str) -> str:
        deadline = time.monotonic() + _RUN_SECONDS
        status = "NOT_STARTED"
        while status not in ("SUCCESS", "FAILURE", "CANCELED") and time.monotonic() < deadline:
            time.sleep(0.3)
            data = self.graphql(
                "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } ... on Error { message } } }",
                id=run_id,
            )
            status = data["runOrError"]["status"]
        return status


@contextmanager
def webserver(
    cwd: Path, env: Mapping[str, str], log: Path, *, launches: bool = False, port: int | None = None
) -> Iterator[Webserver]:
    """Dagster's web server on a free port over the definitions.py of a directory, once it has loaded it.

    Args:
        cwd: The directory.
        env: Environment.
        log: Where its standard error goes.
        launches: Start ``dagster dev``, as ``make ui`` does, whose daemon takes runs out of the queue; else
            the web server alone, which starts in half the time.
        port: A free port, where the environment must say which; default one that is found here.
    """
    port = port or free_port()
    server = Webserver(f"http://127.0.0.1:{port}", log)
    program = command("dagster", "dev") if launches else command("dagster-webserver")
    line = [*program, "-f", "definitions.py", "-h", "127.0.0.1", "-p", str(port)]
    with background(line, cwd, env, log) as process:
        deadline = time.monotonic() + _STARTUP_SECONDS
        while not _answers(f"{server.url}/server_info"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.1)
        server.check_loaded()
        yield server


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to stop, then make it; nothing of its session may be left."""
    _signal(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    _signal(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    deadline = time.monotonic() + 10
    while (left := session_members(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
