"""A session: a service that answers, for as long as someone needs it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dyff_dagster.schema.platform import (
    Accelerator,
    InferenceServiceRunner,
    InferenceServiceRunnerKind,
    InferenceServiceSpec,
)
from dyff_dagster.sessions.errors import SessionError
from dyff_dagster.sessions.hosted import endpoint_url, hosted_url, is_absolute, resolve_headers
from dyff_dagster.sessions.local import GRACE, Command, end_replicas, standalone_command, start_replicas
from dyff_dagster.sessions.local_servers import server_command
from dyff_dagster.sessions.servers import SERVERS
from dyff_dagster.store import Progress, no_progress


class Replica(Protocol):
    """Something of a session that answers, and can die. Implemented by every way of running a service."""

    @property
    def base_url(self) -> str:
        """Scheme, host and port."""

    def check(self) -> None:
        """Raise SessionError when it has ended."""

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log; empty where it has none."""


Places = Sequence[tuple[str, Replica]]
"""Where requests may go: a full URL, and the replica that answers there."""


@dataclass(frozen=True)
class Session:
    """A service that answers.

    Attributes:
        id: Of the session, or of the evaluation that it was opened for.
        urls: Where to POST requests to, one full URL per replica.
        headers: To be sent with every request. They may be secret and are not part of ``repr``.
        directory: Where its logs lie.
        replicas: What runs; none for a hosted service.
        moving: For a session whose replicas come and go: called a few times a second with the number of answers so
            far, it says what runs now, and raises SessionError where the session has ended. None: those of
            ``replicas`` are all that there will be.
        notes: What is known of it once it is closed, such as the seconds of GPUs that it took.
    """

    id: str
    urls: list[str]
    directory: Path
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    replicas: Sequence[Replica] = ()
    moving: Callable[[int], Places] | None = field(default=None, repr=False)
    notes: dict[str, Any] = field(default_factory=dict, repr=False)

    def running(self) -> Sequence[Replica]:
        """The replicas that there are now."""
        return self.replicas if self.moving is None else [replica for _, replica in self.moving(0)]

    def check(self) -> None:
        """Raise SessionError, with exit code and the place of the log, when a replica has died."""
        for replica in self.replicas:
            replica.check()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of all logs, none once it has ended: for a terminal only, they may hold prompts."""
        try:
            replicas = self.running()
        except SessionError:
            return ""  # whoever uses it is told that, and what led to it must not be hidden
        return "\n".join(text for replica in replicas if (text := replica.log_tail(lines)))


def runner_of(service: InferenceServiceSpec, session_id: str) -> InferenceServiceRunner | None:
    """The runner of a service, None for a hosted one.

    :raises SessionError: when this machine cannot run a service of that kind, or it has both a runner and a
        URL at which it is hosted.
    """
    runner = service.runner
    if runner is None:
        return None
    if is_absolute(service.interface.endpoint):
        raise SessionError(
            f"{session_id}: service '{service.name}' has a runner, so its interface.endpoint must be a path "
            "on it, not a URL; leave out the runner if the service is hosted elsewhere",
            session_id=session_id,
        )
    if runner.kind is InferenceServiceRunnerKind.BENTOML_SERVICE_OPENLLM:
        raise SessionError(
            f"{session_id}: a runner of kind {runner.kind.value}, as service '{service.name}' has, cannot run on one "
            "machine: OpenLLM was rewritten, and its command 'openllm build', which made such services, is gone; use a "
            "runner of kind vllm or huggingface with the same Model",
            session_id=session_id,
        )
    here = (InferenceServiceRunnerKind.STANDALONE, InferenceServiceRunnerKind.MOCK, *SERVERS)
    if runner.kind not in here:
        raise SessionError(
            f"{session_id}: a runner of kind {runner.kind.value}, as service '{service.name}' has, is not "
            "available on one machine; it needs Kubernetes (DYFF_SESSIONS=kubernetes), or give the service a "
            "standalone runner",
            session_id=session_id,
        )
    return runner


def command_of(
    service: InferenceServiceSpec,
    *,
    session_id: str,
    cwd: Path,
    model_path: Path | None,
    replicas: int,
    accelerator: Accelerator | None,
) -> Command:
    """What starts the replicas of a service that runs as processes of this machine.

    :param accelerator: what each replica shall have; None: what the service's runner says.
    :raises SessionError: when there is no command line, a program or a model is missing, or there are too few GPUs.
    """
    runner = service.runner
    if runner is None or runner.kind not in SERVERS:
        return standalone_command(service, session_id=session_id, cwd=cwd, model_path=model_path)
    return server_command(
        service,
        session_id=session_id,
        cwd=cwd,
        model_path=model_path,
        replicas=replicas,
        accelerator=accelerator or runner.accelerator,
    )


@contextmanager
def open_session(
    service: InferenceServiceSpec,
    *,
    session_id: str,
    replicas: int,
    cwd: Path,
    model_path: Path | None,
    directory: Path,
    startup_timeout: float = 120.0,
    progress: Progress = no_progress,
    headers: Mapping[str, str] | None = None,
    grace: float = GRACE,
    accelerator: Accelerator | None = None,
) -> Generator[Session, None, None]:
    """Make a service answer on this machine for the length of a ``with`` block.

    At the end of the block nothing of it is left, however the block ends; if this very process is killed, the
    guards of the replicas end them.

    :param session_id: for messages: the evaluation, or the session.
    :param replicas: how many processes; of no meaning for a hosted service, which is one URL.
    :param cwd: the directory of the service's manifest, in which a standalone service runs.
    :param model_path: what ``{model}`` and DYFF_MODEL stand for, where the service has a model with files.
    :param directory: where logs go, as ``replica-I/stdout.log`` and ``stderr.log``; it is made if need be.
    :param startup_timeout: seconds until all replicas must answer ``GET /health``.
    :param headers: sent with every request; ``${VARIABLE}`` is resolved here.
    :param grace: seconds that a service has between SIGTERM and SIGKILL.
    :param accelerator: what each replica shall have; None: what the service's runner says.
    :raises SessionError: when the service cannot be run here, ends early, or is not ready in time.
    """
    runner = runner_of(service, session_id)
    resolved = resolve_headers(headers or {}, session_id)
    if runner is None:
        yield Session(session_id, [hosted_url(service, session_id)], directory, resolved)
        return
    if runner.kind is InferenceServiceRunnerKind.MOCK:
        from dyff_dagster.sessions.mock_server import serve_mock

        with serve_mock(service, session_id=session_id, replicas=replicas) as mocks:
            urls = [endpoint_url(mock.base_url, service.interface.endpoint) for mock in mocks]
            yield Session(session_id, urls, directory, resolved, mocks)
        return
    started = start_replicas(
        command_of(
            service,
            session_id=session_id,
            cwd=cwd,
            model_path=model_path,
            replicas=replicas,
            accelerator=accelerator,
        ),
        session_id=session_id,
        service=service.name,
        replicas=replicas,
        directory=directory,
        startup_timeout=startup_timeout,
        grace=grace,
        progress=progress,
    )
    try:
        urls = [endpoint_url(replica.base_url, service.interface.endpoint) for replica in started]
        yield Session(session_id, urls, directory, resolved, started)
    finally:
        end_replicas(started)
