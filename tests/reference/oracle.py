"""Run by the reference's own Python, either version: one JSON request a line, one JSON answer a line.

A request is ``{"do": NAME, …}``; an answer ``{"ok": VALUE}``, or ``{"error": TEXT}`` where the reference
raised. Nothing of this project is imported here.
"""

import base64
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")

import pydantic  # noqa: E402
from dyff.schema import ids, platform  # noqa: E402
from dyff.schema import requests as platform_requests  # noqa: E402
from dyff.schema.dataset import arrow  # noqa: E402

NEWER = int(pydantic.VERSION.split(".")[0]) >= 2


def parse(model, data):
    if NEWER:
        return model.model_validate_json(json.dumps(data))
    return model.parse_raw(json.dumps(data))


def dump(made):
    # Each version's own way of writing what goes over the wire.
    return json.loads(made.model_dump_json() if NEWER else made.json())


def fields_of(model):
    if NEWER:
        return [field.alias or name for name, field in model.model_fields.items()]
    return [field.alias for field in model.__fields__.values()]


def defaults_of(model):
    found = {}
    for name, field in (model.model_fields if NEWER else model.__fields__).items():
        if field.is_required() if NEWER else field.required:
            continue
        value = field.get_default(call_default_factory=True) if NEWER else field.get_default()
        if NEWER and isinstance(value, pydantic.BaseModel):
            value = value.model_dump(mode="json")
        try:
            found[field.alias or name] = json.loads(json.dumps(value))
        except TypeError:
            continue
    return found


def concrete(model):
    """Some types of the reference cannot be instantiated: they lack the methods that it demands of them."""
    missing = getattr(model, "__abstractmethods__", ())
    if not missing:
        return model
    return type(model.__name__, (model,), {name: lambda self: [] for name in missing})


def entity(request):
    data = request["entity"]
    made = parse(concrete(getattr(platform, data["kind"])), data)
    return {"entity": dump(made), "dependencies": made.dependencies()}


def abstract(request):
    """Kinds of entities that the reference declares and cannot make."""
    kinds = [getattr(platform, kind) for kind in request["kinds"]]
    return [kind.__name__ for kind in kinds if getattr(kind, "__abstractmethods__", ())]


def model(request):
    return dump(parse(getattr(platform, request["type"]), request["data"]))


def create_request(request):
    return dump(parse(getattr(platform_requests, request["type"]), request["data"]))


def types(request):
    found = {}
    for name, value in vars(platform).items():
        if isinstance(value, type) and issubclass(value, pydantic.BaseModel):
            found[name] = {"fields": fields_of(value), "defaults": defaults_of(value)}
    return found


def encode_again(request):
    return arrow.encode_schema(arrow.decode_schema(request["schema"]))


def composition(request):
    """Base64 of the Arrow schema of a composition of named data schemas."""
    named = platform.DyffDataSchema(components=request["components"])
    schema = arrow.arrow_schema(named.model_type())
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def data_schema(request):
    named = platform.DyffDataSchema(components=request["components"])
    make = getattr(platform.DataSchema, request["make"])
    return make(named).arrowSchema


def replication(request):
    return ids.replication_id(request["evaluation"], request["index"])


def statuses(request):
    return {
        name: [
            platform.is_status_terminal(name),
            platform.is_status_success(name),
            platform.is_status_failure(name),
        ]
        for name in request["names"]
    }


def local_root(request):
    """A storage root that the reference's local platform writes: see test_reference_import."""
    from pathlib import Path

    import pyarrow
    from dyff.audit.local.platform import DyffLocalPlatform
    from dyff.schema.requests import MethodCreateRequest

    root, rows = Path(request["root"]), Path(request["rows"])
    import pyarrow.parquet

    rows.mkdir(parents=True)
    schema = pyarrow.schema(
        [pyarrow.field("_index_", pyarrow.int64()), pyarrow.field("text", pyarrow.string())]
    )
    table = pyarrow.table({"_index_": [0, 1], "text": ["a", "b"]}, schema=schema)
    pyarrow.parquet.write_table(table, str(rows / "part.parquet"))
    code = rows.parent / "code"
    code.mkdir()
    (code / "counting.py").write_text("def count(arguments, **inputs):\n    yield from ()\n")
    local = DyffLocalPlatform(root)
    account = "0" * 32
    dataset = local.datasets.create_arrow_dataset(str(rows), account=account, name="two rows")
    local.datasets.upload_arrow_dataset(dataset, str(rows))
    module = local.modules.create_package(str(code), account=account, name="counting")
    local.modules.upload_package(module, str(code))
    method = local.methods.create(
        MethodCreateRequest(
            account=account,
            name="count",
            scope="Evaluation",
            implementation={
                "kind": "PythonFunction",
                "pythonFunction": {"fullyQualifiedName": "counting.count"},
            },
            inputs=[{"kind": "Dataset", "keyword": "rows"}],
            output={
                "kind": "Measurement",
                "measurement": {
                    "name": "count",
                    "level": "Dataset",
                    "schema": {"arrowSchema": arrow.encode_schema(schema)},
                },
            },
            scores=[
                {
                    "name": "count",
                    "title": "Count",
                    "summary": "How many rows",
                    "format": "{quantity:.0f}",
                    "minimum": 0,
                }
            ],
            modules=[module.id],
        )
    )
    local.datasets.edit_documentation(
        dataset.id, {"documentation": {"title": "Two rows", "summary": "A and b"}}
    )
    return {"dataset": dataset.id, "module": module.id, "method": method.id}


def read_local(request):
    """Entities that the local platform finds in a storage root: by plural of their kind and id."""
    from pathlib import Path

    from dyff.audit.local.platform import DyffLocalPlatform

    local = DyffLocalPlatform(Path(request["root"]))
    return dump(getattr(local, request["plural"]).get(request["id"]))


DO = {
    function.__name__: function
    for function in (
        abstract,
        entity,
        model,
        create_request,
        types,
        encode_again,
        composition,
        data_schema,
        replication,
        statuses,
        local_root,
        read_local,
    )
}


def main():
    # What the reference prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": DO[request["do"]](request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
