"""The code in a bundle run again, by whoever asks for it: it is somebody else's code, and this is no sandbox."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dyff_dagster import analysis
from dyff_dagster.analysis import Limits
from dyff_dagster.analysis.records import read_scores
from dyff_dagster.audits.bundle.errors import shown
from dyff_dagster.audits.bundle.findings import Check
from dyff_dagster.audits.bundle.manifest import version_path
from dyff_dagster.audits.bundle.provenance import Chain
from dyff_dagster.audits.bundle.recomputing import CheckedRows, same_numbers
from dyff_dagster.audits.bundle.trusted import TrustedFiles
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import Measurement, SafetyCase
from dyff_dagster.store import Inputs, Store, local_path


def execute(
    files: TrustedFiles, chain: Chain, rows: CheckedRows, scratch: Path, timeout: float | None
) -> Check:
    """Run each analysis of which code and inputs are in the bundle, and compare what it makes.

    A measurement must make the same rows, a safety case the same scores (to 1e-9): its page has images, which
    differ between versions of the libraries that draw them. Each runs in a guarded process of its own with a clean
    environment, as analyses always do.
    """
    faults: list[str] = []
    notes: list[str] = []
    store = Store(scratch / "store")
    ran = 0
    for entity_id, commit in chain.commits.items():
        entity = chain.entities[entity_id]
        if not isinstance(entity, Measurement | SafetyCase):
            continue
        wanted = [item.entity for item in entity.inputs]
        if missing := [name for name in wanted if name not in rows.whole]:
            notes.append(f"{entity_id} was not run: not all rows of {shown(missing[0])} are in the bundle")
            continue
        if missing := [name for name in entity.method.modules if not _is_whole(files, chain, name)]:
            notes.append(
                f"{entity_id} was not run: the files of the module {shown(missing[0])} are not in the bundle"
            )
            continue
        ran += 1
        try:
            made = analysis.run(
                entity,
                store,
                inputs=Inputs(**commit.inputs),
                input_paths={name: _directory(files, chain, name) for name in wanted},
                modules={name: _directory(files, chain, name) for name in entity.method.modules},
                limits=replace(
                    Limits.of(entity, chain.entities.get(entity.method.id)),
                    seconds=timeout,
                    more_seconds="give it more with --timeout",
                ),
                # A bundle has no documentation, so they are told by name.
                subjects=analysis.subjects_of(entity, chain.entities, {}),
            )
        except DyffError as error:
            # Most of them begin with it.
            faults.append(f"{entity_id}: {shown(str(error).removeprefix(f'{entity_id}: '))}")
            continue
        if isinstance(entity, Measurement):
            if made.data_version != commit.data_version:
                faults.append(
                    f"{entity_id}: run again it makes the version {made.data_version}, not {commit.data_version}"
                )
            continue
        again = {score.name: score for score in read_scores(local_path(made.path))}
        if set(again) != {score.name for score in commit.facts.scores} or not all(
            same_numbers(score, again[score.name]) for score in commit.facts.scores
        ):
            faults.append(f"{entity_id}: run again it reports other scores")
    state = "fails" if faults else "holds" if ran else "skipped"
    return Check("code", state, f"{ran} analyses run again", tuple(faults), tuple(notes))  # type: ignore[arg-type]


def _is_whole(files: TrustedFiles, chain: Chain, entity_id: str) -> bool:
    commit = chain.commits.get(entity_id)
    return commit is not None and all(version_path(entity_id, name) in files for name in commit.files)


def _directory(files: TrustedFiles, chain: Chain, entity_id: str) -> Path:
    """A copy of an entity's version, as far as it is in the bundle."""
    names = [name for name in chain.commits[entity_id].files if version_path(entity_id, name) in files]
    return files.unpack_below(version_path(entity_id, ""), names)
