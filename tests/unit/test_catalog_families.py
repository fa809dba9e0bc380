"""``FAMILY@MEMBER``: a readable name wherever an id may stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog, CatalogError, EntityNotFound
from dyff_dagster.schema.canonical import spec_digest
from dyff_dagster.schema.platform import (
    AuditProcedure,
    Evaluation,
    Family,
    InferenceService,
    InferenceSession,
    Measurement,
    Method,
)
from tests.unit.test_catalog_manifests import (
    ALL,
    DATASET,
    EVALUATION,
    METHOD,
    MODEL,
    MODULE,
    SERVICE,
    problems,
    warnings,
    write,
)


def family(family_id: str, kind: str, members: str) -> str:
    return f"kind: Family\nid: {family_id}\naccount: lab\nmemberKind: {kind}\nmembers: {members}\n"


SETS = family("sets", "Dataset", "{held-out: rows}")
NETS = family("nets", "Model", "{v1: net}")
SERVICES = family("services", "InferenceService", "{live: service}")
METHODS = family("methods", "Method", "{counting: count}")
MODULES = family("modules", "Module", "{scoring: code}")
FAMILIES = [SETS, NETS, SERVICES, METHODS, MODULES]


def named(text: str = ALL) -> str:
    """The catalog with a family's member wherever there can be one."""
    for old, new in (
        ("model: net", "model: nets@v1"),
        ("dataset: rows\n", "dataset: sets@held-out\n"),
        ("{inferenceService: service}", "{inferenceService: services@live}"),
        ("modules: [code]", "modules: [modules@scoring]"),
        ("method: count", "method: methods@counting"),
        (
            "scope: {evaluation: run, inferenceService: service, dataset: rows}",
            "scope: {evaluation: run, inferenceService: services@live, dataset: sets@held-out, model: nets@v1}",
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


def test_a_member_stands_for_its_entity_wherever_an_id_may_stand(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, named(), *FAMILIES))

    service = catalog.get_as("service", InferenceService)
    assert service.model is not None
    assert (service.model.id, service.model.name) == ("net", "Net")
    run = catalog.get_as("run", Evaluation)
    assert (run.dataset, run.inferenceSession.inferenceService.id) == ("rows", "service")
    assert catalog.get_as("count", Method).modules == ["code"]
    counted = catalog.get_as("counted", Measurement)
    assert (counted.method.id, counted.name) == ("count", "Counted")
    assert counted.scope.model_dump() == {
        "evaluation": "run", "inferenceService": "service", "dataset": "rows", "model": "net",
    }  # fmt: skip


def test_the_catalog_remembers_what_was_written(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, named(), *FAMILIES))

    assert catalog.family_references("run") == {
        "dataset": "sets@held-out",
        "inferenceSession.inferenceService": "services@live",
    }
    assert catalog.family_references("counted") == {
        "method": "methods@counting",
        "scope.inferenceService": "services@live",
        "scope.dataset": "sets@held-out",
        "scope.model": "nets@v1",
    }
    assert catalog.family_references("count") == {"modules[0]": "modules@scoring"}
    assert catalog.family_references("rows") == {}


def test_a_catalog_with_families_is_the_same_as_one_with_ids(tmp_path: Path) -> None:
    with_names = Catalog.load(write(tmp_path / "names", named(), *FAMILIES))
    with_ids = Catalog.load(
        write(tmp_path / "ids", ALL.replace("dataset: rows}", "dataset: rows, model: net}"))
    )

    for entity_id, entity in with_ids.entities.items():
        assert with_names.get(entity_id) == entity
        assert with_names.upstream(entity_id) == with_ids.upstream(entity_id)


def test_a_family_waits_for_nothing_and_nothing_waits_for_it(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, named(), *FAMILIES))
    assert catalog.upstream("sets") == ()
    assert catalog.downstream("sets") == ()


