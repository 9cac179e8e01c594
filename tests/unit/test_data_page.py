"""The page of the data report: its content, and the page in a browser."""

import re
from dataclasses import replace

import numpy as np
import pytest

from pipeline.common.charts import png_bytes
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.data_report.groups import propose_groups
from pipeline.data_report.page import DataSet, pairs_to_check, write_page
from pipeline.data_report.picture import data_picture
from pipeline.data_report.summary import summarise
from pipeline.evaluation.near_duplicates import hash_stored_videos
from pipeline.tasks.targets import targets_of
from pipeline.video.settings import DecodeSection
from pipeline.video.store import stored_path, write_frame_settings, write_frames
from tests.browser import visit

SECTIONS = ["Summary", "Charts", "Film strips", "Damaged files", "Groups to check"]
HOSTILE = "<img src=x onerror=alert(1)>&\"'\n\u202eü.mp4"
DECODE = DecodeSection(width=48, height=32)
SPLITS = ("train", "val", "test")


def scene(seed, count=12):
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    still = blocks.repeat(8, axis=0).repeat(8, axis=1)
    return np.repeat(still[None], count, axis=0)


class Store:
    """A frame store and the records of its videos."""

    def __init__(self, folder):
        self.folder = folder / "frames"
        self.folder.mkdir()
        self.source = folder / "videos"
        write_frame_settings(self.folder, DECODE)
        self.records = []

    def add(self, video, target, split, *, frames=None, group="", **facts):
        """Store ``frames``; without any, the video is quarantined."""
        key = f"{len(self.records):032}"
        decoded = DecodeFacts(
            key, codec="h264", width=48, height=32, source_fps=10.0, source_seconds=1.2, **facts
        )
        if frames is not None:
            path = stored_path(self.folder, key)
            decoded = write_frames(path, iter(frames), lambda: decoded, key=key)
        self.records.append(
            VideoRecord(video, target, split, group or video, sha256=key, facts=decoded)
        )

    def data_set(self, task="classification"):
        targets = targets_of(task)
        strata = targets.strata([record.target for record in self.records])
        return DataSet(
            source=str(self.source),
            task=task,
            records=self.records,
            targets=targets,
            strata=strata,
            summary=summarise(self.records, strata),
            proposals=propose_groups(self.records, hash_stored_videos(self.folder, self.records)),
            frames=self.folder,
            decode=DECODE,
        )


def write(data, path):
    picture = data_picture(data.records, data.summary, noun=data.targets.stratum_name)
    write_page(path, data, picture, png_bytes(picture))
    return path


