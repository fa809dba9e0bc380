"""Asset checks: those that stop everything, thresholds that authors set, and a warning of what the platform gave up."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from dyff_dagster.audits import judge, schema_fault
from dyff_dagster.catalog import Catalog, Threshold, parse_checks
from dyff_dagster.catalog.deprecations import deprecations
from dyff_dagster.orchestration.names import asset_key, threshold_check_name
from dyff_dagster.schema.platform import (
    Audit,
    Dataset,
    DyffEntity,
    Evaluation,
    Measurement,
    MeasurementLevel,
    Report,
    SafetyCase,
)
from dyff_dagster.store import Commit, Completeness, Score, StoreError
from dyff_dagster.store.references import Provenance

COMPLETE = "complete"
SCHEMA = "schema"
REQUIREMENTS = "requirements"
PROVENANCE = "provenance"
DEPRECATED = "deprecated"


@dataclass(frozen=True)
class EntityChecks:
    """The checks of one entity.

    Attributes:
        entity: The entity.
        key: Its asset.
        built_in: Names of the checks that hold by construction once an artifact is committed; they block.
        deprecated: What the platform has given up and the entity or its method uses: a warning, where there is any.
        thresholds: What its author demands of its scores, by check name.
        blocking: Whether a failed threshold blocks what is downstream.
    """

    entity: DyffEntity
    key: dg.AssetKey
    built_in: tuple[str, ...]
    deprecated: tuple[str, ...]
    thresholds: dict[str, Threshold]
    blocking: bool

    @classmethod
    def of(cls, catalog: Catalog, entity: DyffEntity, key: dg.AssetKey | None = None) -> EntityChecks:
        """Read them off the entity's kind and its annotations.

        Args:
            catalog: Where the annotations are.
            entity: The entity.
            key: Its asset's key, where a translator gave it another one.
        """
        built_in: tuple[str, ...] = ()
        if isinstance(entity, Evaluation):
            built_in = (COMPLETE, SCHEMA)
        elif isinstance(entity, Measurement):
            rows = (COMPLETE,) if entity.level == MeasurementLevel.Instance else ()
            built_in = (*rows, SCHEMA, PROVENANCE)
        elif isinstance(entity, Dataset):
            built_in = (SCHEMA,)
        elif isinstance(entity, Report):
            built_in = (COMPLETE, PROVENANCE)
        elif isinstance(entity, SafetyCase):
            built_in = (PROVENANCE,)
        elif isinstance(entity, Audit):
            built_in = (REQUIREMENTS, PROVENANCE)
        text = catalog.annotation(entity.id, "checks")
        thresholds = {threshold_check_name(t): t for t in parse_checks(text)} if text else {}
        return cls(
            entity=entity,
            key=key or asset_key(entity),
            built_in=built_in,
            deprecated=tuple(deprecations(entity)),
            thresholds=thresholds,
            blocking=(catalog.annotation(entity.id, "blocking") or "").lower() == "true",
        )

    def only(self, names: Collection[str]) -> EntityChecks:
        """Those of the given names: Dagster can be asked for some of them."""
        return replace(
            self,
            built_in=tuple(name for name in self.built_in if name in names),
            deprecated=self.deprecated if DEPRECATED in names else (),
            thresholds={name: t for name, t in self.thresholds.items() if name in names},
        )

    def specs(self) -> list[dg.AssetCheckSpec]:
        """For Dagster."""
        descriptions = {
            COMPLETE: "Every row was answered exactly once in every replication, counted over what was written.",
            SCHEMA: "What was written has the schema that the manifest declares.",
            REQUIREMENTS: "Everything that the procedure requires is there, complete and up to date.",
            PROVENANCE: "Every version that it rests on, directly or not, is still there with all its files.",
        }
        specs = [
            dg.AssetCheckSpec(name, asset=self.key, description=descriptions[name], blocking=True)
            for name in self.built_in
        ]
        if self.deprecated:
            said = "Nothing of it is deprecated by the platform."
            specs.append(dg.AssetCheckSpec(DEPRECATED, asset=self.key, description=said))
        specs += [
            dg.AssetCheckSpec(
                name,
                asset=self.key,
                description=f"The author demands {threshold.text}.",
                blocking=self.blocking,
                metadata={"dyff/threshold": threshold.text},
            )
            for name, threshold in self.thresholds.items()
        ]
        return specs

    def results(self, commit: Commit, provenance: Provenance) -> Iterator[dg.AssetCheckResult]:
        """A result for every check, from what was committed; a score that is not there fails its check.

        Args:
            commit: The version.
            provenance: Of the store that it is in.
        """
        for name in self.built_in:
            if name == COMPLETE:
                yield self._complete(commit.facts.completeness)
            elif name == REQUIREMENTS:
                # Of a committed audit all of them were met when it was computed.
                met = commit.facts.notes.get("requirements", [])
                yield self._result(name, bool(met), {"met": len(met)})
            elif name == PROVENANCE:
                lost = _lost(commit, provenance)
                yield self._result(name, not lost, {"reason": lost} if lost else {})
            else:
                fault = schema_fault(self.entity, commit)
                metadata = {"reason": fault} if fault else {"columns": len(commit.facts.columns)}
                yield self._result(name, not fault, metadata)
        yield from self._warnings()
        for name, threshold in self.thresholds.items():
            yield self._threshold(name, threshold, commit)

    def failures(
        self, reason: str, completeness: Completeness | None = None
    ) -> Iterator[dg.AssetCheckResult]:
        """A failed result for every check of an entity that could not be computed."""
        for name in self.built_in:
            if name == COMPLETE and completeness is not None:
                yield self._complete(completeness, passed=False)
            else:
                yield self._result(name, False, {"reason": reason})
        yield from self._warnings()
        for name, threshold in self.thresholds.items():
            yield self._result(name, False, {"reason": reason, "threshold": threshold.text})

    def _warnings(self) -> Iterator[dg.AssetCheckResult]:
        if self.deprecated:
            yield dg.AssetCheckResult(
                check_name=DEPRECATED,
                asset_key=self.key,
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"reason": "; ".join(self.deprecated)},
            )

    def _complete(self, completeness: Completeness | None, passed: bool = True) -> dg.AssetCheckResult:
        if completeness is None:
            return self._result(COMPLETE, False, {"reason": "nothing was counted"})
        metadata: dict[str, Any] = {
            "expected": completeness.expected,
            "answered": completeness.answered,
            "missing": completeness.missing,
            "duplicated": completeness.duplicated,
            "unexpected": completeness.unexpected,
        }
        if completeness.examples:
            metadata["examples"] = "; ".join(completeness.examples)
        # Of a committed artifact only rows that the author allowed to fail can be missing.
        holds = passed and not (completeness.duplicated or completeness.unexpected)
        return self._result(COMPLETE, holds, metadata)

    def _threshold(self, name: str, threshold: Threshold, commit: Commit) -> dg.AssetCheckResult:
        judgement = judge(threshold, commit.facts)
        metadata: dict[str, Any] = {"threshold": threshold.text}
        if judgement.value is not None:
            metadata["value"] = float(judgement.value)
        if judgement.score is not None:
            metadata["score"] = str(judgement.score)
            metadata.update(_interval(judgement.score))
        if judgement.reason:
            metadata["reason"] = judgement.reason
        return self._result(name, judgement.holds, metadata)

    def _result(self, name: str, passed: bool, metadata: dict[str, Any]) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            check_name=name,
            asset_key=self.key,
            passed=passed,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata=metadata,
        )


def _lost(commit: Commit, provenance: Provenance) -> str:
    """What a result rests on and is no longer there, as one clause; empty where all is."""
    try:
        lost = provenance.lost(commit)
    except StoreError as error:
        return f"what it rests on cannot be known: {error}"
    if lost is None:
        return ""
    entity_id, version = lost
    return (
        f"it rests on version {version[:12]} of {entity_id}, which is not in the store any more: "
        f"materialize {entity_id} again, and what is made of it"
    )


def _interval(score: Score) -> dict[str, float | int]:
    """The interval and the number of observations behind a score, as numbers."""
    found = {"low": score.low, "high": score.high, "n": score.n}
    return {name: number for name, number in found.items() if number is not None and math.isfinite(number)}
