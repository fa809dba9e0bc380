"""A day with Dagster's UI over a running `dagster dev`: what is started, what fails, what starts by itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.ui.site import DROPPED, Site, site
from tests.ui.support import Visit, keep, needs_chromium

pytestmark = needs_chromium

SECONDS = 180.0
"""Until what a daemon looks at twice a minute must have come to pass, on a slow machine."""

AUDIT = ("rows", "functions", "notebook", "doubled", "judged", "scores", "case")
"""What is computed for the safety case, that one included."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("operating")) as found:
        yield found


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000}, color_scheme="light")
    visit = Visit(context, SECONDS / 2)
    yield visit
    context.close()
    # Of complaints there are some: whoever leaves a page breaks off what it was asking for.
    assert visit.hosts == {"127.0.0.1"}


@pytest.fixture(scope="module")
def audited(running: Site) -> Site:
    """The same, once the safety case and all that it rests on are there."""
    kinds = ("datasets", "modules", "modules", "evaluations", "measurements", "measurements", "safetycases")
    running.server.launch([list(key) for key in zip(kinds, AUDIT, strict=True)])
    return running


def graph(visit: Visit, running: Site, selection: str) -> Page:
    """The graph of a selection, typed into its field as a person does."""
    page = visit.page(running.url("asset-groups"))
    expect(page.get_by_text("second_team").first).to_be_visible()
    page.locator(".CodeMirror").first.click()
    page.keyboard.type(selection)
    expect(page.locator(".CodeMirror-line").first).to_have_text(selection)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(re.escape(quote(selection, safe=""))))
    return page


def node(page: Page, entity_id: str) -> Locator:
    """A node of the graph."""
    return page.locator("svg foreignObject").filter(has=page.get_by_text(entity_id, exact=True))


def materialize(page: Page) -> None:
    """Start what is selected."""
    page.get_by_role("button", name=re.compile("^.*Materialize")).first.click()
    expect(page.get_by_text("Launched run").first).to_be_visible()


def until_seen(page: Page, url: str, text: str) -> None:
    """Open a page again and again until it says something."""
    end = time.monotonic() + SECONDS
    while True:
        page.goto(url)
        found = page.get_by_text(text).first
        try:
            expect(found).to_be_visible(timeout=10_000)
        except AssertionError:
            assert time.monotonic() < end, f"{url} does not come to say {text!r}"
        else:
            return


def entry(page: Page, key: str) -> Locator:
    """The line of a key in the metadata of an asset's page."""
    return page.get_by_role("row").filter(has=page.get_by_text(key, exact=True))


def test_the_graph_shows_teams_and_within_them_kinds(visit: Visit, running: Site) -> None:
    page = visit.page(running.url("asset-groups"))
    for group in ("acme", "second_team"):
        expect(page.locator("svg").get_by_text(group, exact=True)).to_be_visible()
    keep(page, "graph of groups")
    page = graph(visit, running, 'key:"evaluations/garbled"+')
    for entity_id, kind in (("garbled", "evaluation"), ("garbled-judged", "measurement")):
        expect(node(page, entity_id).get_by_text(kind, exact=True)).to_be_visible()
        expect(node(page, entity_id).get_by_text("Parquet", exact=True)).to_be_visible()
    keep(page, "graph of a selection")


def test_a_selection_is_started_and_watched_to_its_end(visit: Visit, running: Site) -> None:
    page = graph(visit, running, '+key:"safetycases/case"')
    materialize(page)
    for entity_id in AUDIT:
        # One threshold is missed, and only that: what rests on it is there all the same.
        state = "check_failed" if entity_id == "scores" else "run_success"
        listed = page.get_by_role("button", name=re.compile(rf" {entity_id}$"))
        expect(listed.get_by_label(state)).to_be_visible(timeout=1000 * SECONDS)
    keep(page, "graph materialized")
    page.goto(running.url("assets/safetycases/case"))
    expect(entry(page, "dyff/conclusion")).to_contain_text("It doubles.")
    expect(entry(page, "score/accuracy")).to_contain_text("1")


