"""Arrow schemas, named data schemas, ids and statuses are those of the reference, and so are the new fields."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyff_dagster.schema import platform, statuses
from dyff_dagster.schema.arrow import arrow_schema, decode_schema, encode_schema
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.interchange import NEWER_KINDS
from dyff_dagster.schema.named import NAMED_SCHEMAS, compose
from dyff_dagster.schema.newer import NEWER_FIELDS, newer_fields
from dyff_dagster.schema.platform import Audit, DataSchema, DyffDataSchema, Entities
from dyff_dagster.schema.scores import ScoreSpec
from tests.reference.asking import Reference
from tests.reference.strategies import ARROW_SCHEMAS, instances

bounded = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@bounded
@given(ARROW_SCHEMAS)
def test_arrow_schemas_are_read_and_written_alike(
    older: Reference, newer: Reference, schema: pa.Schema
) -> None:
    for reference in (older, newer):
        answer = decode_schema(reference.ask("encode_again", schema=encode_schema(schema)))
        assert answer.equals(schema, check_metadata=True)


OLDER_NAMES = sorted(set(NAMED_SCHEMAS) - {"binary.Media"})


@pytest.mark.parametrize("version", ["older", "newer"])
def test_named_data_schemas_are_composed_alike(request: pytest.FixtureRequest, version: str) -> None:
    reference: Reference = request.getfixturevalue(version)
    # The newer one cannot make Arrow schemas of its spans: their numbers have no width there.
    spans = {"text.TaggedSpan", "text.TaggedSpans"}
    names = OLDER_NAMES if version == "older" else sorted(set(NAMED_SCHEMAS) - spans)
    pairs = [[first, second] for first in names for second in names if first != second]
    for components in [[name] for name in names] + pairs:
        theirs = decode_schema(reference.ask("composition", components=components))
        ours = arrow_schema(compose(components))
        # Names, types, what may be null and the order; the prose of the descriptions is each one's own.
        assert ours.equals(theirs, check_metadata=False), components


@pytest.mark.parametrize("make", ["make_input_schema", "make_output_schema"])
@pytest.mark.parametrize("version", ["older", "newer"])
def test_schemas_of_data_sets_and_answers_are_made_alike(
    request: pytest.FixtureRequest, version: str, make: str
) -> None:
    reference: Reference = request.getfixturevalue(version)
    for name in (
        (set(OLDER_NAMES) - {"text.TaggedSpan", "text.TaggedSpans"}) if version == "newer" else OLDER_NAMES
    ):
        theirs = decode_schema(reference.ask("data_schema", components=[name], make=make))
        ours = getattr(DataSchema, make)(DyffDataSchema(components=[name])).decode()
        # Ours says that keys are never null, and puts _replication_ first (docs/reference.md).
        assert nullable(ours) == nullable(theirs), name


def nullable(schema: pa.Schema) -> dict[str, str]:
    """Types of the fields as text, as if everything could be null."""
    return {field.name: str(field.type).replace(" not null", "") for field in schema}


@bounded
@given(st.uuids(), st.integers(0, 10_000))
def test_ids_of_replications_are_the_same(
    older: Reference, newer: Reference, evaluation: object, index: int
) -> None:
    parent = str(evaluation).replace("-", "")
    ours = replication_id(parent, index)
    for reference in (older, newer):
        assert reference.ask("replication", evaluation=parent, index=index) == ours


def test_statuses_mean_the_same(older: Reference, newer: Reference) -> None:
    names = [*statuses.EntityStatus, *statuses.EntityStatusReason, "WaitingForUpload", "", "ready"]
    ours = {
        str(name): [
            statuses.is_status_terminal(name),
            statuses.is_status_success(name),
            statuses.is_status_failure(name),
        ]
        for name in names
    }
    for reference in (older, newer):
        assert reference.ask("statuses", names=[str(name) for name in names]) == ours


# Types that 0.46 wrote anew: ``schema.interchange`` converts them.
CONVERTED = {"Family", "FamilyMember", "FamilyMemberBase", "History", "Revision", "RevisionMetadata"}


def test_every_field_that_the_newer_reference_added_is_listed(older: Reference, newer: Reference) -> None:
    before, after = older.ask("types"), newer.ask("types")
    assert set(before) <= set(after)
    for name in sorted(set(before) - CONVERTED):
        ours = getattr(platform, name, None)
        if ours is None:
            continue
        added = set(after[name]["fields"]) - set(before[name]["fields"])
        assert added == set(newer_fields(ours)), name


def test_defaults_of_the_newer_fields_are_those_of_the_reference(newer: Reference) -> None:
    types = newer.ask("types")
    for name, fields in NEWER_FIELDS.items():
        for field, listed in fields.items():
            if field not in types[name]["defaults"]:
                continue
            found = types[name]["defaults"][field]
            assert without_null(found) == without_null(listed.default), f"{name}.{field}"


def without_null(value: Any) -> Any:
    """The reference leaves out what is null when it writes."""
    if isinstance(value, dict):
        return {name: without_null(item) for name, item in value.items() if item is not None}
    return value


def test_the_kinds_that_the_page_does_not_have_are_listed(newer: Reference) -> None:
    types = newer.ask("types")
    kinds = {
        made["defaults"]["kind"]
        for name, made in types.items()
        if isinstance(made["defaults"].get("kind"), str) and not name.endswith("Request")
    }
    assert kinds - set(Entities) <= NEWER_KINDS


@bounded
@given(instances(ScoreSpec, {
    "name": st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,20}", fullmatch=True),
    "format": st.sampled_from(["{quantity:.1f}", "{quantity:.2f} {unit}", "{quantity}"]),
    "minimum": st.none() | st.floats(-10, 0),
    "maximum": st.none() | st.floats(0, 10),
}))  # fmt: skip
def test_specifications_of_scores_survive_the_newer_reference(newer: Reference, spec: ScoreSpec) -> None:
    answer = newer.ask("model", type="ScoreSpec", data=json.loads(spec.model_dump_json()))
    assert ScoreSpec.model_validate(answer) == spec


def test_an_audit_is_read_with_each_of_its_newer_fields(newer: Reference) -> None:
    assert set(newer_fields(Audit)) == {"lastTransitionTime", "message", "metadata"}
