"""Proposed groups: copies, common stems, and videos that look alike."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.common.records import VideoRecord
from pipeline.data_report.groups import propose_groups
from pipeline.data_report.names import find_name_families
from pipeline.evaluation.near_duplicates import FRAMES_HASHED, MAX_DISTANCE, HashedVideo, hash_video

RNG = np.random.default_rng(0)


def stems(*videos):
    """Members of each family, by stem."""
    return {
        family.stem: [videos[member] for member in family.members]
        for family in find_name_families(videos)
    }


@pytest.mark.parametrize(
    "name",
    [
        "goal_flipped",
        "goal_flip",
        "goal-mirror",
        "Copy of goal",
        "goal (1)",
        "goal - copy",
        "goal - Copy (2)",
        "goal_aug3",
        "goal_part2",
        "GOAL.clip03",
        "goal seg 4",
        "goal_000010_000020",
        "goal_part2_flipped",
    ],
)
def test_a_variant_or_part_shares_the_stem_of_its_source(name):
    assert stems("a/goal.mp4", f"a/{name}.mp4") == {"goal": ["a/goal.mp4", f"a/{name}.mp4"]}


def test_clips_of_a_group_of_ucf101_share_the_group():
    names = [f"a/v_Basketball_g{group:02}_c{clip:02}.avi" for group in (1, 2) for clip in (1, 2)]
    assert stems(*names) == {"v_Basketball_g01": names[:2], "v_Basketball_g02": names[2:]}


@pytest.mark.parametrize(
    "names",
    [
        ["001", "002"],
        ["video_17", "video_18"],
        ["clap_1", "clap_2"],
        ["video (1)", "video (2)"],  # numbers of a renamed selection: there is no "video"
        ["cam1_20260101_101500", "cam1_20260102_101500"],  # date and time
        ["person1_walk", "person1_run"],
        ["clip_part1", "clip_part2"],  # a general word names no source
        ["clap_clip01", "clap_clip02"],  # nor does the name of the folder
    ],
)
def test_numbered_names_share_no_stem(names):
    assert stems(*(f"clap/{name}.mp4" for name in names)) == {}


def test_a_stem_with_few_letters_joins_videos_of_one_folder():
    names = ["clap/001_part1.mp4", "wave/001_part2.mp4", "wave/001_part3.mp4", "clap/001.mp4"]
    assert [family.members for family in find_name_families(names)] == [(0, 3), (1, 2)]
    assert stems("clap/001.mp4", "wave/001.mp4", "wave/001.avi") == {}


def test_a_name_joins_videos_of_several_folders_whatever_its_case_and_unicode_form():
    composed, decomposed = "k/Zürich_part1.mp4", "l/zu\u0308rich_part2.mkv"
    assert stems(composed, decomposed) == {"Zürich": [composed, decomposed]}


def test_a_stem_of_most_videos_names_the_data_set():
    names = [f"k/studio_clip{number:02}.mp4" for number in range(30)]
    assert stems(*names) == {}
    assert list(stems(*names, *(f"k/{number}.mp4" for number in range(30)))) == ["studio"]


def test_a_folder_of_pictures_has_a_name_without_a_suffix():
    assert stems("k/holiday.v2", "k/holiday.v2_flipped") == {
        "holiday.v2": ["k/holiday.v2", "k/holiday.v2_flipped"]
    }


def moving(seed, count=FRAMES_HASHED):
    """Frames uint8 [count, 48, 48, 3] of one scene of coarse blocks, a little of it moving."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(0, 256, (6, 6), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    frames = np.repeat(scene[None, :, :, None], 3, axis=3).repeat(count, axis=0)
    for number, frame in enumerate(frames):
        frame[:4, 2 * number : 2 * number + 4] = 255
    return frames


def looks_of(frames, name="x"):
    return hash_video(frames, np.arange(len(frames)) / 10, name=name, split="")


def numbered(count):
    return [f"clap/{number:05}.mp4" for number in range(count)]


def look_of(hashes, grey=100):
    """A video of these hashes in one colour."""
    hashes = np.array(hashes, np.uint64)
    colours = np.full((4, 4, 3), grey, np.uint8)
    return HashedVideo("x", "", hashes, ~hashes, np.zeros(len(hashes)), colours)


