"""Catalogs of 1,000 and 5,000 computed entities against plain Dagster with as many one-op assets that do nothing.

Both sides have the same specs, metadata and checks. The catalog's own load is measured by `catalog`, and left out of
the first line of each size; it is part of what a web server waits for.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of an op as they stand.

import argparse
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks import catalog as manifests
from benchmarks.pairing import Claim, Contender, Seconds, arguments_parser, compare, report, timed
from benchmarks.plain import Plain, plain_definitions
from dyff_dagster import Catalog, DyffStorage, build_definitions
from dyff_dagster.orchestration.automation import eager

SIZES = (1_000, 5_000)
PARTS = ("load", "server", "look", "step", "run")
MANY = 5_000
"""From here on fewer repeats."""
STEPS = 100
IN_PROCESSES = 20
_ROOT = Path(__file__).parents[1]
_SECONDS = 600.0


def plainly(defs: dg.Definitions) -> list[Plain]:
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
        "import pickle\nfrom pathlib import Path\nfrom benchmarks.plain import plain_definitions\n"
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


def small_catalog(folder: Path, number: int) -> Catalog:
    """Modules of one empty file."""
    folder.mkdir(parents=True)
    (folder / "a.py").touch()
    (folder / "modules.yaml").write_text(
        "---\n".join(
            f"kind: Module\nid: module-{n:03}\naccount: acme\nname: Module {n}\nartifacts: [{{path: a.py}}]\n"
            for n in range(number)
        )
    )
    return Catalog.load(folder)


@contextmanager
def small_steps(folder: Path) -> Iterator[tuple[dg.Definitions, dg.Definitions]]:
    """A hundred Modules of one empty file, and as many assets that do nothing."""
    catalog = small_catalog(folder, STEPS)
    ours = build_definitions(catalog, storage=DyffStorage(root=str(folder / "store")))
    yield ours, plain_definitions(plainly(ours))


def run(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """Everything in one process."""
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, run_config=quiet).success


def tick(defs: dg.Definitions) -> None:
    """One look of the automation sensor on a new instance."""
    with dg.DagsterInstance.ephemeral() as instance:
        dg.evaluate_automation_conditions(defs, instance)


@contextmanager
def next_look(defs: dg.Definitions, plain: Sequence[Plain]) -> Iterator[Contender]:
    """Processor time of one look where everything was computed and nothing has changed since the look before."""
    with dg.DagsterInstance.ephemeral() as instance:
        for asset in plain:
            if asset.op is None:
                instance.report_runless_asset_event(dg.AssetMaterialization(asset.spec["key"]))
        before = [dg.evaluate_automation_conditions(defs, instance).cursor]
        run(defs, instance)

        def look() -> None:
            before.append(dg.evaluate_automation_conditions(defs, instance, cursor=before.pop()).cursor)

        # The first hears of the run, and the second of what the first has asked for.
        look()
        look()

        def contender() -> float:
            gc.collect()
            started = time.process_time()
            look()
            return time.process_time() - started

        yield contender


def prepared(root: Path, size: int) -> tuple[Path, Catalog, list[Plain]]:
    """A folder with a catalog of that size, the catalog, and the same as plain values; written once."""
    folder = root / str(size)
    if not folder.exists():
        write(folder / "catalog", size)
    catalog = Catalog.load(folder / "catalog")
    return folder, catalog, plainly(build_definitions(catalog))


def loading(root: Path, size: int, repeats: int) -> Claim:
    """Loading the definitions of one size, without the catalog's own load."""
    _, catalog, plain = prepared(root, size)
    seconds = compare(
        {
            "ours": timed(lambda: load(build_definitions(catalog)), time.process_time),
            "plain": timed(lambda: load(plain_definitions(plain)), time.process_time),
        },
        repeats=repeats,
    )
    return Claim(
        f"{_computed(plain):,} computed entities: definitions loaded",
        seconds.ratio("ours", "plain"),
        "× plain Dagster",
        at_most=1.3,
        note=f"{seconds.median('ours'):.1f} s against {seconds.median('plain'):.1f} s",
    )


def serving(root: Path, size: int, repeats: int) -> list[Claim]:
    """A web server of one size: with the catalog's own load, and with plain Dagster given as long again for it.

    Both sides are other processes, and the catalog's load within ours cannot be told from outside. So the same load
    in a process of its own is timed beside each start, from the process's own clock, and added to plain Dagster's.
    """
    folder, _, plain = prepared(root, size)
    (folder / "plain.pickle").write_bytes(pickle.dumps(plain))
    written_down(folder, folder / "plain.pickle")
    seconds = compare(
        {
            "ours": lambda: served(folder, "ours.py"),
            "plain": lambda: served(folder, "plain.py"),
            "catalog": lambda: catalog_loaded(folder / "catalog"),
        },
        repeats=repeats,
        warm_up=0,
    )
    allowed = Seconds(
        {
            "ours": seconds.by_name["ours"],
            "plain and the catalog": [
                a + b for a, b in zip(seconds.by_name["plain"], seconds.by_name["catalog"], strict=True)
            ],
        }
    )
    what = f"{_computed(plain):,} computed entities: from the web server's start to the graph"
    note = f"{seconds.median('ours'):.1f} s against {seconds.median('plain'):.1f} s"
    return [
        Claim(f"{what}, catalog and all", seconds.ratio("ours", "plain"), "× plain Dagster", note=note),
        Claim(
            f"{what}, the catalog's own load granted",
            allowed.ratio("ours", "plain and the catalog"),
            "× plain Dagster and the catalog's load",
            at_most=1.3,
            note=f"{note} and {seconds.median('catalog'):.1f} s",
        ),
    ]


