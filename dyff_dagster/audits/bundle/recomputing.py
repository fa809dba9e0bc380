"""Rows of a bundle held against their data versions, and its scores made again of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dyff_dagster.analysis import OWN_CODE, own_code_digest
from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.recipes import QUOTED, Derivation, Rows, read_derivations, replay, top_level
from dyff_dagster.analysis.records import read_scores
from dyff_dagster.audits.bundle.errors import NotABundle, shown
from dyff_dagster.audits.bundle.findings import CheckedScore
from dyff_dagster.audits.bundle.manifest import entity_path, read_object, version_path
from dyff_dagster.audits.bundle.projection import projected_digest, read_projection
from dyff_dagster.audits.bundle.provenance import Chain, has_rows
from dyff_dagster.audits.bundle.trusted import TrustedFiles
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.parquet import open_dataset
from dyff_dagster.schema.platform import Audit, DyffEntity
from dyff_dagster.store import Commit, Score

if TYPE_CHECKING:
    import pyarrow.dataset

TOLERANCE = 1e-9
"""A number made again may differ by this much, relatively and absolutely: sums are added in another order."""

_RECORDS = ".dyff/"

AUDIT_SUMMARY = "audit.json"
"""The file in which an audit says its scores."""


@dataclass
class CheckedRows:
    """The rows that a bundle has.

    Attributes:
        data: By entity, its rows: all of them and every column, or the columns that are shown.
        whole: Entities of which every column is there.
        faults: What does not hold.
        notes: Whose rows are not there.
    """

    data: dict[str, pa.Table | pyarrow.dataset.Dataset] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_rows(files: TrustedFiles, chain: Chain) -> CheckedRows:
    """Digest the rows that are there again, and hold the digests against the commits."""
    found = CheckedRows()
    for entity_id, commit in chain.commits.items():
        if not has_rows(chain.entities[entity_id], commit.files):
            continue
        try:
            made = _digest(files, found, entity_id, list(commit.files))
        except (DyffError, pa.ArrowException, OSError, ValueError) as error:
            said = str(error) if isinstance(error, DyffError) else type(error).__name__
            found.faults.append(f"{entity_id}: its rows cannot be read: {shown(said)}")
            continue
        if made is None:
            found.notes.append(
                f"{entity_id}: its rows are not in the bundle; version {commit.data_version} is stated, not checked"
            )
        elif made != commit.data_version:
            found.data.pop(entity_id, None)
            found.whole.discard(entity_id)
            found.faults.append(
                f"{entity_id}: its rows make the version {made}, and its commit says {commit.data_version}"
            )
    return found


def _digest(files: TrustedFiles, found: CheckedRows, entity_id: str, names: list[str]) -> str | None:
    """The content digest of an entity's rows, which go into ``found``; None where they are not there."""
    rows = [name for name in names if name.endswith(".parquet") and not _hidden(name)]
    if rows and all(version_path(entity_id, name) in files for name in rows):
        dataset = open_dataset(files.unpack_below(version_path(entity_id, ""), rows))
        found.data[entity_id] = dataset
        found.whole.add(entity_id)
        return digest_dataset(dataset)
    described, shown_rows = (entity_path(entity_id, name) for name in ("rows.json", "rows.arrow"))
    if described not in files and shown_rows not in files:
        return None
    if described not in files or shown_rows not in files:
        raise NotABundle("there is one of rows.json and rows.arrow, and not the other")
    table = read_projection(files.unpack(shown_rows))
    found.data[entity_id] = table
    return projected_digest(read_object(described, files.read(described)), table)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def check_scores(
    files: TrustedFiles, chain: Chain, rows: CheckedRows
) -> tuple[list[CheckedScore], list[str]]:
    """Make every score again that can be, and say of the others why they cannot.

    Returns:
        The scores, and what does not hold besides.
    """
    scores: list[CheckedScore] = []
    faults: list[str] = []
    quoted: dict[tuple[str, str], Rows] = {}
    for entity_id, commit in chain.commits.items():
        if isinstance(chain.entities[entity_id], Audit):
            continue  # its scores are those of others
        names = [
            name
            for name in commit.files
            if name.startswith(_RECORDS) and name.endswith(".json") and version_path(entity_id, name) in files
        ]
        if not names and not commit.facts.scores:
            continue
        try:
            directory = files.unpack_below(version_path(entity_id, ""), names)
            recorded = read_scores(directory)
            derivations = read_derivations(directory)
        except (DyffError, json.JSONDecodeError) as error:
            faults.append(f"{entity_id}: {shown(str(error))}")
            continue
        if not _as_committed(recorded, commit):
            faults.append(f"{entity_id}: the scores of its commit are not those of its files")
        for score in recorded:
            derivation = derivations.get(score.name)
            scores.append(_checked(entity_id, score, derivation, chain, rows))
            if derivation is not None and derivation.name == QUOTED and derivation.rows is not None:
                quoted[entity_id, score.name] = derivation.rows
    scores = _as_good_as_their_sources(scores, quoted, chain)
    for entity_id in chain.commits:
        if isinstance(chain.entities[entity_id], Audit):
            more, others = _of_audit(files, entity_id, chain.commits[entity_id], scores)
            scores, faults = [*scores, *more], [*faults, *others]
    return scores, faults


