"""The catalog, watched: what is new, changed or gone is noticed, and the code location is loaded again.

Dropping a manifest into the folder is then enough. What is only declared, and so never computed, is reported as
materialized, since Dagster takes it for missing until somebody says otherwise; what was removed is reported as Deleted,
and its artifacts stay.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from dyff_dagster.catalog import Catalog, CatalogError, manifest_paths
from dyff_dagster.orchestration.marks import MANIFEST, Marks, report
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.standing import standings
from dyff_dagster.orchestration.translator import DyffTranslator
from dyff_dagster.schema.canonical import canonical_json, sha256_text, spec_digest
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import DyffEntity
from dyff_dagster.schema.statuses import EntityStatus, EntityStatusReason, success_status

WEBSERVER = "DYFF_WEBSERVER_URL"

_RELOAD = """
mutation Reload($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } }
    ... on UnauthorizedError { message }
    ... on ReloadNotSupported { message }
    ... on RepositoryLocationNotFound { message }
  }
}
"""
_SECONDS_TO_RELOAD = 60.0


@dataclass
class Seen:
    """What the sensor knew when it last looked, as its cursor keeps it.

    Attributes:
        files: Digest of names, sizes and times of the catalog's files.
        reported: By key of a declared asset, the digest of what was reported of it.
        assets: Every key that the catalog had.
        broken: Digest of the files that were found to have problems; they are not loaded again until they change.
    """

    files: str = ""
    reported: dict[str, str] = field(default_factory=dict)
    assets: list[str] = field(default_factory=list)
    broken: str = ""

    @classmethod
    def read(cls, cursor: str | None) -> Seen:
        """The inverse of :meth:`write`; nothing where the cursor is another version's."""
        try:
            return cls(**json.loads(cursor)) if cursor else cls()
        except (ValueError, TypeError):
            return cls()

    def write(self) -> str:
        """As a cursor."""
        return json.dumps(self.__dict__, sort_keys=True)


def build_catalog_sensor(
    source: Path,
    catalog: Catalog,
    translator: DyffTranslator,
    prefix: str,
    *,
    environment: Mapping[str, str] = os.environ,
    interval: int = 30,
) -> dg.SensorDefinition:
    """A sensor that watches the files of a catalog.

    It starts no run, and so it runs from the start.

    Args:
        source: Directory or file of manifests that the catalog was loaded from.
        catalog: What is loaded now.
        translator: How entities look as assets.
        prefix: Begins its name.
        environment: Where DYFF_WEBSERVER_URL is: the web server that is asked to load the code location again.
        interval: Seconds between two looks.
    """

    @dg.sensor(
        name=f"{prefix}_catalog",
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Notices new, changed and removed manifests, and has the code location loaded again.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        seen = Seen.read(context.cursor)
        origin = context.code_location_origin
        reload = reloader(environment.get(WEBSERVER), origin.location_name if origin is not None else None)
        said = look(source, catalog, translator, seen, context.instance, reload)
        context.update_cursor(seen.write())
        return dg.SkipReason("; ".join(said) or "the manifests are as they were")

    return watch


def look(
    source: Path,
    loaded: Catalog,
    translator: DyffTranslator,
    seen: Seen,
    instance: dg.DagsterInstance,
    reload: Callable[[], str],
) -> list[str]:
    """Look at a catalog once; what there is to say of it.

    Args:
        source: Where it was loaded from.
        loaded: What is loaded now.
        translator: How entities look as assets.
        seen: What was seen the last time; brought up to date.
        instance: Where is reported what is declared, and what is gone.
        reload: Has the code location loaded again, and says so; where it raises DyffError it is called again next time.
    """
    said = _report_declared(loaded, translator, seen, instance)
    said += _report_deleted(loaded, translator, seen, instance)
    files = files_digest(source)
    if files == seen.files or files == seen.broken:
        return said
    if not seen.files and _same(loaded, source):
        seen.files = files  # the first look after a start
        return said
    try:
        Catalog.load(source)
    except CatalogError as error:
        seen.broken = files
        return [*said, f"the manifests have problems, and what was loaded before stays: {error}"]
    seen.broken = ""
    try:
        done = reload()
    except DyffError as error:
        return [*said, f"the manifests have changed: {error}; it is tried again"]
    seen.files = files
    return [*said, f"the manifests have changed: {done}"]


def _same(loaded: Catalog, source: Path) -> bool:
    """Whether what is loaded is what the files say now."""
    try:
        fresh = Catalog.load(source)
    except CatalogError:
        return False
    return {i: spec_digest(e) for i, e in fresh.entities.items()} == {
        i: spec_digest(e) for i, e in loaded.entities.items()
    }


def files_digest(source: Path) -> str:
    """Digest of the names, sizes and times of a catalog's manifests; none is read."""
    stated: list[Any] = []
    for path in manifest_paths(source):
        try:
            stat = path.stat()
        except OSError:
            continue
        stated.append([str(path), stat.st_size, stat.st_mtime_ns])
    return sha256_text(canonical_json(stated).decode())[:32]


def _report_declared(
    catalog: Catalog, translator: DyffTranslator, seen: Seen, instance: dg.DagsterInstance
) -> list[str]:
    fresh: list[str] = []
    for entity in catalog.entities.values():
        if not is_declared_only(entity):
            continue
        key = translator.get_asset_key(entity)
        name, digest = key.to_user_string(), spec_digest(entity)
        if seen.reported.get(name) == digest:
            continue
        instance.report_runless_asset_event(_declared(entity, key, digest))
        seen.reported[name] = digest
        fresh.append(entity.id)
    return [f"{len(fresh)} declared entities reported"] if fresh else []


def _declared(entity: DyffEntity, key: dg.AssetKey, digest: str) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        asset_key=key,
        description="Declared in a manifest: there is nothing to compute.",
        metadata={"dyff/status": success_status(entity.kind), "dyff/spec": digest},
        tags={"dagster/data_version": digest},
    )


