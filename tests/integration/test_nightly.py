"""A night of a thousand entities: what fails, what stands behind it, and what is mended by the next night."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dyff_dagster import Catalog, DyffStorage, DyffTranslator, build_definitions
from dyff_dagster.orchestration.catalog_sensor import Seen, look
from dyff_dagster.orchestration.propagation import report_failed_dependencies
from dyff_dagster.orchestration.standing import standings

TEAMS, SERVICES, ASKED, MANUAL = 25, 10, 4, 20
SEED = 20260801


@dataclass
class Lab:
    """Twenty-five teams with forty entities each, and what the test itself knows of them.

    Attributes:
        directory: The catalog.
        upstream: What each computed entity is made of, among those that are computed.
        kinds: Of those.
        broken_services: Whose answers are no answers.
    """

    directory: Path
    url: str
    upstream: dict[str, list[str]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    broken_services: set[str] = field(default_factory=set)

    def write(self) -> None:
        """The manifests and raw files of all teams."""
        for team in range(TEAMS):
            (self.directory / f"team-{team}.yaml").write_text(
                "".join(f"---\n{json.dumps(document)}\n" for document in self._team(team))
            )
            self.mend(f"source-{team}")

    def _team(self, team: int) -> Iterator[dict[str, Any]]:
        def computed(kind: str, entity: str, upstream: list[str], **more: Any) -> dict[str, Any]:
            self.upstream[entity], self.kinds[entity] = upstream, kind
            annotations = {"dyff-dagster/automation": "0 3 * * *", **more.pop("annotations", {})}
            return {"kind": kind, "id": entity, "account": f"team-{team}", "annotations": annotations, **more}

        source = f"source-{team}"
        yield computed("DataSource", source, [], name="Raw", sourceKind="upload", source=f"raw/{source}")
        module = {"name": "Notes", "artifacts": [{"path": "notes.py"}]}
        files = {"dyff-dagster/files": f"modules/module-{team}"}
        yield computed("Module", f"module-{team}", [], annotations=files, **module)
        for number in range(MANUAL):
            # Nobody asked for these: they wait for somebody who does.
            yield {
                "kind": "Module", "id": f"manual-{team}-{number}", "account": f"team-{team}", **module,
                "annotations": files,
            }  # fmt: skip
        for half in "ab":
            made_from = {"dyff-dagster/from": source, "dyff-dagster/withhold": ""}
            schema = {"arrow": {"x": "int64!"}}
            yield computed(
                "Dataset", f"rows-{team}-{half}", [source], annotations=made_from, name="Rows",
                artifacts=[{"path": "data.parquet"}], schema=schema,
            )  # fmt: skip
        for number in range(SERVICES):
            service, evaluation = f"service-{team}-{number}", f"answers-{team}-{number}"
            yield {
                "kind": "InferenceService", "id": service, "account": f"team-{team}", "name": "Answers",
                "interface": {"endpoint": f"{self.url}/{service}", "outputSchema": {"arrow": {"x": "int64!"}}},
            }  # fmt: skip
            if number >= ASKED:
                continue
            rows = f"rows-{team}-{'ab'[number % 2]}"
            asks = {"dataset": rows, "inferenceSession": {"inferenceService": service}}
            yield computed("Evaluation", evaluation, [rows], **asks)
        collected = {"dyff-dagster/from": f"answers-{team}-0", "dyff-dagster/withhold": ""}
        yield computed(
            "Dataset", f"collected-{team}", [f"answers-{team}-0"], annotations=collected, name="Answers",
            artifacts=[{"path": "data.parquet"}], schema={"arrow": {"x": "int64!"}},
        )  # fmt: skip
        again = {
            "dataset": f"collected-{team}",
            "inferenceSession": {"inferenceService": f"service-{team}-9"},
        }
        yield computed("Evaluation", f"again-{team}", [f"collected-{team}"], **again)

    def service_of(self, evaluation: str) -> str:
        name, team, *number = evaluation.split("-")
        return f"service-{team}-{number[0] if name == 'answers' else SERVICES - 1}"

    def break_one(self, entity_id: str) -> None:
        """Have an entity fail: its file is gone, or its rows are of another shape, or its service answers nonsense."""
        team = entity_id.split("-")[1]
        if entity_id.startswith("source"):
            (self.directory / "raw" / entity_id / "rows.jsonl").unlink()
        elif entity_id.startswith("module"):
            (self.directory / "modules" / f"module-{team}" / "notes.py").unlink()
        else:
            self.broken_services.add(self.service_of(entity_id))

    def mend(self, entity_id: str) -> None:
        """Put it right again; without having been broken: for the first time."""
        team = entity_id.split("-")[1]
        if entity_id.startswith(("source", "module")):
            raw = self.directory / "raw" / f"source-{team}"
            module = self.directory / "modules" / f"module-{team}"
            raw.mkdir(parents=True, exist_ok=True)
            module.mkdir(parents=True, exist_ok=True)
            (raw / "rows.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
            (module / "notes.py").touch()
        else:
            self.broken_services.discard(self.service_of(entity_id))


@contextmanager
def lab(directory: Path) -> Iterator[Lab]:
    """The teams, and their services, which answer in this process."""
    made: list[Lab] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.strip("/") in made[0].broken_services:
                body = b"<html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        made.append(Lab(directory, f"http://127.0.0.1:{server.server_port}"))
        made[0].write()
        yield made[0]
    finally:
        server.shutdown()
        server.server_close()


class Nights:
    """The daemon's part: looks at the schedule, has run what is due, and tells what is behind a failure."""

    def __init__(self, lab: Lab, root: Path, instance: dg.DagsterInstance) -> None:
        self.catalog = Catalog.load(lab.directory)
        self.instance = instance
        self.defs = build_definitions(self.catalog, storage=DyffStorage(root=str(root)))
        self.keys = {key.path[-1]: key for key in self.defs.resolve_asset_graph().get_all_asset_keys()}
        self.cursor: Any = None
        # As the catalog's sensor does: Dagster takes what is only declared for missing until it is told.
        look(lab.directory, self.catalog, DyffTranslator(), Seen(), instance, lambda: "")

    def look(self, at: datetime) -> list[str]:
        """What one look asks for, which is then run."""
        result = dg.evaluate_automation_conditions(
            self.defs, self.instance, cursor=self.cursor, evaluation_time=at
        )
        self.cursor = result.cursor
        asked = [name for name, key in self.keys.items() if result.get_num_requested(key)]
        if asked:
            job = self.defs.resolve_implicit_global_asset_job_def()
            run = job.execute_in_process(
                instance=self.instance,
                asset_selection=[self.keys[name] for name in asked],
                raise_on_error=False,
            )
            failed = {event.step_key for event in run.all_events if event.is_step_failure and event.step_key}
            report_failed_dependencies(self.catalog, self.keys, self.instance, failed, run.dagster_run)
        return asked

    def pass_by(self, at: datetime) -> list[list[str]]:
        """Looks until nothing is due any more."""
        looks: list[list[str]] = []
        while asked := self.look(at + timedelta(minutes=len(looks))):
            looks.append(asked)
        return looks

    def words(self) -> dict[str, tuple[str, str | None]]:
        found = standings(self.catalog, self.instance, self.keys)
        return {name: (one.status, one.reason) for name, one in found.items()}


