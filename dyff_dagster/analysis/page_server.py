"""Pages over HTTP, to browsers of this machine: safety cases, executed notebooks, rows, and a list of the pages.

Read-only. What is served was written by methods' authors, so that the browser is told to run nothing of it
and to fetch nothing for it, and a page of another site that points its name at this machine gets nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.html import Entry, Page, render_index, render_notebook
from dyff_dagster.analysis.row_pages import has_rows, read_rows, render_rows, row_files
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.ids import IdError, check_id
from dyff_dagster.store import Commit, Store, local_path
from dyff_dagster.store.paths import PathOutside, resolve_inside

if TYPE_CHECKING:
    from aiohttp import web
    from upath import UPath

HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with every answer. ``sandbox`` gives a page an origin of its own, without scripts or forms."""

SHOWN_ELSEWHERE = {"Cross-Origin-Resource-Policy": "cross-origin"}
"""Sent with a figure instead: the asset's page in Dagster shows it. Who does not know its version cannot ask for it."""

DAMAGED = "This page cannot be shown: its files are damaged, or not as this server knows them.\n"
"""Said where a page turns out to be no page."""

_VERSION = re.compile(r"[0-9a-f]{16,64}")
_FROM = re.compile(r"[0-9]{1,15}")
_LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))


class PageServer:
    """A server of the pages in a store.

    ``start`` serves from a thread, until ``stop``; as a context manager it does both. ``run`` serves until it
    is interrupted.

    Args:
        store: Where the pages are.
        host: Address to listen on, a loopback address.
        port: Port; 0 takes a free one.
        allow_remote: Listen on an address that other machines reach too. Whoever reaches it reads everything:
            there are no accounts here.
        names: Further names under which browsers may ask for it, where something forwards to it.

    Raises:
        AnalysisError: ``host`` is no loopback address, and ``allow_remote`` is not set.
    """

    def __init__(
        self,
        store: Store,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        allow_remote: bool = False,
        names: Iterable[str] = (),
    ) -> None:
        if not allow_remote and not _is_loopback(host):
            raise AnalysisError(
                f"pages are served to this machine only, and {host!r} is no loopback address; use 127.0.0.1, "
                "and ssh -L or a proxy that asks who is there to read them from elsewhere"
            )
        self._store = store
        self._host = host
        self._port = port
        self._names = _LOOPBACK_NAMES | {host.lower()} | {name.lower() for name in names}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._url = ""
        # Whoever asks for many pages of rows at once gets them one after the other: each holds some megabytes.
        self._reading = threading.Lock()

    @property
    def url(self) -> str:
        """Where it answers, ``http://127.0.0.1:8787``, once it was started."""
        return self._url

    def start(self) -> Self:
        """Serve from a thread, and return once it answers.

        Raises:
            AnalysisError: The port is taken.
        """
        if self._thread is not None:
            return self
        started: Future[str] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="dyff-pages", daemon=True
        )
        self._thread.start()
        try:
            self._url = started.result()
        except OSError as error:
            self._thread = None
            raise AnalysisError(
                f"cannot listen on {self._host}:{self._port} ({error.strerror or error}); choose another port, "
                "or 0 for a free one"
            ) from error
        return self

    def stop(self) -> None:
        """Stop serving; on one that does not serve, nothing."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def run(self, on_start: Callable[[str], object] = lambda url: None) -> None:
        """Serve until interrupted (Ctrl-C).

        Args:
            on_start: Called with the URL once it answers.
        """
        self.start()
        on_start(self.url)
        try:
            # In slices: a join without a timeout cannot be interrupted everywhere.
            while self._thread is not None and self._thread.is_alive():
                self._thread.join(0.5)
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _serve(self, started: Future[str]) -> None:
        from aiohttp import web

        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        # aiohttp would put a traceback on the terminal for whatever a browser sends that is not HTTP.
        silent = logging.Logger("dyff-pages", logging.CRITICAL)
        silent.addHandler(logging.NullHandler())
        runner = web.AppRunner(self._application(), access_log=None, logger=silent, shutdown_timeout=1.0)
        try:
            await runner.setup()
            await web.TCPSite(runner, self._host, self._port).start()
            port = runner.addresses[0][1]
            host = f"[{self._host}]" if ":" in self._host else self._host
            started.set_result(f"http://{host}:{port}")
        except BaseException as error:
            started.set_exception(error)
        else:
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    def _application(self) -> web.Application:
        from aiohttp import web

        @web.middleware
        async def guard(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            response: web.StreamResponse
            if request.method not in ("GET", "HEAD"):
                response = web.Response(status=405, text="Pages can be read here and nothing else.\n")
                response.headers["Allow"] = "GET, HEAD"
            elif _hostname(request.host) not in self._names:
                response = web.Response(status=403, text="Ask for this server by the name that it goes by.\n")
            else:
                try:
                    response = await handler(request)
                except web.HTTPFound as redirection:
                    response = web.Response(
                        status=redirection.status, headers={"Location": str(redirection.location)}
                    )
                except (web.HTTPNotFound, FileNotFoundError, IdError, PathOutside):
                    response = web.Response(status=404, text="There is no such page.\n")
                except DyffError as error:
                    response = web.Response(status=500, text=f"{error}\n")
                except Exception:
                    # aiohttp's own answer has none of the headers, and shows where this code lies.
                    response = web.Response(status=500, text=DAMAGED)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        application = web.Application(middlewares=[guard])
        application.add_routes(
            [
                web.get("/", self._index),
                web.get("/healthz", self._health),
                web.get("/{id}", self._current),
                web.get("/{id}/", self._current),
                web.get("/{id}/{version}", self._add_slash),
                web.get("/{id}/{version}/", self._page),
                web.get("/{id}/{version}/notebook", self._notebook),
                web.get("/{id}/{version}/rows", self._rows),
                web.get("/{id}/{version}/figure.png", self._figure),
            ]
        )
        return application

    async def _health(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(text="ok\n")

    async def _index(self, request: web.Request) -> web.Response:
        entries = await asyncio.to_thread(self._entries)
        return _html(await asyncio.to_thread(render_index, entries))

    async def _current(self, request: web.Request) -> web.Response:
        from aiohttp import web

        entity_id = check_id(request.match_info["id"])
        commit = await asyncio.to_thread(self._store.current, entity_id)
        if commit is None or not (_has_page(commit) or has_rows(commit)):
            raise web.HTTPNotFound
        raise web.HTTPFound(f"/{entity_id}/{commit.data_version}/")

    async def _add_slash(self, request: web.Request) -> web.Response:
        from aiohttp import web

        commit = await asyncio.to_thread(self._commit, request)
        raise web.HTTPFound(f"/{commit.entity_id}/{commit.data_version}/")

    async def _page(self, request: web.Request) -> web.Response:
        from aiohttp import web

        commit = await asyncio.to_thread(self._commit, request)
        if commit.facts.page is None:
            if commit.facts.notebook is None and not has_rows(commit):
                raise web.HTTPNotFound
            there = "rows" if commit.facts.notebook is None else "notebook"
            raise web.HTTPFound(f"/{commit.entity_id}/{commit.data_version}/{there}")
        page = self._file(commit, commit.facts.page)
        return _html(await asyncio.to_thread(page.read_text, "utf-8"))

    async def _notebook(self, request: web.Request) -> web.Response:
        return _html(await asyncio.to_thread(self._rendered, request))

    async def _rows(self, request: web.Request) -> web.Response:
        from aiohttp import web

        asked = request.query.get("from", "0")
        if not _FROM.fullmatch(asked):
            raise web.HTTPNotFound
        return _html(await asyncio.to_thread(self._shown_rows, request, int(asked)))

    async def _figure(self, request: web.Request) -> web.Response:
        from aiohttp import web

        commit = await asyncio.to_thread(self._commit, request)
        if commit.facts.figure is None:
            raise web.HTTPNotFound
        figure = self._file(commit, commit.facts.figure)
        png = await asyncio.to_thread(figure.read_bytes)
        return web.Response(body=png, content_type="image/png", headers=SHOWN_ELSEWHERE)

    def _commit(self, request: web.Request) -> Commit:
        """The latest commit of the version that a request names, by 16 digits of it or more."""
        entity_id, version = check_id(request.match_info["id"]), request.match_info["version"]
        if _VERSION.fullmatch(version):
            for commit in reversed(self._store.commits(entity_id)):
                if commit.data_version.startswith(version):
                    return commit
        raise FileNotFoundError

    def _file(self, commit: Commit, name: str) -> UPath:
        """A file of a version; what a record says of it is no reason to read another."""
        # Elsewhere than on a disk there are no links, and the name alone is looked at.
        resolve_inside(local_path(commit.path) if self._store.local else Path(os.sep, "version"), name)
        return commit.path / name

    def _shown_rows(self, request: web.Request, first: int) -> str:
        commit = self._commit(request)
        if not has_rows(commit):
            raise FileNotFoundError
        files = [(name, self._file(commit, name)) for name in row_files(commit)]
        with self._reading:
            page = read_rows(files, commit.facts.columns, commit.facts.rows or 0, first)
        if page is None:
            raise FileNotFoundError
        return render_rows(page, commit, self._title(commit))

    def _title(self, commit: Commit) -> str:
        return str((self._store.entity_json(commit.entity_id) or {}).get("name") or commit.entity_id)

    def _rendered(self, request: web.Request) -> str:
        commit = self._commit(request)
        if commit.facts.notebook is None:
            raise FileNotFoundError
        resource = self._store.entity_json(commit.entity_id) or {}
        page = Page(
            title=str(resource.get("name") or commit.entity_id),
            kind=commit.kind,
            entity_id=commit.entity_id,
            account=str(resource.get("account") or ""),
            conclusion=commit.facts.conclusion or "",
            holds=commit.facts.notes.get("holds"),
            scores=commit.facts.scores,
        )
        return render_notebook(self._file(commit, commit.facts.notebook), page)

    def _entries(self) -> list[Entry]:
        found: list[tuple[Commit, str]] = []
        for entity_id in self._store.entity_ids():
            try:
                commit = self._store.current(entity_id)
                if commit is not None and _has_page(commit):
                    name = (self._store.entity_json(entity_id) or {}).get("name")
                    found.append((commit, str(name or entity_id)))
            except (DyffError, ValueError, LookupError, TypeError, AttributeError):
                # A damaged record is the store's to report; the other pages are still to be read.
                continue
        found.sort(key=lambda item: item[0].committed, reverse=True)
        return [
            Entry(
                entity_id=commit.entity_id,
                title=title,
                kind={"SafetyCase": "Safety case"}.get(commit.kind, commit.kind),
                committed=f"{commit.committed:%Y-%m-%d %H:%M} UTC",
                score=str(commit.facts.headline or ""),
            )
            for commit, title in found
        ]


def serve_pages(
    store: Store,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    allow_remote: bool = False,
    names: Iterable[str] = (),
) -> PageServer:
    """Start a :class:`PageServer` and return it; it serves until it is stopped or this process ends.

    Raises:
        AnalysisError: ``host`` is no loopback address, or the port is taken.
    """
    return PageServer(store, host, port, allow_remote=allow_remote, names=names).start()


def _has_page(commit: Commit) -> bool:
    return commit.facts.page is not None or commit.facts.notebook is not None


def _html(text: str) -> web.Response:
    from aiohttp import web

    return web.Response(text=text, content_type="text/html", charset="utf-8")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hostname(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
