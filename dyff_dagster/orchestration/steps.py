"""How each kind of entity is computed: one way in, one way out.

A step gathers what the entity depends on, asks whether that has changed, and calls the one function in the
room of the entity's kind. Nothing here is about Dagster: the ops call :func:`compute` and report.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from dyff_dagster import analysis, evaluation, sources
from dyff_dagster.catalog import Catalog
from dyff_dagster.evaluation.options import parse_limit, parse_max_failed_rows
from dyff_dagster.orchestration.selection import ancestors, ancestors_with_ops, declared_behind
from dyff_dagster.schema.answer_rules import parse_answer_rules
from dyff_dagster.schema.canonical import canonical_json, service_digest, sha256_text, spec_digest
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import (
    Dataset,
    DataSource,
    DyffEntity,
    Evaluation,
    ForeignInferenceService,
    InferenceService,
    InferenceServiceRunnerKind,
    InferenceSession,
    Measurement,
    Model,
    Module,
    SafetyCase,
)
from dyff_dagster.schema.prices import parse_prices
from dyff_dagster.sessions import (
    Session,
    attach_session,
    code_files,
    open_session,
    parse_headers,
    start_session,
)
from dyff_dagster.store import Commit, Facts, Inputs, Progress, Store, local_path
from dyff_dagster.store.digests import digest_file

Service = InferenceService | ForeignInferenceService

_OF_EVALUATION = ("max-failed-rows", "accept", "reuse", "max-requests", "max-cost", "max-seconds")

_PATIENCE = 5.0
"""Seconds to wait for another run that computes the same entity: a copy of a module is over by then, and of
an evaluation that takes an hour the user is told at once."""


class UnsatisfiedDependency(DyffError):
    """An upstream entity has nothing committed yet.

    Attributes:
        reason: The platform's word for it.
    """

    reason = "UnsatisfiedDependency"


@dataclass(frozen=True)
class Step:
    """One entity, about to be computed.

    Attributes:
        catalog: Where it comes from.
        store: Where its artifact goes.
        entity: The entity.
        progress: Told how far it is.
        run_id: The Dagster run.
        startup_timeout: Seconds until a service must be ready.
        client_processes: Processes that send an evaluation's requests.
    """

    catalog: Catalog
    store: Store
    entity: DyffEntity
    progress: Progress
    run_id: str = ""
    startup_timeout: float = 120.0
    client_processes: int = 1
    _seen: dict[str, Commit | None] = field(default_factory=dict, repr=False)

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
                and self._may_be_taken_over(current)
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

    def _may_be_taken_over(self, current: Commit) -> bool:
        """Whether a commit of the same inputs may stand for a new one.

        A session may have ended since it was started, so it is looked at each time. An evaluation that was
        allowed to leave rows unanswered may no longer be.
        """
        if isinstance(self.entity, InferenceSession):
            return False
        count = current.facts.completeness
        if isinstance(self.entity, Evaluation) and count is not None:
            return count.missing <= self._options(self.entity).allowed_failures(count.expected)
        return True

    def inputs(self) -> Inputs:
        """Everything that may change the result, by digest.

        Raises:
            UnsatisfiedDependency: Something upstream was never committed.
        """
        dependencies = ancestors_with_ops(self.catalog, self.entity.id)
        commits = {dep: self._pinned(dep) for dep in dependencies}
        if missing := [dep for dep, commit in commits.items() if commit is None]:
            raise self._unsatisfied(missing)
        upstream = {dep: commit.data_version for dep, commit in commits.items() if commit is not None}
        for dep, commit in commits.items():
            if commit is not None and not self.store.intact(commit):
                raise DyffError(
                    f"{self.entity.id}: the {self.catalog.get(dep).kind} {dep} has lost files of its version in "
                    f"{commit.path}: materialize {dep} again, which puts them back"
                )
        extras: dict[str, str] = {}
        if isinstance(self.entity, Dataset | DataSource | Model | Module):
            extras.update(sources.fingerprint(self.entity, self.catalog.files(self.entity.id)))
        if isinstance(self.entity, Evaluation):
            extras["service"] = self.service_digest(self.service_of(self.entity))
            extras["withheld"] = sha256_text(",".join(sorted(self.withheld(self.entity))))
        if isinstance(self.entity, InferenceSession):
            extras["service"] = self.service_digest(self.service_of(self.entity))
        if isinstance(self.entity, Measurement | SafetyCase):
            extras.update(self._scope_versions(self.entity))
        if isinstance(self.entity, SafetyCase):
            extras["page"] = analysis.PAGE_FORMAT
        return Inputs(spec=spec_digest(self.entity), upstream=upstream, extras=extras)

    def _pinned(self, entity_id: str) -> Commit | None:
        """What an upstream entity had committed when this step first looked.

        Another run may commit a later version while this one computes: what is read must be what is recorded.
        """
        if entity_id not in self._seen:
            self._seen[entity_id] = self.store.current(entity_id)
        return self._seen[entity_id]

    def upstream(self, entity_id: str) -> Commit:
        """What an upstream entity has committed.

        Raises:
            UnsatisfiedDependency: Nothing yet.
        """
        commit = self._pinned(entity_id)
        if commit is None:
            raise self._unsatisfied([entity_id])
        return commit

    def _scope_versions(self, entity: Measurement | SafetyCase) -> dict[str, str]:
        """Versions of what an analysis is about, seen from the evaluation that it rests on.

        The page names them, so a change in one of them makes another page, even where every answer is the
        same.
        """
        evaluation = entity.scope.evaluation
        if evaluation is None or evaluation not in ancestors(self.catalog, entity.id):
            return {}
        commit = self._pinned(evaluation)
        if commit is None:
            return {}
        versions = {**commit.inputs["upstream"], evaluation: commit.data_version}
        if entity.scope.inferenceService is not None and "service" in commit.inputs["extras"]:
            versions[entity.scope.inferenceService] = commit.inputs["extras"]["service"]
        named = (evaluation, entity.scope.dataset, entity.scope.model, entity.scope.inferenceService)
        return {f"scope:{name}": versions[name] for name in named if name in versions}

    def _unsatisfied(self, missing: list[str]) -> UnsatisfiedDependency:
        names = [f"the {self.catalog.get(dep).kind} {dep}" for dep in missing]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        was = "was" if len(names) == 1 else "were"
        return UnsatisfiedDependency(
            f"{self.entity.id} needs {listed}, which {was} never materialized in {self.store.root}: "
            "materialize what is missing first, or select it too"
        )

    def path_of(self, entity_id: str) -> Path:
        """Directory of the current version of an upstream entity.

        Raises:
            DyffError: The store is not on a disk of this machine.
        """
        commit = self.upstream(entity_id)
        if not self.store.local:
            raise DyffError(
                f"{self.store.root} is no local directory, and this release computes on local stores only: "
                "set DYFF_STORAGE_ROOT to a directory"
            )
        return local_path(commit.path)

    def withheld(self, entity: Evaluation) -> frozenset[str]:
        """Fields of the evaluation's data set that its service may not see."""
        return self.catalog.withheld(entity.dataset) or frozenset()

    def service_of(self, entity: Evaluation | InferenceSession) -> Service:
        """The service that will answer."""
        if isinstance(entity, Evaluation):
            return entity.inferenceSession.inferenceService
        return entity.inferenceService

    def service_digest(self, service: Service) -> str:
        """Digest of all that decides what a service answers: its spec, its model's bytes, its local code.

        A service that runs on this machine is made of files that are no part of its spec, and yet a change in
        one of them changes the answers.
        """
        annotations = self.catalog.get(service.id).annotations if service.id in self.catalog.entities else ()
        parts: dict[str, object] = {"spec": service_digest(service, annotations)}
        if service.model is not None and service.model.id in self.catalog.entities:
            parts["model"] = self.upstream(service.model.id).data_version
        if service.runner is not None and service.runner.kind == InferenceServiceRunnerKind.STANDALONE:
            files = code_files(service.runner.args or [], self.service_directory(service))
            parts["code"] = {name: digest_file(path).sha256 for name, path in files.items()}
        return sha256_text(canonical_json(parts).decode())

    def service_directory(self, service: Service) -> Path:
        """Where a local service runs: its manifest's directory."""
        owner = service.id if service.id in self.catalog.entities else self.entity.id
        return self.catalog.directory(owner)

    def model_path(self, service: Service) -> Path | None:
        """Where the service's model lies, or None where it has none with an artifact."""
        if service.model is None or service.model.id not in self.catalog.entities:
            return None
        cache = service.model.artifact.huggingFaceCache
        path = self.path_of(service.model.id)
        return path / cache.snapshot_path() if cache is not None else path

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
                progress=self.progress,
                run_id=self.run_id,
            )
        if isinstance(entity, InferenceSession):
            return self._start(entity, inputs)
        raise DyffError(
            f"{entity.id}: entities of kind {entity.kind} cannot be computed by this release: "
            "leave it out of the selection"
        )

    def _fetch(self, entity: Dataset | DataSource | Model | Module, inputs: Inputs) -> Commit:
        made_from = self.catalog.annotation(entity.id, "from")
        source: Path | None = None
        if made_from is not None:
            if not isinstance(self.catalog.get(made_from), DataSource):
                raise DyffError(
                    f"{entity.id}: data sets made from an Evaluation cannot be computed by this release: "
                    "make it from a DataSource"
                )
            source = self.path_of(made_from)
        return sources.fetch(
            entity,
            self.store,
            inputs=inputs,
            files=self.catalog.files(entity.id),
            source=source,
            progress=self.progress,
            run_id=self.run_id,
        )

    def _evaluate(self, entity: Evaluation, inputs: Inputs, force: bool) -> Commit:
        service = self.service_of(entity)
        directory = local_path(self.store.working(entity.id)) / "sessions" / (self.run_id or "session")

        def session() -> AbstractContextManager[Session]:
            if entity.inferenceSessionReference is not None:
                running = local_path(self.store.working(entity.inferenceSessionReference)) / "session"
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
            options=self._options(entity),
            progress=self.progress,
            run_id=self.run_id,
            fresh=force,
        )

    def _options(self, entity: Evaluation) -> evaluation.EvaluationOptions:
        """What the author says about how the evaluation is run, and what counts as an answer."""
        said = {name: self.catalog.annotation(entity.id, name) for name in _OF_EVALUATION}
        service = self.service_of(entity).id
        known = service in self.catalog.entities
        rules, prices = (
            self.catalog.annotation(service, name) if known else None for name in ("answer-rules", "prices")
        )
        requests = parse_limit("max-requests", said["max-requests"])
        return evaluation.EvaluationOptions(
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

    def _start(self, entity: InferenceSession, inputs: Inputs) -> Commit:
        service = self.service_of(entity)
        state = start_session(
            entity,
            cwd=self.service_directory(service),
            model_path=self.model_path(service),
            directory=local_path(self.store.working(entity.id)) / "session",
            default_lifetime=timedelta(hours=24),
            startup_timeout=self.startup_timeout,
            fingerprint=inputs.extras["service"],
            progress=self.progress,
        )
        facts = Facts(notes={"urls": list(state.urls), "expires": state.deadline.isoformat()})
        with self.store.draft(entity.id) as draft:
            return draft.commit(
                entity=entity, data_version=inputs.digest, inputs=inputs, facts=facts, run_id=self.run_id
            )

    def _headers(self, service: Service) -> Mapping[str, str] | None:
        """What the service's manifest says is sent along; ``${ENV}`` is resolved by the session."""
        text = self.catalog.annotation(service.id, "headers") if service.id in self.catalog.entities else None
        return None if text is None else parse_headers(text, self.entity.id)
