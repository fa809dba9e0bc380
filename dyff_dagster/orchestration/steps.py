"""How each kind of entity is computed: one way in, one way out.

A step gathers what the entity depends on, asks whether that has changed, and calls the one function in the
room of the entity's kind. Nothing here is about Dagster: the ops call :func:`compute` and report.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyff_dagster import analysis, audits, evaluation, sources
from dyff_dagster.analysis.making import Making
from dyff_dagster.catalog.checkout import commit_of
from dyff_dagster.evaluation.options import parse_limit, parse_max_failed_rows
from dyff_dagster.orchestration.dependencies import Dependencies, Service
from dyff_dagster.orchestration.images import build_service, with_image
from dyff_dagster.orchestration.selection import declared_behind
from dyff_dagster.schema.answer_rules import parse_answer_rules
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import (
    Audit,
    Dataset,
    DataSource,
    Evaluation,
    InferenceService,
    InferenceSession,
    Measurement,
    Model,
    Module,
    Report,
    SafetyCase,
)
from dyff_dagster.schema.prices import parse_prices
from dyff_dagster.sessions import (
    Session,
    attach_session,
    open_session,
    parse_headers,
    start_session,
)
from dyff_dagster.store import Commit, Facts, Inputs, Progress

if TYPE_CHECKING:
    from dyff_dagster.sessions.kubernetes import Cluster, ModelFiles, Owner

_OF_EVALUATION = ("max-failed-rows", "accept", "reuse", "max-requests", "max-cost", "max-seconds")

_PATIENCE = 5.0
"""Seconds to wait for another run that computes the same entity: a copy of a module is over by then, and of
an evaluation that takes an hour the user is told at once."""

_SECONDS_AFTER_GRACE = 5


@dataclass(frozen=True)
class Step(Dependencies):
    """One entity, about to be computed.

    Attributes:
        catalog: Where it comes from.
        store: Where its artifact goes.
        entity: The entity.
        progress: Told how far it is.
        run_id: The Dagster run.
        startup_timeout: Seconds until a service must be ready.
        client_processes: Processes that send an evaluation's requests.
        cluster: Where sessions run; None: on this machine.
        image_repository: Where images of services with a builder are pushed to.
    """

    progress: Progress
    run_id: str = ""
    startup_timeout: float = 120.0
    client_processes: int = 1
    cluster: Cluster | None = None
    image_repository: str | None = None

    def compute(self, force: bool = False) -> tuple[Commit, bool]:
        """Compute the entity, unless nothing that it depends on has changed.

        Args:
            force: Compute it in any case.

        Returns:
            The current commit, and whether it was there before.

        Raises:
            DyffError: It cannot be computed; what was committed before stands.
        """
        with self.store.lock(self.entity.id, wait=_PATIENCE):
            self.store.clear_drafts(self.entity.id)
            inputs = self.inputs()
            current = self.store.current(self.entity.id)
            if (
                current is not None
                and not force
                and current.input_digest == inputs.digest
                and self.may_be_taken_over(current)
                and self.store.intact(current)
            ):
                self.store.repair(current)
                self._record_revisions(current)
                return current, True
            commit = self._compute(inputs, force)
            self._record_revisions(commit)
            return commit, False

    def _record_revisions(self, commit: Commit) -> None:
        """Note what the manifests said, where they say something new.

        A commit notes its own entity; one that is taken over may have got another threshold or label. What is
        only declared is never committed, and is noted with what is computed from it.
        """
        for entity_id in [self.entity.id, *declared_behind(self.catalog, self.entity.id)]:
            self.store.revisions.record(
                self.catalog.get(entity_id),
                run_id=self.run_id,
                commit=f"{commit.entity_id}/{commit.sequence}",
            )

    def may_be_taken_over(self, current: Commit) -> bool:
        """Whether a commit of the same inputs may stand for a new one.

        A session may have ended since it was started, so it is looked at each time. An evaluation that was
        allowed to leave rows unanswered may no longer be.
        """
        if isinstance(self.entity, InferenceSession):
            return False
        count = current.facts.completeness
        if isinstance(self.entity, Evaluation) and count is not None:
            return count.missing <= self.options(self.entity).allowed_failures(count.expected)
        return True

    def _compute(self, inputs: Inputs, force: bool) -> Commit:
        entity = self.entity
        if isinstance(entity, Dataset | DataSource | Model | Module):
            return self._fetch(entity, inputs)
        if isinstance(entity, Evaluation):
            return self._evaluate(entity, inputs, force)
        if isinstance(entity, Measurement | SafetyCase):
            return analysis.run(
                entity,
                self.store,
                inputs=inputs,
                input_paths={item.entity: self.path_of(item.entity) for item in entity.inputs},
                modules={module: self.path_of(module) for module in entity.method.modules},
                limits=analysis.Limits.of(entity, self.catalog.entities.get(entity.method.id)),
                worker=self._worker(entity),
                progress=self.progress,
                run_id=self.run_id,
                git=commit_of(self.catalog.directory(entity.id)),
                documentation=self.documentation(entity),
                subjects=self.subjects(entity),
            )
        if isinstance(entity, Report):
            return self._report(entity, inputs)
        if isinstance(entity, Audit):
            making = Making.now(self.run_id, commit_of(self.catalog.directory(entity.id)))
            return audits.publish(self.case(entity), self.store, inputs=inputs, making=making)
        if isinstance(entity, InferenceSession):
            return self._start(entity, inputs)
        if isinstance(entity, InferenceService) and entity.builder is not None:
            return build_service(
                entity,
                entity.builder,
                self.store,
                directory=self.service_directory(entity),
                repository=self.image_repository,
                inputs=inputs,
                progress=self.progress,
                run_id=self.run_id,
            )
        raise DyffError(
            f"{entity.id}: entities of kind {entity.kind} cannot be computed by this release: "
            "leave it out of the selection"
        )

    def _fetch(self, entity: Dataset | DataSource | Model | Module, inputs: Inputs) -> Commit:
        evaluation = self.made_from(entity) if isinstance(entity, Dataset) else None
        if isinstance(entity, Dataset) and evaluation is not None:
            reads = self.reads_questions(entity, evaluation)
            return sources.fetch_answers(
                entity,
                self.store,
                evaluation=evaluation,
                answers=self.path_of(evaluation.id),
                asked=self.local(self.asked(evaluation)) if reads else None,
                inputs=inputs,
                progress=self.progress,
                run_id=self.run_id,
            )
        made_from = self.catalog.annotation(entity.id, "from")
        source = None if made_from is None else self.path_of(made_from.strip())
        return sources.fetch(
            entity,
            self.store,
            inputs=inputs,
            files=self.catalog.files(entity.id),
            source=source,
            progress=self.progress,
            run_id=self.run_id,
        )

    def _worker(self, entity: Measurement | SafetyCase) -> analysis.Worker:
        """What runs an analysis: a process here, or a pod where its author wants it shut in and there is a cluster."""
        if self.cluster is None or self.catalog.annotation(entity.id, "isolation") != "pod":
            return analysis.work
        from dyff_dagster.analysis.pod import PodWorker

        return PodWorker(self.cluster, self._owner())

    def _report(self, entity: Report, inputs: Inputs) -> Commit:
        answered = self.catalog.get_as(entity.evaluation, Evaluation)
        return analysis.run(
            entity,
            self.store,
            inputs=inputs,
            input_paths={
                answered.id: self.path_of(answered.id),
                answered.dataset: self.local(self.asked(answered)),
            },
            modules={module: self.path_of(module) for module in entity.modules},
            limits=analysis.Limits.of(entity),
            progress=self.progress,
            run_id=self.run_id,
            git=commit_of(self.catalog.directory(entity.id)),
        )

    def _evaluate(self, entity: Evaluation, inputs: Inputs, force: bool) -> Commit:
        if (answers := self.imported(entity)) is not None:
            return evaluation.take_imported(
                entity,
                self.store,
                inputs=inputs,
                dataset=self.path_of(entity.dataset),
                answers=answers,
                options=self.options(entity),
                progress=self.progress,
                run_id=self.run_id,
            )
        service = self.service_of(entity)
        directory = self.store.scratch(entity.id) / "sessions" / (self.run_id or "session")

        def session() -> AbstractContextManager[Session]:
            if self.cluster is not None and service.runner is not None:
                return self._on_cluster(self.cluster, entity, service, inputs.extras["service"], directory)
            if entity.inferenceSessionReference is not None:
                running = self.store.scratch(entity.inferenceSessionReference) / "session"
                return nullcontext(
                    attach_session(
                        running,
                        service,
                        headers=self._headers(service),
                        fingerprint=inputs.extras["service"],
                    )
                )
            return open_session(
                service,
                session_id=entity.id,
                replicas=entity.inferenceSession.replicas,
                cwd=self.service_directory(service),
                model_path=self.model_path(service),
                directory=directory,
                accelerator=entity.inferenceSession.accelerator,
                headers=self._headers(service),
                startup_timeout=self.startup_timeout,
                progress=self.progress,
            )

        return evaluation.run(
            entity,
            self.store,
            inputs=inputs,
            dataset=self.path_of(entity.dataset),
            service_digest=inputs.extras["service"],
            session=session,
            withheld=self.withheld(entity),
            options=self.options(entity),
            progress=self.progress,
            run_id=self.run_id,
            fresh=force,
        )

    def _on_cluster(
        self, cluster: Cluster, entity: Evaluation, service: Service, service_digest: str, logs: Path
    ) -> AbstractContextManager[Session]:
        """The evaluation's own session on a cluster, or the one that it refers to."""
        if entity.inferenceSessionReference is not None:
            running = self.catalog.get_as(entity.inferenceSessionReference, InferenceSession)
            return cluster.attach(
                running,
                service_digest=service_digest,
                logs=logs,
                headers=self._headers(service),
                progress=self.progress,
            )
        return cluster.open(
            with_image(entity.inferenceSession, self.built_image(service)),
            self._owner(),
            directory=self.service_directory(service),
            model=self._model_files(service),
            service_digest=service_digest,
            logs=logs,
            headers=self._headers(service),
            progress=self.progress,
        )

    def _owner(self) -> Owner:
        from dyff_dagster.sessions.kubernetes import Owner

        return Owner(self.entity.id, self.entity.kind, self.entity.account, self.run_id)

    def _model_files(self, service: Service) -> ModelFiles | None:
        """Where the service's model lies in the store, for a session elsewhere."""
        from dyff_dagster.sessions.kubernetes import ModelFiles

        path = self.model_path(service)
        if path is None or service.model is None:
            return None
        version = self.path_of(service.model.id)
        inner = path.relative_to(version).as_posix()
        return ModelFiles(version, "" if inner == "." else inner)

    def options(self, entity: Evaluation) -> evaluation.EvaluationOptions:
        """What the author says about how the evaluation is run, and what counts as an answer."""
        said = {name: self.catalog.annotation(entity.id, name) for name in _OF_EVALUATION}
        service = self.service_of(entity).id
        known = service in self.catalog.entities
        rules, prices = (
            self.catalog.annotation(service, name) if known else None for name in ("answer-rules", "prices")
        )
        requests = parse_limit("max-requests", said["max-requests"])
        options = evaluation.EvaluationOptions(
            max_failed_rows=parse_max_failed_rows(said["max-failed-rows"]),
            accept=frozenset(name.strip() for name in (said["accept"] or "").split(",") if name.strip()),
            rules=parse_answer_rules(rules, os.environ),
            prices=parse_prices(prices, os.environ),
            reuse=said["reuse"] == "true",
            max_requests=None if requests is None else int(requests),
            max_cost=parse_limit("max-cost", said["max-cost"]),
            max_seconds=parse_limit("max-seconds", said["max-seconds"]),
            processes=self.client_processes,
        )
        if self.cluster is not None:
            # A session must not end while somebody waits for its answer; a replica ends after its grace.
            settings = self.cluster.settings
            options = replace(
                options,
                attempt_timeout=float(settings.requestTimeout),
                last_words=float(settings.grace + _SECONDS_AFTER_GRACE),
            )
        return options

    def provision(self) -> str:
        """Start the step's InferenceSession, or take over one that runs, and return its token once it answers.

        Nothing is committed: this is for jobs that need a session and no asset.

        Returns:
            The token; empty where services ask for none, as they do on this machine.

        Raises:
            DyffError: It does not come to answer.
        """
        entity = self.entity
        if not isinstance(entity, InferenceSession):
            raise DyffError(f"{entity.id}: is of kind {entity.kind}, and sessions are of InferenceSessions")
        with self.store.lock(entity.id, wait=_PATIENCE):
            self._started(entity, self.inputs())
        hosted = self.service_of(entity).runner is None
        return "" if self.cluster is None or hosted else self.cluster.token(entity.id) or ""

    def _start(self, entity: InferenceSession, inputs: Inputs) -> Commit:
        facts = Facts(notes=self._started(entity, inputs))
        with self.store.draft(entity.id) as draft:
            return draft.commit(
                entity=entity, data_version=inputs.digest, inputs=inputs, facts=facts, run_id=self.run_id
            )

    def _started(self, entity: InferenceSession, inputs: Inputs) -> dict[str, Any]:
        """Have the session run; what is to be known of it."""
        service = self.service_of(entity)
        logs = self.store.scratch(entity.id) / "session"
        if self.cluster is not None and service.runner is not None:
            shown, phases = self.cluster.start(
                with_image(entity, self.built_image(service)),
                self._owner(),
                directory=self.service_directory(service),
                model=self._model_files(service),
                service_digest=inputs.extras["service"],
                logs=logs,
                progress=self.progress,
            )
            expires = None if shown.expires is None else shown.expires.isoformat()
            where = {"session": shown.name, "namespace": self.cluster.api.namespace}
            return {**where, "expires": expires, "phases": phases, "gpus": shown.gpus or None}
        state = start_session(
            entity,
            cwd=self.service_directory(service),
            model_path=self.model_path(service),
            directory=logs,
            default_lifetime=timedelta(hours=24),
            startup_timeout=self.startup_timeout,
            fingerprint=inputs.extras["service"],
            progress=self.progress,
        )
        return {"urls": list(state.urls), "expires": state.deadline.isoformat()}

    def _headers(self, service: Service) -> Mapping[str, str] | None:
        """What the service's manifest says is sent along; ``${ENV}`` is resolved by the session."""
        text = self.catalog.annotation(service.id, "headers") if service.id in self.catalog.entities else None
        return None if text is None else parse_headers(text, self.entity.id)
