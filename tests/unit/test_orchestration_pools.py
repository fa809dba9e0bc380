"""Which pool an entity's op takes a place in, how urgent it is, and what the shipped dagster.yaml says of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster_shared.yaml_utils import load_yaml_from_path

from dyff_dagster import Catalog, build_definitions
from dyff_dagster.catalog import CatalogError
from dyff_dagster.orchestration.names import asset_key
from dyff_dagster.schema.canonical import spec_digest
from tests import servers

_GPU = "{kind: GPU, gpu: {hardwareTypes: [nvidia.com/gpu-h100, nvidia.com/gpu-a100], count: 2}}"
_L4 = "{kind: GPU, gpu: {hardwareTypes: [nvidia.com/gpu-l4]}}"
_OUT = "outputSchema: {arrow: {y: int64!}}"
_RUNNER = "kind: standalone, args: [python, serve.py], resources: {storage: 1Mi}"
_MANIFESTS = f"""
{{kind: DataSource, id: raw, account: acme, name: Raw, sourceKind: upload, source: raw.csv}}
---
kind: Dataset
id: rows
account: acme
name: Rows
annotations: {{dyff-dagster/withhold: "", dyff-dagster/from: raw}}
artifacts: [{{path: data.parquet}}]
schema: {{arrow: {{x: int64!}}}}
---
{{kind: InferenceService, id: hosted, account: acme, name: H, interface: {{endpoint: "https://h.example/", {_OUT}}}}}
---
{{kind: InferenceService, id: cpu, account: acme, name: C, runner: {{{_RUNNER}}}, interface: {{endpoint: y, {_OUT}}}}}
---
kind: InferenceService
id: gpu
account: acme
name: G
runner: {{{_RUNNER}, accelerator: {_GPU}}}
interface: {{endpoint: y, {_OUT}}}
---
{{kind: InferenceSession, id: session, account: acme, inferenceService: gpu}}
---
{{kind: InferenceSession, id: four, account: acme, inferenceService: gpu, replicas: 2}}
---
{{kind: InferenceSession, id: of-hosted, account: acme, inferenceService: hosted, accelerator: {_L4}}}
---
{{kind: Evaluation, id: asks-hosted, account: acme, dataset: rows, inferenceSession: {{inferenceService: hosted}}}}
---
{{kind: Evaluation, id: asks-hosted-too, account: acme, dataset: rows, inferenceSessionReference: of-hosted}}
---
{{kind: Evaluation, id: asks-session, account: acme, dataset: rows, inferenceSessionReference: session}}
---
{{kind: Evaluation, id: on-cpu, account: acme, dataset: rows, inferenceSession: {{inferenceService: cpu}}}}
---
{{kind: Evaluation, id: on-gpu, account: acme, dataset: rows, inferenceSession: {{inferenceService: gpu}}}}
---
kind: Evaluation
id: on-another
account: acme
dataset: rows
inferenceSession: {{inferenceService: gpu, accelerator: {_L4}}}
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "raw.csv").write_text("x\n1\n")
    (tmp_path / "serve.py").touch()
    (tmp_path / "audit.yaml").write_text(_MANIFESTS)
    return Catalog.load(tmp_path)


def op_of(catalog: Catalog, entity_id: str) -> Any:
    return build_definitions(catalog).resolve_assets_def(asset_key(catalog.get(entity_id))).op


@pytest.mark.parametrize(
    ("entity", "pool"),
    [
        ("rows", None),
        ("asks-hosted", "services/hosted"),
        ("asks-hosted-too", "services/hosted"),  # through a session or not: the load is the service's
        ("asks-session", "sessions/session"),
        ("on-cpu", None),
        ("on-gpu", "accelerators/nvidia.com/gpu-h100/x2"),  # its service's runner's
        ("on-another", "accelerators/nvidia.com/gpu-l4/x1"),  # its own
        ("session", "accelerators/nvidia.com/gpu-h100/x2"),
        ("four", "accelerators/nvidia.com/gpu-h100/x4"),
        ("of-hosted", None),  # nothing is started
    ],
)
def test_what_is_scarce_has_a_pool(catalog: Catalog, entity: str, pool: str | None) -> None:
    assert op_of(catalog, entity).pool == pool


def with_label(tmp_path: Path, label: str) -> Catalog:
    (tmp_path / "raw.csv").write_text("x\n1\n")
    (tmp_path / "serve.py").touch()
    text = _MANIFESTS.replace(
        "{kind: Evaluation, id: on-cpu,", f"{{kind: Evaluation, id: on-cpu, labels: {{{label}}},"
    )
    (tmp_path / "audit.yaml").write_text(text)
    return Catalog.load(tmp_path)


def test_a_priority_is_a_tag_of_the_op_and_no_part_of_the_spec(tmp_path: Path, catalog: Catalog) -> None:
    before = spec_digest(catalog.get("on-cpu"))
    assert "dagster/priority" not in op_of(catalog, "on-cpu").tags
    labelled = with_label(tmp_path, 'dyff-dagster/priority: "7"')
    assert op_of(labelled, "on-cpu").tags["dagster/priority"] == "7"
    assert spec_digest(labelled.get("on-cpu")) == before


@pytest.mark.parametrize("number", ["0", "7", '"1000"'])
def test_priorities_are_whole_numbers(tmp_path: Path, number: str) -> None:
    with_label(tmp_path, f"dyff-dagster/priority: {number}")


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("dyff-dagster/priority: high", "must be a whole number from 0 to 1000, the higher the sooner"),
        ("dyff-dagster/priority: 1001", "must be a whole number from 0 to 1000"),
        ("dyff-dagster/priority: 1.5", "must be a whole number from 0 to 1000"),
        ("dyff-dagster/priority: ''", "must be a whole number from 0 to 1000"),
        ("dyff-dagster/priority: null", "must be a whole number from 0 to 1000"),
        ("dyff-dagster/prioritty: 7", "there is no label 'dyff-dagster/prioritty'"),
        (
            "dyff-dagster/automation: eager",
            "is an annotation; write 'dyff-dagster/automation' under annotations",
        ),
    ],
)
def test_a_label_that_dagster_could_not_reckon_with_is_refused(tmp_path: Path, label: str, told: str) -> None:
    with pytest.raises(CatalogError) as raised:
        with_label(tmp_path, label)
    assert told in str(raised.value)
    assert "audit.yaml:" in str(raised.value)


def test_the_dagster_yaml_that_is_shipped_is_one_that_dagster_takes() -> None:
    config, _ = dagster_instance_config(str(servers.REPOSITORY))
    assert config["concurrency"]["pools"] == {"granularity": "op", "default_limit": 1}
    assert config["run_monitoring"]["enabled"] is True
    assert config["run_monitoring"]["free_slots_after_run_end_seconds"] > 0


def test_a_cluster_has_the_same_pools() -> None:
    here = load_yaml_from_path(str(servers.REPOSITORY / "dagster.yaml"))
    there = yaml.safe_load((servers.REPOSITORY / "deploy" / "dagster" / "dagster.yaml").read_text())
    assert there["concurrency"] == here["concurrency"]  # type: ignore[index, call-overload]


def test_the_page_shows_what_is_shipped() -> None:
    shipped = yaml.safe_load((servers.REPOSITORY / "dagster.yaml").read_text())
    page = (servers.REPOSITORY / "docs" / "pools.md").read_text()
    shown = yaml.safe_load(
        page.partition("```yaml\nconcurrency:")[2].partition("```")[0].join(["concurrency:", ""])
    )
    assert shown == {name: shipped[name] for name in ("concurrency", "run_monitoring")}