def text_of(path):
    return " ".join(re.sub("<[^>]*>", " ", path.read_text()).split())


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two videos look alike across splits, two in one split, one pair is already a group."""
    folder = tmp_path_factory.mktemp("page")
    store = Store(folder)
    store.source.mkdir()
    (store.source / "clap").mkdir()
    (store.source / "clap/1.mp4").write_bytes(b"x" * 1500)
    for number, split in enumerate(SPLITS):
        store.add(f"clap/{number + 1}.mp4", "clap", split, frames=scene(number))
    store.add("wave/mirrored.mp4", "wave", "train", frames=scene(2)[:, :, ::-1])
    store.add("wave/goal_part1.mp4", "wave", "val", frames=scene(10))
    store.add("wave/goal_part2.mp4", "wave", "val", frames=scene(11))
    store.add("wave/5.mp4", "wave", "test", frames=scene(12), group="one")
    store.add("wave/6.mp4", "wave", "test", frames=scene(12), group="one")
    store.add(f"wave/{HOSTILE}", "<b>bad</b>", "train", reason="moov <atom> is missing")
    store.add("w" * 180 + ".mp4", "<b>bad</b>", "val", frames=scene(20), reason="cut short")
    store.add("x.mp4", "<b>bad</b>", "test", frames=scene(21))
    return write(store.data_set(), folder / "report.html")


def test_the_page_needs_no_network_and_escapes_names(page):
    html = page.read_text()
    assert set(re.findall(r'src="(\w+):', html)) == {"data"}
    assert "<img src=x" not in html
    assert "<b>bad" not in html
    assert "moov &lt;atom&gt; is missing" in html
    assert "\u202e" not in html


def test_splits_sizes_and_problems_are_listed(page):
    text = text_of(page)
    assert "11 videos of 3 classes" in text
    assert "Disk space of the videos: 1.5 kB" in text
    assert "Disk space of the frames" in text
    assert "all 11 10 12 s 1 1" in text
    assert re.search(r"ü.mp4 quarantined moov &lt;atom&gt; is missing .*damaged cut short", text)


def test_pairs_in_different_groups_are_listed_those_across_splits_first(page):
    text = text_of(page)
    assert "2 pairs of videos may show one scene and are in different groups" in text
    assert "1 of them across splits" in text
    assert "differ in at most 6 of 64 bits, or 10 if the colours agree" in text
    assert "vidpipe labels" in text
    first, second = re.findall(r"<tr><td>.*</tr>", page.read_text())
    assert "clap/3.mp4" in first
    assert "wave/mirrored.mp4" in first
    assert "look alike when one is mirrored" in first
    assert "goal_part1" in second
    assert "the names share the stem &#39;goal&#39;" in second


def test_every_section_is_linked_and_the_browser_requests_nothing_else(browser, page):
    with visit(browser, page.as_uri()) as seen:
        assert seen.page.locator("h2").all_inner_texts() == SECTIONS
        for name, link in zip(SECTIONS, seen.page.locator("nav a").all(), strict=True):
            assert link.inner_text() == name
            assert seen.page.locator(link.get_attribute("href")).inner_text() == name
        assert seen.errors == []
        assert [one for one in seen.urls if not one.startswith("data:")] == [page.as_uri()]
        assert seen.page.get_by_text("<img src=x onerror=alert(1)>").count() > 0


def test_every_picture_has_an_alt_text_and_is_drawn(browser, page):
    with visit(browser, page.as_uri()) as seen:
        pictures = seen.page.locator("img").evaluate_all(
            "all => all.map(one => [one.alt, one.complete && one.naturalWidth])"
        )
    assert len(pictures) == 1 + 9 + 2 * 2  # the charts; four strips a class at most; two pairs
    assert all(alt and width for alt, width in pictures)


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_window(browser, page, width):
    with visit(browser, page.as_uri(), width=width) as seen:
        assert not seen.scrolls_sideways()


def test_tables_have_captions_and_the_keyboard_reaches_what_scrolls(browser, page):
    with visit(browser, page.as_uri(), width=375) as seen:
        bare = seen.page.locator("th:not([scope]), table:not(:has(caption))").count()
        unreachable = seen.page.locator(".scroll").evaluate_all(
            "all => all.filter(one => one.scrollWidth > one.clientWidth && one.tabIndex !== 0)"
            ".length"
        )
    assert (bare, unreachable) == (0, 0)


@pytest.mark.parametrize(
    ("task", "targets", "shown"),
    [
        ("multilabel", ["a|b", "", "a"], ["1 video", "2 labels", "no label"]),
        ("regression", ["1", "2.5", "3"], ["3 videos of 1 range", "1 to 3"]),
        ("frames", ["0 to 1 run", "0 to 1 walk", "0 to 1 run"], ["3 videos of 2 labels", "walk"]),
        ("caption", ['["a dog runs", "it runs"]'] * 3, ["3 videos", "a dog runs | it runs"]),
    ],
)
def test_every_task_has_a_page_in_its_words(store, tmp_path, task, targets, shown):
    for split, target in zip(SPLITS, targets, strict=True):
        store.add(f"{split}.mp4", target, split, frames=scene(len(store.records)))
    text = text_of(write(store.data_set(task), tmp_path / "report.html"))
    for words in shown:
        assert words in text


def test_of_very_many_classes_some_strips_are_shown_and_the_page_stays_small(store, tmp_path):
    for number in range(300):
        store.add(f"{number}.mp4", f"class {number:03}", "train", frames=scene(number, 2))
    path = write(store.data_set(), tmp_path / "report.html")
    assert "The 48 with the most videos are shown; 252 more are left out." in text_of(path)
    assert path.read_text().count("Film strip of") == 2 * 48
    assert path.stat().st_size < 2e6


def test_of_very_many_problems_and_pairs_the_first_are_listed(store, tmp_path):
    for number in range(250):
        store.add(f"bad {number}.mp4", "a", "train", reason="broken")
        store.add(f"{number} goal.mp4", "a", "train", frames=scene(number, 1))
        store.add(f"{number} goal_flipped.mp4", "a", "test", reason="broken")
    text = text_of(write(store.data_set(), tmp_path / "report.html"))
    assert "These are the first 200 of 500" in text
    assert "Pairs across splits first; the first 200 of" in text


def test_nothing_wrong_is_said_so(store, tmp_path):
    for number, split in enumerate(SPLITS):
        store.add(f"{number}.mp4", "a", split, frames=scene(number))
    text = text_of(write(store.data_set(), tmp_path / "report.html"))
    assert "No file is damaged or quarantined." in text
    assert "No videos of different groups look alike" in text
    assert "Disk space of the videos" not in text, "they are not on this disk"


def test_pairs_of_one_group_are_not_listed(store):
    store.add("a/goal_1_part1.mp4", "a", "train", group="g")
    store.add("a/goal_1_part2.mp4", "a", "train", group="g")
    data = store.data_set()
    assert len(data.proposals.groups) == 1
    assert pairs_to_check(data.records, data.proposals) == []
    apart = [replace(data.records[0], group="h"), data.records[1]]
    assert len(pairs_to_check(apart, data.proposals)) == 1
