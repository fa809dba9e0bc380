"""A catalog as ``dg.Definitions``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.assets import build_assets
from dyff_dagster.orchestration.automation import build_automation_sensor
from dyff_dagster.orchestration.catalog_sensor import WEBSERVER, build_catalog_sensor
from dyff_dagster.orchestration.console import console_logger, name_steps
from dyff_dagster.orchestration.executors import executor_named
from dyff_dagster.orchestration.names import asset_key, op_name
from dyff_dagster.orchestration.propagation import build_failure_sensor
from dyff_dagster.orchestration.resources import DyffSessions, DyffStorage, ResourceKeys, shared
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.session_ops import build_reaper
from dyff_dagster.orchestration.translator import DyffTranslator
from dyff_dagster.schema.errors import DyffError


def build_definitions(
    catalog: Catalog,
    *,
    storage: DyffStorage | None = None,
    sessions: DyffSessions | None = None,
    translator: DyffTranslator | None = None,
    executor: dg.ExecutorDefinition | None = None,
    resource_prefix: str = "dyff",
    watch: Path | None = None,
) -> dg.Definitions:
    """Every entity of a catalog as an asset, with its checks, and the sensors that it takes.

    Sensors start nothing, but for what a manifest asks for with ``dyff-dagster/automation``: without that there is no
    sensor that starts runs.

    Nothing is written and no network is touched: every step and every pod loads the definitions anew.

    Args:
        catalog: The checked catalog.
        storage: Where artifacts live; default the directory ``dyff-storage`` in the working directory.
        sessions: How services are made to answer; default processes of this machine.
        translator: How entities look as assets.
        executor: Dagster's own default (``multi_or_in_process_executor``) where none is given.
        resource_prefix: The resources are called ``PREFIX_storage`` and ``PREFIX_sessions``. Two catalogs of
            one code location that differ in them need two prefixes. Names of sensors begin with it, too.
        watch: Directory or file of manifests that the catalog was loaded from: sensors notice what changes there, and
            tell what is behind a failure of it.
    """
    name_steps(
        {
            op_name(entity): asset_key(entity).to_user_string()
            for entity in catalog.entities.values()
            if not is_declared_only(entity)
        }
    )
    keys = ResourceKeys(prefix=resource_prefix)
    sessions = sessions or DyffSessions()
    translator = translator or DyffTranslator()
    webserver = os.environ.get(WEBSERVER) or None
    assets = build_assets(catalog, translator, keys, sessions.step_pods(), webserver)
    return dg.Definitions(
        assets=assets,
        resources={
            keys.storage: shared(storage or DyffStorage()),
            keys.sessions: shared(sessions),
        },
        sensors=_sensors(catalog, translator, assets, keys, sessions, watch),
        executor=executor,
        loggers={"console": console_logger},
    )


def _sensors(
    catalog: Catalog,
    translator: DyffTranslator,
    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec],
    keys: ResourceKeys,
    sessions: DyffSessions,
    watch: Path | None,
) -> list[dg.SensorDefinition]:
    """Each of them only where it has something to do."""
    asset_keys = {entity.id: translator.get_asset_key(entity) for entity in catalog.entities.values()}
    sensors: list[dg.SensorDefinition] = []
    specs = [spec for a in assets for spec in (a.specs if isinstance(a, dg.AssetsDefinition) else [a])]
    automation = build_automation_sensor(specs, keys.prefix)
    if automation is not None:
        sensors.append(automation)
    if watch is not None:
        sensors.append(build_failure_sensor(catalog, asset_keys, keys.prefix))
        sensors.append(build_catalog_sensor(watch, catalog, translator, keys.prefix))
    if sessions.backend == "kubernetes":
        sensors.append(build_reaper(keys))
    return sensors


def definitions_from_environment(base: Path, environment: Mapping[str, str] = os.environ) -> dg.Definitions:
    """What a ``definitions.py`` needs: everything as CONTRACT's environment variables say.

    Args:
        base: Directory of definitions.py; relative paths are relative to it.
        environment: The variables DYFF_CATALOG, DYFF_STORAGE_ROOT, DYFF_SESSIONS, DYFF_EXECUTOR,
            DYFF_PAGES_URL.

    Raises:
        CatalogError: The catalog has problems.
        DyffError: A variable has a value that it cannot have.
    """
    try:
        source = catalog_source(base, environment)
        return build_definitions(
            Catalog.load(source),
            watch=source if isinstance(source, Path) and source.suffix != ".py" else None,
            storage=DyffStorage.from_environment(base, environment),
            sessions=DyffSessions.from_environment(environment, base),
            executor=executor_named(environment.get("DYFF_EXECUTOR") or "multiprocess"),
        )
    except DyffError as error:
        if _is_command_that_ends_here(sys.argv):
            # Dagster would print seventy lines of its own before the one that says what is wrong.
            print(error, file=sys.stderr)
            raise SystemExit(1) from None
        raise


def _is_command_that_ends_here(arguments: Sequence[str]) -> bool:
    """Whether this is ``dagster asset …`` or ``dagster job …`` on somebody's terminal.

    A code server, a step or a pod must get the exception: Dagster carries it to the UI.
    """
    return Path(arguments[0]).name == "dagster" and list(arguments[1:2]) in (["asset"], ["job"])


def catalog_source(base: Path, environment: Mapping[str, str] = os.environ) -> Path | str:
    """What DYFF_CATALOG names: an existing path, else a dotted module name.

    Raises:
        DyffError: It is neither.
    """
    named = environment.get("DYFF_CATALOG") or "examples/breast_cancer"
    path = base / named
    if not path.exists() and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", named) is None:
        raise DyffError(
            f"DYFF_CATALOG is {named!r}: there is no such path in {base.absolute()}, and it is no module's name; "
            "name a directory or file of manifests, or a module with `catalog`"
        )
    return path if path.exists() else named


def load_catalog(base: Path, environment: Mapping[str, str] = os.environ) -> Catalog:
    """The catalog that DYFF_CATALOG names."""
    return Catalog.load(catalog_source(base, environment))