def test_the_wire_form_may_hold_members_too(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path / "short", ALL, *FAMILIES))
    for entity_id, old, new in (
        ("service", {"model": {"id": "net"}}, "nets@v1"),
        ("run", {"inferenceSession": {"inferenceService": {"id": "service"}}}, "services@live"),
        ("counted", {"method": {"id": "count"}}, "methods@counting"),
    ):
        folder = tmp_path / entity_id
        write(folder)
        (folder / "audit.yaml").unlink()
        for other in catalog.entities.values():
            (folder / f"{other.id}.json").write_text(other.model_dump_json())
        data = json.loads((folder / f"{entity_id}.json").read_text())
        inner, steps = data, []
        while isinstance(old, dict):
            ((key, old),) = old.items()
            steps.append(key)
            inner = inner[key] if key != "id" else inner
        assert inner["id"] == old
        inner["id"] = new
        (folder / f"{entity_id}.json").write_text(json.dumps(data))

        loaded = Catalog.load(folder)
        assert loaded.get(entity_id) == catalog.get(entity_id)
        assert loaded.family_references(entity_id) == {".".join(steps): new}
        assert loaded.warnings == catalog.warnings


def test_members_stand_in_sessions_procedures_and_audits(tmp_path: Path) -> None:
    catalog = Catalog.load(
        write(
            tmp_path,
            ALL,
            *FAMILIES,
            "kind: InferenceSession\nid: session\naccount: lab\ninferenceService: services@live\n",
            "kind: AuditProcedure\nid: steps\naccount: lab\nname: Steps\n"
            "requirements: [{dataset: sets@held-out, rubric: score.count}]\n",
            "kind: Audit\nid: audit\naccount: lab\nauditProcedure: steps\ninferenceService: services@live\n",
        )
    )
    assert catalog.get_as("session", InferenceSession).inferenceService.id == "service"
    assert catalog.get_as("steps", AuditProcedure).requirements[0].dataset == "rows"
    assert catalog.family_references("steps") == {"requirements[0].dataset": "sets@held-out"}
    assert catalog.upstream("audit") == ("steps", "service", "counted")


def test_a_members_documentation_is_that_of_its_entity(tmp_path: Path) -> None:
    catalog = Catalog.load(
        write(tmp_path, ALL, SETS, "kind: Documentation\nentity: sets@held-out\ntitle: What it is asked\n")
    )
    assert catalog.documentation["rows"].title == "What it is asked"


def test_a_member_may_stand_for_a_member_of_another_family(tmp_path: Path) -> None:
    newest = family("newest", "Dataset", "{set: sets@held-out}")
    catalog = Catalog.load(
        write(tmp_path, ALL.replace("dataset: rows\n", "dataset: newest@set\n"), SETS, newest)
    )
    assert catalog.get_as("run", Evaluation).dataset == "rows"
    assert catalog.get_as("newest", Family).members["set"].resource == "rows"
    assert catalog.family_references("newest") == {"members.set": "sets@held-out"}


def test_moving_a_member_changes_those_that_refer_to_it_and_nothing_else(tmp_path: Path) -> None:
    other = DATASET.replace("id: rows", "id: other-rows")
    text = ALL.replace("dataset: rows", "dataset: sets@held-out")
    before = Catalog.load(write(tmp_path / "before", text, other, SETS))
    after = Catalog.load(write(tmp_path / "after", text, other, SETS.replace("rows}", "other-rows}")))

    changed = {
        name for name in before.entities if spec_digest(before.get(name)) != spec_digest(after.get(name))
    }
    assert changed == {"run", "counted", "sets"}
    assert after.upstream("run") == ("other-rows", "service")


def test_a_member_in_the_short_form_is_the_id_of_its_entity(tmp_path: Path) -> None:
    short = Catalog.load(write(tmp_path / "short", ALL, SETS)).get("sets")
    partly = family("sets", "Dataset", "{held-out: {resource: rows}}")
    whole = family("sets", "Dataset", "{held-out: {name: held-out, family: sets, resource: rows}}")
    assert Catalog.load(write(tmp_path / "partly", ALL, partly)).get("sets") == short
    assert Catalog.load(write(tmp_path / "whole", ALL, whole)).get("sets") == short


def test_the_time_of_a_member_is_not_read_from_a_manifest(tmp_path: Path) -> None:
    text = family("sets", "Dataset", "{held-out: {resource: rows, creationTime: 2020-01-01T00:00:00Z}}")
    folder = write(tmp_path, DATASET, text)
    assert Catalog.load(folder).get_as("sets", Family).members["held-out"].creationTime is None
    assert warnings(folder) == [
        "audit.yaml:16: members.held-out.creationTime: is assigned by the system and is not read from a manifest; "
        "leave it out"
    ]


