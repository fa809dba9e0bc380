"""What the computation of an entity reads, and in which versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dyff_dagster import analysis, audits, sources
from dyff_dagster.analysis.provenance import IMAGE
from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.freshness import Freshness
from dyff_dagster.orchestration.images import image_in
from dyff_dagster.orchestration.selection import ancestors, ancestors_with_ops
from dyff_dagster.schema.canonical import canonical_json, service_digest, sha256_text, spec_digest
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import (
    Audit,
    ContainerImageSource,
    Dataset,
    DataSource,
    DocumentationBase,
    DyffEntity,
    Evaluation,
    ForeignInferenceService,
    InferenceService,
    InferenceServiceRunnerKind,
    InferenceSession,
    Measurement,
    Model,
    Module,
    Report,
    SafetyCase,
)
from dyff_dagster.sessions import build_fingerprint, code_files
from dyff_dagster.store import Commit, Inputs, Store
from dyff_dagster.store.digests import digest_file
from dyff_dagster.store.paths import resolve_inside

Service = InferenceService | ForeignInferenceService


class UnsatisfiedDependency(DyffError):
    """An upstream entity has nothing committed yet.

    Attributes:
        reason: The platform's word for it.
    """

    reason = "UnsatisfiedDependency"


@dataclass(frozen=True)
class Dependencies:
    """What one entity is computed from.

    What is upstream is looked at once: another run may commit a later version meanwhile, and what is read must be
    what is recorded.

    Attributes:
        catalog: Where the entity comes from.
        store: Where artifacts lie.
        entity: The entity.
    """

    catalog: Catalog
    store: Store
    entity: DyffEntity
    _seen: dict[str, Commit | None] = field(default_factory=dict, repr=False, kw_only=True)
    _case: list[audits.Case] = field(default_factory=list, init=False, repr=False)

    def inputs(self, recorded: Mapping[str, str] | None = None) -> Inputs:
        """Everything that may change the result, by digest.

        Args:
            recorded: What the last version was made from besides what is upstream, by name: a branch, a DOI or a URL is
                taken for what it stood for then, and nobody is asked.

        Raises:
            UnsatisfiedDependency: Something upstream was never committed.
            RequirementsUnmet: An Audit whose requirements are not met.
        """
        if isinstance(self.entity, Audit):
            return self._audit_inputs(self.entity)
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
            extras.update(sources.fingerprint(self.entity, self.catalog.files(self.entity.id), recorded))
        if isinstance(self.entity, Dataset) and (evaluation := self.made_from(self.entity)) is not None:
            extras.update(sources.answers_fingerprint(self.entity, evaluation))
            if self.reads_questions(self.entity, evaluation):
                extras[f"scope:{evaluation.dataset}"] = self.asked(evaluation).data_version
        if isinstance(self.entity, Evaluation):
            extras["service"] = self.service_digest(self.service_of(self.entity))
            extras["withheld"] = sha256_text(",".join(sorted(self.withheld(self.entity))))
            if (answers := self.imported(self.entity)) is not None:
                extras["imported"] = digest_file(answers).sha256
        if isinstance(self.entity, InferenceSession):
            extras["service"] = self.service_digest(self.service_of(self.entity))
        if isinstance(self.entity, InferenceService) and self.entity.builder is not None:
            directory = self.service_directory(self.entity)
            extras.update(build_fingerprint(self.entity.id, self.entity.builder, directory))
        if isinstance(self.entity, Measurement | SafetyCase):
            extras.update(self._scope_versions(self.entity))
            modules = [self.upstream(module) for module in self.entity.method.modules]
            if analysis.uses_own_code(self.entity.method, modules):
                extras[analysis.OWN_CODE] = analysis.own_code_digest()
            if subjects := self.subjects(self.entity):
                told = {key: subject.to_json() for key, subject in subjects.items()}
                extras[analysis.SUBJECTS] = sha256_text(canonical_json(told).decode())
        if isinstance(self.entity, Report):
            answered = self.catalog.get_as(self.entity.evaluation, Evaluation)
            extras[f"scope:{answered.dataset}"] = self.asked(answered).data_version
            # Its columns are summed up by this package, whatever its rubric is.
            extras[analysis.OWN_CODE] = analysis.own_code_digest()
        if isinstance(self.entity, SafetyCase):
            extras["page"] = analysis.PAGE_FORMAT
        if (documentation := self.documentation(self.entity)) is not None:
            said = [documentation.title, documentation.summary]
            extras["documentation"] = sha256_text(canonical_json(said).decode())
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
        found = {f"scope:{name}": versions[name] for name in named if name in versions}
        service = self.service_of(self.catalog.get_as(evaluation, Evaluation))
        image = None if service.runner is None else service.runner.image
        if image is not None and service.id == entity.scope.inferenceService:
            found[f"{IMAGE}{service.id}"] = f"{image.host}/{image.name}@{image.digest}"
        return found

    def case(self, audit: Audit) -> audits.Case:
        """An audit with the results that it rests on, each looked at once."""
        if not self._case:
            freshness = Freshness(
                self.catalog,
                self._pinned,
                # Whether a branch has moved is looked at when what it names is computed, not by all that follow.
                lambda entity_id: replace(self, entity=self.catalog.get(entity_id)).inputs(
                    self._recorded(entity_id)
                ),
            )
            self._case.append(audits.examine(self.catalog, self.store, audit, self._pinned, freshness.fault))
        return self._case[0]

    def _audit_inputs(self, audit: Audit) -> Inputs:
        case = self.case(audit)
        case.require()
        return Inputs(
            spec=spec_digest(audit),
            upstream={
                name: item.commit.data_version
                for name, item in case.counted.items()
                if item.commit is not None
            },
            extras={
                "procedure": spec_digest(case.procedure),
                "service": self.service_digest(case.service),
                "results": case.digest,
                "page": analysis.PAGE_FORMAT,
            },
        )

    def _recorded(self, entity_id: str) -> Mapping[str, str]:
        commit = self._pinned(entity_id)
        extras: Mapping[str, str] = {} if commit is None else commit.inputs["extras"]
        return extras

    def documentation(self, entity: DyffEntity) -> DocumentationBase | None:
        """What heads an entity's page or notebook, where it has one."""
        return self.catalog.documentation.get(entity.id) if analysis.has_heading(entity) else None

    def subjects(self, entity: Measurement | SafetyCase) -> analysis.Subjects:
        """What an analysis is told of the system and the method that it is about, where it can ask."""
        modules = [self.upstream(module) for module in entity.method.modules]
        if not analysis.asks_for_subjects(entity, modules):
            return {}
        return analysis.subjects_of(entity, self.catalog.entities, self.catalog.documentation)

    def made_from(self, entity: Dataset) -> Evaluation | None:
        """The Evaluation that a data set is made from, if it is made from one."""
        name = (self.catalog.annotation(entity.id, "from") or "").strip()
        source = self.catalog.get(name) if name else None
        return source if isinstance(source, Evaluation) else None

    def imported(self, entity: Evaluation) -> Path | None:
        """The file of an evaluation's answers, where they were given elsewhere; no service is asked then."""
        name = self.catalog.annotation(entity.id, "imported")
        return None if name is None else resolve_inside(self.catalog.directory(entity.id), name)

    def reads_questions(self, entity: Dataset, evaluation: Evaluation) -> bool:
        """Whether a data set made from an evaluation has fields of the rows that were asked about."""
        return sources.reads_questions(entity, evaluation, self.catalog.get_as(evaluation.dataset, Dataset))

    def asked(self, evaluation: Evaluation) -> Commit:
        """The version of its data set that an evaluation has answered, which may not be the current one.

        Raises:
            UnsatisfiedDependency: The evaluation was never committed, or that version is not in the store.
        """
        answers = self.upstream(evaluation.id)
        version = answers.inputs["upstream"].get(evaluation.dataset)
        current = self._pinned(evaluation.dataset)
        if current is not None and current.data_version == version:
            return current
        for commit in reversed(self.store.commits(evaluation.dataset)):
            if commit.data_version == version:
                return commit
        raise UnsatisfiedDependency(
            f"{self.entity.id}: the version of {evaluation.dataset} that {evaluation.id} was asked about is not in "
            f"{self.store.root}: materialize both again"
        )

    def _unsatisfied(self, missing: list[str]) -> UnsatisfiedDependency:
        names = [f"the {self.catalog.get(dep).kind} {dep}" for dep in missing]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        was = "was" if len(names) == 1 else "were"
        return UnsatisfiedDependency(
            f"{self.entity.id} needs {listed}, which {was} never materialized in {self.store.root}: "
            "materialize what is missing first, or select it too"
        )

    def path_of(self, entity_id: str) -> Path:
        """Directory of the current version of an upstream entity, on this machine.

        Raises:
            StoreError: It is elsewhere, and what is there is not what was committed.
        """
        return self.local(self.upstream(entity_id))

    def local(self, commit: Commit) -> Path:
        """Directory of a version on this machine; fetched where the store is elsewhere.

        Raises:
            StoreError: What is there is not what was committed.
        """
        return self.store.on_disk(commit)

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
        if self.is_built(service):
            parts["image"] = self.upstream(service.id).data_version
        if service.runner is not None and service.runner.kind == InferenceServiceRunnerKind.STANDALONE:
            files = code_files(service.runner.args or [], self.service_directory(service))
            parts["code"] = {name: digest_file(path).sha256 for name, path in files.items()}
        return sha256_text(canonical_json(parts).decode())

    def is_built(self, service: Service) -> bool:
        """Whether a service's image is built here: it has a builder, and is in the catalog."""
        return service.builder is not None and service.id in self.catalog.entities

    def built_image(self, service: Service) -> ContainerImageSource | None:
        """The image that was built for a service; None where none is.

        Raises:
            UnsatisfiedDependency: It was not built yet.
        """
        if not self.is_built(service):
            return None
        return image_in(self.path_of(service.id))

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
