"""The example's service on a cluster, on GPUs: two replicas, and the answers that it gives on a laptop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.sessions.kubernetes.api import Object
from dyff_dagster.store import Store, local_path
from tests import servers
from tests.conftest import MaterializedExample
from tests.kubernetes.cluster_support import GPU, KEY, Small, left_of_ours
from tests.kubernetes.endurance_support import overseen, until

EVALUATION = "wdbc-logreg-eval"


@dataclass
class Audited:
    """The example's evaluation, made on the cluster by `dagster asset materialize`.

    Attributes:
        store: Its store.
        metadata: What Dagster shows of it.
        jobs: The Jobs that there were.
        pods: The pods that there were, as they were last.
        left: What was left when the command had ended.
    """

    store: Store
    metadata: dict[str, Any]
    jobs: list[Object]
    pods: list[Object]
    left: list[str]


@pytest.fixture
def audited(small: Small) -> Iterator[Audited]:
    catalog = small.directory / "catalog"
    shutil.copytree(servers.EXAMPLE, catalog)
    (catalog / "safety-case.yaml").unlink()  # its notebooks lie elsewhere
    manifest = catalog / "evaluation.yaml"
    said = yaml.safe_load(manifest.read_text())
    said["inferenceSession"] |= {
        "replicas": 2,
        "accelerator": {"kind": "GPU", "gpu": {"hardwareTypes": ["nvidia.com/gpu-h100", GPU], "count": 2}},
    }
    manifest.write_text(yaml.safe_dump(said))
    home, storage = small.directory / "home", small.directory / "store"
    environment = servers.environment(
        home,
        DYFF_CATALOG=catalog,
        DYFF_STORAGE_ROOT=storage,
        DYFF_SESSIONS="kubernetes",
        DYFF_KUBERNETES=small.settings_file(),
        DYFF_INSTANCE_KEY=KEY,
    )
    with overseen(small.api) as overseer:
        servers.run(
            servers.command(
                "dagster", "asset", "materialize", "--select", f'+key:"evaluations/{EVALUATION}"',
                "-f", "definitions.py", "-c", "examples/run-config.yaml",
            ),
            servers.REPOSITORY,
            environment,
        )  # fmt: skip
        left = [f"pod {pod['metadata']['name']}" for pod in overseer.living]
        jobs, pods = list(overseer.jobs.values()), list(overseer.pods.values())
    yield Audited(Store(storage), shown(home), jobs, pods, left)


def shown(home: Path) -> dict[str, Any]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["evaluations", EVALUATION]))
        assert event is not None
        assert event.asset_materialization is not None
        return {
            key: getattr(value, "value", value) for key, value in event.asset_materialization.metadata.items()
        }


@pytest.mark.usefixtures("all_gpus")
def test_the_examples_service_answers_on_gpus_as_it_does_on_a_laptop(
    audited: Audited, materialized_example: MaterializedExample, small: Small
) -> None:
    here, there = materialized_example.store.current(EVALUATION), audited.store.current(EVALUATION)
    assert here is not None
    assert there is not None
    assert there.data_version == here.data_version
    assert digest_dataset(open_dataset(local_path(there.path))) == here.data_version
    assert audited.metadata["dyff/answered"] == audited.metadata["dyff/asked"] == 380

    (job,) = audited.jobs
    assert job["spec"]["parallelism"] == 2
    assert len(audited.pods) == 2
    for pod in audited.pods:
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
        assert pod["spec"]["nodeName"]

    session = audited.metadata["dyff/session"]
    assert session["session"] == job["metadata"]["name"]
    assert session["adopted"] is False
    assert session["phases"].keys() <= {"admission", "scheduling", "pull", "ready"}
    assert {"admission", "ready"} <= session["phases"].keys()
    assert all(seconds >= 0 for seconds in session["phases"].values())
    # Two pods of two GPUs each; rounded to tenths of seconds.
    assert session["podSeconds"] > 0
    assert session["gpuSeconds"] == pytest.approx(2 * session["podSeconds"], abs=0.11)
    assert audited.metadata["dyff/gpuSeconds"] == session["gpuSeconds"]
    assert audited.metadata["dyff/total"]["gpuSeconds"] == session["gpuSeconds"]

    assert audited.left == []
    until(lambda: not [name for name in left_of_ours(small.api) if name.startswith("pods/")])
