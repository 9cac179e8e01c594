import csv
import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import PipelineError
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.evaluation.audits import (
    check_groups_apart,
    leaks_audit,
    length_audit,
    time_audit,
)
from pipeline.evaluation.near_duplicates import (
    FRAMES_HASHED,
    HashedVideo,
    find_near_duplicates,
    hash_stored_videos,
    hash_video,
    spread_frames,
    write_near_duplicates_csv,
)
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.settings import EvaluateSection
from pipeline.tasks.classification import Classification
from pipeline.video.settings import DecodeSection
from pipeline.video.store import stored_path, write_frame_settings, write_frames

SECTION = EvaluateSection(bootstrap_samples=400)
TASK = Classification(("cat", "dog"), target_accuracy=0.9)


def predictions(labels, probabilities):
    return Predictions(
        videos=tuple(f"{index:02}.mp4" for index in range(len(labels))),
        groups=("",) * len(labels),
        targets=tuple(("cat", "dog")[label] for label in labels),
        outputs=np.array(probabilities),
        task=TASK,
    )


def answers(n_correct, n_videos=10):
    return predictions(
        [0] * n_videos, [[0.9, 0.1]] * n_correct + [[0.1, 0.9]] * (n_videos - n_correct)
    )


# time


def audit_time(shuffled_correct, *, correct=9, videos=10, is_recurrent=True):
    return time_audit(
        answers(correct, videos),
        shuffled=answers(shuffled_correct, videos),
        reversed_=answers(3, videos),
        one_frame=answers(2, videos),
        section=SECTION,
        is_recurrent=is_recurrent,
    )


def test_a_model_that_loses_by_shuffling_uses_frame_order():
    finding = audit_time(4)
    assert (finding.name, finding.threshold, finding.status) == ("time", 0.05, "ok")
    assert finding.value == pytest.approx(0.9 - 0.4)
    assert finding.sentence == (
        "The model uses frame order: accuracy is 0.900, with the frames of each clip shuffled "
        "0.400, reversed 0.300, with one frame repeated 0.200."
    )
    assert 0 < finding.details["low"] < 0.2 < 0.7 < finding.details["high"] < 1


def test_a_model_that_loses_nothing_by_shuffling_does_not():
    finding = audit_time(180, correct=180, videos=200)
    assert (finding.status, finding.value) == ("warn", 0)
    assert finding.sentence == (
        "Frame order hardly matters: accuracy is 0.900, with the frames of each clip shuffled "
        "0.900, reversed 0.015, with one frame repeated 0.010. A model without recurrent layers "
        "(model.temporal.recurrent: none) may do as well."
    )


def test_a_model_without_recurrent_layers_is_not_advised_to_have_none():
    finding = audit_time(180, correct=180, videos=200, is_recurrent=False)
    assert "recurrent" not in finding.sentence


@pytest.mark.parametrize(("shuffled", "correct", "videos"), [(10, 10, 11), (4, 4, 9), (1, 9, 9)])
def test_few_test_videos_are_named_in_either_conclusion(shuffled, correct, videos):
    finding = audit_time(shuffled, correct=correct, videos=videos)
    assert f"{videos} test videos are too few to be certain." in finding.sentence


def test_few_groups_are_no_warning_of_the_audit(caplog):
    audit_time(1, correct=9, videos=9)  # the stage warns with the scores
    assert not caplog.records


def test_a_loss_that_may_be_chance_is_called_uncertain():
    finding = audit_time(8)  # one of ten
    assert finding.status == "ok"
    assert finding.details["low"] < 0
    assert finding.sentence.endswith("10 test videos are too few to be certain.")


# length


def lengths(*clips, groups=None):
    """Pairs of frames and class; each clip is a group of its own unless ``groups`` says."""
    frames, labels = zip(*clips, strict=True)
    groups = groups or [f"group {index:03}" for index in range(len(clips))]
    return np.array(frames), [("cat", "dog")[label] for label in labels], groups