def proposed(looks, contents=None, videos=None, known=None, **options):
    none = [""] * len(looks)
    columns = (videos or numbered(len(looks)), known or none, contents or none)
    records = [
        VideoRecord(video, "", group=group, sha256=content)
        for video, group, content in zip(*columns, strict=True)
    ]
    hashed = [
        replace(look, name=record.name)
        for record, look in zip(records, looks, strict=True)
        if look is not None
    ]
    return propose_groups(records, hashed, **options)


def test_copies_are_one_group():
    result = proposed([None] * 4, contents=["1", "2", "1", ""])
    (group,) = result.groups
    assert group.members == (0, 2)
    assert group.reasons == ["copies"]
    assert group.links[0].sentence == "copies of one file"


def test_similar_and_mirrored_videos_are_one_group_each():
    noisy = np.clip(moving(0) + RNG.integers(-6, 7, moving(0).shape), 0, 255).astype(np.uint8)
    frames = [moving(0), moving(1), noisy, moving(1)[:, :, ::-1], moving(2)]
    result = proposed([looks_of(one) for one in frames])
    assert [group.members for group in result.groups] == [(0, 2), (1, 3)]
    assert [group.reasons for group in result.groups] == [["alike"], ["mirrored"]]
    assert "when one is mirrored" in result.groups[1].links[0].sentence
    assert result.reason_counts == {"alike": 1, "mirrored": 1}


def test_reasons_of_several_kinds_join_into_one_group():
    videos = ["a/goal.mp4", "a/goal_part2.mp4", "a/1.mp4", "a/2.mp4", "a/3.mp4"]
    looks = [looks_of(moving(seed)) for seed in (0, 1, 1, 2, 3)]
    (group,) = proposed(looks, contents=["", "", "s", "s", ""], videos=videos).groups
    assert group.members == (0, 1, 2, 3)
    assert group.reasons == ["copies", "name", "alike"]
    assert {(link.a, link.b) for link in group.links} == {(0, 1), (1, 2), (2, 3)}


def test_of_a_hundred_copies_only_the_links_of_a_tree_are_kept():
    rows = RNG.integers(2**63, size=(500, FRAMES_HASHED), dtype=np.uint64)
    others = [look_of(row) for row in rows]
    (group,) = proposed([others[0]] * 99 + others).groups
    assert len(group.members) == 100
    assert len(group.links) == 99


def test_videos_in_front_of_one_background_are_no_group():
    looks = [looks_of(moving(0)) for _ in range(60)] + [looks_of(moving(1))]
    result = proposed(looks)
    assert result.groups == ()
    assert result.distance < 0


def test_of_a_large_present_group_all_may_look_alike():
    looks = [looks_of(moving(0)) for _ in range(60)] + [looks_of(moving(1))]
    result = proposed(looks, known=["match"] * 59 + ["", ""])
    assert [group.members for group in result.groups] == [tuple(range(60))]
    assert result.distance == MAX_DISTANCE


def test_a_smaller_distance_is_used_where_many_videos_resemble_each_other():
    # Each is 6 bits from the next.
    chain = [look_of([(1 << 6 * step) - 1] * FRAMES_HASHED) for step in range(10)]
    result = proposed([one for one in chain for _ in range(4)])
    assert 0 <= result.distance < 6 < MAX_DISTANCE
    assert [len(group.members) for group in result.groups] == [4] * 10


@pytest.mark.parametrize(
    ("bits", "grey", "is_group"),
    [(6, 200, True), (10, 110, True), (10, 120, False), (11, 100, False)],
)
def test_hashes_of_more_than_6_bits_difference_need_the_same_colours(bits, grey, is_group):
    looks = [look_of([0] * FRAMES_HASHED), look_of([(1 << bits) - 1] * FRAMES_HASHED, grey)]
    assert bool(proposed(looks).groups) == is_group


def test_a_sample_of_too_many_similar_videos_is_said_to_be_incomplete():
    result = proposed([looks_of(moving(0))] * 50, max_comparisons=100)
    assert not result.is_complete


def test_nothing_is_proposed_for_no_video():
    assert proposed([]).groups == ()
    assert proposed([None]).groups == ()
