"""The browser of the tests reports errors, requests and wide pages."""

import pytest

from tests.browser import visit

WIDE = "<div style='width: 2000px'>wide</div>"
BROKEN = "<script>console.error('logged'); throw new Error('thrown')</script><img src='no.png'>"


@pytest.fixture
def page_of(tmp_path):
    def write(body: str) -> str:
        path = tmp_path / "page.html"
        path.write_text(f"<!doctype html><title>test</title>{body}")
        return path.as_uri()

    return write


def test_errors_and_requests_are_recorded(browser, page_of):
    url = page_of(BROKEN)
    with visit(browser, url) as seen:
        assert any("logged" in error for error in seen.errors)
        assert any("thrown" in error for error in seen.errors)
        assert seen.urls == [url, url.replace("page.html", "no.png")]


def test_a_page_wider_than_the_window_is_detected(browser, page_of):
    with visit(browser, page_of(WIDE), width=375) as seen:
        assert seen.scrolls_sideways()
    with visit(browser, page_of("narrow"), width=375) as seen:
        assert not seen.scrolls_sideways()
        assert seen.errors == []
