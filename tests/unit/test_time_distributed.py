import keras
import numpy as np
import pytest

from pipeline.model.time_distributed import TimeDistributed


@pytest.fixture
def frames():
    return np.random.default_rng(0).normal(size=(3, 5, 8, 8, 2)).astype(np.float32)


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
    np.testing.assert_allclose(ours(frames), stock(frames), atol=1e-6)
    np.testing.assert_allclose(ours(frames, mask=np.ones((3, 5), bool)), stock(frames), atol=1e-6)


def test_real_frames_are_run_and_padding_gives_zeros(frames):
    layer = TimeDistributed(cnn())
    whole, masked = np.array(layer(frames)), np.array(layer(frames, mask=MASK))
    np.testing.assert_allclose(masked[MASK], whole[MASK], atol=1e-6)
    assert (masked[~MASK] == 0).all()


def test_padding_leaves_the_statistics_of_batch_norm_alone(frames):
    """Moving mean and variance after a training step are those of the real frames alone."""
    padded, alone = TimeDistributed(cnn()), TimeDistributed(cnn())
    frames[~MASK] = 1e3
    padded(frames, mask=MASK, training=True)
    alone(frames[MASK][None], training=True)
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


def test_the_cnn_stands_once_in_the_graph():
    layer = TimeDistributed(cnn())
    layer.build((None, 16, 8, 8, 2))
    import tensorflow as tf

    graph = tf.function(lambda x, m: layer(x, mask=m)).get_concrete_function(
        tf.TensorSpec((2, 16, 8, 8, 2)), tf.TensorSpec((2, 16), tf.bool)
    )
    convolutions = [node for node in graph.graph.as_graph_def().node if node.op == "Conv2D"]
    assert len(convolutions) == 1


def test_it_is_a_time_distributed_layer_by_name_and_type():
    layer = TimeDistributed(cnn())
    assert isinstance(layer, keras.layers.TimeDistributed)
    assert type(layer).__name__ == "TimeDistributed"
