"""A browser, what it complains of, and the pictures that are kept of what it showed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = "DYFF_TEST_SCREENSHOTS"
"""Names a directory in which pictures of what tests saw are kept."""

needs_chromium = [
    pytest.mark.ui,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium"),
]


class Visit:
    """A browser's profile, what it asks for and what its pages complain of."""

    def __init__(self, context: BrowserContext, seconds: float = 30.0) -> None:
        self.context = context
        self.hosts: set[str | None] = set()
        self.complaints: list[str] = []
        context.set_default_timeout(1000 * seconds)
        expect.set_options(timeout=1000 * seconds)
        context.on("request", lambda request: self._asked(request.url))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", self._said)

    def _asked(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.hosts.add(urlsplit(url).hostname)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def page(self, url: str) -> Page:
        page = self.context.new_page()
        page.goto(url)
        return page


def keep(page: Page, name: str) -> None:
    """Keep a picture of what is seen, where the environment names a directory for it."""
    directory = os.environ.get(SCREENSHOTS)
    if directory:
        Path(directory).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(directory) / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.png")
