"""Data sets made from an Evaluation: where each of their fields comes from, and whether there is such a field.

A row is one answer. Its fields are those of the view that ``dyff-dagster/ingest`` names (without one, of the
answers as they are), the keys of the answer, and what the data set that was asked about has besides: the question
that an answer belongs to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dyff_dagster.catalog.annotations import withheld_fields
from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.problems import suggestion
from dyff_dagster.catalog.schemas_fit import decoded, response_fields
from dyff_dagster.catalog.shapes import find_missing, shape_of_rows
from dyff_dagster.schema.arrow import INDEX_FIELD
from dyff_dagster.schema.platform import Dataset, DataView, Evaluation

RESPONSES = "responses"
SOURCE_INDEX, REPLICATION, RESPONSE_INDEX = "_source_index_", "_replication_", "_response_index_"
KEYS: Mapping[str, pa.DataType] = {
    SOURCE_INDEX: pa.int64(),
    REPLICATION: pa.string(),
    RESPONSE_INDEX: pa.int64(),
}
"""Which answer a row is: ``_index_`` of the row that was asked about, and the replication and place of the answer.
``_index_`` itself numbers the new rows."""


@dataclass(frozen=True)
class FieldSources:
    """Where the fields of a data set made from an Evaluation come from, by name.

    Attributes:
        keys: Keys of the answer.
        view: Fields of the view, or of the answers.
        asked: Fields of the row that was asked about.
        unknown: Fields that are nowhere.
    """

    keys: tuple[str, ...]
    view: tuple[str, ...]
    asked: tuple[str, ...]
    unknown: tuple[str, ...]


def view_of(evaluation: Evaluation, name: str | None) -> DataView | None:
    """The outputView of that name of the service that answered, or None."""
    views = evaluation.inferenceSession.inferenceService.outputViews
    return next((view for view in views if view.id == (name or "").strip()), None)


def field_sources(
    declared: pa.Schema, evaluation: Evaluation, view: DataView | None, asked: Collection[str]
) -> FieldSources:
    """Say where each declared field but ``_index_`` comes from.

    Args:
        declared: The data set's schema.
        evaluation: What it is made from.
        view: How the answers are looked at; None: as they are.
        asked: Names of the fields of the data set that was asked about.
    """
    offered = {field.name for field in _offered(evaluation, view, declared.names)}
    found: dict[str, list[str]] = {"keys": [], "view": [], "asked": [], "unknown": []}
    for name in declared.names:
        if name == INDEX_FIELD.name:
            continue
        kind = (
            "keys" if name in KEYS else "view" if name in offered else "asked" if name in asked else "unknown"
        )
        found[kind].append(name)
    return FieldSources(**{kind: tuple(names) for kind, names in found.items()})


def _offered(evaluation: Evaluation, view: DataView | None, declared: Collection[str]) -> Sequence[pa.Field]:
    """The fields of one answer as the view shows it.

    Where the view leaves the answers of a row in their array, and the data set does not ask for the array,
    each is a row.
    """
    interface = evaluation.inferenceSession.inferenceService.interface
    schema = decoded((view.schema_ if view is not None else interface.outputSchema).arrowSchema)
    if schema is None:
        return ()
    fields = [field for field in schema if field.name not in (INDEX_FIELD.name, *KEYS)]
    inner = response_fields(schema)
    if inner is None or RESPONSES in declared:
        return fields
    own = [field for field in inner if field.name not in KEYS]
    return [*(field for field in fields if field.name != RESPONSES), *own]


def check_derived(
    entry: Entry, dataset: Dataset, asked: Entry | None, source: Evaluation, findings: Findings
) -> None:
    """Note fields of a data set made from an Evaluation that come from nowhere, or are no longer withheld."""
    declared = decoded(dataset.schema_.arrowSchema)
    named = entry.annotation("ingest")
    view = view_of(source, named)
    if declared is None or (named is not None and view is None):
        return
    asked_schema = None
    if asked is not None and isinstance(asked.entity, Dataset):
        asked_schema = decoded(asked.entity.schema_.arrowSchema)
    there = [] if asked_schema is None else asked_schema.names
    sources = field_sources(declared, source, view, there)
    offered = list(_offered(source, view, declared.names))
    place = "ingest" if named is not None else "from"
    what = f"the view '{view.id}' has" if view is not None else f"the answers of '{source.id}' have"
    for name in sources.unknown:
        known = [field.name for field in offered] + [one for one in there if one != INDEX_FIELD.name]
        message = (
            f"{what} no field '{name}', which this data set's schema declares; {suggestion(name, known)}"
        )
        findings.annotation_error(entry, place, message)
    for name in sources.keys:
        if declared.field(name).type != KEYS[name]:
            message = (
                f"declares '{name}' as {declared.field(name).type}; as a key of answers it is {KEYS[name]}"
            )
            findings.error(entry, ("schema", "arrowSchema"), message)
    misfit = find_missing(shape_of_rows(offered), [declared.field(name) for name in sources.view])
    if misfit is not None:
        words = "in the view" if view is not None else "in the answers"
        findings.annotation_error(entry, place, misfit.describe("in this data set", words))
    if asked_schema is None or asked is None:
        return
    misfit = find_missing(shape_of_rows(asked_schema), [declared.field(name) for name in sources.asked])
    if misfit is not None:
        words = f"in data set '{asked.id}'"
        findings.annotation_error(entry, place, misfit.describe("in this data set", words))
    _check_still_withheld(entry, asked, sources.asked, findings)


def _check_still_withheld(entry: Entry, asked: Entry, names: Sequence[str], findings: Findings) -> None:
    """What no service may see of the rows that were asked about, no judge of the answers may see either."""
    withheld = set(withheld_fields(asked.annotation("withhold") or ""))
    here = set(withheld_fields(entry.annotation("withhold") or ""))
    for name in names:
        if name in withheld - here:
            message = (
                f"the field '{name}' comes from data set '{asked.id}', which withholds it from every service; "
                "add it to 'dyff-dagster/withhold' here, or take it out of the schema"
            )
            findings.annotation_error(entry, "withhold", message)
