"""What stands above a page whose notebook names no title."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import dagster as dg
import nbformat
import pytest

from dyff_dagster import Catalog, DyffStorage, build_definitions
from dyff_dagster.schema.platform import Documentation, Measurement
from dyff_dagster.store import Commit
from tests.integration import small_catalog, small_safety_case
from tests.integration.analysis_support import BY_NOTEBOOK, INSTANCE, Bench

HELLO = "from dyff_dagster import AnalysisContext\nctx = AnalysisContext()\n"
DOCUMENTATION = Documentation(
    title="Is it <really> safe?", summary="Four rows, asked twice.\n", fullPage="# More"
)


def head(commit: Commit) -> tuple[str, str]:
    """The page's title, and what is below it."""
    page = Path(commit.path / "index.html").read_text("utf-8")
    titles = re.findall(r"<h1[^>]*>(.*?)</h1>", page)
    below = re.findall(r'class="dyff-subtitle">(.*?)</p>', page)
    assert len(titles) == 1 and len(below) <= 1
    return titles[0], "".join(below)


@pytest.mark.parametrize(
    ("call", "documentation", "shown"),
    [
        ("ctx.title()", DOCUMENTATION, ("Is it &lt;really&gt; safe?", "Four rows, asked twice.")),
        ("ctx.title()", None, ("Is it safe?", "")),
        ("ctx.title()", Documentation(summary="Only this."), ("Is it safe?", "Only this.")),
        ("ctx.title(subtitle='Mine')", DOCUMENTATION, ("Is it &lt;really&gt; safe?", "Mine")),
        ("ctx.title('Mine')", DOCUMENTATION, ("Mine", "")),
        ("pass", DOCUMENTATION, ("Is it &lt;really&gt; safe?", "")),
    ],
)
def test_a_page_has_the_title_of_its_documentation_where_its_notebook_says_nothing_else(
    tmp_path: Path, call: str, documentation: Documentation | None, shown: tuple[str, str]
) -> None:
    bench = Bench(tmp_path)
    bench.notebook(HELLO + call)
    assert head(bench.run(bench.safety_case(), documentation=documentation)) == shown


def test_the_notebook_of_a_measurement_has_it_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook(
        HELLO + "ctx.title()\nimport pyarrow as pa\nanswers = ctx.inputs('answers').to_table()\n"
        "keys = answers.select(['_index_', '_replication_'])\n"
        "rows = keys.append_column('correct', pa.array([True] * len(keys)))\n"
        "ctx.write(rows.cast(ctx.analysis.method.output.measurement.schema_.decode()))"
    )
    measurement: Measurement = bench.measurement(INSTANCE, by=BY_NOTEBOOK)
    commit = bench.run(measurement, documentation=DOCUMENTATION)
    assert commit.facts.notebook is not None
    notebook = nbformat.read(commit.path / commit.facts.notebook, as_version=4)
    assert "Is it &lt;really&gt; safe?" in str(notebook.cells)


def test_another_documentation_makes_another_page_and_no_other_measurement(tmp_path: Path) -> None:
    directory = small_safety_case.add(small_catalog.write(tmp_path / "catalog"))
    notebook = directory / "notebook" / "case.ipynb"
    document = nbformat.read(notebook, as_version=4)
    document.cells.insert(0, nbformat.v4.new_code_cell(HELLO + "ctx.title()"))
    nbformat.write(document, notebook)
    storage = DyffStorage(root=str(tmp_path / "store"))
    documents = directory / "documentation.yaml"

    def run(title: str) -> dict[str, bool]:
        documents.write_text(
            "".join(
                f"---\nkind: Documentation\nentity: {name}\ntitle: {title}\n" for name in ("case", "scores")
            )
        )
        defs = build_definitions(Catalog.load(directory), storage=storage)
        job = defs.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=instance)
        return {
            event.asset_key.path[-1]: bool(event.materialization.metadata["dyff/reused"].value)
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        }

    with dg.instance_for_test() as instance:
        run("The first title")
        assert all(run("The first title").values())
        reused = run("The second title")
    assert not reused.pop("case")
    assert all(reused.values())
    commit = storage.store().current("case")
    assert commit is not None
    assert head(commit)[0] == "The second title"


def test_what_dyff_audits_context_is_told_makes_another_page_where_it_can_ask(tmp_path: Path) -> None:
    directory = small_safety_case.add(small_catalog.write(tmp_path / "catalog"))
    notebook = directory / "notebook" / "case.ipynb"
    cell = (
        "# dyff.audit: it reads what that one's context does\n"
        "import base64, json, os, yaml\n"
        "spec = yaml.safe_load(open(os.environ['DYFF_AUDIT_ANALYSIS_CONFIG_FILE']))['spec']\n"
        "told = {item['key']: json.loads(base64.b64decode(item['value'])) for item in spec.get('data', [])}\n"
        "print({key: about['documentation'] for key, about in told.items()})"
    )
    plain = notebook.read_bytes()
    storage = DyffStorage(root=str(tmp_path / "store"))

    def run(title: str) -> dict[str, bool]:
        (directory / "documentation.yaml").write_text(
            f"kind: Documentation\nentity: doubler\ntitle: {title}\nsummary: It doubles.\n"
            f"---\nkind: Documentation\nentity: argue\ntitle: Of {title}\n"
        )
        defs = build_definitions(Catalog.load(directory), storage=storage)
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance)
        return {
            event.asset_key.path[-1]: bool(event.materialization.metadata["dyff/reused"].value)
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        }

    with dg.instance_for_test() as instance:
        run("first")
        assert all(run("second").values())  # a notebook that cannot ask depends on none of it
        document = nbformat.reads(plain.decode(), as_version=4)
        document.cells.insert(0, nbformat.v4.new_code_cell(cell, id="told"))
        nbformat.write(document, notebook)
        run("third")
        reused = run("fourth")
        assert [name for name, taken in reused.items() if not taken] == ["case"]
        assert all(run("fourth").values())
    commit = storage.store().current("case")
    assert commit is not None
    page = unescape(Path(commit.path / "index.html").read_text("utf-8"))
    assert "'summary': 'It doubles.', 'title': 'fourth'" in page and "'title': 'Of fourth'" in page