# Class 0 is short and class 1 is long: every fold of the others cuts between 7 and 15 frames.
TELLING = lengths(*[(3 + index % 5, 0) for index in range(20)], *[(15, 1)] * 20)
# All have one length: the tree knows only that class 1 is the most frequent.
SILENT = lengths(*[(8, 1)] * 30, *[(8, 0)] * 10)


def audit_length(clips, *, n_correct):
    frames, targets, groups = clips
    baseline = SECTION.resampling(groups).mean_score(TASK.length_baseline(*clips))
    return length_audit(
        answers(n_correct, 20),
        baseline,
        constant=TASK.constant_baseline(targets),
        clips=len(frames),
    )


def test_lengths_that_tell_the_class_are_correct_for_every_clip():
    assert TASK.length_baseline(*TELLING).all()


def test_without_information_in_lengths_the_most_frequent_class_is_predicted():
    assert TASK.length_baseline(*SILENT).tolist() == [1] * 30 + [0] * 10


def test_one_odd_clip_is_not_a_rule():
    # The rules of a tree that sees the two odd clips have three clips at least.
    odd = lengths(*[(4 + index % 3, 0) for index in range(20)], *[(5, 1)] * 20, (30, 1), (31, 1))
    assert not TASK.length_baseline(*odd)[-2:].any()


def test_clips_of_one_group_are_in_one_fold():
    # Each group has a length of its own and one class, so a tree that saw another clip of the
    # group would be correct. The lengths around it are of the other class.
    clips = [(3 * group, group % 2) for group in range(40) for _ in range(8)]
    groups = [f"group {group}" for group in range(40) for _ in range(8)]
    assert TASK.length_baseline(*lengths(*clips, groups=groups)).mean() < 0.5
    assert TASK.length_baseline(*lengths(*clips)).mean() > 0.9


def test_lengths_close_to_the_model_are_a_warning():
    finding = audit_length(TELLING, n_correct=19)
    assert (finding.value, finding.threshold) == (pytest.approx(-0.05), 0.1)
    assert finding.status == "warn"
    assert finding.sentence == (
        "Clip length may be a shortcut: a model that sees only the number of frames has accuracy "
        "1.000 on all 40 clips (cross-validated; a constant answer 0.500), this model 0.950 on "
        "the test videos. Give all clips the same length: lower extract.frames, or use videos of "
        "similar length."
    )


def test_lengths_far_below_the_model_are_ok():
    # Ten of fifty clips have the length of the other class.
    clips = lengths(*[(4, 0)] * 20, *[(15, 0)] * 5, *[(15, 1)] * 20, *[(4, 1)] * 5)
    finding = audit_length(clips, n_correct=19)
    assert finding.status == "ok"
    assert finding.value == pytest.approx(0.95 - 0.8)
    assert finding.details["accuracy_length_only"] == 0.8
    assert finding.details["low"] < 0.8 < finding.details["high"]
    assert finding.sentence.startswith("Clip length is not a shortcut:")


def test_a_weak_model_is_not_blamed_on_lengths():
    assert audit_length(SILENT, n_correct=14).status == "ok"


# leaks


def hashed(name, split, hashes, *, grey=0):
    hashes = np.array(hashes, np.uint64)
    colours = np.full((4, 4, 3), grey, np.uint8)
    return HashedVideo(name, split, hashes, hashes, np.arange(len(hashes)) / 2, colours)


def scenes(count, *, seed):
    """Frames of blocks of random grey, which differ in their coarse pattern."""
    blocks = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 1), dtype=np.uint8)
    return np.repeat(blocks.repeat(8, axis=1).repeat(8, axis=2), 3, axis=3)


def test_the_distance_is_that_of_the_median_frame_to_its_nearest():
    # Four frames; from a, the nearest in b differ by 0, 1, 2 and 5 bits: the median (the lower of
    # the middle two) is 1. From b they are 0, 1, 2 and 6: a has nothing like the last.
    a = hashed("a", "train", [0x0, 0x1F00, 0x3F0000, 0x7F_0000_0000])
    b = hashed("b", "test", [0x0, 0x0F00, 0x0F0000, 0x3F_FFFF_0000_0000])
    (pair,) = find_near_duplicates([a, b], max_distance=8).closest
    assert pair.distance == 1
    assert find_near_duplicates([a, b], max_distance=0).n_pairs == 0


