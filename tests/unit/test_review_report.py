"""The HTML report, in a browser: what a reviewer opens."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pipeline.evaluation.audits import Audit
from pipeline.evaluation.label_issues import LabelIssue
from pipeline.evaluation.leaks import Leak
from pipeline.evaluation.plots import confusion_picture
from pipeline.evaluation.slices import Slice
from pipeline.review.charts import Chart
from pipeline.review.clips import shown_choices
from pipeline.review.curves import precision_recall_chart, reliability_chart
from pipeline.review.findings import CLASS_SCORES, ClassRow, Estimate
from pipeline.review.previews import preview, webp
from pipeline.review.report import Review, render_report
from pipeline.review.selection import choose
from pipeline.review.slices_chart import slices_chart
from pipeline.review.strips import Seen, film_strip
from pipeline.review.suspects import ShownLabelIssue, ShownLeak
from tests.browser import visit
from tests.unit.test_review_selection import predictions

SECTIONS = [
    "Summary", "Scores", "Classes", "Confusion", "Calibration",
    "Slices", "Audits", "Film strips", "Training", "Data",
]  # fmt: skip
RNG = np.random.default_rng(0)


def look(rows):
    frames = RNG.integers(0, 255, (len(rows), 12, 24, 32, 3), dtype=np.uint8)
    mask = np.arange(12) < 9
    heat = RNG.random((len(rows), 12, 2, 2)).astype(np.float32)
    attention = np.where(mask, 1 / 9, 0)
    return [Seen(clip, mask, warmth, attention) for clip, warmth in zip(frames, heat, strict=True)]


def small_chart(name):
    return Chart(name, name, f"What {name} shows.", "How to read it.", _matrix)


def _matrix():
    return confusion_picture(np.eye(3, dtype=np.int64), ["a", "b", "c"])


def made_review() -> Review:
    videos, issue_of = predictions(), LabelIssue("<i>x</i>.mp4", "train", "a", "b", 0.01)
    slices = [Slice("codec", "h264", 5, 0.4, 0.2, 0.6)]
    charts = [
        precision_recall_chart(videos),
        reliability_chart(videos, bins=5),
        slices_chart(slices, overall=Estimate(0.6)),
        *map(small_chart, ("confusion", "training", "splits")),
    ]
    picture = webp(film_strip(look([0])[0]))
    return Review(
        scores={"accuracy": Estimate(0.625, 0.375, 0.875), "videos": Estimate(8)},
        confidence=0.95,
        facts=[("Data", "a/very/long/path" * 6), ("Model", "0123456789ab")],
        classes=[ClassRow("a" * 60, 3, dict.fromkeys(CLASS_SCORES, Estimate(0.5, 0.1, 0.9)))],
        confusions=[("a", "b", 2)],
        slices=slices,
        audits=[
            Audit("time", 0.3, 0.1, True, "Order matters here."),
            Audit("leaks", 1.0, 0.0, False, "One pair looks alike."),
        ],
        leaks=[ShownLeak(Leak("a.mp4", "train", 0.0, "b.mp4", "test", 1.0, 3), (picture,) * 2)],
        n_leaks=9,
        label_issues=[ShownLabelIssue(issue_of, preview(look([0])[0].frames, fps=10))],
        n_label_issues=1,
        choices=shown_choices(videos, choose(videos, each=2), look, fps=10, moves=True),
        charts={chart.name: chart for chart in charts},
    )


@pytest.fixture(scope="module")
def review():
    return made_review()


@pytest.fixture(scope="module")
def url(review, tmp_path_factory):
    path = tmp_path_factory.mktemp("review") / "report.html"
    path.write_text(render_report(review), encoding="utf-8")
    return path.as_uri()


def test_every_section_is_there_and_the_browser_has_nothing_to_complain_of(browser, url):
    with visit(browser, url) as seen:
        headings = seen.page.locator("h2").all_inner_texts()
        assert headings == SECTIONS
        for name, link in zip(SECTIONS, seen.page.locator("nav a").all(), strict=True):
            assert link.inner_text() == name
            assert seen.page.locator(link.get_attribute("href")).inner_text() == name
        assert seen.errors == []
        assert [one for one in seen.urls if not one.startswith("data:")] == [url]


def test_it_says_what_was_found(browser, url):
    with visit(browser, url) as seen:
        text = seen.page.locator("main").inner_text()
    assert "Of 8 test videos the model classifies 62.5 % right" in text
    assert "(95 % interval: 37.5 % to 87.5 %)" in text
    assert re.search(r"Passed\s+Time. Order matters here.", text)
    assert re.search(r"Check\s+Leaks. One pair looks alike.", text)
    assert "lists 9 pairs of videos of different splits" in text
    assert "the closest are shown" in text
    assert "lists 1 video whose label the model contradicts. Look" in text
    assert "<i>x</i>.mp4 (train)" in text, "names are text, not HTML"
    assert "3 of 8 test videos are predicted wrong" in text


def test_every_picture_is_described_and_drawn(browser, url):
    with visit(browser, url) as seen:
        pictures = seen.page.locator("img").evaluate_all(
            "all => all.map(one => [one.alt, one.complete && one.naturalWidth])"
        )
    assert len(pictures) > 20
    assert all(alt and width for alt, width in pictures)


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_window(browser, url, width):
    with visit(browser, url, width=width) as seen:
        assert not seen.scrolls_sideways()


def luminance(colour):
    """By WCAG 2.2, of "rgb(1, 2, 3)"."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


