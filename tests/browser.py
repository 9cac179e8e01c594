"""Pages in a headless Chromium, for tests of what people look at."""

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
    """A page, and what happened in it since it was opened."""

    page: Page
    errors: list[str] = field(default_factory=list)  # of the console, and uncaught exceptions
    urls: list[str] = field(default_factory=list)  # of every request, the page's own first

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than the window."""
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
        colours: the scheme that the user prefers.
        still: whether the user prefers reduced motion.
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