def test_one_common_frame_is_not_enough():
    title = 0xFFFF
    a = hashed("a", "train", [title, *(0x1111 << 16 * part for part in (1, 2, 3))])
    b = hashed("b", "test", [title, *(0xEEEE << 16 * part for part in (1, 2, 3))])
    assert find_near_duplicates([a, b]).closest == []


def test_a_pair_names_the_seconds_that_are_most_alike():
    a = hashed("a", "train", [0b111, 0b1, 0b11, 0b111])
    b = hashed("b", "test", [0b1111, 0b11111, 0b1, 0b1111])
    (pair,) = find_near_duplicates([a, b]).closest
    assert (pair.seconds_a, pair.seconds_b) == (0.5, 1.0)


def test_only_different_splits_are_compared_and_the_closest_come_first():
    videos = [
        hashed("a", "train", [0b0] * 4),
        hashed("b", "val", [0b1] * 4),
        hashed("c", "test", [0b111] * 4),
        hashed("d", "test", [0b1111] * 4),
    ]
    pairs = find_near_duplicates(videos, max_distance=3).closest
    assert [(pair.video_a, pair.video_b, pair.distance) for pair in pairs] == [
        ("a", "b", 1),
        ("b", "c", 2),
        ("a", "c", 3),
        ("b", "d", 3),
    ]


@pytest.mark.parametrize(
    ("bits", "grey", "is_pair"),
    [(6, 200, True), (10, 10, True), (10, 20, False), (11, 0, False)],
)
def test_hashes_of_more_than_6_bits_difference_need_the_same_colours(bits, grey, is_pair):
    videos = [hashed("a", "train", [0] * 8), hashed("b", "test", [2**bits - 1] * 8, grey=grey)]
    assert find_near_duplicates(videos).n_pairs == is_pair


