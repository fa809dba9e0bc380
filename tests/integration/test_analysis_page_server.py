"""Pages over real HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from dyff_dagster.analysis import AnalysisError
from dyff_dagster.analysis.page_server import DAMAGED, PageServer, serve_pages
from dyff_dagster.schema.platform import SafetyCase
from dyff_dagster.store import Commit, Facts, Inputs, Score, Store
from tests.integration.analysis_support import Bench

VERSIONS = ("1" * 64, "2" * 64)


def commit(store: Store, entity: SafetyCase, version: str, text: str) -> Commit:
    with store.draft(entity.id) as draft:
        (draft.path / ".dyff").mkdir()
        (draft.path / ".dyff" / "figure.png").write_bytes(b"\x89PNG")
        (draft.path / "index.html").write_text(f"<!DOCTYPE html><title>x</title>{text}")
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 'the code'")])
        nbformat.write(notebook, draft.path / "notebook.ipynb")
        facts = Facts(
            page="index.html",
            notebook="notebook.ipynb",
            figure=".dyff/figure.png",
            scores=(Score("sensitivity", 0.95, 0.9, 0.98, 188),),
        )
        return draft.commit(entity=entity, data_version=version, inputs=Inputs(spec=version), facts=facts)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    bench = Bench(tmp_path_factory.mktemp("pages"))
    entity = bench.safety_case(name="Is <it> safe?")
    for version, text in zip(VERSIONS, ("first", "second"), strict=True):
        commit(bench.store, entity, version, text)
    (Path(bench.root) / "outside.txt").write_text("outside")
    return bench.store


@pytest.fixture(scope="module")
def server(store: Store) -> Iterator[PageServer]:
    with PageServer(store) as server:
        yield server


def ask(
    server: PageServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def test_the_list_shows_pages_with_their_scores(server: PageServer) -> None:
    status, headers, text = ask(server, "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<a href="/case/">Is &lt;it&gt; safe?</a>' in text
    assert "sensitivity 0.950 [0.900, 0.980] n=188" in text


def test_an_id_leads_to_its_current_version(server: PageServer) -> None:
    status, headers, _ = ask(server, "/case/")
    assert (status, headers["Location"]) == (302, f"/case/{VERSIONS[1]}/")


def test_each_version_keeps_its_page(server: PageServer) -> None:
    assert [ask(server, f"/case/{version}/")[2][-5:] for version in VERSIONS] == ["first", "econd"]


def test_a_version_without_its_slash_is_found(server: PageServer) -> None:
    assert ask(server, f"/case/{VERSIONS[0]}")[1]["Location"] == f"/case/{VERSIONS[0]}/"


def test_the_executed_notebook_is_shown_with_its_code(server: PageServer) -> None:
    status, _, text = ask(server, f"/case/{VERSIONS[0]}/notebook")
    assert status == 200
    assert "the code" in text and "Is &lt;it&gt; safe?" in text and "<script" not in text


def test_the_figure_is_served(server: PageServer) -> None:
    status, headers, _ = ask(server, f"/case/{VERSIONS[0]}/figure.png")
    assert (status, headers["Content-Type"]) == (200, "image/png")


def test_health(server: PageServer) -> None:
    assert ask(server, "/healthz")[0] == 200


@pytest.mark.parametrize("path", ["/", "/case/", f"/case/{VERSIONS[0]}/", "/nothing/here"])
def test_the_browser_is_told_to_run_nothing(server: PageServer, path: str) -> None:
    headers = ask(server, path)[1]
    assert headers["Content-Security-Policy"].startswith(
        "sandbox; default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(server: PageServer, method: str) -> None:
    assert ask(server, "/case/", method)[0] == 405


def test_head_is_answered(server: PageServer) -> None:
    assert ask(server, f"/case/{VERSIONS[0]}/", "HEAD")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]"])
def test_a_foreign_name_is_refused(server: PageServer, host: str) -> None:
    status, _, text = ask(server, "/", host=host)
    assert status == 403 and "sensitivity" not in text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8787"])
def test_a_name_of_this_machine_is_served(server: PageServer, host: str) -> None:
    assert ask(server, "/", host=host)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nobody/",
        f"/case/{'3' * 64}/",
        "/case/../",
        "/case/versions/",
        "/case/..%2f..%2foutside.txt",
        "/..%2foutside.txt",
        f"/case/{VERSIONS[0]}/..%2fcommit.json",
        f"/case/{VERSIONS[0]}/.files.json",
        "/.dyff/",
    ],
)
def test_what_is_no_page_is_not_there(server: PageServer, path: str) -> None:
    status, _, text = ask(server, path)
    assert (status, text) == (404, "There is no such page.\n")


def damaged(bench: Bench, facts: Facts, files: dict[str, bytes]) -> str:
    """The address of a commit as something else than this package would have made it."""
    entity = bench.safety_case()
    with bench.store.draft(entity.id) as draft:
        for name, content in files.items():
            (draft.path / name).write_bytes(content)
        draft.commit(entity=entity, data_version=VERSIONS[0], inputs=Inputs(spec="s"), facts=facts)
    return f"/case/{VERSIONS[0]}/"


def quiet(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> bool:
    printed = capfd.readouterr()
    return not caplog.records and not printed.err and not printed.out


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"cells": 5, "nbformat": 4}', b"\xff"])
def test_a_damaged_notebook_is_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    bench = Bench(tmp_path)
    path = damaged(bench, Facts(notebook="notebook.ipynb"), {"notebook.ipynb": content})
    with PageServer(bench.store) as server:
        status, headers, text = ask(server, path + "notebook")
    assert (status, text) == (500, DAMAGED)
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert quiet(caplog, capfd)


@pytest.mark.parametrize("change", [{"sequence": []}, {"facts": {"page": 5}}, {"resource": 5}, {"facts": 5}])
def test_a_damaged_commit_is_one_sentence_and_the_list_is_shown(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    change: dict[str, object],
) -> None:
    bench = Bench(tmp_path)
    path = damaged(bench, Facts(notebook="notebook.ipynb"), {"notebook.ipynb": b"{}"})
    record = Path(str(bench.store.working("case"))) / "commits" / "00000001.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    commit(bench.store, bench.safety_case(id="other", name="Another"), VERSIONS[0], "other")
    with PageServer(bench.store) as server:
        status, headers, text = ask(server, path + "notebook")
        assert status in (404, 500) and text.count("\n") == 1
        assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        status, _, text = ask(server, "/")
        assert status == 200 and "Another" in text
    assert quiet(caplog, capfd)


@pytest.mark.parametrize("name", ["../../../../outside.txt", "OUTSIDE", ".dyff/../../../../../outside.txt"])
def test_a_commit_that_names_a_file_outside_of_its_version_shows_none(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path)
    (tmp_path / "outside.txt").write_text("outside")
    name = name.replace("OUTSIDE", str(tmp_path / "outside.txt"))
    facts = Facts(page=name, notebook=name, figure=name)
    path = damaged(bench, facts, {"index.html": b"x"})
    (tmp_path / "store" / "outside.txt").write_text("outside")
    with PageServer(bench.store) as server:
        for address in (path, path + "notebook", path + "figure.png"):
            status, _, text = ask(server, address)
            assert status in (404, 500) and text.count("outside") == 0


def test_a_file_of_a_version_that_became_a_link_out_of_it_is_not_shown(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (tmp_path / "outside.txt").write_text("outside")
    path = damaged(bench, Facts(page="index.html"), {"index.html": b"x"})
    page = Path(str(bench.store.working("case"))) / "versions" / VERSIONS[0] / "index.html"
    page.unlink()
    page.symlink_to(tmp_path / "outside.txt")
    with PageServer(bench.store) as server:
        assert ask(server, path)[2] == "There is no such page.\n"


def test_pages_of_a_store_that_is_no_disk_are_served(tmp_path: Path) -> None:
    store = Store("memory://dyff-test-pages")
    commit(store, Bench(tmp_path).safety_case(), VERSIONS[0], "in memory")
    with PageServer(store) as server:
        assert ask(server, f"/case/{VERSIONS[0]}/")[2].endswith("in memory")
        assert ask(server, f"/case/{VERSIONS[0]}/figure.png")[0] == 200
        assert "the code" in ask(server, f"/case/{VERSIONS[0]}/notebook")[2]


def test_an_address_without_end_is_refused_in_silence(
    server: PageServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    status, _, text = ask(server, "/" + "a" * 20_000)
    assert status == 400 and "Traceback" not in text
    assert quiet(caplog, capfd)


def test_another_address_than_loopback_is_refused(store: Store) -> None:
    with pytest.raises(AnalysisError, match=r"'0\.0\.0\.0' is no loopback address"):
        PageServer(store, host="0.0.0.0")


def test_a_port_that_is_taken_is_named(server: PageServer, store: Store) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(AnalysisError, match=f"cannot listen on 127.0.0.1:{port}"):
        serve_pages(store, port=port)


def test_a_stopped_server_answers_no_more(store: Store) -> None:
    server = serve_pages(store)
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(server, "/healthz")


def test_an_empty_store_has_an_empty_list(tmp_path: Path) -> None:
    with PageServer(Store(tmp_path / "none")) as server:
        assert "Nothing that has a page" in ask(server, "/")[2]