def catalog_loaded(path: Path) -> float:
    """Seconds that a new process takes for a catalog, without those for its imports."""
    line = (
        "import sys, time; from dyff_dagster import Catalog; started = time.perf_counter(); "
        "Catalog.load(sys.argv[1]); print(time.perf_counter() - started)"
    )
    done = subprocess.run(
        [sys.executable, "-c", line, str(path)],
        env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return float(done.stdout)


def _computed(plain: Sequence[Plain]) -> int:
    return sum(asset.op is not None for asset in plain)


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


def runs(root: Path, repeats: int) -> Claim:
    """A run of steps in processes of their own, from the command line to its end, by the clock.

    Ours copies a file in each and is given the executor that ``definitions.py`` has; the other does nothing, under
    Dagster's own.
    """
    folder = root / "runs"
    catalog = small_catalog(folder / "catalog", IN_PROCESSES)
    (folder / "plain.pickle").write_bytes(pickle.dumps(plainly(build_definitions(catalog))))
    written_down(folder, folder / "plain.pickle")
    (folder / "ours.py").write_text((_ROOT / "definitions.py").read_text())
    seconds = compare(
        {"ours": lambda: materialized(folder, "ours.py"), "plain": lambda: materialized(folder, "plain.py")},
        repeats=repeats,
    )
    each = [seconds.median(name) / IN_PROCESSES for name in ("ours", "plain")]
    return Claim(
        f"a run of {IN_PROCESSES} small steps in processes of their own",
        seconds.ratio("ours", "plain"),
        "× one of steps that do nothing under Dagster's own executor",
        at_most=1.3,
        note=f"{each[0]:.1f} s against {each[1]:.1f} s a step",
    )


def materialized(folder: Path, file: str) -> float:
    """Seconds of the command that materializes everything."""
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "DAGSTER_HOME": home,
            "DYFF_CATALOG": str(folder / "catalog"),
            "DYFF_STORAGE_ROOT": str(Path(home) / "store"),
            "PYTHONPATH": str(_ROOT),
            "PYTHONWARNINGS": "ignore",
        }
        line = [
            str(Path(sys.executable).with_name("dagster")),
            "asset",
            "materialize",
            "--select",
            "*",
            "-f",
            file,
        ]
        started = time.perf_counter()
        subprocess.run(
            line,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - started


def ticks(root: Path, size: int, repeats: int) -> list[Claim]:
    """Looks at so many opted-in entities: our condition against Dagster's own."""
    catalog = Catalog.load(write(root / f"ticks-{size}", size))
    plain = plainly(build_definitions(catalog))
    declared = {asset.spec["key"] for asset in plain if asset.op is None}
    ours = plain_definitions(plain, lambda asset: _eager(asset, declared))
    theirs = plain_definitions(plain, lambda _: dg.AutomationCondition.eager())
    first = {
        "ours": timed(lambda: tick(ours), time.process_time),
        "plain": timed(lambda: tick(theirs), time.process_time),
    }
    claims = [_look("the first look of automation", size, first, repeats)]
    with next_look(ours, plain) as our_look, next_look(theirs, plain) as their_look:
        what = "a look of automation where nothing is to be done"
        claims.append(_look(what, size, {"ours": our_look, "plain": their_look}, repeats))
    return claims


def _look(what: str, size: int, contenders: dict[str, Contender], repeats: int) -> Claim:
    seconds = compare(contenders, repeats=repeats, warm_up=1 if size < MANY else 0)
    return Claim(
        f"{what}, at {size:,} entities that ask for it",
        seconds.ratio("ours", "plain"),
        "× Dagster's own eager() on the same graph",
        at_most=1.3,
        note=f"{seconds.median('ours'):.1f} s against {seconds.median('plain'):.1f} s",
    )


def _eager(asset: Plain, declared: Collection[dg.AssetKey]) -> dg.AutomationCondition[Any]:
    """What the translator gives an entity that asks for it."""
    checks = [
        dg.AssetCheckKey(asset.spec["key"], check["name"]) for check in asset.checks if check["blocking"]
    ]
    return eager([key for key in asset.spec["deps"] if key in declared], next(iter(checks), None))


def main() -> None:
    """Measure all of it in one run, or the parts and sizes that ``--parts`` and ``--sizes`` name."""
    options = _arguments()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        claims: list[Claim] = []
        for size in options.sizes:
            repeats = options.repeats if size < MANY else max(1, options.repeats // 3)
            if "load" in options.parts:
                claims.append(loading(root, size, repeats))
            if "server" in options.parts:
                claims += serving(root, size, max(1, repeats // 2))
            if "look" in options.parts:
                claims += ticks(root, size, max(1, repeats // 2))
        if "step" in options.parts:
            claims.append(steps(root, options.repeats))
        if "run" in options.parts:
            claims.append(runs(root, max(1, options.repeats // 2)))
    report("scale", claims, write=options.write)


def _arguments() -> argparse.Namespace:
    parser = arguments_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="computed entities")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    return parser.parse_args()


if __name__ == "__main__":
    main()