def _of_audit(
    files: TrustedFiles, entity_id: str, commit: Commit, scores: list[CheckedScore]
) -> tuple[list[CheckedScore], list[str]]:
    """The scores of an audit: each is another result's, under a name that says whose, ``ID/NAME``."""
    try:
        path = version_path(entity_id, AUDIT_SUMMARY)
        said = read_object(AUDIT_SUMMARY, files.read(path))["scores"] if path in files else []
        recorded = tuple(_recorded(one) for one in said)
    except (DyffError, KeyError, TypeError, ValueError) as error:
        return [], [f"{entity_id}: {AUDIT_SUMMARY} is damaged ({type(error).__name__})"]
    faults = []
    if not _as_committed(recorded, commit):
        faults.append(f"{entity_id}: the scores of its commit are not those of its files")
    found = {f"{score.entity}/{score.name}": score for score in scores}
    checked = []
    for score in recorded:
        value = None if math.isnan(score.value) else score.value
        stands = CheckedScore(entity_id, score.name, value, score.low, score.high, score.n, "asserted")
        source = found.get(score.name)
        if source is None:
            stands = replace(stands, why="no result in the bundle has it")
        elif not same_numbers(score, source):
            stands = replace(
                stands, verdict="differs", why=f"{shown(source.entity)} has it as {_numbers_of(source)}"
            )
        elif source.verdict == "recomputed":
            stands = replace(stands, verdict="recomputed", estimator=source.estimator)
        else:
            stands = replace(stands, why=f"it is {shown(source.entity)}'s, where it is not recomputed")
        checked.append(stands)
    return checked, faults


def _recorded(said: Mapping[str, Any]) -> Score:
    """A score as an audit's summary has it."""
    value, low, high = (
        None if said[part] is None else float(said[part]) for part in ("value", "low", "high")
    )
    return Score(str(said["name"]), math.nan if value is None else value, low, high, said["n"])


def _numbers_of(score: CheckedScore) -> str:
    value = math.nan if score.value is None else score.value
    return _numbers(Score(score.name, value, score.low, score.high, score.n))


def _as_committed(recorded: tuple[Score, ...], commit: Commit) -> bool:
    facts = {score.name: score for score in commit.facts.scores}
    try:
        return set(facts) == {score.name for score in recorded} and all(
            same_numbers(score, facts[score.name]) for score in recorded
        )
    except TypeError:  # what a commit has for a number may be anything
        return False


def _as_good_as_their_sources(
    scores: list[CheckedScore], quoted: Mapping[tuple[str, str], Rows], chain: Chain
) -> list[CheckedScore]:
    """A score that was taken over from a measurement is made again only if that measurement's is."""
    found = {(score.entity, score.name): score for score in scores}
    changed = True
    while changed:
        changed = False
        for place, rows in quoted.items():
            score = found[place]
            if score.verdict != "recomputed":
                continue
            named = str(rows.where.get("score"))
            target = _inputs(chain.entities[score.entity])[rows.input]
            source = found.get((target, named))
            if source is None or source.verdict != "recomputed" or not same_numbers(score, source):
                why = f"it is quoted from {target}, where {shown(named)} is not recomputed"
                found[place] = replace(score, verdict="asserted", why=why)
                changed = True
    return [found[score.entity, score.name] for score in scores]


def _inputs(entity: DyffEntity) -> dict[str, str]:
    """The inputs of an analysis by keyword; other entities have none."""
    return {item.keyword: item.entity for item in getattr(entity, "inputs", ())}


def _checked(
    entity_id: str, score: Score, derivation: Derivation | None, chain: Chain, rows: CheckedRows
) -> CheckedScore:
    value = None if math.isnan(score.value) else score.value
    stands = CheckedScore(entity_id, score.name, value, score.low, score.high, score.n, "asserted")
    if derivation is None:
        return replace(stands, why="its method does not say how it was made")
    stands = replace(stands, estimator=derivation.name)
    if derivation.rows is None:
        return replace(stands, why="its method does not say of which rows it was made")
    target = _inputs(chain.entities[entity_id]).get(derivation.rows.input)
    if target is None:
        return replace(stands, why=f"it has no input {derivation.rows.input!r}")
    data = rows.data.get(target)
    if data is None:
        return replace(stands, why=f"the rows of {target} are not in the bundle")
    names = list(data.schema.names)
    if target not in rows.whole and (
        hidden := sorted(name for name in derivation.rows.fields if top_level(name, names) not in names)
    ):
        return replace(stands, why=f"the field {hidden[0]!r} of {target} is not in the bundle")
    try:
        made = replay(derivation, data)
    except AnalysisError as error:
        return replace(stands, why=str(error))
    again = Score(score.name, math.nan if made.value is None else made.value, made.low, made.high, made.n)
    if same_numbers(score, again):
        return replace(stands, verdict="recomputed")
    why = f"made again it is {_numbers(again)}, not {_numbers(score)}"
    if chain.commits[entity_id].inputs["extras"].get(OWN_CODE, own_code_digest()) != own_code_digest():
        why += "; it was made with other code of dyff-dagster than is installed here"
    return replace(stands, verdict="differs", why=why)


def same_numbers(one: Score | CheckedScore, other: Score | CheckedScore) -> bool:
    """Whether two scores are the same to :data:`TOLERANCE`: value, interval and n; undefined is undefined."""
    pairs = ((one.value, other.value), (one.low, other.low), (one.high, other.high))
    return one.n == other.n and all(_close(a, b) for a, b in pairs)


def _close(one: float | None, other: float | None) -> bool:
    # A Score has NaN where a CheckedScore has None.
    one, other = (None if number is None or math.isnan(number) else number for number in (one, other))
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _numbers(score: Score) -> str:
    bounds = "" if score.low is None else f" [{score.low!r}, {score.high!r}]"
    return f"{score.value!r}{bounds}" + ("" if score.n is None else f" (n = {score.n})")
