"""Catalogs of 1,000 and 5,000 computed entities against plain Dagster with as many one-op assets that do nothing.

Both sides have the same specs, metadata and checks. The catalog's own load is measured by `catalog`, and left out of
the first line of each size; it is part of what a web server waits for.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of an op as they stand.

import os
import pickle
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks import catalog as manifests
from benchmarks.pairing import Claim, arguments, compare, report, timed
from dyff_dagster import Catalog, DyffStorage, build_definitions
from dyff_dagster.orchestration.automation import eager

SIZES = (1_000, 5_000)
STEPS = 100
_ROOT = Path(__file__).parents[1]
_SECONDS = 600.0


@dataclass(frozen=True)
class Plain:
    """One asset as a person would write it down without us.

    Attributes:
        op: Name of its op; None: it is only declared.
        spec: Arguments of its AssetSpec.
        checks: Arguments of its AssetCheckSpecs.
        tags: Of its op.
    """

    op: str | None
    spec: Mapping[str, Any]
    checks: tuple[Mapping[str, Any], ...]
    tags: Mapping[str, Any]


def plainly(defs: dg.Definitions) -> list["Plain"]:
    """What definitions say, as plain values."""
    found = []
    for asset in defs.assets or ():
        if isinstance(asset, dg.AssetsDefinition):
            (spec,) = asset.specs
            checks = tuple(
                {
                    "name": check.name,
                    "asset": check.asset_key,
                    "description": check.description,
                    "blocking": check.blocking,
                    "metadata": dict(check.metadata),
                }
                for check in asset.check_specs
            )
            found.append(Plain(asset.op.name, _spec(spec), checks, dict(asset.op.tags)))
        else:
            assert isinstance(asset, dg.AssetSpec)
            found.append(Plain(None, _spec(asset), (), {}))
    return found


def _spec(spec: dg.AssetSpec) -> dict[str, Any]:
    return {
        "key": spec.key,
        "deps": [dep.asset_key for dep in spec.deps],
        "group_name": spec.group_name,
        "kinds": set(spec.kinds),
        "owners": list(spec.owners),
        "description": spec.description,
        "metadata": dict(spec.metadata),
        "tags": {name: value for name, value in spec.tags.items() if not name.startswith("dagster/kind/")},
        "code_version": spec.code_version,
    }


def plain_definitions(
    assets: list[Plain], condition: dg.AutomationCondition[Any] | None = None
) -> dg.Definitions:
    """The same with Dagster alone, computing nothing."""
    return dg.Definitions(
        assets=[
            dg.AssetSpec(**asset.spec) if asset.op is None else _one_op(asset, condition) for asset in assets
        ]
    )


def _one_op(asset: Plain, condition: dg.AutomationCondition[Any] | None) -> dg.AssetsDefinition:
    checks = [dg.AssetCheckSpec(**check) for check in asset.checks]

    @dg.multi_asset(
        name=asset.op,
        specs=[dg.AssetSpec(**asset.spec, automation_condition=condition)],
        check_specs=checks,
        op_tags=asset.tags,
    )
    def compute(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(passed=True, check_name=check.name) for check in checks]
        )

    return compute


def load(defs: dg.Definitions) -> None:
    """What every code server, run and step does with them."""
    defs.get_repository_def().load_all_definitions()


def write(folder: Path, computed: int) -> Path:
    """A catalog with about so many entities that are computed."""
    manifests.write(folder, round(computed / 0.987))
    return folder


def written_down(folder: Path, plain: Path) -> None:
    """Two projects: one with a catalog, one with the same assets in plain Dagster, read from a file."""
    (folder / "ours.py").write_text(
        "from pathlib import Path\nfrom dyff_dagster import Catalog, build_definitions\n"
        f"defs = build_definitions(Catalog.load({str(folder / 'catalog')!r}))\n"
    )
    (folder / "plain.py").write_text(
        "import pickle\nfrom pathlib import Path\nfrom benchmarks.scale import plain_definitions\n"
        f"defs = plain_definitions(pickle.loads(Path({str(plain)!r}).read_bytes()))\n"
    )


def served(folder: Path, file: str) -> float:
    """Seconds from the start of a web server to the graph that it serves."""
    from tests.servers import free_port

    port = free_port()
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(_ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    line = [str(Path(sys.executable).with_name("dagster-webserver")), "-f", file, "-p", str(port)]
    started = time.perf_counter()
    process = subprocess.Popen(
        line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _graph(port):
            assert process.poll() is None, f"{file}: the web server ended"
            assert time.perf_counter() - started < _SECONDS, f"{file}: no graph was served"
            time.sleep(0.05)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def _graph(port: int) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=b'{"query": "{ assetNodes { id dependencyKeys { path } } }"}',
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:
            return b'"id"' in response.read()
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def small_steps(folder: Path) -> Iterator[tuple[dg.Definitions, dg.Definitions]]:
    """A hundred Modules of one empty file, and as many assets that do nothing."""
    folder.mkdir()
    (folder / "a.py").touch()
    (folder / "modules.yaml").write_text(
        "---\n".join(
            f"kind: Module\nid: module-{n:03}\naccount: acme\nname: Module {n}\nartifacts: [{{path: a.py}}]\n"
            for n in range(STEPS)
        )
    )
    ours = build_definitions(Catalog.load(folder), storage=DyffStorage(root=str(folder / "store")))
    yield ours, plain_definitions(plainly(ours))


def run(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """Everything in one process."""
    assert defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance).success


def tick(defs: dg.Definitions) -> None:
    """One look of the automation sensor on a new instance."""
    with dg.DagsterInstance.ephemeral() as instance:
        dg.evaluate_automation_conditions(defs, instance)


def sized(root: Path, size: int, repeats: int) -> list[Claim]:
    """Loading, and a web server, of one size."""
    folder = root / str(size)
    catalog = Catalog.load(write(folder / "catalog", size))
    plain = plainly(build_definitions(catalog))
    count = sum(asset.op is not None for asset in plain)
    seconds = compare(
        {
            "ours": timed(lambda: load(build_definitions(catalog)), time.process_time),
            "plain": timed(lambda: load(plain_definitions(plain)), time.process_time),
        },
        repeats=repeats,
    )
    claims = [
        Claim(
            f"{count:,} computed entities: definitions loaded",
            seconds.ratio("ours", "plain"),
            "× plain Dagster",
            at_most=1.3,
            note=f"{seconds.median('ours'):.1f} s against {seconds.median('plain'):.1f} s",
        )
    ]
    (folder / "plain.pickle").write_bytes(pickle.dumps(plain))
    written_down(folder, folder / "plain.pickle")
    seconds = compare(
        {"ours": lambda: served(folder, "ours.py"), "plain": lambda: served(folder, "plain.py")},
        repeats=max(1, repeats // 2),
        warm_up=0,
    )
    claims.append(
        Claim(
            f"{count:,} computed entities: from the web server's start to the graph, catalog and all",
            seconds.ratio("ours", "plain"),
            "× plain Dagster",
            at_most=1.3,
            note=f"{seconds.median('ours'):.1f} s against {seconds.median('plain'):.1f} s",
        )
    )
    return claims


def steps(root: Path, repeats: int) -> Claim:
    """A step that takes over what is there, against one that does nothing."""
    with small_steps(root / "steps") as (ours, plain), dg.instance_for_test() as instance:
        run(ours, instance)
        seconds = compare(
            {
                "ours": timed(lambda: run(ours, instance), time.process_time),
                "plain": timed(lambda: run(plain, instance), time.process_time),
            },
            repeats=repeats,
        )
    each = [seconds.median(name) / STEPS * 1000 for name in ("ours", "plain")]
    return Claim(
        "a step in process that finds its entity unchanged",
        seconds.ratio("ours", "plain"),
        "× a step that does nothing",
        at_most=1.3,
        note=f"{each[0]:.0f} ms against {each[1]:.0f} ms",
    )


def ticks(root: Path, repeats: int) -> Claim:
    """One look at 1,000 opted-in entities: our condition against Dagster's own."""
    catalog = Catalog.load(write(root / "ticks", 1_000))
    plain = plainly(build_definitions(catalog))
    ours, theirs = plain_definitions(plain, eager()), plain_definitions(plain, dg.AutomationCondition.eager())
    seconds = compare(
        {
            "ours": timed(lambda: tick(ours), time.process_time),
            "plain": timed(lambda: tick(theirs), time.process_time),
        },
        repeats=repeats,
    )
    return Claim(
        "one look of automation at 1,000 entities that ask for it",
        seconds.ratio("ours", "plain"),
        "× Dagster's own eager() on the same graph",
        at_most=1.3,
        note=f"{seconds.median('ours'):.1f} s against {seconds.median('plain'):.1f} s",
    )


def main() -> None:
    """Measure all of it in one run."""
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        claims = [
            claim
            for size in SIZES
            for claim in sized(root, size, options.repeats if size < 5_000 else max(1, options.repeats // 2))
        ]
        claims += [steps(root, options.repeats), ticks(root, max(1, options.repeats // 2))]
    report("scale", claims, write=options.write)


if __name__ == "__main__":
    main()
