"""Take the pictures of the README and of docs/dagster.md: `make pictures`.

The example is audited in a temporary directory, the UI is opened in chromium, and PNG files are written beside this
script; then the same with the small audit of the tests, in which something fails. Look at them before you commit them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import FloatRect, Page, ViewportSize, sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests import servers  # noqa: E402  (the tests know how to start everything)
from tests.ui.site import Site, site  # noqa: E402

WINDOW: ViewportSize = {"width": 1600, "height": 1000}
MARGIN = 8
GRAPH = '+key:"safetycases/wdbc-safety-case"'


def main() -> None:
    """Audit the example and take its pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser")
    parser.add_argument("--out", type=Path, default=HERE, help="where the pictures go")
    arguments = parser.parse_args()
    # A short name: the picture shows where the page is.
    with tempfile.TemporaryDirectory(prefix="dyff-") as name:
        directory = Path(name)
        env = servers.environment(directory / "home", DYFF_STORAGE_ROOT=directory / "storage")
        with servers.pages(directory / "storage", servers.REPOSITORY, env, directory / "pages.log") as url:
            port = servers.free_port()
            env.update(DYFF_PAGES_URL=url, DYFF_WEBSERVER_URL=f"http://127.0.0.1:{port}")
            materialize = ("asset", "materialize", "--select", "*", "-f", "definitions.py")
            config = ("-c", "examples/run-config.yaml")
            servers.run(servers.command("dagster", *materialize, *config), servers.REPOSITORY, env)
            log = directory / "webserver.log"
            with servers.webserver(servers.REPOSITORY, env, log, port=port) as server:
                take(server.url, url, arguments.chromium, arguments.out)
        with site(directory / "small") as small:
            operate(small, arguments.chromium, arguments.out)


def take(url: str, pages: str, chromium: str, out: Path) -> None:
    """Take all pictures.

    Args:
        url: Dagster's web server.
        pages: The page server.
        chromium: The browser.
        out: Directory of the pictures.
    """
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport=WINDOW, color_scheme="light", locale="en-GB")
        asset_graph(page, url, out / "asset-graph.png")
        asset_page(page, url, out / "asset-page.png")
        safety_case(page, pages, out / "safety-case.png")
        browser.close()


def operate(small: Site, chromium: str, out: Path) -> None:
    """Take the pictures of a small audit in which a threshold is missed and an evaluation fails."""
    rows, functions = ["datasets", "rows"], ["modules", "functions"]
    kinds = {
        "doubled": "evaluations",
        "judged": "measurements",
        "scores": "measurements",
        "case": "safetycases",
    }
    made = [[kind, name] for name, kind in kinds.items()]
    small.server.launch([rows, functions, ["modules", "notebook"], *made])
    small.server.launch([["evaluations", "garbled"], ["measurements", "garbled-judged"]], ends="FAILURE")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light", locale="en-GB")
        pictures = {
            "selection": ("asset-groups~%2Bkey%3A%22safetycases%2Fcase%22/", "notebook"),
            "failed-evaluation": ("assets/evaluations/garbled", "dyff/error"),
            "checks": (
                "assets/measurements/scores?view=checks&checkDetail=lower_accuracy_at_least_0_999",
                "threshold",
            ),
        }
        for name, (path, shown) in pictures.items():
            page.goto(small.url(path))
            page.get_by_text(shown, exact=True).first.wait_for()
            page.wait_for_load_state("networkidle")
            page.screenshot(path=out / f"{name}.png")
        browser.close()


def asset_graph(page: Page, url: str, to: Path) -> None:
    """The graph of the safety case alone, as large as it gets: without the navigation and the list of assets.

    All of the example is three dozen assets, whose names cannot be read in a picture of this size.
    """
    page.goto(f"{url}/asset-groups~{quote(GRAPH, safe='')}/")
    page.get_by_role("button", name="Hide navigation").click()
    # Whether the list is hidden is remembered, and only a fresh page fits the graph to its room.
    page.get_by_role("button", name="panel_show_right").click()
    page.reload()
    nodes = page.locator("svg foreignObject").filter(has_text="wdbc-")
    nodes.first.wait_for()
    page.wait_for_load_state("networkidle")
    boxes = [box for node in nodes.all() if (box := node.bounding_box())]
    left, top = min(box["x"] for box in boxes), min(box["y"] for box in boxes)
    right = max(box["x"] + box["width"] for box in boxes)
    bottom = max(box["y"] + box["height"] for box in boxes)
    page.screenshot(path=to, clip=around(left, top, right, bottom))


def asset_page(page: Page, url: str, to: Path) -> None:
    """The safety case's asset, from its name to its plot, without the column at the right."""
    page.set_viewport_size({"width": WINDOW["width"], "height": 2 * WINDOW["height"]})
    page.goto(f"{url}/assets/safetycases/wdbc-safety-case")
    last_row = page.locator("tr").filter(has=page.get_by_text("dyff/scores", exact=True))
    last_row.wait_for()
    page.wait_for_load_state("networkidle")
    last = last_row.bounding_box()
    beside = page.get_by_text("Definition", exact=True).bounding_box()
    title = page.get_by_text("Overview", exact=True).last.bounding_box()
    assert last is not None and beside is not None and title is not None  # noqa: S101
    page.screenshot(
        path=to, clip=around(title["x"], MARGIN, beside["x"] - 80, last["y"] + last["height"] - MARGIN)
    )


def safety_case(page: Page, pages: str, to: Path) -> None:
    """The middle of the page itself: thresholds, scores with their intervals, and who was missed."""
    page.set_viewport_size({"width": 860, "height": 1000})
    page.goto(f"{pages}/wdbc-safety-case/")
    page.wait_for_load_state("networkidle")
    first = page.get_by_role("heading", name="Scores").first.bounding_box()
    last = page.get_by_role("heading", name="Ranking: the ROC curve").bounding_box()
    figure = page.locator("img").nth(1).bounding_box()
    assert first is not None and last is not None and figure is not None  # noqa: S101
    bottom = figure["y"] + figure["height"] + 3 * MARGIN
    page.screenshot(path=to, full_page=True, clip=around(40, first["y"], 820, bottom))


def around(left: float, top: float, right: float, bottom: float) -> FloatRect:
    """A rectangle with a margin; all in pixels."""
    x, y = max(0.0, left - MARGIN), max(0.0, top - MARGIN)
    return {"x": x, "y": y, "width": right + MARGIN - x, "height": bottom + MARGIN - y}


if __name__ == "__main__":
    main()
