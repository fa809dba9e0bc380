"""What a catalog of manifests reads, in the short form and in the whole form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog, CatalogError, EntityNotFound
from dyff_dagster.schema.platform import (
    Dataset,
    Evaluation,
    InferenceService,
    InferenceSession,
    Measurement,
    Model,
    SafetyCase,
)

MODEL = """\
kind: Model
id: net
account: lab
name: Net
artifact: {kind: Mock}
storage: {medium: Mock}
source: {kind: Mock}
resources: {storage: 1Mi}
"""
SERVICE = """\
kind: InferenceService
id: service
account: lab
name: Service
model: net
interface:
  endpoint: predict
  outputSchema: {arrow: {label: string!}}
"""
DATASET = """\
kind: Dataset
id: rows
account: lab
name: Rows
annotations:
  dyff-dagster/withhold: label
schema:
  arrow:
    question: string!
    label: string
"""
EVALUATION = """\
kind: Evaluation
id: run
account: lab
dataset: rows
inferenceSession: {inferenceService: service}
"""
MODULE = """\
kind: Module
id: code
account: lab
name: Code
artifacts: [{path: score.py}]
"""
METHOD = """\
kind: Method
id: count
account: lab
name: Count
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: score.count}}
parameters: [{keyword: cutoff}]
inputs: [{keyword: answers, kind: Evaluation}]
modules: [code]
output:
  kind: Measurement
  measurement:
    name: Counted
    description: How many.
    level: Dataset
    schema: {arrow: {score: string!, value: float64!}}
"""
MEASUREMENT = """\
kind: Measurement
id: counted
account: lab
method: count
scope: {evaluation: run, inferenceService: service, dataset: rows}
arguments: [{keyword: cutoff, value: "0.5"}]
inputs: [{keyword: answers, entity: run}]
"""
ALL = "---\n".join([MODEL, SERVICE, DATASET, EVALUATION, MODULE, METHOD, MEASUREMENT])


def write(folder: Path, *documents: str, name: str = "audit.yaml") -> Path:
    """Write one manifest file into ``folder``, with the files that the manifests above refer to."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.parquet").touch()
    (folder / "score.py").touch()
    (folder / name).write_text("---\n".join(documents), encoding="utf-8")
    return folder


def problems(folder: Path) -> list[str]:
    """The text of each problem, with the folder's path taken away."""
    with pytest.raises(CatalogError) as raised:
        Catalog.load(folder)
    return [str(problem).replace(f"{folder}/", "") for problem in raised.value.problems]


def warnings(folder: Path) -> list[str]:
    return [str(warning).replace(f"{folder}/", "") for warning in Catalog.load(folder).warnings]


def test_short_form_embeds_what_it_refers_to(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, ALL))

    service = catalog.get_as("service", InferenceService)
    assert service.model is not None
    assert (service.model.id, service.model.name) == ("net", "Net")
    run = catalog.get_as("run", Evaluation)
    assert run.inferenceSession.inferenceService.model == service.model
    assert run.inferenceSession.inferenceService.interface == service.interface
    counted = catalog.get_as("counted", Measurement)
    assert (counted.name, counted.description, counted.level) == ("Counted", "How many.", "Dataset")
    assert counted.method.implementation.pythonFunction.fullyQualifiedName == "score.count"
    assert counted.schema_.decode().names == ["score", "value"]
    assert catalog.warnings == []


def test_expanded_entities_read_back_from_their_own_wire_form(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path / "short", ALL))
    whole = tmp_path / "whole"
    write(whole)
    (whole / "audit.yaml").unlink()
    for entity_id, entity in catalog.entities.items():
        (whole / f"{entity_id}.json").write_text(entity.model_dump_json())

    again = Catalog.load(whole)

    assert dict(again.entities) == dict(catalog.entities)
    assert list(again.entities) == list(catalog.entities)
    assert again.upstream("counted") == catalog.upstream("counted")


def test_dataset_schema_gets_the_index_and_output_schema_the_response_keys(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, ALL))

    assert catalog.get_as("rows", Dataset).schema_.decode().names == ["_index_", "question", "label"]
    output = catalog.get_as("service", InferenceService).interface.outputSchema.decode()
    assert output.names == ["_replication_", "_index_", "responses"]
    item = output.field("responses").type.value_type
    assert [field.name for field in item] == ["_response_index_", "label"]