def _report_deleted(
    catalog: Catalog, translator: DyffTranslator, seen: Seen, instance: dg.DagsterInstance
) -> list[str]:
    keys = sorted(translator.get_asset_key(entity).to_user_string() for entity in catalog.entities.values())
    gone = sorted(set(seen.assets) - set(keys))
    for name in gone:
        report(
            instance,
            dg.AssetKey.from_user_string(name),
            EntityStatus.deleted,
            EntityStatusReason.delete_command,
            MANIFEST,
            "Its manifest was removed. Its artifacts stay until they are purged.",
        )
        seen.reported.pop(name, None)
    fresh = set(keys) - set(seen.assets)
    seen.assets = keys
    said = [f"Deleted: {', '.join(gone)}"] if gone else []
    return said + (_report_back(catalog, translator, fresh, instance) if fresh else [])


def _report_back(
    catalog: Catalog, translator: DyffTranslator, fresh: set[str], instance: dg.DagsterInstance
) -> list[str]:
    """Of manifests that were removed and are here again: what they were is what they are."""
    removed = {key.to_user_string() for key in Marks.read(instance).removed()} & fresh
    if not removed:
        return []
    keys = {entity.id: translator.get_asset_key(entity) for entity in catalog.entities.values()}
    for entity_id, standing in standings(catalog, instance, keys).items():
        if keys[entity_id].to_user_string() in removed:
            report(
                instance,
                keys[entity_id],
                standing.status,
                standing.reason,
                MANIFEST,
                "Its manifest is here again, and it is what it was.",
            )
    return [f"here again: {', '.join(sorted(removed))}"]


def reloader(url: str | None, location: str | None) -> Callable[[], str]:
    """Has a code location loaded again, and says so; raises DyffError where the web server could not.

    Args:
        url: Of the web server; None: nobody can be asked.
        location: Name of the code location.
    """

    def reload() -> str:
        if not url or not location:
            return f"reload the code location in Dagster's UI, or set {WEBSERVER}, and this does it"
        return _reload(url, location)

    return reload


def _reload(url: str, location: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise DyffError(f"{WEBSERVER} is {url!r}: it must be the http(s) URL of Dagster's web server")
    body = json.dumps({"query": _RELOAD, "variables": {"name": location}}).encode()
    request = urllib.request.Request(  # noqa: S310 - the scheme is looked at above
        f"{url.rstrip('/')}/graphql", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS_TO_RELOAD) as response:  # noqa: S310
            answer = json.load(response)["data"]["reloadRepositoryLocation"]
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError) as error:
        raise DyffError(
            f"the web server at {url} could not be asked to load {location} again ({type(error).__name__}): "
            f"look whether {WEBSERVER} is its address"
        ) from None
    entry = answer.get("locationOrLoadError") or {}
    if answer["__typename"] != "WorkspaceLocationEntry" or entry.get("__typename") == "PythonError":
        raise DyffError(
            f"the web server could not load {location} again: {answer.get('message') or entry.get('message')}"
        )
    return f"the code location {location} was loaded again"
