"""The graph of a catalog as a tree, for Mermaid, for Graphviz and as JSON."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Sequence

import pyarrow as pa
import pytest
from rich.console import Console

from dyff_dagster.catalog import Catalog, EntityNotFound
from dyff_dagster.catalog.drawing import Drawing, as_json, dot, mermaid, select, tree
from dyff_dagster.schema.arrow import encode_schema
from dyff_dagster.schema.platform import (
    AnalysisInput,
    Artifact,
    DataSchema,
    ForeignMethod,
    Measurement,
    MeasurementLevel,
    Method,
    Module,
)

SCHEMA = DataSchema(arrowSchema=encode_schema(pa.schema({"score": pa.string(), "value": pa.float64()})))


def method(entity_id: str, inputs: int) -> Method:
    return Method.model_validate(
        {
            "id": entity_id,
            "account": "me",
            "name": entity_id,
            "scope": "Evaluation",
            "implementation": {"kind": "PythonFunction", "pythonFunction": {"fullyQualifiedName": "a.b"}},
            "inputs": [{"kind": "Measurement", "keyword": f"x{number}"} for number in range(inputs)],
            "output": {
                "kind": "Measurement",
                "measurement": {"name": "m", "level": "Dataset", "schema": SCHEMA},
            },
        }
    )


def measurement(entity_id: str, inputs: Sequence[str], method: Method) -> Measurement:
    return Measurement(
        id=entity_id,
        account="me",
        name=f"The {entity_id}",
        level=MeasurementLevel.Dataset,
        schema=SCHEMA,
        method=ForeignMethod(**{name: getattr(method, name) for name in ForeignMethod.model_fields}),
        inputs=[AnalysisInput(keyword=f"x{number}", entity=entity) for number, entity in enumerate(inputs)],
    )


def catalog_of(edges: dict[str, Sequence[str]]) -> Catalog:
    """A catalog of Measurements that are made from each other, and of their Methods."""
    methods = {len(inputs): method(f"m{len(inputs)}", len(inputs)) for inputs in edges.values()}
    made = [measurement(entity_id, inputs, methods[len(inputs)]) for entity_id, inputs in edges.items()]
    return Catalog([*methods.values(), *made])


@pytest.fixture
def diamond() -> Catalog:
    return catalog_of({"top": ["left", "right"], "left": ["base"], "right": ["base"], "base": []})


def printed(drawing: Drawing, width: int | None = None, *, terminal: bool = False) -> str:
    made, needed = tree(drawing)
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width or needed,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
    )
    console.print(made, crop=False, overflow="ignore", no_wrap=True)
    return stream.getvalue()


def test_a_tree_begins_with_what_nothing_is_made_from_and_goes_on_to_what_it_is_made_from(
    diamond: Catalog,
) -> None:
    assert printed(select(diamond)).splitlines() == [
        "top  Measurement",
        "├── m2  Method",
        "├── left  Measurement",
        "│   ├── m1  Method",
        "│   └── base  Measurement",
        "│       └── m0  Method",
        "└── right  Measurement",
        "    ├── m1  Method  (shown above)",
        "    └── base  Measurement  (shown above)",
    ]


def test_downstream_begins_with_what_is_made_from_nothing(diamond: Catalog) -> None:
    lines = printed(select(diamond, downstream=True)).splitlines()
    assert [line for line in lines if not line.startswith((" ", "│", "├", "└"))] == [
        "m0  Method",
        "m1  Method",
        "m2  Method",
    ]
    assert lines[1:4] == [
        "└── base  Measurement",
        "    ├── left  Measurement",
        "    │   └── top  Measurement",
    ]


def test_one_entity_is_drawn_with_what_it_is_made_from(diamond: Catalog) -> None:
    assert printed(select(diamond, ["left"])).splitlines() == [
        "left  Measurement",
        "├── m1  Method",
        "└── base  Measurement",
        "    └── m0  Method",
    ]
    assert select(diamond, ["base"], downstream=True).entities == ("base", "left", "right", "top")


def test_colours_come_only_to_a_terminal(diamond: Catalog) -> None:
    assert "\x1b[" not in printed(select(diamond))
    assert "\x1b[" in printed(select(diamond), terminal=True)


def test_an_unknown_id_names_the_closest(diamond: Catalog) -> None:
    with pytest.raises(
        EntityNotFound, match="there is no entity 'rigt' in the catalog; did you mean 'right'"
    ):
        select(diamond, ["top", "rigt"])


def test_a_chain_of_hundreds_is_drawn_to_its_end() -> None:
    names = [f"e{number:03}" for number in range(490)]
    chain = catalog_of({name: names[number + 1 : number + 2] for number, name in enumerate(names)})
    lines = printed(select(chain)).splitlines()
    assert lines[-2].rstrip().endswith("└── e489  Measurement")
    assert sum("Measurement" in line for line in lines) == 490
    assert mermaid(select(chain)).count(" --> ") == 489 + 490
    assert printed(select(chain, downstream=True)).splitlines()[1].startswith("└── e489")


def test_a_tree_that_is_wider_than_the_terminal_loses_nothing(diamond: Catalog) -> None:
    assert sum("Measurement" in line for line in printed(select(diamond), width=200).splitlines()) == 5


MERMAID_LINE = re.compile(
    r'flowchart LR|    n\d+\["[A-Za-z0-9 ._#;-]+<br/>\w+"\]:::\w+|    n\d+ --> n\d+'
    r"|    classDef \w+ fill:#[0-9a-f]{6},stroke:#[0-9a-f]{6},color:#000000"
)


def test_a_mermaid_flowchart_has_every_entity_and_edge(diamond: Catalog) -> None:
    text = mermaid(select(diamond))
    assert [line for line in text.splitlines() if MERMAID_LINE.fullmatch(line) is None] == []
    names = dict(re.findall(r'(n\d+)\["(\w+)<br/>', text))
    edges = {(names[a], names[b]) for a, b in re.findall(r"(n\d+) --> (n\d+)", text)}
    assert ("base", "left") in edges
    assert ("right", "top") in edges
    assert len(edges) == sum(len(diamond.upstream(entity_id)) for entity_id in diamond.entities)
    assert "classDef Measurement " in text
    assert "classDef Method " in text


def test_an_id_that_means_something_to_mermaid_is_only_a_label() -> None:
    text = mermaid(select(catalog_of({"end": [], "graph": ["end"]})))
    assert '["end<br/>Measurement"]' in text
    assert not re.search(r"^\s+(end|graph)\b", text, re.MULTILINE)


def test_dot_has_every_entity_and_edge_in_quotes(diamond: Catalog) -> None:
    text = dot(select(diamond))
    assert '    "base" -> "left";' in text
    assert '"top" [label="top\\nMeasurement"' in text
    assert text.count("->") == sum(len(diamond.upstream(entity_id)) for entity_id in diamond.entities)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_the_dot(diamond: Catalog) -> None:
    done = subprocess.run(
        ["dot", "-Tsvg"], input=dot(select(diamond)), capture_output=True, text=True, check=True
    )
    assert done.stdout.count('class="node"') == len(diamond.entities)


def test_json_has_entities_and_the_edges_between_them(diamond: Catalog) -> None:
    found = as_json(select(diamond, ["left"]))
    assert [entity["id"] for entity in found["entities"]] == ["m0", "base", "m1", "left"]
    assert {"id": "left", "kind": "Measurement", "name": "The left", "account": "me"} in found["entities"]
    assert {"from": "base", "to": "left"} in found["edges"]
    assert len(found["edges"]) == 3


def test_an_entity_that_stands_alone_is_drawn() -> None:
    module = Module(id="alone", account="me", name="Alone", artifacts=[Artifact(path="pyproject.toml")])
    alone = Catalog([module])
    assert printed(select(alone)).splitlines() == ["alone  Module"]
    assert as_json(select(alone))["edges"] == []