def test_named_data_schemas_are_known_in_the_short_form(tmp_path: Path) -> None:
    dataset = DATASET.replace("label\nschema:", "''\nschema:").split("schema:")[0]
    write(tmp_path, dataset + "schema: {dyffSchema: {components: [text.Text]}}\n")

    schema = Catalog.load(tmp_path).get_as("rows", Dataset).schema_

    assert schema.decode().names == ["_index_", "text"]
    assert schema.dyffSchema is not None
    assert schema.dyffSchema.components == ["text.Text"]


def test_evaluation_with_only_a_session_reference_takes_the_session_s_spec(tmp_path: Path) -> None:
    session = """\
kind: InferenceSession
id: running
account: lab
inferenceService: service
replicas: 3
expires: 2030-01-01T00:00:00+01:00
"""
    evaluation = EVALUATION.replace(
        "inferenceSession: {inferenceService: service}", "inferenceSessionReference: running"
    )
    catalog = Catalog.load(write(tmp_path, MODEL, SERVICE, DATASET, session, evaluation))

    run = catalog.get_as("run", Evaluation)
    assert run.inferenceSession.replicas == 3
    assert run.inferenceSession.inferenceService.id == "service"
    assert catalog.upstream("run") == ("rows", "service", "running")
    expires = catalog.get_as("running", InferenceSession).expires
    assert expires is not None
    assert expires.isoformat() == "2029-12-31T23:00:00+00:00"


def test_safety_case_takes_its_name_from_its_method(tmp_path: Path) -> None:
    method = METHOD.split("output:")[0] + "output: {kind: SafetyCase, safetyCase: {name: Safe}}\n"
    case = MEASUREMENT.replace("kind: Measurement", "kind: SafetyCase").replace("id: counted", "id: case")
    catalog = Catalog.load(write(tmp_path, MODEL, SERVICE, DATASET, EVALUATION, MODULE, method, case))

    assert catalog.get_as("case", SafetyCase).name == "Safe"


def test_what_a_measurement_says_itself_goes_before_its_method(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, ALL + "name: Mine\n"))

    assert catalog.get_as("counted", Measurement).name == "Mine"
    assert catalog.get_as("counted", Measurement).description == "How many."


def test_entities_come_in_topological_order_with_ties_by_kind_and_id(tmp_path: Path) -> None:
    backwards = [MEASUREMENT, METHOD, MODULE, EVALUATION, DATASET, SERVICE, MODEL]
    catalog = Catalog.load(write(tmp_path, *backwards))

    assert list(catalog.entities) == ["rows", "net", "service", "run", "code", "count", "counted"]
    assert catalog.upstream("counted") == ("count", "run")
    assert catalog.downstream("service") == ("run",)


def test_labels_and_annotations_may_be_lists_or_mappings(tmp_path: Path) -> None:
    listed = MODEL + "labels: {tier: gold, none: }\nannotations: [{key: note, value: hello}]\n"
    mapped = listed.replace("id: net", "id: other").replace("[{key: note, value: hello}]", "{note: hello}")
    catalog = Catalog.load(write(tmp_path, listed, mapped))

    assert catalog.get("net").annotations == catalog.get("other").annotations
    assert catalog.get("net").labels == {"tier": "gold", "none": None}


def test_numbers_as_annotations_keep_their_spelling(tmp_path: Path) -> None:
    write(tmp_path, MODEL, SERVICE, DATASET, EVALUATION + "annotations: {dyff-dagster/max-seconds: 1.50}\n")

    assert Catalog.load(tmp_path).annotation("run", "max-seconds") == "1.50"


