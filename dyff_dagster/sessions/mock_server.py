"""A mock service over real HTTP: in a thread of this process, or as a program that outlives it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from dyff_dagster.schema.platform import InferenceServiceSpec
from dyff_dagster.sessions.errors import SessionError
from dyff_dagster.sessions.hosted import endpoint_url
from dyff_dagster.sessions.mock import MockAnswers
from dyff_dagster.sessions.readiness import HOST

LARGEST_REQUEST = 2**30
"""Bytes; a real service has its own limit, a mock should not be the one that refuses."""


def mock_application(service: InferenceServiceSpec) -> web.Application:
    """The web application: POST on the service's endpoint, GET on ``/health``."""
    answers = MockAnswers(service)

    async def answer(request: web.Request) -> web.Response:
        try:
            asked = json.loads(await request.read())
        except ValueError:
            raise web.HTTPBadRequest(text="A mock service answers JSON only.") from None
        return web.json_response(answers.answer(asked))

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    application = web.Application(client_max_size=LARGEST_REQUEST)
    application.router.add_get("/health", health)
    application.router.add_post(
        urlsplit(endpoint_url("http://mock", service.interface.endpoint)).path, answer
    )
    return application


@dataclass(frozen=True)
class MockReplica:
    """One mock of a service, listening on a port of the loopback interface."""

    session_id: str
    index: int
    port: int
    thread: threading.Thread

    @property
    def base_url(self) -> str:
        """Scheme, host and port."""
        return f"http://{HOST}:{self.port}"

    def check(self) -> None:
        """Raise SessionError when the thread that answers has ended."""
        if not self.thread.is_alive():
            raise SessionError(
                f"{self.session_id}: the mock service has stopped",
                session_id=self.session_id,
                replica=self.index,
            )

    def log_tail(self, lines: int = 20) -> str:
        """Empty: a mock writes no log."""
        return ""


@contextmanager
def serve_mock(
    service: InferenceServiceSpec, *, session_id: str, replicas: int
) -> Generator[list[MockReplica], None, None]:
    """Answer for a service on as many free ports as asked, in one thread, for the length of a ``with`` block.

    :raises SessionError: when fewer than 1 replica is asked for, or no port can be opened.
    """
    if replicas < 1:
        raise SessionError(
            f"{session_id}: it asks for {replicas} replicas of service '{service.name}'; at least 1 is "
            "needed",
            session_id=session_id,
        )
    application = mock_application(service)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready = threading.Event()
    ports: list[int] = []
    failures: list[OSError] = []

    async def serve() -> None:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        try:
            await runner.setup()
            for _ in range(replicas):
                site = web.TCPSite(runner, HOST, 0)
                await site.start()
            ports.extend(address[1] for address in runner.addresses)
            ready.set()
            await stop.wait()
        except OSError as error:
            failures.append(error)
        finally:
            ready.set()
            await runner.cleanup()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name=f"mock of {service.name}", daemon=True)
    thread.start()
    try:
        ready.wait()
        if failures:
            raise SessionError(
                f"{session_id}: the mock of service '{service.name}' could not open a port: "
                f"{failures[0].strerror}",
                session_id=session_id,
            )
        yield [MockReplica(session_id, index, port, thread) for index, port in enumerate(ports)]
    finally:
        with suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(stop.set)
        thread.join()


def main(arguments: list[str]) -> None:
    """``python -m dyff_dagster.sessions.mock_server SERVICE_JSON PORT [HOST]``: answer until it is ended."""
    service = InferenceServiceSpec.model_validate_json(Path(arguments[0]).read_bytes())
    host = arguments[2] if len(arguments) > 2 else HOST
    web.run_app(mock_application(service), host=host, port=int(arguments[1]), print=None, access_log=None)


if __name__ == "__main__":
    main(sys.argv[1:])
