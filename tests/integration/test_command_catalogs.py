"""`graph`, `show`, `new` and `schema`, as a person types them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from click import unstyle
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from dyff_dagster.catalog import Catalog
from dyff_dagster.cli import main
from dyff_dagster.schema.canonical import spec_digest
from tests.integration import small_catalog

SECRET = "s3cret-of-the-environment"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return small_catalog.write(tmp_path / "catalog")


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One hosted service, documented, with a header from the environment and a warning."""
    monkeypatch.setenv("MY_API_KEY", SECRET)
    path = tmp_path / "hosted.yaml"
    path.write_text(
        "kind: Documentation\n"
        "entity: hosted\n"
        "title: A title\n"
        "---\n"
        "kind: InferenceService\n"
        "id: hosted\n"
        "account: me\n"
        "name: Elsewhere\n"
        "status: Ready\n"
        "annotations:\n"
        '  dyff-dagster/headers: \'{"Authorization": "Bearer ${MY_API_KEY}"}\'\n'
        "interface: {endpoint: https://models.example/generate, outputSchema: {arrow: {answer: string!}}}\n"
    )
    return path


def test_graph_draws_a_tree_of_the_whole_catalog(catalog: Path) -> None:
    done = run("graph", "--catalog", catalog)
    assert done.exit_code == 0, done.output
    for entity_id, entity in Catalog.load(catalog).entities.items():
        assert f"{entity_id}  {entity.kind}" in done.output
    assert "\x1b[" not in done.output


def test_graph_draws_the_same_edges_in_every_format(catalog: Path) -> None:
    found = json.loads(run("graph", "--catalog", catalog, "--format", "json").output)
    loaded = Catalog.load(catalog)
    edges = {(edge["from"], edge["to"]) for edge in found["edges"]}
    assert edges == {(source, target) for target in loaded.entities for source in loaded.upstream(target)}
    assert run("graph", "--catalog", catalog, "--format", "mermaid").output.count(" --> ") == len(edges)
    assert run("graph", "--catalog", catalog, "--format", "dot").output.count(" -> ") == len(edges)


def test_graph_of_an_entity_leaves_out_what_it_has_nothing_to_do_with(catalog: Path) -> None:
    found = json.loads(run("graph", "rows", "--downstream", "--catalog", catalog, "--format", "json").output)
    drawn = {entity["id"] for entity in found["entities"]}
    loaded = Catalog.load(catalog)
    assert {"rows", *loaded.downstream("rows")} <= drawn
    assert not drawn & set(loaded.upstream("rows"))


@pytest.mark.parametrize("verb", ["graph", "show"])
def test_an_unknown_id_is_told_in_one_sentence_with_the_closest(verb: str, catalog: Path) -> None:
    done = run(verb, "rowz", "--catalog", catalog)
    assert done.exit_code == 1
    assert done.output == "there is no entity 'rowz' in the catalog; did you mean 'rows'?\n"


def test_show_says_where_an_entity_is_defined_and_what_it_has_to_do_with_others(catalog: Path) -> None:
    loaded = Catalog.load(catalog)
    entity_id = next(
        entity_id for entity_id, entity in loaded.entities.items() if entity.kind == "Evaluation"
    )
    done = run("show", entity_id, "--catalog", catalog)
    assert done.exit_code == 0, done.output
    facts, _, wire = done.output.partition("\n\n")
    said = {line[:13].strip(): line[13:] for line in facts.splitlines()}
    assert said["defined"] == str(loaded.origin(entity_id))
    assert said["kind"] == "Evaluation"
    for other in loaded.upstream(entity_id):
        assert f"{other} ({loaded.get(other).kind})" in said["made from"]
    for other in loaded.downstream(entity_id):
        assert f"{other} ({loaded.get(other).kind})" in said["makes"]
    assert said["spec digest"] == spec_digest(loaded.get(entity_id))
    assert yaml.safe_load(wire) == loaded.get(entity_id).model_dump(mode="json")


def test_show_as_json_has_all_of_it(hosted: Path) -> None:
    found = json.loads(run("show", "hosted", "--catalog", hosted, "--json").output)
    assert (found["kind"], found["name"], found["account"]) == ("InferenceService", "Elsewhere", "me")
    assert (found["path"], found["line"]) == (str(hosted), 5)
    assert found["documentation"] == {"title": "A title", "summary": None, "fullPage": None}
    assert [warning["field"] for warning in found["warnings"]] == ["status"]
    assert (found["upstream"], found["downstream"]) == ([], [])
    entity = Catalog.load(hosted).get("hosted")
    assert found["entity"] == entity.model_dump(mode="json")
    assert found["spec_digest"] == spec_digest(entity)


