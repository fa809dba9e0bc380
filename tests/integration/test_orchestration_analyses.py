"""Analyses through Dagster: the limits that annotations state, the package's own code, and runs that are broken off."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dyff_dagster.processes.process_table import LINUX
from dyff_dagster.store import Store, local_path
from tests.integration import small_catalog, small_safety_case
from tests.integration.analysis_support import is_gone, until
from tests.integration.test_orchestration import Audit, audit, failure_of

__all__ = ["audit"]

METHOD = "kind: Method\nid: score\naccount: acme\n"
MEASUREMENT = "kind: Measurement\nid: judged\naccount: acme\n"


def annotate(audit: Audit, head: str, **values: str) -> None:
    lines = ", ".join(f"dyff-dagster/{name.replace('_', '-')}: {value}" for name, value in values.items())
    audit.edit("audit.yaml", head, f"{head}annotations: {{{lines}}}\n")


@pytest.mark.skipif(not LINUX, reason="memory is watched on Linux")
def test_what_a_method_states_holds_for_its_analyses_and_steers_only(audit: Audit) -> None:
    annotate(audit, METHOD, max_memory="500Mi", max_seconds="600")
    first = audit.run()
    assert first.success
    audit.edit("audit.yaml", "max-memory: 500Mi", "max-memory: 501Mi")
    metadata = audit.materialized(audit.run())
    assert {m["dyff/reused"] for m in metadata.values()} == {
        True
    }  # what is allowed is no part of what is computed

    code = audit.directory / "code" / "small_functions.py"
    code.write_text(
        code.read_text().replace("values = judged", "kept = bytearray(b'x') * (900 << 20); values = judged")
    )
    result = audit.run()
    description, data = failure_of(result, "measurements__scores")
    assert re.fullmatch(
        r"scores: killed when it held [0-9.]+[MG]i of memory, and it may hold 501Mi: "
        r"raise dyff-dagster/max-memory of score, or let it hold less at once; the log is .*",
        description,
    )
    assert data["dyff/status"] == "Failed"
    assert "measurements/scores" not in audit.materialized(result)
    assert audit.checks(result)["scores:schema"] is False

    annotate(audit, "method: score\n", max_memory="3Gi")  # its own goes before its method's
    audit.edit(
        "audit.yaml",
        "annotations: {dyff-dagster/max-memory: 3Gi}\nannotations: {",
        "annotations: {dyff-dagster/max-memory: 3Gi, ",
    )
    assert audit.run("measurements/scores").success


def test_time_that_a_measurement_states_ends_it(audit: Audit) -> None:
    annotate(audit, MEASUREMENT, max_seconds="9")
    code = audit.directory / "code" / "small_functions.py"
    code.write_text(
        code.read_text().replace("    labels = {", "    __import__('time').sleep(600)\n    labels = {")
    )
    description, _ = failure_of(audit.run(), "measurements__judged")
    assert description.startswith(
        "judged: ended after 9 seconds, the time it was given: raise dyff-dagster/max-seconds of judged, or see in "
    )


def test_a_corrected_estimator_is_computed_with_again_where_it_is_used(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_safety_case.add(audit.directory)
    # Two modules, so that one method can do without the package.
    code = audit.directory / "code" / "small_functions.py"
    judge, score = code.read_text().split("def score")
    code.write_text(judge)
    (code.parent / "scoring.py").write_text(f"import pyarrow as pa\ndef score{score}")
    audit.edit(
        "audit.yaml", "small_functions.score}}\nmodules: [functions]", "scoring.score}}\nmodules: [scoring]"
    )
    audit.edit(
        "audit.yaml",
        "---\nkind: Method\nid: judge\n",
        "---\nkind: Module\nid: scoring\naccount: acme\nname: Scoring\nannotations: {dyff-dagster/files: code}\n"
        "artifacts: [{path: scoring.py}]\n---\nkind: Method\nid: judge\n",
    )
    assert audit.run().success
    monkeypatch.setattr("dyff_dagster.analysis.own_code_digest", lambda: "f" * 64)
    metadata = audit.materialized(audit.run())
    assert {key: m["dyff/reused"] for key, m in metadata.items() if not m["dyff/reused"]} == {
        "measurements/scores": False,
        "safetycases/case": False,
    }
    page = audit.store.current("case")
    assert page is not None
    assert page.inputs["extras"]["package"] == "f" * 64
    text = local_path(page.path / "index.html").read_text("utf-8")
    assert "Code of the package" in text
    assert "f" * 64 in text
    judged = audit.store.current("judged")
    assert judged is not None and "package" not in judged.inputs["extras"]


HANGS = """
import os, pathlib, subprocess, time
def judge(arguments, rows, answers):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    pids = f"worker={os.getpid()} guard={os.getppid()} child={child.pid} "
    pathlib.Path(os.environ["XDG_CACHE_HOME"], "pids").write_text(pids)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("who", "number"),
    [("run", signal.SIGINT), ("run", signal.SIGTERM), ("run", signal.SIGKILL), ("step", signal.SIGKILL)],
)
def test_a_run_that_is_broken_off_leaves_no_process_and_no_version(
    tmp_path: Path, who: str, number: signal.Signals
) -> None:
    """By Ctrl-C, by Dagster's termination of a run, by the machine: of the run's process or of the step's."""
    directory = small_catalog.write(tmp_path / "catalog")
    (directory / "code" / "small_functions.py").write_text(HANGS)
    (tmp_path / "definitions.py").write_text((Path(__file__).parents[2] / "definitions.py").read_text())
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DYFF_", "DAGSTER_"))}
    run = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("dagster")),
            "asset",
            "materialize",
            "--select",
            "+measurements/judged",
            "-f",
            "definitions.py",
        ],
        cwd=tmp_path,
        env={**environment, "DYFF_CATALOG": str(directory), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    noted = tmp_path / "cache" / "pids"
    try:
        text = until(lambda: noted.exists() and noted.read_text(), 180)
        pids = {name: int(pid) for name, pid in re.findall(r"(\w+)=(\d+)", text)}
        status = Path(f"/proc/{pids['guard']}/status").read_text()
        pids["step"] = int(re.findall(r"PPid:\s+(\d+)", status)[0])
        assert pids["step"] != run.pid
        os.kill(run.pid if who == "run" else pids["step"], number)
        assert run.wait(120) != 0
    finally:
        run.kill()
        run.wait()
    assert set(pids) == {"worker", "guard", "child", "step"}
    for pid in pids.values():
        until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]
    store = Store(tmp_path / "dyff-storage")
    assert store.current("judged") is None
    with store.lock("judged", wait=30):
        pass


def test_a_threshold_that_fails_stops_what_is_downstream_only_if_it_is_blocking(audit: Audit) -> None:
    """A negative result must be publishable, and is; whoever wants to go no further says so."""
    small_safety_case.add(audit.directory)
    checks = 'dyff-dagster/checks: "accuracy >= 0.9; lower(accuracy) >= 0.999; accuracy <= 1"'
    first = audit.run()
    assert audit.checks(first)["scores:lower_accuracy_at_least_0_999"] is False
    assert {"measurements/scores", "safetycases/case"} <= audit.materialized(first).keys()

    audit.edit("audit.yaml", checks, f'{checks}, dyff-dagster/blocking: "true"')
    second = audit.run()
    assert not second.success
    assert audit.checks(second)["scores:lower_accuracy_at_least_0_999"] is False
    assert "measurements/scores" in audit.materialized(second)
    assert "safetycases/case" not in audit.materialized(second)

    audit.edit("audit.yaml", "lower(accuracy) >= 0.999; ", "")
    third = audit.run()
    assert third.success and "safetycases/case" in audit.materialized(third)
