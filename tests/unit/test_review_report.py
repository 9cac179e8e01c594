"""The page of the review in a browser."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.bootstrap import Score
from pipeline.common.charts import Chart
from pipeline.common.findings import Finding
from pipeline.common.pictures import thumbnail, webp
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.evaluation.doubtful_labels import DoubtfulLabel
from pipeline.evaluation.near_duplicates import NearDuplicate
from pipeline.evaluation.plots import training_chart
from pipeline.evaluation.slices import Slice
from pipeline.review.charts import slices_chart, splits_chart
from pipeline.review.film_strips import SeenClip, preview
from pipeline.review.inputs import Cell, ShownTable
from pipeline.review.report import PAGE, Review, ShownLabel, ShownPair, write_review
from pipeline.review.selection import draw_selections, select_videos
from tests.browser import visit
from tests.unit.test_review_selection import TASK, predictions

SECTIONS = [
    "Summary", "Scores", "Details", "Slices", "Audits", "Film strips", "Training", "Data",
]  # fmt: skip
RNG = np.random.default_rng(0)


def see(rows):
    frames = RNG.integers(0, 255, (len(rows), 12, 24, 32, 3), dtype=np.uint8)
    mask = np.arange(12) < 9
    heat = RNG.random((len(rows), 12, 2, 2)).astype(np.float32)
    attention = np.where(mask, 1 / 9, 0)
    return [
        SeenClip(clip, mask, {"frames": warmth}, {"frames": attention})
        for clip, warmth in zip(frames, heat, strict=True)
    ]


def splits() -> Chart:
    facts = DecodeFacts(key="", frames=10, source_seconds=2.0)
    records = [
        VideoRecord(f"{target}.mp4", target, split="train", facts=facts) for target in ("a", "b")
    ]
    return splits_chart(records, ["a", "b"])


def training() -> Chart:
    row = {"loss": 1.0, "val_loss": 1.1, "accuracy": 0.5, "val_accuracy": 0.4}
    return training_chart([{"epoch": 1, **row}], kept_epoch=1, metric="accuracy")


@pytest.fixture(scope="module")
def review() -> Review:
    tested = predictions()
    slices = [Slice("codec", "h264", 5, 0.4, 0.2, 0.6)]
    picture = webp(thumbnail(see([0])[0].frames[0], 32))
    return Review(
        task=TASK,
        facts=[("Data", "a/very/long/path" * 6), ("Model", "0123456789ab")],
        scores={
            "accuracy": Score(0.625, (0.375, 0.875)),
            "macro_f1": Score(0.5, (0.25, 0.75)),
            "macro_f1_most_frequent": Score(0.125),
            "log_loss": Score(1.5),
            "videos": Score(8),
        }
        | dict.fromkeys(TASK.headline_metrics, Score(0.625, (0.375, 0.875))),
        confidence=0.95,
        tables=[
            ShownTable(
                "Each class",
                ["class", "f1"],
                [[Cell("a" * 60), Cell("0.5", "0.1 to 0.9")]],
                n_rows=300,
                path=Path("eval/tables/per_class.csv"),
            ),
            ShownTable("Confusions", ["actual"], [], n_rows=0, path=Path("confusions.csv")),
        ],
        charts=TASK.charts(tested.targets, tested.outputs, tested.videos),
        slices=slices,
        slices_chart=slices_chart(slices, overall=Score(0.6), score_name="accuracy"),
        audits=[
            Finding("time", "ok", "Order matters here.", 0.3, 0.1),
            Finding("leaks", "warn", "Pairs look alike.", 9, 0, {"listed": 9, "is_complete": True}),
            Finding("length", "unknown", "There is no baseline."),
        ],
        near_duplicates=[
            ShownPair(NearDuplicate("a.mp4", "train", 0.0, "b.mp4", "test", 1.0, 3), (picture,) * 2)
        ],
        doubtful_labels=[
            ShownLabel(
                DoubtfulLabel("<i>x</i>.mp4", "train", "a", "b", 0.01),
                preview(see([0])[0].frames, fps=10),
            )
        ],
        n_doubtful_labels=1,
        selections=draw_selections(tested, select_videos(tested, each=2), see, fps=10),
        training_chart=training(),
        splits_chart=splits(),
    )


@pytest.fixture(scope="module")
def folder(review, tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    write_review(review, folder)
    return folder


@pytest.fixture(scope="module")
def url(folder):
    return (folder / PAGE).as_uri()


def test_charts_and_strips_are_written_beside_the_page(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    charts = ("confusion", "precision_recall", "reliability", "slices", "splits", "training")
    strips = ("least_sure", "mistakes", "right")
    assert files == {f"charts/{name}.png" for name in charts} | {
        f"strips/{name}.png" for name in strips
    }


def test_the_page_needs_no_network_and_escapes_names(folder):
    page = (folder / PAGE).read_text()
    assert set(re.findall(r'src="(\w+):', page)) == {"data"}
    assert "&lt;i&gt;x&lt;/i&gt;.mp4" in page
    assert page.count('class="chart') == 6, "each chart is embedded once"


def test_every_section_is_linked_and_the_browser_reports_no_error(browser, url):
    with visit(browser, url) as seen:
        assert seen.page.locator("h2").all_inner_texts() == SECTIONS
        for name, link in zip(SECTIONS, seen.page.locator("nav a").all(), strict=True):
            assert link.inner_text() == name
            assert seen.page.locator(link.get_attribute("href")).inner_text() == name
        assert seen.errors == []
        assert [one for one in seen.urls if not one.startswith("data:")] == [url]


def test_scores_audits_and_suspects_are_listed(browser, url):
    with visit(browser, url) as seen:
        text = seen.page.locator("main").inner_text()
    assert "Accuracy on 8 test videos: 62.5 %" in text
    assert "(95 % interval: 37.5 % to 87.5 %)" in text
    assert "Most frequent: a baseline that predicts the proportions of the classes" in text
    assert re.search(r"macro F1\n.*\s+0\.625\s+0\.375 to 0\.875\s+0\.125", text, re.IGNORECASE)
    assert re.search(r"Passed\s+Time. Order matters here.", text)
    assert re.search(r"Check\s+Leaks. Pairs look alike.", text)
    assert re.search(r"Unknown\s+Length. There is no baseline.", text)
    assert "lists 9 pairs of videos in different splits" in text
    assert "the closest are shown" in text
    assert "lists 1 video whose label the model contradicts. Watch" in text
    assert "<i>x</i>.mp4 (train)" in text, "names are text, not HTML"
    assert "3 of 8 test videos are predicted wrong" in text
    assert "the first 1 of 300 rows of eval/tables/per_class.csv" in text


def test_every_picture_has_an_alt_text_and_is_drawn(browser, url):
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
    """Relative luminance by WCAG 2.2 of a colour such as ``rgb(1, 2, 3)``."""
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
def test_text_has_the_contrast_that_wcag_requires(browser, url, colours):
    with visit(browser, url, colours=colours) as seen:
        contrasts = seen.page.evaluate(CONTRASTS)
        background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(background) < 0.05) == (colours == "dark")
    for ink, paper, text in contrasts:
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, text


def test_charts_have_a_white_background_on_a_dark_page(browser, url):
    with visit(browser, url, colours="dark") as seen:
        backgrounds = seen.page.locator("img.chart:visible").evaluate_all(
            "all => all.map(one => getComputedStyle(one).backgroundColor)"
        )
    assert backgrounds == ["rgb(255, 255, 255)"] * 6


def test_previews_play_until_they_are_switched_off(browser, url):
    with visit(browser, url) as seen:
        playing = seen.page.locator("img.animation:visible")
        assert playing.count() == 7  # two of each kind, and a doubtful label
        assert seen.page.locator(".animated .still:visible").count() == 0
        seen.page.get_by_label("Play the previews").press("Space")
        assert playing.count() == 0
        assert seen.page.locator(".animated .still:visible").count() == 7


def test_previews_do_not_play_with_reduced_motion_or_in_print(browser, url):
    with visit(browser, url, still=True) as seen:
        assert seen.page.locator("img.animation:visible").count() == 0
        assert seen.page.get_by_text("Previews do not play").is_visible()
    with visit(browser, url, colours="dark") as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.locator("img.animation:visible").count() == 0
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )


def test_the_keyboard_reaches_everything_that_scrolls(browser, url):
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


@pytest.mark.parametrize(
    ("is_complete", "count"), [(True, "1,001,000"), (False, "at least 1,001,000")]
)
def test_of_many_near_duplicates_the_page_counts_all(review, tmp_path, is_complete, count):
    details = {"listed": 1000, "is_complete": is_complete}
    sentence = "Most pairs of videos look alike. 1,001,000 pairs do."
    leaks = Finding("leaks", "warn", sentence, 1_001_000, 0, details)
    write_review(replace(review, audits=[leaks]), tmp_path)
    text = " ".join(re.sub("<[^>]*>", "", (tmp_path / PAGE).read_text()).split())
    assert f"lists the closest 1,000 of {count} pairs of videos in different splits" in text
    assert "Most pairs of videos look alike. 1,001,000 pairs do." in text


def test_empty_parts_are_named(review, tmp_path):
    tested = predictions([(0, 0.9, 0.1, 0.0), (1, 0.2, 0.8, 0.0)])
    empty = replace(
        review,
        slices=[],
        slices_chart=None,
        near_duplicates=[],
        doubtful_labels=[],
        selections=draw_selections(tested, select_videos(tested, each=1), see, fps=10),
    )
    write_review(empty, tmp_path)
    page = (tmp_path / PAGE).read_text()
    for sentence in (
        "There are no slices",
        "No two videos in different splits have frames that look alike.",
        "No doubtful label.",
        "0 of 2 test videos are predicted wrong",
    ):
        assert sentence in page
    assert not (tmp_path / "strips/mistakes.png").exists()