def brute_force(videos, max_distance):
    """Distances of the near pairs, by names, straight from the definition."""

    def median_to_nearest(one, other):
        nearest = sorted(min((a ^ b).bit_count() for b in other) for a in one)
        return nearest[(len(nearest) - 1) // 2]

    found = {}
    for a, b in combinations(videos, 2):
        if a.split != b.split:
            to_b = b.hashes.tolist()
            distance = min(
                min(median_to_nearest(to_a, to_b), median_to_nearest(to_b, to_a))
                for to_a in (a.hashes.tolist(), a.mirrored.tolist())
            )
            if distance <= max_distance:
                found[frozenset((a.name, b.name))] = distance
    return found


@settings(deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    max_distance=st.integers(0, 9),
    n_scenes=st.sampled_from([1, 3, 40]),
    n_frames=st.sampled_from([1, 3, 4, 8]),
)
def test_the_search_finds_what_comparing_all_pairs_finds(seed, max_distance, n_scenes, n_frames):
    # Videos show the frames of a few scenes, some mirrored, each hash with a few changed bits:
    # many distances are close to the limit. With one scene every hash is like every other.
    rng = np.random.default_rng(seed)
    of_scenes = rng.integers(2**64, size=(2, n_scenes), dtype=np.uint64)
    videos = []
    for index in range(24):
        both = of_scenes[:, rng.integers(n_scenes, size=n_frames)][:: rng.choice([1, -1])]
        for _ in range(max_distance):
            both = both ^ (np.uint64(1) << rng.integers(64, size=both.shape, dtype=np.uint64))
        split = ("train", "val", "test")[index // 8]
        colours = np.zeros((4, 4, 3), np.uint8)
        videos.append(HashedVideo(f"{index:02}", split, *both, np.arange(n_frames), colours))
    found = find_near_duplicates(videos, max_distance=max_distance)
    pairs = {frozenset((pair.video_a, pair.video_b)): pair.distance for pair in found.closest}
    assert pairs == brute_force(videos, max_distance)
    assert found.n_pairs == len(pairs)
    test_videos = {f"{index:02}" for index in range(16, 24)}
    assert found.n_test_videos == len(test_videos & frozenset().union(*pairs))


def test_one_copy_among_many_videos_is_found():
    hashes = np.random.default_rng(0).integers(2**63, size=(40_000, FRAMES_HASHED), dtype=np.uint64)
    videos = [hashed(f"{index:05}", "test", row) for index, row in enumerate(hashes)]
    copies = [hashed(f"copy {index}", "train", hashes[index]) for index in (7, 123)]
    pairs = find_near_duplicates([*copies, *videos]).closest
    assert [(pair.video_a, pair.video_b) for pair in pairs] == [
        ("copy 123", "00123"),
        ("copy 7", "00007"),
    ]


def hash_frames(frames, *, name, split="train"):
    """Hash evenly spread frames of a video of 10 frames a second."""
    chosen = spread_frames(len(frames))
    return hash_video(frames[chosen], chosen / 10, name=name, split=split)


def test_a_brighter_smaller_copy_is_found_and_another_scene_is_not():
    original = scenes(20, seed=0)
    copy = (original[:, ::2, ::2] * 0.8 + 40).astype(np.uint8)
    videos = [
        hash_frames(original, name="original", split="train"),
        hash_frames(copy, name="copy", split="test"),
        hash_frames(scenes(20, seed=1), name="other", split="test"),
    ]
    (pair,) = find_near_duplicates(videos).closest
    assert (pair.video_a, pair.video_b) == ("original", "copy")


def test_a_mirrored_copy_is_found():
    original = scenes(20, seed=0)
    videos = [
        hash_frames(original, name="x.mp4", split="train"),
        hash_frames(original[:, :, ::-1], name="x_flipped.mp4", split="test"),
        hash_frames(scenes(20, seed=1), name="other.mp4", split="test"),
    ]
    (pair,) = find_near_duplicates(videos).closest
    assert (pair.video_a, pair.video_b) == ("x.mp4", "x_flipped.mp4")
    assert pair.seconds_a == pair.seconds_b


def test_of_many_similar_videos_the_closest_pairs_are_kept_and_all_are_counted():
    videos = [hashed(f"{index:04}", "train", [1] * 8) for index in range(1000)]
    videos += [hashed(f"{index:04}", "test", [0] * 8) for index in range(1000, 2000)]
    videos += [hashed("copy", "test", [1] * 8)]
    found = find_near_duplicates(videos)
    assert (len(found.closest), found.n_pairs, found.n_test_videos) == (1000, 1001_000, 1001)
    assert {pair.video_b for pair in found.closest} == {"copy"}
    finding = leaks_audit(found, videos=2001)
    assert finding.value == 1001_000
    assert finding.sentence.startswith(
        "Most pairs of videos in different splits look alike: they may share one background. "
        "1,001,000 pairs of videos in different splits look alike, 1,001 test videos among them. "
        "Look at the closest 1,000 (eval/tables/near_duplicates.csv). "
    )


def test_of_too_many_similar_videos_a_sample_is_compared_and_the_counts_are_at_least():
    videos = [hashed(f"{index:03}", "train", [1] * 8) for index in range(100)]
    videos += [hashed(f"{index:03}", "test", [1] * 8) for index in range(100, 150)]
    distinct = np.random.default_rng(0).integers(2**63, size=(30, 8), dtype=np.uint64)
    videos += [hashed(f"other {index}", "train", row) for index, row in enumerate(distinct)]
    videos += [hashed("copy", "test", distinct[7])]
    found = find_near_duplicates(videos, max_distance=6, max_comparisons=510)  # ten of training
    assert (found.n_pairs, found.n_compared, found.is_complete) == (501, 40 * 51, False)
    assert ("other 7", "copy") in {(pair.video_a, pair.video_b) for pair in found.closest}
    finding = leaks_audit(found, videos=181)
    assert "At least 501 pairs of videos in different splits look alike" in finding.sentence
    assert "at least 51 test videos among them" in finding.sentence
    assert finding.details["is_complete"] is False


def test_other_frames_replace_flat_ones():
    frames = scenes(16, seed=0)
    frames[8:] = 128  # the second half fades to grey
    video = hash_frames(frames, name="a")
    assert video.seconds == pytest.approx(np.repeat([0.1, 0.3, 0.5, 0.7], 2))
    assert hash_frames(frames[8:], name="a") is None


def stored_video(folder, frames, *, name="a", start_seconds=None):
    decode = DecodeSection(width=frames.shape[2], height=frames.shape[1], fps=10)
    write_frame_settings(folder, decode)
    facts = write_frames(stored_path(folder, name), frames, lambda: DecodeFacts(name), key=name)
    return VideoRecord(name, "cat", "train", name, start_seconds=start_seconds, facts=facts)


def test_evenly_spread_frames_are_hashed(tmp_path):
    frames = scenes(80, seed=0)
    record = stored_video(tmp_path, frames, start_seconds=3.0)
    (video,) = hash_stored_videos(tmp_path, [record])
    assert video.seconds == pytest.approx(3 + np.arange(5, 80, 10) / 10)
    expected = hash_frames(frames, name="a")
    assert video.hashes.tolist() == expected.hashes.tolist()
    assert video.mirrored.tolist() == expected.mirrored.tolist()


def test_of_a_long_video_only_a_few_frames_are_in_memory(tmp_path):
    frames = np.tile(scenes(32, seed=0).repeat(2, axis=1).repeat(2, axis=2), (20, 1, 1, 1))
    record = stored_video(tmp_path, frames)
    hash_stored_videos(tmp_path, [record])  # imports
    tracemalloc.start()
    try:
        hash_stored_videos(tmp_path, [record])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < frames.nbytes / 5


def test_near_duplicates_are_a_warning():
    others = [hashed(name, "train", [2**60 - 1 << int(name)] * 4) for name in "123"]
    videos = [hashed(name, "test", [1] * 4) for name in "bc"] + [hashed("a", "train", [1] * 4)]
    finding = leaks_audit(find_near_duplicates([*videos, *others]), videos=6)
    assert (finding.value, finding.threshold, finding.status) == (2, 0, "warn")
    assert finding.details == {
        "distance": 10,
        "videos": 6,
        "test_videos": 2,
        "listed": 2,
        "is_complete": True,
    }
    assert finding.sentence.startswith(
        "2 pairs of videos in different splits look alike, 2 test videos among them. Look at them "
        "(eval/tables/near_duplicates.csv)."
    )
    assert "vidpipe labels writes a table with proposed groups" in finding.sentence


def test_without_near_duplicates_the_audit_is_ok():
    finding = leaks_audit(find_near_duplicates([]), videos=3)
    assert (finding.value, finding.status) == (0, "ok")
    assert finding.sentence == (
        "No two of 3 videos in different splits look alike. Videos look alike if half of their "
        "frames have perceptual hashes that differ in at most 6 of 64 bits, or 10 if the colours "
        "agree."
    )


def test_the_table_of_near_duplicates(tmp_path):
    videos = [hashed("a", "train", [1, 2, 4, 8]), hashed("b", "test", [1, 2, 4, 8])]
    write_near_duplicates_csv(tmp_path / "pairs.csv", find_near_duplicates(videos).closest)
    assert list(csv.DictReader((tmp_path / "pairs.csv").open())) == [
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


def test_a_group_in_two_splits_is_refused():
    a, b = VideoRecord("a", "cat", "train", "g"), VideoRecord("b", "cat", "train", "g")
    check_groups_apart([a, b, VideoRecord("c", "cat", "test", "h")])
    check_groups_apart([VideoRecord("a", "cat", "train"), VideoRecord("b", "cat", "test")])
    with pytest.raises(PipelineError) as error:
        check_groups_apart([a, b, VideoRecord("c", "cat", "test", "g")])
    assert "a (train) and c (test) are in different splits" in str(error.value)
    assert "dvc repro --force catalog" in str(error.value)
