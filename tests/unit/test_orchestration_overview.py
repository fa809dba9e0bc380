"""What the page of an asset says of its specification, and where it leads."""

from __future__ import annotations

import warnings
from pathlib import Path

import dagster as dg
import pytest

from dyff_dagster import Catalog, DyffTranslator, DyffTranslatorData
from dyff_dagster.orchestration.overview import Line, Reference, as_markdown, overview, without_credentials
from dyff_dagster.orchestration.selection import is_declared_only

EXAMPLES = Path(__file__).parents[2] / "examples"
UI = "https://dagster.example/ui"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load(EXAMPLES / "breast_cancer")


def spec_of(catalog: Catalog, entity_id: str, webserver: str | None = None) -> dg.AssetSpec:
    data = DyffTranslatorData(entity=catalog.get(entity_id), catalog=catalog, webserver_url=webserver)
    return DyffTranslator().get_asset_spec(data)


def description_of(catalog: Catalog, entity_id: str, webserver: str | None = None) -> str:
    return spec_of(catalog, entity_id, webserver).description or ""


def manifests(directory: Path, text: str) -> Catalog:
    (directory / "x.csv").write_text("a\n1\n")
    (directory / "catalog.yaml").write_text(text)
    return Catalog.load(directory)


def test_from_a_safety_case_one_clicks_through_to_where_its_data_came_from(catalog: Catalog) -> None:
    way = [
        ("wdbc-safety-case", "evaluations/wdbc-logreg-eval"),
        ("wdbc-logreg-eval", "inferenceservices/wdbc-logreg-service"),
        ("wdbc-logreg-service", "models/wdbc-logreg"),
        ("wdbc-logreg-eval", "datasets/wdbc-held-out"),
        ("wdbc-held-out", "datasources/wdbc-source"),
    ]
    for entity_id, to in way:
        name = to.rpartition("/")[2]
        assert f"[{name}]({UI}/assets/{to})" in description_of(catalog, entity_id, UI)
        # Also without an address of the web server: Dagster makes links of its own of keys in metadata.
        assert f"`{to}`" in description_of(catalog, entity_id)
        assert (
            dg.MetadataValue.asset(dg.AssetKey(to.split("/")))
            in spec_of(catalog, entity_id).metadata.values()
        )


def test_every_kind_says_something_of_itself(catalog: Catalog) -> None:
    for entity in catalog.entities.values():
        assert overview(entity, catalog), entity.kind
        assert "|---|---|" in description_of(catalog, entity.id)


def test_the_first_line_of_a_description_is_text(catalog: Catalog) -> None:
    for entity_id in catalog.entities:
        first = description_of(catalog, entity_id).splitlines()[0]
        assert first and not first.startswith(("|", "[", "#"))


def test_the_table_stands_between_what_a_documentation_says_in_short_and_at_length(tmp_path: Path) -> None:
    catalog = manifests(
        tmp_path,
        "kind: DataSource\nid: s\naccount: a\nname: S\nsourceKind: upload\nsource: x.csv\n---\n"
        "kind: Documentation\nentity: s\ntitle: The title\nsummary: A *summary*\nfullPage: '# All of it'\n",
    )
    parts = ["The title", "A *summary*", "x.csv", "# All of it"]
    places = [description_of(catalog, "s").index(part) for part in parts]
    assert places == sorted(places)


def test_a_manifests_line_is_a_code_reference(catalog: Catalog) -> None:
    reference = spec_of(catalog, "wdbc-accuracy").metadata["dagster/code_references"].code_references[0]
    assert isinstance(reference, dg.LocalFileCodeReference)
    lines = Path(reference.file_path).read_text().splitlines()
    assert reference.line_number is not None
    assert lines[reference.line_number - 1 : reference.line_number + 1] == [
        "kind: Measurement",
        "id: wdbc-accuracy",
    ]


def test_loading_warns_of_nothing(catalog: Catalog) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec_of(catalog, "wdbc-accuracy")


def test_what_was_made_in_python_has_no_code_reference(catalog: Catalog) -> None:
    made = Catalog([catalog.get("wdbc-source")], base=EXAMPLES / "breast_cancer")
    assert "dagster/code_references" not in spec_of(made, "wdbc-source").metadata


def test_no_author_makes_markdown_of_a_value(tmp_path: Path) -> None:
    evil = "![x](http://elsewhere.example/y.png) | <b> [a](javascript:0) `"
    table = as_markdown([Line(evil, (evil,))], {}, UI)
    assert "![x]" not in table and "](" not in table.replace("\\]\\(", "")
    (row,) = table.splitlines()[2:]
    assert row.count("|") - row.count("\\|") == 3


def test_an_id_that_the_catalog_does_not_have_is_no_link() -> None:
    assert as_markdown([Line("model", (Reference("gone"),))], {}, UI).endswith("| model | `gone` |")


def test_long_lists_are_cut() -> None:
    table = as_markdown([Line("columns", tuple(f"c{n}" for n in range(500)))], {}, None)
    assert "c11, and 488 more" in table and len(table) < 200


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hunter2@h.example:8443/v1?key=hunter2#hunter2", "https://h.example:8443/v1"),
        ("https://h.example/v1/chat", "https://h.example/v1/chat"),
        ("v1/chat/completions", "v1/chat/completions"),
        ("http://[hunter2", "http://"),
    ],
)
def test_credentials_in_a_url_stay_out(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_every_entity_that_is_named_is_in_the_table(catalog: Catalog) -> None:
    for entity in catalog.entities.values():
        named = {
            value.entity_id
            for line in overview(entity, catalog)
            for value in line.values
            if isinstance(value, Reference)
        }
        # What a declared entity stands in front of is reached through it.
        assert set(entity.dependencies()) <= named or is_declared_only(entity)
