"""Sessions as ops of one's own jobs, and what ends those that nobody needs any more.

Evaluations and InferenceSession assets provision and end their sessions themselves. These ops are for jobs that do
something else with a session: warm it up, try it out, end all of them in the evening.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of an op as they stand.

from collections.abc import Callable
from typing import Any, TypeVar

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.progress import log_progress
from dyff_dagster.orchestration.resources import DyffSessions, DyffStorage, ResourceKeys
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.orchestration.terminating import note_termination
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import InferenceSession, InferenceSessionAndToken
from dyff_dagster.store import Store

IN_PROCESS = "dyff_in_process"
"""Key of the resource that hands a session's token from op to op."""

_T = TypeVar("_T")
_OVER = frozenset({dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})


class InProcessIOManager(dg.IOManager):
    """Hands a value on in memory, and never writes it: a session's token is nothing for a disk."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, ...], Any] = {}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Keep it."""
        self._values[tuple(context.get_identifier())] = obj

    def load_input(self, context: dg.InputContext) -> Any:
        """Hand it on.

        Raises:
            dg.Failure: It was made in another process.
        """
        upstream = context.upstream_output
        key = tuple(upstream.get_identifier()) if upstream is not None else ()
        if key not in self._values:
            raise dg.Failure(
                "a session's token is handed on within one process only: run this job with in_process_executor",
                allow_retries=False,
            )
        return self._values[key]


@dg.io_manager(description="Values that stay in memory: tokens of sessions.")
def in_process_io_manager() -> InProcessIOManager:
    """An :class:`InProcessIOManager`; jobs with ``provision_session`` need one under the key ``dyff_in_process``."""
    return InProcessIOManager()


class SessionConfig(dg.Config):
    """Run config of ``provision_session`` and ``terminate_session``."""

    session: str
    """ID of an InferenceSession of the catalog."""


def build_session_ops(catalog: Catalog, keys: ResourceKeys | None = None) -> dict[str, dg.OpDefinition]:
    """``provision_session``, ``terminate_session`` and ``reap_sessions``, by name.

    Args:
        catalog: Where sessions are declared.
        keys: What the resources of its definitions are called.
    """
    keys = keys or ResourceKeys()
    needed = {keys.storage, keys.sessions}

    @dg.op(
        name=keys.named("provision_session"),
        required_resource_keys=needed,
        out=dg.Out(InferenceSessionAndToken, io_manager_key=IN_PROCESS),
        description="Start an InferenceSession and return it with its token once it answers.",
    )
    def provision_session(context: dg.OpExecutionContext, config: SessionConfig) -> InferenceSessionAndToken:
        store, sessions = _world(context, keys)
        entity = _session(catalog, config.session)
        step = Step(
            catalog=catalog,
            store=store,
            entity=entity,
            progress=log_progress(context.log),
            run_id=context.run.run_id,
            startup_timeout=sessions.startup_timeout,
            cluster=sessions.cluster(store),
        )
        return _or_failure(lambda: InferenceSessionAndToken(inferencesession=entity, token=step.provision()))

    @dg.op(
        name=keys.named("terminate_session"),
        required_resource_keys=needed,
        ins={"after": dg.In(dg.Nothing)},
        description="End an InferenceSession before it expires.",
    )
    def terminate_session(context: dg.OpExecutionContext, config: SessionConfig) -> None:
        store, sessions = _world(context, keys)
        entity = _session(catalog, config.session)
        ended = _or_failure(lambda: sessions.terminate(store, entity.id))
        note_termination(context.instance, store, sessions, entity.id, ended)
        context.log.info(f"{entity.id}: {'ended' if ended else 'no session runs'}")

    @dg.op(
        name=keys.named("reap_sessions"),
        required_resource_keys=needed,
        description="End sessions on the cluster whose run is over, and those that a crash left unarmed.",
    )
    def reap_sessions(context: dg.OpExecutionContext) -> int:
        store, sessions = _world(context, keys)
        ended = _or_failure(lambda: reap(store, sessions, context.instance))
        for line in ended:
            context.log.info(line)
        return len(ended)

    return {
        "provision_session": provision_session,
        "terminate_session": terminate_session,
        "reap_sessions": reap_sessions,
    }


def build_reaper(
    keys: ResourceKeys | None = None,
    *,
    interval: int = 300,
    default_status: dg.DefaultSensorStatus | None = None,
) -> dg.SensorDefinition:
    """A sensor that ends sessions on the cluster which nobody needs any more.

    They would end by themselves at their lease; this frees their GPUs some minutes earlier.

    Args:
        keys: What the resources of the catalog's definitions are called.
        interval: Seconds between two looks.
        default_status: Stopped, unless said otherwise.
    """
    keys = keys or ResourceKeys()

    @dg.sensor(
        name=f"{keys.prefix}_session_reaper",
        required_resource_keys={keys.storage, keys.sessions},
        minimum_interval_seconds=interval,
        default_status=default_status or dg.DefaultSensorStatus.STOPPED,
        description="Ends sessions on the cluster whose run is over, and those that a crash left unarmed.",
    )
    def session_reaper(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        storage: DyffStorage = getattr(context.resources, keys.storage)
        sessions: DyffSessions = getattr(context.resources, keys.sessions)
        ended = reap(storage.store(), sessions, context.instance)
        for line in ended:
            context.log.info(line)
        return dg.SkipReason("; ".join(ended) or "every session is needed")

    return session_reaper


def reap(store: Store, sessions: DyffSessions, instance: dg.DagsterInstance) -> list[str]:
    """End what nobody needs any more; what was ended and why, a line each.

    Raises:
        DyffError: The cluster refuses.
    """
    cluster = sessions.cluster(store)
    if cluster is None:
        return []

    def is_over(run_id: str) -> bool | None:
        run = instance.get_run_by_id(run_id)
        return None if run is None else run.status in _OVER

    return [
        f"{session.entity_id}: ended {session.name}, since {why}" for session, why in cluster.reap(is_over)
    ]


def _world(context: dg.OpExecutionContext, keys: ResourceKeys) -> tuple[Store, DyffSessions]:
    storage: DyffStorage = getattr(context.resources, keys.storage)
    sessions: DyffSessions = getattr(context.resources, keys.sessions)
    return storage.store(), sessions


def _session(catalog: Catalog, session_id: str) -> InferenceSession:
    return _or_failure(lambda: catalog.get_as(session_id, InferenceSession))


def _or_failure(work: Callable[[], _T]) -> _T:
    """What it returns; what a user can mend becomes a Failure of one sentence."""
    try:
        return work()
    except DyffError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
