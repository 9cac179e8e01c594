"""The mask is a contract: what stands in the padding, and how much of it, changes nothing."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.classifier import Architecture, build_classifier

TOLERANCE = 1e-5
SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_classifier(
        Architecture(cnn_filters=[4, 8], frame_features=8, lstm_units=8, dropout=0.2),
        n_classes=3,
        frame_shape=SHAPE,
    )


def clips(lengths: list[int], n_frames: int, seed: int):
    """Clips of random pixels with the given numbers of real frames, and their masks."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((len(lengths), n_frames, *SHAPE), np.uint8)
    mask = np.arange(n_frames) < np.array(lengths)[:, None]
    frames[mask] = rng.integers(0, 256, (mask.sum(), *SHAPE), dtype=np.uint8)
    return frames, mask


def predict(model, frames, mask):
    return keras.ops.convert_to_numpy(model({"frames": frames, "mask": mask}, training=False))


batches = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(lengths=batches, seed=st.integers(0, 1000))
def test_pixels_of_the_padding_do_not_matter(model, lengths, seed):
    frames, mask = clips(lengths, 6, seed)
    expected = predict(model, frames, mask)
    frames[~mask] = np.random.default_rng(seed + 1).integers(0, 256, frames[~mask].shape)
    np.testing.assert_allclose(predict(model, frames, mask), expected, atol=TOLERANCE)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(lengths=batches, seed=st.integers(0, 1000), more=st.integers(1, 18))
def test_more_padding_does_not_matter(model, lengths, seed, more):
    frames, mask = clips(lengths, 6, seed)
    longer = np.pad(frames, ((0, 0), (0, more), (0, 0), (0, 0), (0, 0)))
    longer_mask = np.pad(mask, ((0, 0), (0, more)))
    np.testing.assert_allclose(
        predict(model, longer, longer_mask), predict(model, frames, mask), atol=TOLERANCE
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 6), min_size=2, max_size=4), seed=st.integers(0, 1000))
def test_the_other_clips_of_a_batch_do_not_matter(model, lengths, seed):
    frames, mask = clips(lengths, 6, seed)
    together = predict(model, frames, mask)
    alone = [
        predict(model, frames[[n], :length], mask[[n], :length]) for n, length in enumerate(lengths)
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=TOLERANCE)


def test_the_order_of_real_frames_does_matter(model):
    """Otherwise the properties above would hold for a model that looks at nothing."""
    frames, mask = clips([6], 6, seed=0)
    difference = predict(model, frames[:, ::-1], mask) - predict(model, frames, mask)
    assert np.abs(difference).max() > 100 * TOLERANCE