def terminal(columns: int, *arguments: str | Path) -> list[str]:
    """The lines that a terminal of so many columns gets, without colours."""
    environment = {"FORCE_COLOR": "1", "COLUMNS": str(columns), "NO_COLOR": None}
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)
    assert done.exit_code == 0, done.output
    assert "\x1b[" in done.output
    return unstyle(done.output).splitlines()


def test_show_goes_on_below_where_a_value_began_on_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    name = " ".join(["many words"] * 12)
    path.write_text(f"kind: AuditProcedure\nid: p\naccount: me\nname: {name}\nrequirements: []\n")
    lines = terminal(60, "show", "p", "--catalog", path)
    begins = next(number for number, line in enumerate(lines) if line.startswith("name "))
    ends = next(number for number, line in enumerate(lines) if line.startswith("account "))
    assert ends - begins > 1
    assert " ".join(line[13:] for line in lines[begins:ends]) == name
    assert all(line.startswith(" " * 13) and len(line) <= 60 for line in lines[begins + 1 : ends])
    wire = lines[lines.index("") + 1 :]
    assert max(len(line.rstrip()) for line in wire) <= 60
    assert f"name         {name}\n" in run("show", "p", "--catalog", path).output


def test_show_keeps_related_entities_with_their_kinds_on_a_terminal(catalog: Path) -> None:
    for entity_id in Catalog.load(catalog).entities:
        for line in terminal(40, "show", entity_id, "--catalog", catalog):
            assert not line.strip().startswith("(")


def test_validate_marks_the_place_on_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("kind: AuditProcedure\nid: p\naccount: me\nrequirements: []\n")
    arguments = ["validate", str(path)]
    coloured = CliRunner().invoke(main, arguments, color=True).output
    assert coloured.startswith(f"\x1b[1m{path}:1: name: \x1b[0mis missing\n")
    assert CliRunner().invoke(main, arguments).output == unstyle(coloured)


def test_show_has_what_is_held_for_the_newer_schema(hosted: Path) -> None:
    text = hosted.read_text()
    with_scores = text.replace(
        "kind: InferenceService\n", "kind: InferenceService\nmetadata: {documentation: {title: T}}\n"
    )
    assert with_scores != text
    hosted.write_text(with_scores)
    shown = run("show", "hosted", "--catalog", hosted)
    _, _, wire = shown.output.partition("\n\n")
    assert yaml.safe_load(wire)["metadata"] == {"documentation": {"title": "T"}}
    found = json.loads(run("show", "hosted", "--catalog", hosted, "--json").output)
    assert found["held"] == {"metadata": {"documentation": {"title": "T"}}}
    assert "metadata" not in found["entity"]


def test_show_takes_nothing_from_the_environment(hosted: Path) -> None:
    for arguments in ((), ("--json",)):
        done = run("show", "hosted", "--catalog", hosted, *arguments)
        assert "${MY_API_KEY}" in done.output
        assert SECRET not in done.output


def test_show_leaves_control_characters_to_nobodys_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        'kind: AuditProcedure\nid: p\naccount: me\nname: "red \\e[31m line\\nnext"\nrequirements: []\n'
    )
    done = run("show", "p", "--catalog", path)
    assert "\x1b" not in done.output
    assert "name         red [31m line next\n" in done.output


def test_new_prints_what_validate_says_is_not_filled_in_yet(tmp_path: Path) -> None:
    out = tmp_path / "new.yaml"
    done = run("new", "moDULE", "--id", "code", "--account", "me", "--out", out)
    assert done.exit_code == 0, done.output
    assert out.read_text() == run("new", "Module", "--id", "code", "--account", "me").output
    refused = run("validate", out)
    assert refused.exit_code == 1
    assert f"{out}:6: name: is a blank that is not filled in yet: a name for people" in refused.output
    (tmp_path / "a.py").touch()
    out.write_text(out.read_text().replace("<a name for people>", "x").replace("<path of a file>", "a.py"))
    assert run("validate", out).exit_code == 0


