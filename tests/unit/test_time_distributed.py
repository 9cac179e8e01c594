"""TimeDistributed equals Keras's own layer on real frames and does not run padding."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.model.time_distributed import TimeDistributed
from tests.architectures import build, noise_clips, tiny


@pytest.fixture
def frames():
    return np.random.default_rng(0).normal(size=(3, 5, 8, 8, 2)).astype(np.float32)


ALL_REAL = np.ones((3, 5), bool)
MASK = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)


def cnn() -> keras.Sequential:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, strides=2),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(6),
        ]
    )


def test_equal_to_keras_own_layer_when_nothing_is_padded(frames):
    stock, ours = keras.layers.TimeDistributed(cnn()), TimeDistributed(cnn())
    np.testing.assert_allclose(ours(frames, mask=ALL_REAL), stock(frames), atol=1e-6)


def test_real_frames_run_and_padding_gives_zeros(frames):
    layer = TimeDistributed(cnn())
    whole, masked = (np.array(layer(frames, mask=mask)) for mask in (ALL_REAL, MASK))
    np.testing.assert_allclose(masked[MASK], whole[MASK], atol=1e-6)
    assert (masked[~MASK] == 0).all()


def test_padding_does_not_change_the_statistics_of_batch_norm(frames):
    """Moving mean and variance after a training step are those of the real frames alone."""
    padded, alone = TimeDistributed(cnn()), TimeDistributed(cnn())
    frames[~MASK] = 1e3
    padded(frames, mask=MASK, training=True)
    alone(frames[MASK][None], mask=np.ones((1, 9), bool), training=True)
    for one, other in zip(padded.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_any_length_and_batch_size_in_one_graph(frames):
    inputs, mask = keras.Input((None, 8, 8, 2)), keras.Input((None,), dtype="bool")
    outputs = TimeDistributed(cnn())(inputs, mask=mask)
    assert outputs.shape == (None, None, 6)
    model = keras.Model([inputs, mask], outputs)
    whole = model.predict([frames, MASK], verbose=0)
    short = model.predict([frames[:2, :3], MASK[:2, :3]], verbose=0)
    assert whole.shape == (3, 5, 6)
    np.testing.assert_allclose(short, whole[:2, :3], atol=1e-6)


def test_the_cnn_is_once_in_the_graph():
    layer = TimeDistributed(cnn())
    layer.build((None, 16, 8, 8, 2))
    graph = tf.function(lambda x, m: layer(x, mask=m)).get_concrete_function(
        tf.TensorSpec((2, 16, 8, 8, 2)), tf.TensorSpec((2, 16), tf.bool)
    )
    convolutions = [node for node in graph.graph.as_graph_def().node if node.op == "Conv2D"]
    assert len(convolutions) == 1


def test_it_is_a_time_distributed_layer_by_name_and_type():
    layer = TimeDistributed(cnn())
    assert isinstance(layer, keras.layers.TimeDistributed)
    assert type(layer).__name__ == "TimeDistributed"


def test_layers_with_several_inputs_are_applied(frames):
    added = TimeDistributed(keras.layers.Add())([frames, 2 * frames], mask=MASK)
    np.testing.assert_allclose(added, 3 * frames * MASK[:, :, None, None, None], atol=1e-6)
    assert TimeDistributed(keras.layers.Concatenate()).compute_output_shape(
        [(None, None, 8, 2), (None, None, 8, 3)]
    ) == (None, None, 8, 5)


class Shrunk(keras.layers.Layer):
    """Without compute_output_shape, as CustomScaleLayer in InceptionResNetV2."""

    def call(self, inputs):
        return inputs[0] + inputs[1] * 0.5


def test_the_shape_of_a_layer_without_compute_output_shape_is_traced():
    layer = TimeDistributed(Shrunk())
    assert layer.compute_output_shape([(None, None, 8, 2)] * 2) == (None, None, 8, 2)


def test_keras_trains_without_xla_when_jit_compile_is_set():
    model = build(tiny(recurrent="none", summary="mean"))
    with pytest.warns(UserWarning, match="Proceeding with `jit_compile=False`"):
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=True)
    frames, mask = noise_clips([2, 4], 4, 0, (8, 8, 3))
    loss = model.train_on_batch({"frames": frames, "mask": mask}, np.array([0, 1]))
    assert np.isfinite(loss)


TRAIN_ON_TWO_DEVICES = """
import keras, numpy as np, tensorflow as tf
from tests.architectures import build, noise_clips, tiny

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert both.num_replicas_in_sync == 2
# Batch normalisation takes the statistics of each device apart, so both see the same clips.
frames, mask = (np.concatenate([half, half]) for half in noise_clips([2, 4], 4, 0, (8, 8, 3)))
mask = mask.astype(np.uint8)  # fit of Keras 3 averages the first batch of two devices
labels = np.array([0, 1] * 2)

def weights_after_training(strategy, temporal):
    with strategy.scope():
        model = build(tiny(**temporal))
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    data = tf.data.Dataset.from_tensors(({"frames": frames, "mask": mask}, labels))
    model.fit(data.unbatch().batch(4), epochs=2, verbose=0)
    return model.get_weights()

for temporal in ({"recurrent": "none", "summary": "mean"}, {"recurrent": "lstm"}):
    one = weights_after_training(tf.distribute.get_strategy(), temporal)
    for expected, found in zip(one, weights_after_training(both, temporal), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
"""


@pytest.mark.long
def test_two_mirrored_devices_train_as_one():
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_ON_TWO_DEVICES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