# (what is wrong, documents, every problem there is)
WRONG = [
    (
        "no such family",
        [ALL.replace("dataset: rows\n", "dataset: set@held-out\n"), SETS],
        ["audit.yaml:33: dataset: there is no Family 'set' in the catalog; did you mean 'sets'?"],
    ),
    (
        "no family at all",
        [ALL.replace("dataset: rows\n", "dataset: set@held-out\n")],
        ["audit.yaml:33: dataset: there is no Family 'set' in the catalog; there is none"],
    ),
    (
        "something that is no family",
        [ALL.replace("dataset: rows\n", "dataset: rows@held-out\n"), SETS],
        ["audit.yaml:33: dataset: 'rows' is a Dataset and no Family; write its id without '@'"],
    ),
    (
        "no such member",
        [ALL.replace("dataset: rows\n", "dataset: sets@held-ot\n"), SETS],
        ["audit.yaml:33: dataset: the Family 'sets' has no member 'held-ot'; did you mean 'held-out'?"],
    ),
    (
        "no member's name",
        [ALL.replace("dataset: rows\n", "dataset: sets@\n"), SETS],
        ["audit.yaml:33: dataset: 'sets@' is neither an id nor FAMILY@MEMBER; write it as in wdbc@held-out"],
    ),
    (
        "a family of another kind",
        [ALL.replace("dataset: rows\n", "dataset: nets@v1\n"), NETS],
        ["audit.yaml:33: dataset: 'nets@v1' is a Model, as all of 'nets' are; name a Dataset"],
    ),
    (
        "a family of another kind where an embedded entity is meant",
        [ALL.replace("model: net\n", "model: sets@held-out\n"), SETS],
        ["audit.yaml:14: model: 'sets@held-out' is a Dataset, as all of 'sets' are; name a Model"],
    ),
    (
        "a family of another kind in an annotation",
        [DATASET.replace("annotations:", "annotations:\n  dyff-dagster/from: sets@held-out"), SETS],
        [
            "audit.yaml:6: annotations.dyff-dagster/from: 'sets@held-out' is a Dataset, as all of 'sets' are; "
            "name a DataSource or Evaluation"
        ],
    ),
    (
        "a family of another kind in a scope",
        [ALL.replace("{evaluation: run,", "{evaluation: sets@held-out,"), SETS],
        [
            "audit.yaml:63: scope.evaluation: 'sets@held-out' is a Dataset, as all of 'sets' are; name an Evaluation"
        ],
    ),
    (
        "a member whose entity is not there, told once and where it is written",
        [
            ALL.replace("dataset: rows\n", "dataset: sets@held-out\n").replace("e: service}", "e: live@now}"),
            SETS.replace("rows", "row"),
            family("live", "InferenceService", "{now: servce}"),
        ],
        [
            "audit.yaml:71: members.held-out: there is no Dataset 'row' in the catalog; did you mean 'rows'?",
            "audit.yaml:77: members.now: there is no InferenceService 'servce' in the catalog; "
            "did you mean 'service'?",
        ],
    ),
    (
        "a member whose entity is of another kind",
        [ALL.replace("dataset: rows\n", "dataset: sets@held-out\n"), SETS.replace("rows", "net")],
        ["audit.yaml:71: members.held-out: 'net' is a Model; write the id of a Dataset"],
    ),
    (
        "a kind that has no families",
        [ALL.replace("dataset: rows\n", "dataset: sets@held-out\n"), SETS.replace("Dataset", "Evaluation")],
        ["audit.yaml:70: memberKind: must be 'Dataset', 'InferenceService', 'Method', 'Model' or 'Module'"],
    ),
    (
        "a family that is no entity still has its members checked",
        [MODEL, NETS.replace("account: lab\n", "").replace(": net}", ": nett}")],
        [
            "audit.yaml:10: account: is missing",
            "audit.yaml:13: members.v1: there is no Model 'nett' in the catalog; did you mean 'net'?",
        ],
    ),
    (
        "members that stand for each other",
        [
            ALL.replace("dataset: rows\n", "dataset: a@x\n"),
            family("a", "Dataset", "{x: b@x}"),
            family("b", "Dataset", "{x: a@x}"),
        ],
        [
            "audit.yaml:71: members.x: stands for itself: b@x → a@x → b@x; name an entity in one of them",
            "audit.yaml:77: members.x: stands for itself: a@x → b@x → a@x; name an entity in one of them",
        ],
    ),
    (
        "a member whose own words contradict where it stands",
        [DATASET, family("sets", "Dataset", "{held-out: {name: heldout, family: set, resource: rows}}")],
        [
            "audit.yaml:16: members.held-out.family: is 'set', and the member stands in 'sets'; leave the family out",
            "audit.yaml:16: members.held-out.name: is 'heldout', and its key is 'held-out'; "
            "leave the name out, or make them the same",
        ],
    ),
    (
        "documentation of nothing",
        [DATASET, SETS, "kind: Documentation\nentity: sets@heldout\n"],
        ["audit.yaml:19: entity: the Family 'sets' has no member 'heldout'; did you mean 'held-out'?"],
    ),
]