def test_a_failing_evaluation_says_why_and_what_is_behind_it_says_which(visit: Visit, running: Site) -> None:
    page = graph(visit, running, '+key:"measurements/garbled-judged"')
    materialize(page)
    failed = running.url("assets/evaluations/garbled")
    until_seen(page, failed, "the service's reply is no JSON")
    expect(page.get_by_text("Failed in").first).to_be_visible()
    expect(entry(page, "dyff/reason")).to_contain_text("Incomplete")
    keep(page, "a failed evaluation")
    until_seen(page, running.url("assets/measurements/garbled-judged"), "FailedDependency")
    keep(page, "behind a failed evaluation")
    entry(page, "dyff/cause").get_by_role("link").click()
    expect(page).to_have_url(re.compile(re.escape(failed)))


def test_the_checks_say_what_was_demanded_and_what_was_found(visit: Visit, audited: Site) -> None:
    page = visit.page(audited.url("assets/measurements/scores?view=checks"))
    page.get_by_text("Failed", exact=True).first.click()
    expect(page.get_by_text("The author demands lower(accuracy) >= 0.999.")).to_be_visible()
    for key in ("threshold", "value", "low", "high", "n"):
        expect(page.get_by_role("cell", name=key, exact=True).first).to_be_visible()
    keep(page, "checks")
    page.get_by_text("Succeeded", exact=True).first.click()
    expect(page.get_by_text("The author demands accuracy >= 0.9.")).to_be_visible()
    expect(page.get_by_text("Passed", exact=True).first).to_be_visible()


@pytest.mark.parametrize(
    ("asset", "key", "heading", "shown"),
    [
        ("safetycases/case", "dyff/page", "Does it double?", "It doubles."),
        ("safetycases/case", "dyff/notebook", "Does it double?", "context = AnalysisContext()"),
        ("measurements/judged", "dyff/rows_page", "Judged", "Rows 1 to 20 of 20"),
    ],
)
def test_page_notebook_and_rows_are_a_click_away(
    visit: Visit, audited: Site, asset: str, key: str, heading: str, shown: str
) -> None:
    page = visit.page(audited.url(f"assets/{asset}"))
    with visit.context.expect_page() as opened:
        entry(page, key).get_by_role("link").first.click()
    expect(opened.value.get_by_role("heading", level=1, name=heading)).to_be_visible()
    expect(opened.value.get_by_text(shown).first).to_be_visible()
    keep(opened.value, key)


def test_one_clicks_from_an_evaluation_to_its_service(visit: Visit, running: Site) -> None:
    page = visit.page(running.url("assets/evaluations/doubled"))
    page.get_by_role("link", name="doubler", exact=True).first.click()
    expect(page).to_have_url(re.compile("/assets/inferenceservices/doubler"))
    expect(page.get_by_text("Open audit.yaml:")).to_be_visible()
    expect(page.get_by_role("cell", name="standalone")).to_be_visible()
    keep(page, "a service")


def test_what_starts_by_itself_has_started_and_is_turned_off_with_a_click(
    visit: Visit, running: Site
) -> None:
    page = visit.page(running.url())
    until_seen(page, running.url("assets/modules/by-itself"), "dyff/data_version")
    expect(page.get_by_text("eager", exact=True).first).to_be_visible()
    page.goto(running.url("automation"))
    named = page.get_by_role("link", name=re.compile("dyff_automation"))
    switch = named.locator("xpath=following::input[@type='checkbox'][1]")
    expect(switch).to_be_checked()
    keep(page, "automation")
    for on in (False, True):
        switch.dispatch_event("click")
        expect(switch).to_be_checked(checked=on)


def test_a_manifest_that_is_dropped_into_the_folder_appears(visit: Visit, running: Site) -> None:
    asset = running.url("assets/modules/dropped-in")
    page = visit.page(running.url("asset-groups"))
    (running.catalog / "dropped.yaml").write_text(DROPPED)
    until_seen(page, asset, "Dropped into the folder while Dagster runs")
    expect(page.get_by_text("second_team").first).to_be_visible()
    keep(page, "dropped in")
