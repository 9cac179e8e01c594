"""Frame differences, and batch normalisation in one operation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.model.layers import FrameDifferences, FusedBatchNormalization

# Two clips of three frames of one grey pixel.
GREYS = np.array([[10, 30, 0], [255, 0, 255]], np.uint8)
FRAMES = np.repeat(GREYS[:, :, None, None, None], 3, axis=-1)
# 127.5 + (30 - 10) / 2, 127.5 + (0 - 30) / 2; then the two ends of the range.
DIFFERENCES = np.array([[127.5, 137.5, 112.5], [127.5, 0.0, 255.0]], np.float32)


def test_differences_are_centred_on_grey():
    differences = FrameDifferences()(FRAMES)
    assert differences.dtype == tf.float32
    expected = np.repeat(DIFFERENCES[:, :, None, None, None], 3, axis=-1)
    np.testing.assert_array_equal(differences, expected)


def test_under_mixed_precision_a_difference_of_one_is_kept():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = FrameDifferences()
    finally:
        keras.config.set_dtype_policy("float32")
    differences = layer(np.array([200, 201], np.uint8).reshape(1, 2, 1, 1, 1))
    np.testing.assert_array_equal(np.ravel(differences), [127.5, 128.0])


MAPS = tf.constant(np.random.default_rng(0).normal(2, 3, (3, 2, 5, 4)), tf.float32)


def batch_norm(kind):
    layer = kind(momentum=0.5)
    layer.build((None, 2, 5, 4))
    layer.gamma.assign([0.5, 1, 2, 3])
    layer.beta.assign([1, 0, -1, 2])
    return layer


def outputs_and_gradients(layer, inputs, *, training):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=training)
        total = tf.reduce_sum(tf.sin(outputs))
    return [outputs, *tape.gradient(total, [inputs, layer.gamma.value, layer.beta.value])]


@pytest.mark.parametrize("training", [True, False])
def test_equal_to_keras_in_outputs_gradients_and_statistics(training):
    fused, stock = batch_norm(FusedBatchNormalization), batch_norm(keras.layers.BatchNormalization)
    for value, expected in zip(
        outputs_and_gradients(fused, MAPS, training=training),
        outputs_and_gradients(stock, MAPS, training=training),
        strict=True,
    ):
        np.testing.assert_allclose(value, expected, atol=1e-4)
    for value, expected in zip(fused.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_moving_statistics_divide_by_n():
    # One channel with the values 1 and 3: mean 2, variance ((-1)^2 + 1^2) / 2 = 1. Momentum
    # 0.5 from 0 and 1 leads to 1 and 1.
    layer = FusedBatchNormalization(momentum=0.5)
    layer(tf.reshape([1.0, 3.0], (2, 1, 1, 1)), training=True)
    assert float(layer.moving_mean[0]) == pytest.approx(1)
    assert float(layer.moving_variance[0]) == pytest.approx(1)


def test_frozen_batch_norm_keeps_its_statistics():
    layer = batch_norm(FusedBatchNormalization)
    layer.trainable = False
    layer(MAPS, training=True)
    assert layer.moving_mean.numpy().tolist() == [0, 0, 0, 0]


def test_half_precision_stays_half_precision():
    layer = FusedBatchNormalization(dtype="mixed_float16")
    outputs = layer(tf.cast(MAPS, tf.float16), training=True)
    assert outputs.dtype == tf.float16
    assert layer.moving_mean.dtype == "float32"