@pytest.mark.parametrize(
    ("documents", "expected"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
def test_what_is_wrong_is_told_once_and_where_it_stands(
    tmp_path: Path, documents: list[str], expected: list[str]
) -> None:
    assert sorted(problems(write(tmp_path, *documents))) == sorted(expected)


def python_catalog(folder: Path, dataset: str) -> Catalog:
    found = dict(Catalog.load(write(folder, ALL, *FAMILIES)).entities)
    run, service = found["run"], found["service"]
    assert isinstance(run, Evaluation)
    assert isinstance(service, InferenceService)
    assert service.model is not None
    found["run"] = run.model_copy(update={"dataset": dataset})
    found["service"] = service.model_copy(
        update={"model": service.model.model_copy(update={"id": "nets@v1"})}
    )
    return Catalog(found.values(), base=folder)


def test_members_are_resolved_in_entities_from_python(tmp_path: Path) -> None:
    catalog = python_catalog(tmp_path, "sets@held-out")

    assert catalog.get_as("run", Evaluation).dataset == "rows"
    assert catalog.upstream("service") == ("net",)
    assert catalog.family_references("run") == {"dataset": "sets@held-out"}
    assert catalog.family_references("service") == {"model.id": "nets@v1"}


def test_entities_from_python_with_a_wrong_member_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as raised:
        python_catalog(tmp_path, "sets@held-ot")
    assert [str(problem) for problem in raised.value.problems] == [
        "run: dataset: the Family 'sets' has no member 'held-ot'; did you mean 'held-out'?"
    ]


def test_the_entity_that_was_given_is_left_as_it_was(tmp_path: Path) -> None:
    entities = list(
        Catalog.load(write(tmp_path, DATASET, SERVICE, MODEL, EVALUATION, SETS)).entities.values()
    )
    run = next(entity for entity in entities if isinstance(entity, Evaluation))
    written = run.model_copy(update={"dataset": "sets@held-out"})
    Catalog([written, *(entity for entity in entities if entity is not run)], base=tmp_path)
    assert written.dataset == "sets@held-out"


def test_a_family_of_modules_gives_a_method_its_code(tmp_path: Path) -> None:
    text = METHOD.replace("[code]", "[modules@scoring]")
    catalog = Catalog.load(write(tmp_path, MODULE, MODULES, text))
    assert catalog.upstream("count") == ("code",)


def test_a_catalog_knows_the_id_that_a_name_stands_for(tmp_path: Path) -> None:
    catalog = Catalog.load(
        write(tmp_path, named(), *FAMILIES, family("newer", "Dataset", "{all: sets@held-out}"))
    )
    assert [catalog.id_of(name) for name in ("rows", "sets@held-out", "newer@all")] == ["rows"] * 3
    with pytest.raises(EntityNotFound, match="there is no Family 'set' in the catalog; did you mean 'sets'"):
        catalog.id_of("set@held-out")
    with pytest.raises(EntityNotFound, match="there is no entity 'row' in the catalog; did you mean 'rows'"):
        catalog.id_of("row")


def test_members_in_entities_from_python_have_ids_too(tmp_path: Path) -> None:
    assert python_catalog(tmp_path, "sets@held-out").id_of("sets@held-out") == "rows"
