"""Replicas of a service as processes of this machine."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dyff_dagster.processes import (
    DetachedProcess,
    GuardedProcess,
    GuardError,
    alive,
    clean_environment,
    start_guarded,
    tail,
    terminate_all,
)
from dyff_dagster.schema.platform import InferenceServiceSpec
from dyff_dagster.sessions.errors import SessionError, exit_text
from dyff_dagster.sessions.readiness import HOST, Reservation, answers, is_taken
from dyff_dagster.store import Progress, no_progress

ATTEMPTS = 3
"""How often a replica is started whose port someone else took before it could."""

GRACE = 5.0
"""Seconds a service has between SIGTERM and SIGKILL."""

_TOKEN = re.compile(r"\{(port|host|model)\}")


@dataclass(frozen=True)
class Command:
    """What starts one replica: arguments with ``{port}``, ``{host}``, ``{model}``, and where they run.

    ``shares`` are variables of each replica's own, such as its GPUs.
    """

    arguments: Sequence[str]
    cwd: Path
    model_path: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    shares: Sequence[Mapping[str, str]] = ()

    def for_port(self, port: int, index: int = 0) -> tuple[list[str], dict[str, str]]:
        """The command line and the environment of the replica ``index``, which listens on ``port``."""
        values = {"port": str(port), "host": HOST}
        if self.model_path is not None:
            values["model"] = str(self.model_path.absolute())
        line = [_TOKEN.sub(lambda match: values[match.group(1)], token) for token in self.arguments]
        if line[0] == "python":
            line[0] = sys.executable
        variables = {f"DYFF_{name.upper()}": value for name, value in values.items()}
        own = self.shares[index] if self.shares else {}
        return line, clean_environment({**self.environment, **own, **variables})


def standalone_command(
    service: InferenceServiceSpec, *, session_id: str, cwd: Path, model_path: Path | None
) -> Command:
    """The command of a service whose runner is ``standalone``, by the rules of the local runner.

    :param cwd: the directory of the service's manifest.
    :raises SessionError: when there is no command line, or it names a model that there is not.
    """
    arguments = list(service.runner.args or []) if service.runner is not None else []
    if not arguments or not arguments[0]:
        raise SessionError(
            f"{session_id}: the standalone runner of service '{service.name}' has no runner.args; "
            "they are the command line that starts it",
            session_id=session_id,
        )
    if model_path is None and any("{model}" in token for token in arguments):
        raise SessionError(
            f"{session_id}: runner.args of service '{service.name}' say {{model}}, but no files of a model "
            "are at hand; name an uploaded model in the service's model",
            session_id=session_id,
        )
    return Command(arguments, cwd, model_path)


@dataclass(frozen=True)
class LocalReplica:
    """One process of a service, listening on a port of the loopback interface."""

    session_id: str
    service: str
    index: int
    port: int
    process: GuardedProcess
    directory: Path

    @property
    def base_url(self) -> str:
        """Scheme, host and port."""
        return f"http://{HOST}:{self.port}"

    @property
    def logs(self) -> tuple[Path, Path]:
        """The files of stdout and stderr."""
        return self.directory / "stdout.log", self.directory / "stderr.log"

    @property
    def log(self) -> Path:
        """The file to look into first: stderr, or stdout where nothing was written to stderr."""
        stdout, stderr = self.logs
        with suppress(OSError):
            if stderr.stat().st_size == 0 and stdout.stat().st_size > 0:
                return stdout
        return stderr

    def check(self, phase: str = "while it was in use") -> None:
        """Raise SessionError, with exit code and the place of the log, when the process has ended."""
        status = self.process.poll()
        if status is None:
            return
        how = f"ended {exit_text(status)} {phase}"
        if isinstance(self.process, DetachedProcess) and (ended := self.process.ended()) is not None:
            when, reason = ended
            how = f"ended {exit_text(status)} at {when:%Y-%m-%d %H:%M:%S} UTC ({reason})"
        raise SessionError(
            f"{self.session_id}: replica {self.index} of service '{self.service}' {how}; "
            f"its log is {self.log}",
            session_id=self.session_id,
            replica=self.index,
            exit_code=status,
            log=self.log,
        )

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of both logs, each under the name of its file."""
        parts = [f"{path}:\n{text}" for path in self.logs if (text := tail(path, lines))]
        return "\n".join(parts)


