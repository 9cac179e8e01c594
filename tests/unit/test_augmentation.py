"""Random changes of clips: the same for every frame, harmless for padding, known to the target."""

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.model.augmentation import clip_augmenter
from pipeline.model.settings import AugmentationSection
from pipeline.tasks.classification import Classification

TASK = Classification(("down", "left", "right"), target_accuracy=0.95)
NO_CHANGE = {"shift": 0.0, "brightness": 0.0, "contrast": 0.0}


@pytest.fixture
def frames():
    """Four frames of random pixels between 60 and 190, so that no change saturates."""
    return np.random.default_rng(0).integers(60, 190, (4, 10, 20, 3), dtype=np.uint8)


def augmented(frames, seed, label=0, real=None, **options):
    mask = np.arange(len(frames)) < (len(frames) if real is None else real)
    augment = clip_augmenter(AugmentationSection(**{**NO_CHANGE, **options}), TASK)
    changed, label = augment(frames, mask, np.int64(label), np.array([0, seed], np.int32))
    return np.array(changed), int(label)


def test_zeros_change_nothing(frames):
    assert not AugmentationSection(**NO_CHANGE).changes_clips
    changed, label = augmented(frames, 1)
    np.testing.assert_array_equal(changed, frames)
    assert label == 0


def test_equal_seeds_give_equal_changes_and_others_do_not(frames):
    options = {"shift": 0.3, "brightness": 0.1, "contrast": 0.1}
    one, again, other = (augmented(frames, seed, **options)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("seed", range(5))
def test_every_frame_of_a_clip_changes_alike(frames, seed):
    frames[:] = frames[0]
    changed, _ = augmented(frames, seed, shift=0.3, contrast=0.2)
    assert (changed == changed[0]).all()


def test_a_shift_moves_the_picture_and_mirrors_its_border(frames):
    shifts = set()
    for seed in range(40):
        changed, _ = augmented(frames, seed, shift=0.1)
        padded = np.pad(frames, ((0, 0), (1, 1), (2, 2), (0, 0)), mode="symmetric")
        fitting = [
            (dy, dx)
            for dy in range(3)
            for dx in range(5)
            if (changed == padded[:, dy : dy + 10, dx : dx + 20]).all()
        ]
        assert len(fitting) == 1
        shifts.add(fitting[0])
    assert len(shifts) > 9  # of 15 possible ones


def test_brightness_adds_the_same_everywhere(frames):
    changed, _ = augmented(frames, 3, brightness=0.2)
    difference = changed.astype(int) - frames
    assert np.abs(difference - difference[0, 0, 0, 0]).max() <= 1
    assert 0 < abs(difference[0, 0, 0, 0]) <= 51


@pytest.mark.parametrize("seed", range(3))
def test_a_padded_clip_changes_as_it_would_without_padding(frames, seed):
    """Otherwise short clips would be lighter or darker than long ones: a clue to their class."""
    options = {"brightness": 0.2, "contrast": 0.5}
    alone, _ = augmented(frames, seed, **options)
    padded, _ = augmented(np.pad(frames, ((0, 9), (0, 0), (0, 0), (0, 0))), seed, real=4, **options)
    assert np.abs(padded[:4].astype(int) - alone).max() <= 1  # rounding of the mean
    assert (padded[4:] == 0).all()


def test_a_mirror_swaps_the_classes_that_it_turns_into_each_other(frames):
    swapped = {0: 0, 1: 2, 2: 1}
    mirrored = 0
    for seed in range(20):
        for label in range(3):
            changed, new_label = augmented(
                frames, seed, label, flip=True, flip_swaps=[["left", "right"]]
            )
            if (changed == frames).all():
                assert new_label == label
            else:
                np.testing.assert_array_equal(changed, frames[:, :, ::-1])
                assert new_label == swapped[label]
                mirrored += 1
    assert 15 <= mirrored <= 45  # about half of 60


def test_an_unknown_class_is_named():
    section = AugmentationSection(flip=True, flip_swaps=[["left", "up"]])
    with pytest.raises(PipelineError, match=r"flip_swaps: expected pairs of .* Received: up"):
        clip_augmenter(section, TASK)
