"""The calls to an API server that is away, has too much to do, forgets, or breaks off in the middle of a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.errors import ApiError
from dyff_dagster.sessions.kubernetes.watching import Watched
from tests.integration.api_server import (
    TOKEN,
    ApiServer,
    connected,
    done_and_dropped,
    dropped,
    gone,
    half_a_line,
    refused,
    status,
)

pytest.importorskip("kubernetes")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer().running() as running:
        yield running


@pytest.fixture
def api(server: ApiServer) -> KubernetesApi:
    return connected(server)


def job(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {}}


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def names(watched: Watched, kind: str = "jobs") -> list[str]:
    return [item["metadata"]["name"] for item in watched.objects(kind)]


# One call


@pytest.mark.parametrize(
    "cue",
    [dropped, status(429, b"{}"), status(500, b"oh"), status(502, b"<html>"), status(503), status(504)],
    ids=["a broken connection", "429", "500", "502", "503", "504"],
)
def test_what_passes_is_tried_again(server: ApiServer, api: KubernetesApi, cue: Any) -> None:
    server.put("jobs", job("a"))
    server.cue("GET", "/jobs/a", cue, cue)
    found = api.get("jobs", "a")
    assert found is not None and found["metadata"]["name"] == "a"
    assert api.calls == 3


@pytest.mark.parametrize("code", [400, 401, 403, 409, 410, 422])
def test_what_does_not_pass_is_not_tried_again(server: ApiServer, api: KubernetesApi, code: int) -> None:
    server.cue("GET", "/jobs/a", refused(code, "Word", "it is said why"))
    with pytest.raises(ApiError, match="it is said why") as raised:
        api.get("jobs", "a")
    assert (raised.value.status, raised.value.code, api.calls) == (code, "Word", 1)


def test_patience_ends(server: ApiServer) -> None:
    slept: list[float] = []
    api = connected(server, patience=0.0, sleep=slept.append)
    server.cue("GET", "/jobs/a", *[status(503, b"busy")] * 3)
    with pytest.raises(ApiError) as raised:
        api.get("jobs", "a")
    assert raised.value.status == 503
    assert str(raised.value).startswith(
        "the Kubernetes API server refused GET /apis/batch/v1/namespaces/default/jobs/a"
    )


def test_a_server_that_is_not_there_is_named_without_a_secret(server: ApiServer) -> None:
    api = connected(server, patience=0.0)
    server.stop()
    try:
        with pytest.raises(ApiError, match=r"does not answer \(GET /apis/batch/v1") as raised:
            api.get("jobs", "a")
    finally:
        server.start()
    assert raised.value.status == 0
    assert TOKEN not in str(raised.value) + repr(raised.value)


def test_a_server_that_comes_back_is_found_again(server: ApiServer, api: KubernetesApi) -> None:
    server.put("jobs", job("a"))
    server.stop()
    threading.Timer(1.0, server.start).start()
    assert api.get("jobs", "a") is not None


def test_a_proxy_that_answers_in_its_stead_is_no_surprise(server: ApiServer, api: KubernetesApi) -> None:
    server.cue("GET", "/jobs/a", status(200, b"<html>log in</html>"))
    with pytest.raises(ApiError, match=r"does not speak its language \(GET /apis/batch/v1"):
        api._call("GET", "/apis/batch/v1/namespaces/default/jobs/a")
    server.cue("GET", "/jobs/a", status(403, b"<html>no</html>"))
    with pytest.raises(ApiError, match=r"refused GET .* with 403"):
        api.get("jobs", "a")


def test_credentials_that_are_over_are_said_to_be(server: ApiServer, api: KubernetesApi) -> None:
    server.cue("GET", "/jobs", refused(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(ApiError, match=r"does not know who we are \(401, Unauthorized\): renew") as raised:
        api.find("jobs")
    assert TOKEN not in str(raised.value)


def test_what_is_not_there_is_none_and_is_deleted_already(server: ApiServer, api: KubernetesApi) -> None:
    assert api.get("jobs", "a") is None
    assert api.delete("jobs", "a") is False
    assert api.log("a", "service") == ""


def test_a_namespace_that_is_not_there_is_named(server: ApiServer) -> None:
    api = connected(server)
    api.namespace = "elsewhere"
    with pytest.raises(
        ApiError, match=r'there is no namespace elsewhere on this cluster \(namespaces "elsewhere"'
    ):
        api.create("jobs", job("a"))


def test_what_is_there_is_not_made_again(server: ApiServer, api: KubernetesApi) -> None:
    api.create("jobs", job("a"))
    with pytest.raises(ApiError) as raised:
        api.create("jobs", job("a"))
    assert (raised.value.status, raised.value.code) == (409, "AlreadyExists")


def test_a_creation_whose_answer_is_lost_is_found_to_have_happened(
    server: ApiServer, api: KubernetesApi
) -> None:
    server.cue("POST", "/jobs", done_and_dropped)
    with pytest.raises(ApiError) as raised:
        api.create("jobs", job("a"))
    assert raised.value.code == "AlreadyExists"
    assert raised.value.tries == 2
    assert list(server.objects["jobs"]) == ["a"]


def test_a_deletion_whose_answer_is_lost_has_happened(server: ApiServer, api: KubernetesApi) -> None:
    made = api.create("jobs", job("a"))
    server.cue("DELETE", "/jobs/a", done_and_dropped)
    assert api.delete("jobs", "a", uid=made["metadata"]["uid"]) is False
    assert server.objects["jobs"] == {}


def test_a_later_object_of_the_same_name_is_left_alone(server: ApiServer, api: KubernetesApi) -> None:
    server.put("jobs", job("a"))
    assert api.delete("jobs", "a", uid="of-an-earlier-one") is False
    assert list(server.objects["jobs"]) == ["a"]


@pytest.mark.parametrize("hours", [-2, 1])
def test_time_is_the_servers(server: ApiServer, api: KubernetesApi, hours: int) -> None:
    server.skew = timedelta(hours=hours)
    api.find("jobs")
    assert abs(api.now() - (datetime.now(UTC) + server.skew)) < timedelta(seconds=5)


def test_time_is_not_moved_by_more_than_the_header_says_for_certain(
    server: ApiServer, api: KubernetesApi
) -> None:
    """It has whole seconds: a clock that is right is never corrected, one that is ahead never by more than it is."""
    for milliseconds in (0, 300):
        server.skew = timedelta(milliseconds=milliseconds)
        for _ in range(5):
            api.find("jobs")
            assert api._skew is not None and timedelta(0) <= api._skew <= server.skew
            time.sleep(0.23)  # at different parts of the second


def test_a_version_with_a_plus_is_a_version(server: ApiServer, api: KubernetesApi) -> None:
    assert api.version() == (1, 31)


def test_nodes_that_may_not_be_seen_are_none(server: ApiServer, api: KubernetesApi) -> None:
    server.cue("GET", "/nodes", refused(403, "Forbidden", 'User "a" cannot list resource "nodes"'))
    assert api.nodes() == []


# Watching


def test_changes_are_seen_and_others_are_not(server: ApiServer, api: KubernetesApi) -> None:
    server.put("jobs", job("a", session="s"))
    server.put("jobs", job("other", session="t"))
    with Watched(api, "session=s", "jobs", "pods") as watched:
        watched.synced()
        assert names(watched) == ["a"]
        server.put("jobs", job("b", session="s"))
        until(lambda: names(watched) == ["a", "b"])
        server.put("jobs", {**server.objects["jobs"]["a"], "spec": {"x": 1}})
        until(lambda: watched.objects("jobs")[0]["spec"] == {"x": 1})
        server.remove("jobs", "a")
        until(lambda: names(watched) == ["b"])
        assert watched.objects("pods") == []


@pytest.mark.parametrize("cue", [half_a_line, dropped], ids=["in the middle of a line", "between two lines"])
def test_a_connection_that_breaks_loses_nothing(server: ApiServer, api: KubernetesApi, cue: Any) -> None:
    server.put("jobs", job("a"))
    with Watched(api, "", "jobs") as watched:
        watched.synced()
        until(lambda: server.count("GET", "watch"))
        server.cue("WATCHED", "jobs", cue)
        server.put("jobs", job("b"))
        until(lambda: names(watched) == ["a", "b"])
        until(lambda: server.count("GET", "watch") == 2)
        server.remove("jobs", "a")
        until(lambda: "a" not in names(watched))


def test_what_goes_while_nobody_looks_is_gone_afterwards(server: ApiServer, api: KubernetesApi) -> None:
    server.put("jobs", job("a"))
    with Watched(api, "", "jobs") as watched:
        watched.synced()
        server.stop()
        server.remove("jobs", "a")
        server.put("jobs", job("b"))
        assert names(watched) == ["a"]  # what was there last stands
        server.start()
        until(lambda: names(watched) == ["b"])


@pytest.mark.parametrize(
    "cue", [gone, status(410, b"{}"), status(200, b"not JSON\n")], ids=["an event", "a status", "no JSON"]
)
def test_a_version_that_lies_too_far_back_is_no_end(server: ApiServer, api: KubernetesApi, cue: Any) -> None:
    server.put("jobs", job("a"))
    server.cue("GET", "watch=true", cue, cue)
    with Watched(api, "", "jobs") as watched:
        watched.synced()
        until(lambda: server.count("GET", "watch") == 3)
        server.put("jobs", job("b"))
        until(lambda: names(watched) == ["a", "b"])


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_who_may_not_look_is_told(server: ApiServer, api: KubernetesApi, verb: str) -> None:
    no = f'jobs is forbidden: User "system:serviceaccount:a:b" cannot {verb} resource "jobs" in API group "batch"'
    server.cue("GET", "watch=true" if verb == "watch" else "/jobs", refused(403, "Forbidden", no))
    watched = Watched(api, "", "jobs")
    with pytest.raises(
        ApiError, match=f'"system:serviceaccount:a:b" may not {verb} jobs in the namespace default'
    ):
        watched.synced()
    with pytest.raises(ApiError, match=f"may not {verb} jobs"):
        watched.objects("jobs")
    watched.close()


def test_a_watch_that_the_server_ends_at_once_is_not_begun_in_a_loop(
    server: ApiServer, api: KubernetesApi
) -> None:
    server.cue("GET", "watch=true", *[status(200, b"")] * 100)
    with Watched(api, "", "jobs") as watched:
        watched.synced()
        begun = time.monotonic()
        until(lambda: server.count("GET", "watch") >= 3)
        assert server.count("GET", "watch") <= time.monotonic() - begun + 2


def test_waiting_ends_with_a_change(server: ApiServer, api: KubernetesApi) -> None:
    with Watched(api, "", "jobs") as watched:
        watched.synced()
        until(lambda: server.count("GET", "watch"))
        threading.Timer(0.2, lambda: server.put("jobs", job("a"))).start()
        watched.wait(60)
        assert names(watched) == ["a"]


def test_nothing_of_it_goes_on_when_it_is_closed(server: ApiServer, api: KubernetesApi) -> None:
    before = set(threading.enumerate())
    with Watched(api, "", "jobs") as watched:
        watched.synced()
        until(lambda: server.count("GET", "watch"))
    server.put("jobs", job("a"))  # a thread that waits for news ends with the next
    until(lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith("watch-")])