def test_files_of_any_depth_are_read_and_hidden_ones_are_not(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", MODEL, name="model.yml")
    write(tmp_path / ".hidden", "not: [yaml")
    (tmp_path / "a" / ".draft.yaml").write_text("not: [yaml")

    assert list(Catalog.load(tmp_path).entities) == ["net"]


def test_yaml_without_a_kind_belongs_to_others(tmp_path: Path) -> None:
    write(tmp_path, MODEL)
    (tmp_path / "defs.yaml").write_text(
        "type: dyff_dagster.DyffCatalogComponent\nattributes: !x {a: 1, a: 2}\n"
    )
    (tmp_path / "package.json").write_text('{"name": "x", "account": 1}')
    (tmp_path / "numbers.json").write_text("[1, 2, 3]")

    catalog = Catalog.load(tmp_path)
    assert list(catalog.entities) == ["net"]
    assert catalog.warnings == []


def test_a_single_file_is_a_catalog(tmp_path: Path) -> None:
    write(tmp_path, MODEL)

    assert len(Catalog.load(tmp_path / "audit.yaml")) == 1


def test_json_holds_one_entity_or_a_list(tmp_path: Path) -> None:
    entity = {
        "kind": "Model",
        "id": "one",
        "account": "lab",
        "name": "😀",
        "artifact": {"kind": "Mock"},
        "storage": {"medium": "Mock"},
        "source": {"kind": "Mock"},
        "resources": {"storage": "1e3"},
    }
    (tmp_path / "one.json").write_text(json.dumps(entity))
    (tmp_path / "more.json").write_text(
        json.dumps([entity | {"id": "two"}, entity | {"id": "three"}], indent=2)
    )

    catalog = Catalog.load(tmp_path)

    assert sorted(catalog.entities) == ["one", "three", "two"]
    assert catalog.get_as("one", Model).name == "😀"
    assert catalog.origin("three").line > catalog.origin("two").line


def test_merge_keys_fill_in_what_is_not_written_out(tmp_path: Path) -> None:
    service = SERVICE.replace(
        "interface:\n",
        "interface:\n  <<: {endpoint: other, outputSchema: {arrow: {x: string}}, inputPipeline: []}\n",
    )
    interface = Catalog.load(write(tmp_path, MODEL, service)).get_as("service", InferenceService).interface

    assert interface.endpoint == "predict"
    assert interface.inputPipeline == []


def test_alias_reuses_a_value_within_its_document(tmp_path: Path) -> None:
    views = (
        "views:\n"
        "- {id: a, viewOf: rows, schema: &s {arrow: {question: string}}}\n"
        "- {id: b, viewOf: rows, schema: *s}\n"
    )
    rows = Catalog.load(write(tmp_path, DATASET + views)).get_as("rows", Dataset)

    assert rows.views[0].schema_ == rows.views[1].schema_
    assert rows.views[0].schema_.decode().names == ["question"]


def test_text_that_looks_like_a_date_stays_text(tmp_path: Path) -> None:
    write(tmp_path, MODEL.replace("name: Net", "name: 2024-01-01"))

    assert Catalog.load(tmp_path).get_as("net", Model).name == "2024-01-01"


def test_parquet_files_are_found_where_no_artifacts_are_listed(tmp_path: Path) -> None:
    write(
        tmp_path / "manifests", DATASET.replace("annotations:", "annotations:\n  dyff-dagster/files: ../rows")
    )
    for name in ("b.parquet", "a.parquet", "part=1/c.parquet", ".hidden.parquet", "notes.txt"):
        path = tmp_path / "rows" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    catalog = Catalog.load(tmp_path / "manifests")

    paths = [artifact.path for artifact in catalog.get_as("rows", Dataset).artifacts]
    assert paths == ["a.parquet", "b.parquet", "part=1/c.parquet"]
    assert catalog.files("rows").resolve() == tmp_path / "rows"
    assert catalog.directory("rows") == tmp_path / "manifests"


def test_module_files_are_found_without_manifests_and_caches(tmp_path: Path) -> None:
    write(tmp_path, MODULE.replace("artifacts: [{path: score.py}]\n", ""))
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "score.pyc").touch()
    (tmp_path / "settings.yaml").write_text("a: 1\n")

    module = Catalog.load(tmp_path).get("code")

    assert [artifact.path for artifact in module.artifacts] == ["data.parquet", "score.py", "settings.yaml"]


