"""`dyff-dagster new`: templates that say what is still blank, and validate once they are filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dyff_dagster.catalog import Catalog, CatalogError
from dyff_dagster.catalog.blanks import BLANK, find_blanks
from dyff_dagster.catalog.new_manifest import (
    MANIFEST_KINDS,
    NoAccount,
    UnknownManifestKind,
    manifest_kind,
    new_manifest,
)
from dyff_dagster.schema.ids import IdError
from tests.unit.filled_templates import COMPANIONS, fill, leaves, uncommented, write_files

EXPECTED_WARNINGS = ("entities of kind Report", "deprecated", "is deprecated")


def load(directory: Path, manifest: str) -> Catalog:
    write_files(directory)
    (directory / "companions.yaml").write_text(COMPANIONS)
    (directory / "new.yaml").write_text(manifest)
    return Catalog.load(directory)


def unexpected(catalog: Catalog) -> list[str]:
    return [
        str(problem)
        for problem in catalog.warnings
        if problem.path is not None
        and problem.path.name == "new.yaml"
        and not any(words in problem.message for words in EXPECTED_WARNINGS)
    ]


@pytest.mark.parametrize("kind", MANIFEST_KINDS)
def test_a_template_validates_once_its_blanks_are_filled(kind: str, tmp_path: Path) -> None:
    catalog = load(tmp_path, fill(kind, new_manifest(kind)))
    assert "new" in catalog or "new" in catalog.documentation or kind == "Documentation"
    assert unexpected(catalog) == []


def optional_lines() -> Iterator[tuple[str, int | None]]:
    """Every kind with each optional line by its number, and with None: all of them at once."""
    for kind in MANIFEST_KINDS:
        for number in leaves(new_manifest(kind)):
            yield kind, number
        yield kind, None


@pytest.mark.parametrize(("kind", "line"), list(optional_lines()))
def test_an_optional_line_validates_when_its_comment_sign_is_taken_away(
    kind: str, line: int | None, tmp_path: Path
) -> None:
    template = new_manifest(kind)
    text = uncommented(template, None if line is None else [line])
    assert text.count("\n") == template.count("\n")
    assert text != template or not leaves(template)
    assert unexpected(load(tmp_path, fill(kind, text))) == []


@pytest.mark.parametrize("kind", MANIFEST_KINDS)
def test_every_blank_is_a_problem_of_its_own_line(kind: str, tmp_path: Path) -> None:
    template = new_manifest(kind)
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, template)
    said = [problem for problem in caught.value.problems if problem.path and problem.path.name == "new.yaml"]
    lines = template.splitlines()
    blank = {
        number
        for number, line in enumerate(lines, 1)
        if BLANK.search(line) and not line.lstrip().startswith("#")
    }
    assert {problem.line for problem in said} == blank
    assert all(problem.message.startswith("is a blank that is not filled in yet: ") for problem in said)


def test_what_refers_to_a_manifest_with_blanks_is_not_blamed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(new_manifest("InferenceService", "service", "me"))
    (tmp_path / "b.yaml").write_text(
        "kind: InferenceSession\nid: session\naccount: me\ninferenceService: service\n"
    )
    with pytest.raises(CatalogError) as caught:
        Catalog.load(tmp_path)
    assert {problem.path.name for problem in caught.value.problems if problem.path} == {"a.yaml"}


@pytest.mark.parametrize("text", ["<s>", "<|im_end|>", "a <b c> d", "<a href='x'>", "<>", "< a b >", ""])
def test_a_text_that_people_mean_is_no_blank(text: str) -> None:
    assert find_blanks({"name": text}) == []


def test_blanks_are_found_in_keys_and_lists_and_not_in_the_json_of_adapters() -> None:
    document = {
        "schema": {"arrow": {"<name of a field>": "string"}},
        "modules": ["a", "<id of a Module>"],
        "configuration": {"prompt": "<not a blank>"},
    }
    assert find_blanks(document) == [
        (("schema", "arrow", "<name of a field>"), "name of a field"),
        (("modules", 1), "id of a Module"),
    ]


@pytest.mark.parametrize("kind", MANIFEST_KINDS)
def test_every_template_begins_with_what_it_is_and_fits_the_screen(kind: str) -> None:
    text = new_manifest(kind)
    assert re.match(rf"# An? {kind}: ", text)
    assert max(len(line) for line in text.splitlines()) <= 140
    assert yaml.safe_load(text)["kind"] == kind


def test_an_id_and_an_account_are_filled_in_and_quoted_where_yaml_would_misread_them() -> None:
    for entity_id, account in (("capitals", "me"), ("123", "no"), ("1e3", "a: b # c"), ("x", "two words")):
        manifest = yaml.safe_load(new_manifest("Dataset", entity_id, account))
        assert (manifest["id"], manifest["account"]) == (entity_id, account)


def test_an_id_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(IdError, match="'two words' is no possible id"):
        new_manifest("Dataset", "two words")


def test_the_id_of_a_documentation_is_that_of_what_it_is_about() -> None:
    assert yaml.safe_load(new_manifest("Documentation", "capitals"))["entity"] == "capitals"
    with pytest.raises(NoAccount, match="a Documentation has no account"):
        new_manifest("Documentation", account="me")


def test_a_kind_is_known_in_any_case_and_a_mistake_names_the_closest() -> None:
    assert manifest_kind("inferenceSERVICE") == "InferenceService"
    with pytest.raises(UnknownManifestKind, match="did you mean 'Dataset'"):
        new_manifest("datset")
    with pytest.raises(UnknownManifestKind, match="there are Audit, AuditProcedure"):
        new_manifest("xyzzy")
