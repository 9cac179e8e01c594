"""What the CNN sees of frames when it is shown how they differ."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.model.architecture import Cnn
from pipeline.model.motion import FrameDifferences
from tests.architectures import build, tiny

# Two clips of three frames of one grey pixel.
GREYS = np.array([[10, 30, 0], [255, 0, 255]], np.uint8)
FRAMES = np.repeat(GREYS[:, :, None, None, None], 3, axis=-1)
# 127.5 + (30 - 10) / 2, 127.5 + (0 - 30) / 2; then the two ends of the range.
SHOWN = np.array([[127.5, 137.5, 112.5], [127.5, 0.0, 255.0]], np.float32)


def test_differences_are_shown_around_grey():
    shown = FrameDifferences(keep_frames=False)(FRAMES)
    assert shown.dtype == tf.float32
    np.testing.assert_array_equal(shown, np.repeat(SHOWN[:, :, None, None, None], 3, axis=-1))


def test_frames_come_before_their_differences():
    shown = np.asarray(FrameDifferences(keep_frames=True)(FRAMES))
    assert shown.shape == (2, 3, 1, 1, 6)
    np.testing.assert_array_equal(shown[..., 0, 0, 2], GREYS)
    np.testing.assert_array_equal(shown[..., 0, 0, 3], SHOWN)


def test_under_mixed_precision_a_difference_of_one_is_still_seen():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = FrameDifferences(keep_frames=False)
    finally:
        keras.config.set_dtype_policy("float32")
    shown = layer(np.array([200, 201], np.uint8).reshape(1, 2, 1, 1, 1))
    np.testing.assert_array_equal(np.ravel(shown), [127.5, 128.0])


def test_the_same_constant_light_on_all_frames_changes_nothing():
    model = build(tiny(motion="difference"))
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 200, (2, 4, 8, 8, 3), dtype=np.uint8)
    mask = np.ones((2, 4), bool)
    lighter = model({"frames": frames + np.uint8(50), "mask": mask})
    np.testing.assert_array_equal(lighter, model({"frames": frames, "mask": mask}))


@pytest.mark.parametrize(("motion", "channels"), [("none", 3), ("difference", 3), ("both", 6)])
def test_the_first_convolution_sees_what_is_asked_for(motion, channels):
    model = build(tiny(Cnn(filters=[4], wrap="per_layer"), motion=motion))
    assert model.get_layer("conv1").layer.kernel.shape == (3, 3, channels, 4)