def test_new_never_writes_over_a_file(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("mine")
    done = run("new", "dataset", "--out", out)
    assert done.exit_code == 1
    assert done.output == f"{out}: File exists; name another place\n"
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evalution",), "there are no manifests of kind 'evalution'; did you mean 'Evaluation'?"),
        (("dataset", "--id", "two words"), "'two words' is no possible id: write 1 to 128"),
        (("documentation", "--account", "me"), "a Documentation has no account"),
        (("dataset", "--out", "nowhere/a.yaml"), "No such file or directory; name one that is there"),
    ],
)
def test_new_says_in_one_sentence_what_is_wrong(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("new", *arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert len(done.output.splitlines()) == 1


def test_schema_prints_and_writes_what_manifests_are_valid_against(catalog: Path, tmp_path: Path) -> None:
    out = tmp_path / "manifest.schema.json"
    assert run("schema", "--out", out).output == f"JSON Schema: {out}\n"
    assert out.read_text() == run("schema").output
    validator = Draft202012Validator(json.loads(out.read_text()))
    for path in catalog.rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            assert [error.message for error in validator.iter_errors(document)] == []
    for entity in Catalog.load(catalog).entities.values():
        assert validator.is_valid(entity.model_dump(mode="json"))


def test_a_schema_that_lies_within_a_catalog_is_no_manifest(catalog: Path) -> None:
    before = run("validate", catalog).output
    run("schema", "--out", catalog / "manifest.schema.json")
    assert run("validate", catalog).output == before


def test_graph_show_new_and_schema_write_nothing_unasked(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(catalog)
    before = sorted(catalog.rglob("*"))
    for arguments in (("graph",), ("show", "rows"), ("new", "Model"), ("schema",)):
        more = ("--catalog", ".") if arguments[0] in ("graph", "show") else ()
        assert run(*arguments, *more).exit_code == 0
    assert sorted(catalog.rglob("*")) == before


MEMBERS = """\
kind: Family
id: sets
account: me
memberKind: Dataset
members: {held-out: rows}
---
kind: Family
id: newer
account: me
memberKind: Dataset
members: {newest: sets@held-out}
"""


@pytest.fixture
def members(catalog: Path) -> Path:
    """The small catalog, with names for its data set."""
    (catalog / "members.yaml").write_text(MEMBERS)
    return catalog


@pytest.mark.parametrize("name", ["sets@held-out", "newer@newest"])
@pytest.mark.parametrize("verb", ["show", "graph", "export"])
def test_a_member_of_a_family_may_stand_where_an_id_may(
    verb: str, name: str, members: Path, tmp_path: Path
) -> None:
    options = ["--catalog", members, *(["--storage", tmp_path / "store"] if verb == "export" else [])]
    done = run(verb, name, *options)
    assert done.exit_code == 0, done.output
    assert strip_now(done.output) == strip_now(run(verb, "rows", *options).output)


def strip_now(text: str) -> str:
    """Without the moment of an export."""
    return re.sub(r'"creationTime": "[^"]*"', "", text)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sets@heldout", "the Family 'sets' has no member 'heldout'; did you mean 'held-out'?"),
        ("set@held-out", "there is no Family 'set' in the catalog; did you mean 'sets'?"),
        ("rows@held-out", "'rows' is a Dataset and no Family; write its id without '@'"),
        ("sets@", "'sets@' is neither an id nor FAMILY@MEMBER; write it as in wdbc@held-out"),
    ],
)
@pytest.mark.parametrize("verb", ["show", "graph", "export", "bundle"])
def test_what_is_wrong_with_a_member_is_told_in_one_sentence(
    verb: str, name: str, message: str, members: Path
) -> None:
    done = run(verb, name, "--catalog", members)
    assert (done.exit_code, done.output) == (1, message + "\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "a", "--catalog", ""),
        ("graph", "--catalog", ""),
        ("status", "--catalog", ""),
        ("export", "--catalog", ""),
        ("validate", "--catalog", ""),
        ("validate", ""),
    ],
)
def test_a_catalog_without_a_name_is_not_the_working_directory(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text("kind: AuditProcedure\nid: a\naccount: me\nname: A\nrequirements: []\n")
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.output.splitlines()[0] == (
        "the name of the catalog is empty; name a directory or a file of manifests, or '.' for this directory"
    )