def test_dataset_made_from_a_source_needs_no_files_yet(tmp_path: Path) -> None:
    source = "kind: DataSource\nid: raw\naccount: lab\nname: Raw\nsourceKind: upload\nsource: score.py\n"
    dataset = DATASET.replace("annotations:", "annotations:\n  dyff-dagster/from: raw")
    write(tmp_path, source, dataset)
    (tmp_path / "data.parquet").unlink()

    catalog = Catalog.load(tmp_path)

    assert catalog.upstream("rows") == ("raw",)
    assert [artifact.path for artifact in catalog.get_as("rows", Dataset).artifacts] == ["data.parquet"]


def test_documentation_is_kept_beside_its_entity(tmp_path: Path) -> None:
    write(tmp_path, MODEL, "kind: Documentation\nentity: net\ntitle: A net\nsummary: It *learns*.\n")

    catalog = Catalog.load(tmp_path)

    assert catalog.documentation["net"].title == "A net"
    assert list(catalog.entities) == ["net"]


def test_withheld_tells_nothing_said_from_nothing_withheld(tmp_path: Path) -> None:
    other = DATASET.replace("id: rows", "id: open").replace("withhold: label", "withhold: ''")
    single = "kind: Dataset\nid: single\naccount: lab\nname: x\nschema: {arrow: {question: string}}\n"
    catalog = Catalog.load(write(tmp_path, DATASET, other, single))

    assert catalog.withheld("rows") == frozenset({"label"})
    assert catalog.withheld("open") == frozenset()
    assert catalog.withheld("single") is None


def test_origin_names_file_and_line(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, ALL))

    assert catalog.origin("net").path == tmp_path / "audit.yaml"
    assert catalog.origin("net").line == 1
    assert catalog.origin("service").line == 10


def test_get_names_the_closest_id(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, ALL))

    with pytest.raises(
        EntityNotFound, match=r"^there is no entity 'sevice' in the catalog; did you mean 'service'\?$"
    ):
        catalog.get("sevice")
    with pytest.raises(EntityNotFound, match=r"^'net' is of kind Model, not Dataset$"):
        catalog.get_as("net", Dataset)


def test_a_catalog_cannot_be_changed(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, MODEL))

    with pytest.raises(TypeError):
        catalog.entities["net"] = catalog.get("net")  # type: ignore[index]
    catalog.warnings.append(None)  # type: ignore[arg-type]
    assert catalog.warnings == []


def test_audit_waits_for_what_meets_its_requirements(tmp_path: Path) -> None:
    audit = "kind: Audit\nid: audit\naccount: lab\nauditProcedure: procedure\ninferenceService: service\n"
    procedure = (
        "kind: AuditProcedure\nid: procedure\naccount: lab\nname: P\n"
        "requirements: [{dataset: rows, rubric: counting}]\n"
    )
    method = METHOD + "annotations: {dyff-dagster/rubric: counting}\n"
    documents = (MODEL, SERVICE, DATASET, EVALUATION, MODULE, method, MEASUREMENT, procedure, audit)
    folder = write(tmp_path, *documents)
    # In the wire form a scope may say nothing, and then the one evaluation among the inputs says it.
    unscoped = json.loads(Catalog.load(folder).get("counted").model_dump_json())
    (folder / "unscoped.json").write_text(json.dumps({**unscoped, "id": "unscoped", "scope": {}}))
    catalog = Catalog.load(folder)

    assert catalog.get("audit").dependencies() == ["procedure", "service"]
    assert catalog.upstream("audit") == ("procedure", "service", "counted", "unscoped")


def test_status_in_a_manifest_is_ignored_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, MODEL + "status: Ready\nreason: null\ncreationTime: 2024-01-01T00:00:00Z\n")

    text = "is assigned by the system and is not read from a manifest; leave it out"
    assert warnings(tmp_path) == [f"audit.yaml:9: status: {text}", f"audit.yaml:11: creationTime: {text}"]
    assert Catalog.load(tmp_path).get("net").status is None
    assert Catalog.load(tmp_path).get("net").creationTime is None


def test_loading_leaves_the_directory_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, ALL)
    before = sorted(path.name for path in tmp_path.rglob("*"))

    Catalog.load(tmp_path)

    assert sorted(path.name for path in tmp_path.rglob("*")) == before
