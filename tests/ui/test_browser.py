"""What a person sees: Dagster's pages of the example audit, and ours that they link to, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from dyff_dagster import Catalog
from dyff_dagster.orchestration.selection import is_declared_only
from tests import servers
from tests.conftest import MaterializedExample
from tests.ui.support import Visit, needs_chromium

pytestmark = needs_chromium


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    visit = Visit(context)
    yield visit
    context.close()
    assert visit.hosts == {"127.0.0.1"}
    assert visit.complaints == []


@pytest.fixture
def page_url(materialized_example: MaterializedExample) -> str:
    return f"{materialized_example.pages_url}/wdbc-safety-case/"


def undecoded_images(page: Page) -> list[str]:
    """Beginnings of the sources of images that a browser could not decode."""
    broken: list[str] = page.evaluate(
        "[...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.src.slice(0, 40))"
    )
    return broken


def test_the_graph_shows_every_entity_and_which_of_them_are_there(
    visit: Visit, example_webserver: servers.Webserver
) -> None:
    catalog = Catalog.load(servers.EXAMPLE)
    page = visit.page(f"{example_webserver.url}/asset-groups")
    for entity_id in catalog.entities:
        listed = page.get_by_role("button", name=re.compile(rf" {re.escape(entity_id)}$"))
        expect(listed).to_be_visible()
    computed = [e for e in catalog.entities.values() if not is_declared_only(e)]
    expect(page.get_by_role("button").get_by_label("run_success")).to_have_count(len(computed))
    expect(page.get_by_text(f"Materialize all ({len(computed)})")).to_be_visible()


def test_the_safety_cases_asset_shows_scores_and_leads_to_its_page(
    visit: Visit, example_webserver: servers.Webserver, materialized_example: MaterializedExample
) -> None:
    page = visit.page(f"{example_webserver.url}/assets/safetycases/wdbc-safety-case")
    expect(page.get_by_text("Does it find the cancers?").first).to_be_visible()
    expect(page.get_by_text("score/sensitivity", exact=True)).to_be_visible()
    expect(page.get_by_text("0.9154929577464789")).to_be_visible()
    expect(page.get_by_text("Both thresholds that were fixed beforehand are met")).to_be_visible()

    commit = materialized_example.store.current("wdbc-safety-case")
    assert commit is not None
    href = f"{materialized_example.pages_url}/wdbc-safety-case/{commit.data_version[:16]}/"
    with visit.context.expect_page() as opened:
        page.locator(f'a[href="{href}"]').first.click()
    expect(opened.value.get_by_role("heading", level=1, name="Does it find the cancers?")).to_be_visible()
    assert opened.value.url == href


def test_the_checks_of_a_safety_case_are_seen_with_their_numbers(
    visit: Visit, example_webserver: servers.Webserver
) -> None:
    page = visit.page(f"{example_webserver.url}/assets/safetycases/wdbc-safety-case?view=checks")
    expect(page.get_by_text("The author demands lower(auc) >= 0.95.")).to_be_visible()
    expect(page.get_by_text("Passed", exact=True).first).to_be_visible()


def test_a_safety_cases_page_is_whole(visit: Visit, page_url: str) -> None:
    page = visit.page(page_url)
    expect(page).to_have_title("Does it find the cancers?")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_text("Both thresholds that were fixed beforehand are met").first).to_be_visible()
    expect(page.get_by_text("wdbc-logreg-eval").first).to_be_visible()
    assert page.locator("img").count() >= 4
    assert undecoded_images(page) == []
    # On a wide window nothing is cut off or has to be pushed sideways.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_an_executed_notebooks_page_shows_code_and_figures(visit: Visit, page_url: str) -> None:
    page = visit.page(page_url)
    page.goto(f"{page.url}notebook")
    expect(page.get_by_text("executed notebook").first).to_be_visible()
    expect(page.get_by_text("from dyff_dagster import AnalysisContext").first).to_be_visible()
    assert page.locator("img").count() >= 4
    assert undecoded_images(page) == []


def test_the_list_of_pages_leads_to_each(visit: Visit, materialized_example: MaterializedExample) -> None:
    page = visit.page(materialized_example.pages_url)
    page.get_by_role("link", name="Safety case for a breast cancer classifier").click()
    expect(page.get_by_role("heading", level=1, name="Does it find the cancers?")).to_be_visible()


PAGES = ("wdbc-safety-case", "wdbc-comparison", "wdbc-audit")


@pytest.fixture(params=PAGES)
def published(request: pytest.FixtureRequest, materialized_example: MaterializedExample) -> str:
    return f"{materialized_example.pages_url}/{request.param}/"


def test_a_page_can_be_printed(visit: Visit, published: str) -> None:
    page = visit.page(published)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 794, "height": 1123})  # A4 at 96 dots an inch
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert undecoded_images(page) == []
    printed = page.pdf(format="A4", prefer_css_page_size=True)
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type/Page\n") >= 2


def test_what_is_folded_on_the_screen_is_unfolded_on_paper(visit: Visit, page_url: str) -> None:
    page = visit.page(page_url)
    folded = page.locator("details > div").first
    expect(folded).not_to_be_visible()
    page.emulate_media(media="print")
    expect(folded).to_be_visible()
    expect(folded).to_contain_text("worst_fractal_dimension")
    # Its beginning is not printed a second time.
    expect(page.locator("details > summary").first).not_to_be_visible()


def test_a_dark_screens_colours_do_not_reach_the_paper(browser: Browser, page_url: str) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(page_url)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(20, 23, 26)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    context.close()


@pytest.mark.parametrize("width", [390, 320])  # a telephone; 400 % on a wide screen (WCAG 2.2, 1.4.10)
def test_a_narrow_window_shows_a_page_without_pushing_it_sideways(
    visit: Visit, published: str, width: int
) -> None:
    page = visit.page(published)
    page.set_viewport_size({"width": width, "height": 844})
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # What is wider has its own bar, and the keyboard reaches it.
    unreached = page.evaluate(
        """[...document.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1
           && ["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.tabIndex < 0)
           .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert unreached == []


def test_a_page_needs_no_scripts(browser: Browser, published: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(published)
    expect(page.get_by_role("heading", level=2, name="Summary")).to_be_visible()
    if page.locator("details").count():
        page.locator("details > summary").first.click()
        expect(page.locator("details > div").first).to_be_visible()
    context.close()


def test_a_page_is_the_same_from_a_file(
    browser: Browser, materialized_example: MaterializedExample, published: str
) -> None:
    file = materialized_example.storage / published.rstrip("/").rpartition("/")[2] / "index.html"
    seen = []
    for url in (published, file.as_uri()):
        context = browser.new_context(offline=url.startswith("file:"))
        page = context.new_page()
        page.goto(url)
        seen.append(page.screenshot(full_page=True))
        context.close()
    assert seen[0] == seen[1]


def test_intervals_are_seen_where_their_numbers_are(visit: Visit, published: str) -> None:
    page = visit.page(published)
    bars = page.locator("svg.dyff-bar")
    assert bars.count() >= 3
    for bar in bars.all():
        axis, interval = bar.locator(".dyff-axis").bounding_box(), bar.locator(".dyff-range").bounding_box()
        assert axis is not None and interval is not None
        assert axis["x"] - 1 <= interval["x"]
        assert interval["x"] + interval["width"] <= axis["x"] + axis["width"] + 1
        assert interval["width"] >= 1