CONTRASTS = """() => [...document.querySelectorAll('h1, h2, p, th, td, a, .good, .bad, code')]
  .filter(one => one.offsetParent !== null && !one.classList.contains('skip'))
  .map(one => {
    let around = one;
    const clear = 'rgba(0, 0, 0, 0)';
    while (around && getComputedStyle(around).backgroundColor === clear)
      around = around.parentElement;
    return [getComputedStyle(one).color, getComputedStyle(around).backgroundColor, one.innerText];
  })"""


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_text_contrasts_as_wcag_asks(browser, url, colours):
    with visit(browser, url, colours=colours) as seen:
        found = seen.page.evaluate(CONTRASTS)
        background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(background) < 0.05) == (colours == "dark")
    for ink, paper, text in found:
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, text


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_charts_are_those_for_the_page(browser, url, colours):
    with visit(browser, url, colours=colours) as seen:
        shown = seen.page.locator("img.chart:visible")
        assert shown.count() == 6
        assert seen.page.locator(f"img.chart.in-{colours}:visible").count() == 6


def test_previews_move_until_they_are_told_not_to(browser, url):
    with visit(browser, url) as seen:
        moving = seen.page.locator("img.moving:visible")
        assert moving.count() == 7  # two of each kind, and a doubtful label
        assert seen.page.locator(".can-move .still:visible").count() == 0
        seen.page.get_by_label("Play the previews").press("Space")
        assert moving.count() == 0
        assert seen.page.locator(".can-move .still:visible").count() == 7


def test_previews_stand_still_for_who_wants_no_motion_and_on_paper(browser, url):
    with visit(browser, url, still=True) as seen:
        assert seen.page.locator("img.moving:visible").count() == 0
        assert seen.page.get_by_text("previews stand still").is_visible()
    with visit(browser, url, colours="dark") as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.locator("img.moving:visible").count() == 0
        assert seen.page.locator("img.chart.in-dark:visible").count() == 0
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )


def test_the_keyboard_reaches_what_scrolls(browser, url):
    with visit(browser, url, width=375) as seen:
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.innerText") == "Skip to the content"
        unreachable = seen.page.locator(".scroll").evaluate_all(
            "all => all.filter(one => one.scrollWidth > one.clientWidth && one.tabIndex !== 0)"
            ".length"
        )
        assert unreachable == 0


def test_headings_descend_one_level_at_a_time_and_tables_have_scopes(browser, url):
    with visit(browser, url) as seen:
        levels = seen.page.locator("h1, h2, h3, h4").evaluate_all(
            "all => all.map(one => Number(one.tagName[1]))"
        )
        bare = seen.page.locator("th:not([scope])").count()
        unnamed = seen.page.locator("table:not(:has(caption))").count()
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert (bare, unnamed) == (0, 0)


def test_nothing_to_show_is_said(review, browser, tmp_path):
    videos = predictions([(0, 0.9, 0.1, 0.0), (1, 0.2, 0.8, 0.0)])
    empty = replace(
        review,
        slices=[],
        leaks=[],
        label_issues=[],
        confusions=[],
        choices=shown_choices(videos, choose(videos, each=1), look, fps=10, moves=False),
    )
    path = tmp_path / "report.html"
    path.write_text(render_report(empty), encoding="utf-8")
    with visit(browser, path.as_uri()) as seen:
        text = seen.page.locator("main").inner_text()
        assert seen.page.locator("#motion").count() == 0
        assert seen.errors == []
    for sentence in (
        "No test video is taken for one of another class.",
        "there is nothing to slice by",
        "No two videos in different splits have frames that look alike.",
        "The model contradicts no label.",
        "0 of 2 test videos are predicted wrong",
    ):
        assert sentence in text
