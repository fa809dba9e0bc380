"""The token of a session is in its Secret and nowhere else, and neither is the key that it is made of."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dyff_dagster.sessions.kubernetes.tokens import INSTANCE_KEY, token_maker
from tests import servers
from tests.kubernetes.cluster_support import RawApi, Small, write_catalog
from tests.kubernetes.test_signals import PATIENT

KEY = "0f5a3c-a-key-that-must-not-be-seen-anywhere"
PROMPT = "a prompt that stays in the log"


@dataclass
class Watched:
    """All that the API server had of a namespace while something ran there.

    Attributes:
        texts: By what they are of: the JSON of objects as they were at some time; of Secrets without their data.
        sessions: Name and uid of every Job that there was.
        secrets: What the Secrets of sessions hold under ``token``, by name.
    """

    texts: dict[str, str] = field(default_factory=dict)
    sessions: set[tuple[str, str]] = field(default_factory=set)
    secrets: dict[str, str] = field(default_factory=dict)

    def look(self, raw: RawApi, namespace: str, resources: list[str]) -> None:
        for path in resources:
            for item in raw("GET", path.format(namespace))["items"]:
                name = item["metadata"]["name"]
                if path.endswith("/secrets"):
                    data = item.pop("data", None) or {}
                    if item["type"] == "Opaque" and "token" in data:
                        self.secrets[name] = data["token"]
                if path.endswith("/jobs"):
                    self.sessions.add((name, item["metadata"]["uid"]))
                text = json.dumps(item)
                self.texts[f"{path.rpartition('/')[2]}/{name} {hash(text)}"] = text


def namespaced_resources(raw: RawApi) -> list[str]:
    """Paths of every kind of object that can be listed in a namespace."""
    groups = [group["preferredVersion"]["groupVersion"] for group in raw("GET", "/apis")["groups"]]
    found = []
    for root in ["/api/v1", *(f"/apis/{group}" for group in groups)]:
        for resource in raw("GET", root)["resources"]:
            if resource["namespaced"] and "list" in resource["verbs"] and "/" not in resource["name"]:
                found.append(f"{root}/namespaces/{{}}/{resource['name']}")
    return found


@dataclass
class Ran:
    """A run of Dagster's on the cluster, and what it left."""

    status: int
    output: str
    home: Path
    project: Path
    watched: Watched


def materialize(small: Small, raw: RawApi, project: Path, **settings: Any) -> Ran:
    """``dagster asset materialize --select '*'`` of the project's catalog, looked at while it runs."""
    home = project / "home"
    environment = servers.environment(
        home,
        DYFF_CATALOG="catalog",
        DYFF_SESSIONS="kubernetes",
        DYFF_KUBERNETES=small.settings_file(**{**PATIENT, **settings}),
        DYFF_STORAGE_ROOT=project / "storage",
        **{INSTANCE_KEY: KEY},
    )
    for name in ("definitions.py", "pyproject.toml"):
        (project / name).write_bytes((servers.REPOSITORY / name).read_bytes())
    config = servers.REPOSITORY / "examples" / "run-config.yaml"
    line = servers.command(
        "dagster", "asset", "materialize", "--select", "*", "-f", "definitions.py", "-c", config
    )
    watched, done, resources = Watched(), threading.Event(), namespaced_resources(raw)

    def look() -> None:
        while not done.wait(1.0):
            watched.look(raw, small.namespace, resources)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        ran = subprocess.run(line, cwd=project, env=environment, capture_output=True, text=True, timeout=250)
    finally:
        done.set()
        watcher.join()
    watched.look(raw, small.namespace, resources)
    output = ran.stdout + ran.stderr
    if (project / "storage" / "running").exists():
        for arguments in (["sessions"], ["status"], ["terminate", "running"]):
            more = subprocess.run(
                servers.command("dyff-dagster", *arguments),
                cwd=project,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert more.returncode == 0, more.stderr
            output += more.stdout + more.stderr
    return Ran(ran.returncode, output, home, project, watched)


def files_below(directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(directory)), path.read_bytes()


def forms(secret: str) -> list[bytes]:
    """A secret as it is, and as it is written in base64 wherever it begins there."""
    found = [secret.encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + secret.encode()).rstrip(b"=")
        found.append(encoded[4 if shift else 0 : -4])
    return found


def test_they_are_nowhere_to_be_found(small: Small, raw_api: RawApi, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    write_catalog(project / "catalog", "--check-token", "--slow", "0.2")
    more = [
        {"kind": "InferenceSession", "id": "running", "account": "acme", "inferenceService": "doubler"},
        {"kind": "Evaluation", "id": "again", "account": "acme", "dataset": "rows",
         "inferenceSessionReference": "running"},
    ]  # fmt: skip
    (project / "catalog" / "more.yaml").write_text(yaml.safe_dump_all(more))
    ran = materialize(small, raw_api, project)
    assert ran.status == 0, ran.output[-4000:]
    assert len(ran.watched.sessions) == 2
    secrets = {"the key": KEY}
    for name, uid in ran.watched.sessions:
        token_for, _ = token_maker(name, {INSTANCE_KEY: KEY})
        secrets[f"the token of {name}"] = token_for(uid)
        # Looking for it does find it where it must be.
        assert any(form in ran.watched.secrets[name].encode() for form in forms(token_for(uid)))
    places = [("what is printed", ran.output.encode())]
    places += [(name, text.encode()) for name, text in ran.watched.texts.items()]
    places += list(files_below(ran.project))
    kinds = {name.partition("/")[0] for name in ran.watched.texts}
    assert {"jobs", "pods", "services", "secrets", "configmaps", "networkpolicies", "events"} <= kinds
    assert any(name.endswith(".db") for name, _ in places)
    leaks = [
        f"{what} in {name}" for what, secret in secrets.items() for form in forms(secret)
        for name, data in places if form in data
    ]  # fmt: skip
    assert leaks == []


def test_a_service_that_fails_is_quoted_on_the_terminal_and_in_no_event(
    small: Small, raw_api: RawApi, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    write_catalog(project / "catalog", "--say", PROMPT, "--fail", "3")
    ran = materialize(small, raw_api, project, crashes=1)
    assert ran.status != 0
    _, _, shown = ran.output.partition("The last lines of the service's log:\n")
    assert PROMPT in shown.splitlines()[0] + shown.splitlines()[1], ran.output[-4000:]
    databases = {name: data for name, data in files_below(ran.home) if ".db" in name}
    assert any(b"never came to answer: it ended with exit code 3" in data for data in databases.values())
    assert [name for name, data in databases.items() if PROMPT.encode() in data] == []
    kept = [data for name, data in files_below(project / "storage" / "doubled") if name.endswith(".log")]
    assert kept == [f"{PROMPT}\n".encode()]
