"""Open pages in a headless Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from playwright.sync_api import Browser, ConsoleMessage, Page, Request

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome on PATH, or None."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@dataclass
class Visit:
    """A page, with its errors and requests since it was opened.

    Attributes:
        errors: messages of the console, and uncaught exceptions.
        urls: of every request, the page's own first.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def scrolls_sideways(self) -> bool:
        """Return whether the page is wider than the window."""
        root = "document.documentElement"
        return bool(self.page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))


@contextmanager
def visit(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    height: int = 900,
    colours: Literal["light", "dark"] = "light",
    still: bool = False,
) -> Iterator[Visit]:
    """Open ``url`` in a fresh profile and wait until it has loaded.

    Args:
        width: of the window, as ``height`` in CSS pixels.
        colours: preferred colour scheme.
        still: whether reduced motion is preferred.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=colours,
        reduced_motion="reduce" if still else "no-preference",
    )
    try:
        seen = Visit(context.new_page())

        def on_console(message: ConsoleMessage) -> None:
            if message.type == "error":
                seen.errors.append(message.text)

        def on_request(request: Request) -> None:
            seen.urls.append(request.url)

        seen.page.on("console", on_console)
        seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
        seen.page.on("request", on_request)
        seen.page.goto(url)
        yield seen
    finally:
        context.close()