def start_replicas(
    command: Command,
    *,
    session_id: str,
    service: str,
    replicas: int,
    directory: Path,
    startup_timeout: float,
    grace: float = GRACE,
    deadline: datetime | None = None,
    releasable: bool = False,
    progress: Progress = no_progress,
) -> list[LocalReplica]:
    """Start a service as often as asked and wait until every replica answers.

    Their output goes to ``directory/replica-I/stdout.log`` and ``stderr.log``; logs of an earlier session
    in the same directory are replaced.

    :param service: its name, for messages.
    :param startup_timeout: seconds from now until all must be ready.
    :param releasable: keep a state file for each, so that it can be let go; needs ``deadline``.
    :raises SessionError: when one ends before it is ready, or is not ready in time; nothing is left running.
    """
    if replicas < 1:
        raise SessionError(
            f"{session_id}: it asks for {replicas} replicas of service '{service}'; at least 1 is needed",
            session_id=session_id,
        )
    reservations: dict[int, Reservation] = {}
    running: list[LocalReplica] = []

    def launch(index: int, attempt: int) -> LocalReplica:
        reservation = Reservation(hold=attempt == 0)
        reservations[index] = reservation
        replica_directory = directory / f"replica-{index}"
        replica_directory.mkdir(parents=True, exist_ok=True)
        line, environment = command.for_port(reservation.port, index)
        stdout, stderr = replica_directory / "stdout.log", replica_directory / "stderr.log"
        if attempt == 0:
            stdout.unlink(missing_ok=True)
            stderr.unlink(missing_ok=True)
        try:
            process = start_guarded(
                line,
                cwd=command.cwd,
                env=environment,
                stdout=stdout,
                stderr=stderr,
                deadline=deadline,
                grace=grace,
                state=replica_directory / "guard.json" if releasable else None,
            )
        except OSError as error:
            raise SessionError(
                f"{session_id}: service '{service}' could not be started in {command.cwd}: "
                f"{error.strerror}: {error.filename}",
                session_id=session_id,
            ) from error
        except GuardError as error:
            raise SessionError(f"{session_id}: {error}", session_id=session_id) from error
        return LocalReplica(session_id, service, index, reservation.port, process, replica_directory)

    try:
        for index in range(replicas):
            running.append(launch(index, 0))
        attempts = [1] * replicas
        end = time.monotonic() + startup_timeout
        pause = 0.01
        ready: set[int] = set()
        while len(ready) < replicas:
            for index, replica in enumerate(running):
                answered = index not in ready and answers(replica.port, _patience(end))
                if replica.process.poll() is None:
                    # Whatever answers on the port, it is ours only if our process lives at this moment.
                    if answered and alive(replica.process.pid, replica.process.identity):
                        ready.add(index)
                        progress(f"replica {index} of service '{service}' is ready", len(ready), replicas)
                elif index not in ready and attempts[index] < ATTEMPTS:
                    reservations[index].close()
                    if _lost_its_port(replica):
                        replica.process.terminate()
                        running[index] = launch(index, attempts[index])
                        attempts[index] += 1
                running[index].check("before it was ready")
            if len(ready) < replicas:
                if time.monotonic() >= end:
                    raise _never_ready(running, ready, startup_timeout)
                waited_for = next(replica for replica in running if replica.index not in ready)
                with suppress(TimeoutError):
                    waited_for.process.wait(pause)
                pause = min(1.5 * pause, 0.25)
    except BaseException:
        end_replicas(running)
        raise
    finally:
        for reservation in reservations.values():
            reservation.close()
    return running


def end_replicas(replicas: Sequence[LocalReplica]) -> None:
    """End replicas with all of their processes, and return when they are gone.

    :raises SessionError: when one outlives SIGKILL.
    """
    try:
        terminate_all(replica.process for replica in replicas)
    except GuardError as error:
        name = replicas[0].session_id
        raise SessionError(f"{name}: service '{replicas[0].service}': {error}", session_id=name) from error


def _patience(end: float) -> float:
    return max(0.05, min(2.0, end - time.monotonic()))


def _lost_its_port(replica: LocalReplica) -> bool:
    if is_taken(replica.port):
        return True
    return any("address already in use" in tail(path, 50).lower() for path in replica.logs)


def _never_ready(running: list[LocalReplica], ready: set[int], seconds: float) -> SessionError:
    replica = next(replica for replica in running if replica.index not in ready)
    return SessionError(
        f"{replica.session_id}: replica {replica.index} of service '{replica.service}' did not answer GET "
        f"/health on port {replica.port} within {seconds:g} s; it must listen on the port that {{port}} and "
        f"DYFF_PORT say; its log is {replica.log}",
        session_id=replica.session_id,
        replica=replica.index,
        log=replica.log,
    )