# The platform's words, from its own tables.
GOOD = {"DataSource": "Ready", "Dataset": "Ready", "Module": "Ready", "Evaluation": "Complete"}
BAD = {"DataSource": "Error", "Dataset": "Error", "Module": "Error", "Evaluation": "Failed"}
WHY = {"DataSource": "UploadFailed", "Module": "FetchFailed", "Evaluation": "Incomplete"}


def by_hand(site: Lab, broken: set[str]) -> dict[str, tuple[str, str | None]]:
    """What every computed entity must stand at after a night in which some failed.

    All of it is due at once and comes into one run, in its order, so that what stands behind a failure was begun as
    well and has failed with it.
    """
    found: dict[str, tuple[str, str | None]] = {}

    def behind(name: str) -> bool:
        return any(up in broken or behind(up) for up in site.upstream[name])

    for name, kind in site.kinds.items():
        if behind(name):
            found[name] = (BAD[kind], "FailedDependency")
        elif name in broken:
            found[name] = (BAD[kind], WHY[kind])
        else:
            found[name] = (GOOD[kind], None)
    return found


@pytest.mark.timeout(1200)
def test_two_nights_of_a_thousand_entities_end_as_computed_by_hand(tmp_path: Path) -> None:
    """Half of what fails in the first is mended before the second, in which others fail that went well."""
    (tmp_path / "catalog").mkdir()
    (tmp_path / "home").mkdir()
    with lab(tmp_path / "catalog") as site, dg.instance_for_test(temp_dir=str(tmp_path / "home")) as instance:
        nights = Nights(site, tmp_path / "store", instance)
        assert len(nights.catalog) == 1000
        chance = random.Random(SEED)
        candidates = sorted(name for name in site.kinds if name.startswith(("source", "module", "answers")))
        broken = set(chance.sample(candidates, 20))
        for name in broken:
            site.break_one(name)
        evening = datetime(2030, 1, 1, 2, 59, tzinfo=UTC)
        assert nights.look(evening) == []
        looks = nights.pass_by(evening + timedelta(minutes=2))
        first = by_hand(site, broken)
        # Each once.
        assert sorted(name for look in looks for name in look) == sorted(site.kinds)
        words = nights.words()
        assert {name: words[name] for name in site.kinds} == first
        others = {words[name] for name in words if name.startswith("service")}
        assert others == {("Ready", None)}
        assert {words[name] for name in words if name.startswith("manual")} == {("Created", None)}

        mended = set(chance.sample(sorted(broken), 10))
        for name in mended:
            site.mend(name)
        well = sorted(name for name in candidates if first[name] == (GOOD[site.kinds[name]], None))
        newly = {name for name in chance.sample(well, 10) if site.kinds[name] != "Evaluation"}
        for name in newly:
            site.break_one(name)
        assert nights.look(evening + timedelta(hours=12)) == []
        looks = nights.pass_by(evening + timedelta(days=1, minutes=2))
        second = by_hand(site, broken - mended | newly)
        assert {name for name in mended if first[name][1] != "FailedDependency"} <= {
            name for look in looks for name in look
        }
        words = nights.words()
        assert {name: words[name] for name in site.kinds} == second
        assert second != first
