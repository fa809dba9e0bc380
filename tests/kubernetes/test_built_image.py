"""An image that is built for a service, pushed to a registry, and run by digest on the cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster import Catalog, DyffSessions, DyffStorage, build_definitions
from dyff_dagster.store import Store
from tests.kubernetes.cluster_support import Small, settings_of
from tests.kubernetes.deployment_support import CLUSTER_SCRIPT
from tests.registry import registry

CATALOG = """
kind: InferenceService
id: capital
account: acme
name: Capital
builder: {kind: buildah, args: [image]}
runner: {kind: container, resources: {storage: 1Mi, memory: 32Mi}}
interface: {endpoint: answer, outputSchema: {arrow: {answer: string!}}}
---
kind: Dataset
id: questions
account: acme
name: Questions
annotations: {dyff-dagster/withhold: ""}
artifacts: [{path: questions.parquet}]
schema: {arrow: {question: string!}}
---
kind: Evaluation
id: asked
account: acme
dataset: questions
inferenceSession: {inferenceService: capital}
"""
SERVER = r"""
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
  const char *body = "{\"answer\": \"ANSWER\"}";
  char reply[256], asked[65536];
  snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
           "Connection: close\r\n\r\n%s", strlen(body), body);
  int on = 1, listening = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("DYFF_PORT")))};
  if (bind(listening, (struct sockaddr *)&at, sizeof at) || listen(listening, 64)) return 1;
  for (;;) {
    int client = accept(listening, 0, 0);
    if (client < 0) continue;
    size_t have = 0; ssize_t got; char *end = 0, *length; size_t whole = 0;
    while ((got = read(client, asked + have, sizeof asked - 1 - have)) > 0) {
      asked[have += got] = 0;
      if ((end = strstr(asked, "\r\n\r\n"))) {
        length = strcasestr(asked, "content-length:");
        whole = (end - asked) + 4 + (length ? strtoul(length + 15, 0, 10) : 0);
        if (have >= whole) break;
      }
    }
    write(client, reply, strlen(reply));
    shutdown(client, SHUT_WR);
    close(client);
  }
}
"""

pytestmark = pytest.mark.skipif(
    not CLUSTER_SCRIPT.exists()
    or shutil.which("buildah") is None
    or shutil.which("gcc") is None
    or os.geteuid() != 0,
    reason="needs buildah, gcc, and a node that is this machine: it pulls from a registry on the loopback interface",
)


def test_what_was_built_is_what_answers(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "catalog"
    (directory / "image").mkdir(parents=True)
    (directory / "audit.yaml").write_text(CATALOG)
    pq.write_table(
        pa.table({"_index_": [0, 1], "question": ["France", "Peru"]}), directory / "questions.parquet"
    )
    (directory / "image" / "Containerfile").write_text('FROM scratch\nCOPY serve /serve\nCMD ["/serve"]\n')
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/images"\nrunroot = "{tmp_path}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    monkeypatch.setenv("DYFF_INSTANCE_KEY", "key-of-this-test")
    with registry() as images:
        (tmp_path / "registries.conf").write_text(
            f'[[registry]]\nlocation = "{images.host}"\ninsecure = true\n'
        )
        settings = settings_of(small.namespace, small.image, build={"repository": f"{images.host}/audits"})
        (directory / "settings.json").write_text(json.dumps(settings))

        def answers(answer: str) -> tuple[str, set[str]]:
            compile_server(directory / "image" / "serve", answer)
            definitions = build_definitions(
                Catalog.load(directory / "audit.yaml"),
                storage=DyffStorage(root=str(tmp_path / "store")),
                sessions=DyffSessions(backend="kubernetes", kubernetes="settings.json", base=str(directory)),
            )
            job = definitions.resolve_implicit_global_asset_job_def()
            ran = job.execute_in_process(
                instance=dg.DagsterInstance.ephemeral(),
                raise_on_error=False,
                run_config={"execution": {"config": {}}},
            )
            assert ran.success, [event.message for event in ran.all_events if event.is_failure]
            store = Store(tmp_path / "store")
            built, asked = store.current("capital"), store.current("asked")
            assert built is not None and asked is not None
            rows = pq.read_table(Path(str(asked.path))).to_pylist()
            return built.data_version, {item["answer"] for row in rows for item in row["responses"]}

        first, said = answers("Paris")
        assert said == {"Paris"}
        assert f"sha256:{first}" in images.manifests
        # Another program makes another image, and that makes other answers: none of the first one's stand.
        second, said = answers("Lima")
        assert said == {"Lima"}
        assert second != first


def compile_server(path: Path, answer: str) -> None:
    """A server of one answer, which needs nothing else in its image."""
    subprocess.run(
        ["gcc", "-static", "-O1", "-w", "-D_GNU_SOURCE", "-x", "c", "-o", str(path), "-"],
        input=SERVER.replace("ANSWER", answer),
        text=True,
        check=True,
    )
