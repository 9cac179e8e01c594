import csv

import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.evaluation import leaks as module
from pipeline.evaluation.leaks import (
    FRAMES_HASHED,
    HashedVideo,
    champion_audit,
    check_groups_apart,
    find_leaks,
    hash_video,
    leaks_audit,
    write_leaks_csv,
)


def hashed(name, split, hashes):
    hashes = np.array(hashes, np.uint64)
    return HashedVideo(name, split, hashes, np.arange(len(hashes)) / 2)


def scenes(count, *, seed):
    """Frames of blocks of random grey, which differ in their coarse pattern."""
    blocks = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 1), dtype=np.uint8)
    return np.repeat(blocks.repeat(8, axis=1).repeat(8, axis=2), 3, axis=3)


def test_the_distance_is_that_of_the_median_frame_to_its_nearest():
    # Four frames; of a, the nearest in b differ by 0, 1, 2 and 5 bits: the median (the lower
    # of the middle two) is 1. Of b they are 0, 1, 2 and 6, since a has nothing like the last.
    a = hashed("a", "train", [0x0, 0x1F00, 0x3F0000, 0x7F_0000_0000])
    b = hashed("b", "test", [0x0, 0x0F00, 0x0F0000, 0x3F_FFFF_0000_0000])
    (leak,) = find_leaks([a, b], max_distance=8)
    assert leak.distance == 1
    assert find_leaks([a, b], max_distance=0) == []


def test_one_frame_in_common_is_no_leak():
    title = 0xFFFF
    a = hashed("a", "train", [title, *(0x1111 << 16 * part for part in (1, 2, 3))])
    b = hashed("b", "test", [title, *(0xEEEE << 16 * part for part in (1, 2, 3))])
    assert find_leaks([a, b], max_distance=6) == []


def test_a_leak_names_the_seconds_that_are_most_alike():
    a = hashed("a", "train", [0b111, 0b1, 0b11, 0b111])
    b = hashed("b", "test", [0b1111, 0b11111, 0b1, 0b1111])
    (leak,) = find_leaks([a, b], max_distance=2)
    assert (leak.seconds_a, leak.seconds_b) == (0.5, 1.0)


def test_videos_of_one_split_may_look_alike():
    videos = [hashed("a", "train", [1] * 4), hashed("b", "train", [1] * 4)]
    assert find_leaks(videos, max_distance=6) == []


def test_every_pair_of_splits_is_compared_and_the_closest_come_first():
    videos = [
        hashed("a", "train", [0b0] * 4),
        hashed("b", "val", [0b1] * 4),
        hashed("c", "test", [0b111] * 4),
    ]
    found = find_leaks(videos, max_distance=6)
    assert [(leak.video_a, leak.video_b, leak.distance) for leak in found] == [
        ("a", "b", 1),
        ("b", "c", 2),
        ("a", "c", 3),
    ]


def test_blocks_do_not_matter(monkeypatch):
    generator = np.random.default_rng(0)
    hashes = generator.integers(2**12, size=(60, 4), dtype=np.uint64)
    videos = [
        hashed(f"{index:02}", ("train", "val", "test")[index % 3], row)
        for index, row in enumerate(hashes)
    ]
    at_once = find_leaks(videos, max_distance=2)
    assert at_once
    monkeypatch.setattr(module, "_VIDEOS_AT_ONCE", 3)
    monkeypatch.setattr(module, "_OTHERS_AT_ONCE", 7)
    assert find_leaks(videos, max_distance=2) == at_once


def test_a_brighter_smaller_copy_is_found_and_another_scene_is_not():
    original = scenes(20, seed=0)
    copy = (original[:, ::2, ::2] * 0.8 + 40).astype(np.uint8)
    videos = [
        hash_video(original, name="original", split="train", fps=10),
        hash_video(copy, name="copy", split="test", fps=10),
        hash_video(scenes(20, seed=1), name="other", split="test", fps=10),
    ]
    (leak,) = find_leaks(videos, max_distance=6)
    assert (leak.video_a, leak.video_b) == ("original", "copy")


def test_frames_are_taken_evenly_and_shown_in_the_time_of_the_file():
    video = hash_video(scenes(16, seed=0), name="a", split="train", fps=10, start_seconds=3)
    assert video.seconds == pytest.approx(3 + np.arange(1, 16, 2) / 10)
    assert len(video.hashes) == FRAMES_HASHED


def test_other_frames_stand_in_for_flat_ones():
    frames = scenes(16, seed=0)
    frames[8:] = 128  # the second half fades to grey
    video = hash_video(frames, name="a", split="train", fps=10)
    assert video.seconds == pytest.approx(np.repeat([0.1, 0.3, 0.5, 0.7], 2))
    assert hash_video(frames[8:], name="a", split="train", fps=10) is None


def test_a_group_in_two_splits_is_refused():
    check_groups_apart(["a", "b", "c"], ["g", "g", "h"], ["train", "train", "test"])
    with pytest.raises(PipelineError) as error:
        check_groups_apart(["a", "b", "c"], ["g", "h", "g"], ["train", "train", "test"])
    assert str(error.value).startswith("a (train) and c (test) are of one group (g), so the scores")


def test_leaks_are_not_ok():
    videos = [hashed(name, "test", [1] * 4) for name in "bc"] + [hashed("a", "train", [1] * 4)]
    leaks = find_leaks(videos, max_distance=6)
    found = leaks_audit(leaks, videos=3, max_distance=6)
    assert (found.value, found.threshold, found.ok) == (2, 0, False)
    assert found.details == {"distance": 6, "videos": 3, "test_videos": 2}
    assert found.sentence.startswith(
        "2 pairs of videos in different splits look alike, with 2 test videos among them"
    )


def test_no_leak_is_ok():
    found = leaks_audit([], videos=3, max_distance=6)
    assert (found.value, found.ok) == (0, True)
    assert found.sentence == "No two of 3 videos in different splits look alike."


def test_what_the_champion_has_seen():
    found = champion_audit(["a", "b"], videos=5, version=3)
    assert (found.value, found.ok) == (2, False)
    assert found.sentence.startswith("The champion, version 3, was trained on 2 of the 5 test")
    assert champion_audit([], videos=5, version=3).ok


def test_the_table(tmp_path):
    videos = [hashed("a", "train", [1, 2, 4, 8]), hashed("b", "test", [1, 2, 4, 8])]
    write_leaks_csv(tmp_path / "leaks.csv", find_leaks(videos, max_distance=6))
    assert list(csv.DictReader((tmp_path / "leaks.csv").open())) == [
        {
            "video_a": "a",
            "split_a": "train",
            "seconds_a": "0.000",
            "video_b": "b",
            "split_b": "test",
            "seconds_b": "0.000",
            "distance": "0",
        }
    ]
