import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.model.batch_norm import FusedBatchNormalization


def maps(count=3):
    return tf.constant(np.random.default_rng(0).normal(2, 3, (count, 2, 5, 4)), tf.float32)


def pair(**options):
    layers = [kind(momentum=0.5, **options) for kind in (FUSED, STOCK)]
    for layer in layers:
        layer.build((None, 2, 5, 4))
        layer.gamma.assign([0.5, 1, 2, 3])
        layer.beta.assign([1, 0, -1, 2])
    return layers


FUSED, STOCK = FusedBatchNormalization, keras.layers.BatchNormalization


def outputs_and_gradients(layer, inputs, *, training):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=training)
        total = tf.reduce_sum(tf.sin(outputs))
    wanted = [inputs, layer.gamma.value, layer.beta.value]
    return [outputs, *tape.gradient(total, wanted)]


@pytest.mark.parametrize("training", [True, False])
def test_equal_to_keras_in_outputs_gradients_and_statistics(training):
    fused, stock = pair()
    for found, expected in zip(
        outputs_and_gradients(fused, maps(), training=training),
        outputs_and_gradients(stock, maps(), training=training),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    for found, expected in zip(fused.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_moving_statistics_divide_by_n():
    # One channel with the values 1 and 3: mean 2, variance ((-1)^2 + 1^2) / 2 = 1. Momentum
    # 0.5 from 0 and 1 leads to 1 and 1.
    layer = FusedBatchNormalization(momentum=0.5)
    layer(tf.reshape([1.0, 3.0], (2, 1, 1, 1)), training=True)
    assert float(layer.moving_mean[0]) == pytest.approx(1)
    assert float(layer.moving_variance[0]) == pytest.approx(1)


def test_frozen_it_keeps_its_statistics():
    layer, _ = pair()
    layer.trainable = False
    layer(maps(), training=True)
    assert layer.moving_mean.numpy().tolist() == [0, 0, 0, 0]


def test_half_precision_goes_in_and_comes_out():
    layer = FusedBatchNormalization(dtype="mixed_float16")
    outputs = layer(tf.cast(maps(), tf.float16), training=True)
    assert outputs.dtype == tf.float16
    assert layer.moving_mean.dtype == "float32"


def test_it_comes_back_from_disk_without_custom_objects(tmp_path):
    model = keras.Sequential([keras.Input((2, 5, 4)), FusedBatchNormalization()])
    model.save(tmp_path / "model.keras")
    assert isinstance(
        keras.models.load_model(tmp_path / "model.keras").layers[0], FusedBatchNormalization
    )
