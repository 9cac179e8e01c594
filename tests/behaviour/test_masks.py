"""The mask is a contract: what stands in the padding, and how much of it, changes nothing.

Every architecture keeps it, in its logits, its gradients and its training.
"""

import json
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architectures import ARCHITECTURES, N_CLASSES, build, frame_shape, noise_clips

TOLERANCE = 1e-5
N_FRAMES = 7

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
some_examples = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 1000)
batches = st.lists(st.integers(1, N_FRAMES), min_size=1, max_size=4)


@dataclass(frozen=True)
class Built:
    model: keras.Model
    logits: tf.types.experimental.PolymorphicFunction  # one graph for all lengths and batch sizes
    shape: tuple[int, int, int]

    def clips(self, lengths, seed, n_frames=N_FRAMES):
        return noise_clips(lengths, n_frames, seed, self.shape)


@pytest.fixture(scope="module")
def built():
    """Return the model of a name, built once. Tests that train it build their own."""
    models = {}

    def built(name: str) -> Built:
        if name not in models:
            model, shape = build(ARCHITECTURES[name]), frame_shape(ARCHITECTURES[name])
            signature = [
                tf.TensorSpec((None, None, *shape), tf.uint8),
                tf.TensorSpec((None, None), tf.bool),
            ]
            models[name] = Built(model, tf.function(logits_of(model), signature), shape)
        return models[name]

    return built


def logits_of(model: keras.Model):
    """Return a function from frames and mask to what the softmax is taken of."""
    classes = model.get_layer("classes")
    features = keras.Model(model.input, classes.input)

    def logits(frames, mask):
        clip = features({"frames": frames, "mask": mask}, training=False)
        return tf.matmul(clip, classes.kernel) + classes.bias

    return logits


def garbage(frames, mask, seed):
    """Return the frames with random pixels where the mask is False."""
    pixels = np.random.default_rng(seed).integers(0, 256, frames.shape, dtype=np.uint8)
    return np.where(mask[:, :, None, None, None], frames, pixels)


def padded(array, more):
    return np.pad(array, [(0, 0), (0, more)] + [(0, 0)] * (array.ndim - 2))


@every_architecture
@some_examples
@given(lengths=batches, seed=seeds)
def test_pixels_of_the_padding_do_not_matter(built, name, lengths, seed):
    one = built(name)
    frames, mask = one.clips(lengths, seed)
    other = garbage(frames, mask, seed + 1)
    np.testing.assert_allclose(one.logits(other, mask), one.logits(frames, mask), atol=TOLERANCE)


@every_architecture
@some_examples
@given(lengths=batches, seed=seeds)
def test_padding_to_four_times_the_length_does_not_matter(built, name, lengths, seed):
    one = built(name)
    frames, mask = one.clips(lengths, seed)
    more = 3 * N_FRAMES
    longer, longer_mask = padded(frames, more), padded(mask, more)
    np.testing.assert_allclose(
        one.logits(longer, longer_mask), one.logits(frames, mask), atol=TOLERANCE
    )


@every_architecture
@some_examples
@given(lengths=st.lists(st.integers(1, N_FRAMES), min_size=2, max_size=4), seed=seeds)
def test_longer_and_shorter_clips_in_the_batch_do_not_matter(built, name, lengths, seed):
    one = built(name)
    frames, mask = one.clips(lengths, seed)
    alone = [
        one.logits(frames[[n], :length], mask[[n], :length]) for n, length in enumerate(lengths)
    ]
    np.testing.assert_allclose(one.logits(frames, mask), np.concatenate(alone), atol=TOLERANCE)


@every_architecture
def test_the_gradient_of_padded_pixels_is_zero(built, name):
    one = built(name)
    frames, mask = one.clips([2, N_FRAMES, 1], seed=0)
    pixels = tf.constant(garbage(frames, mask, seed=1), tf.float32)
    logits = logits_of(with_float_pixels(one.model))
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        total = tf.reduce_sum(logits(pixels, tf.constant(mask)) * [1.0, -2.0, 3.0])
    gradient = np.array(tape.gradient(total, pixels))
    assert (gradient[~mask] == 0).all()
    assert np.abs(gradient[mask]).max() > 0


def with_float_pixels(model: keras.Model) -> keras.Model:
    """The same model for float32 pixels: whole numbers have no gradient."""
    config = json.loads(json.dumps(model.get_config()).replace('"uint8"', '"float32"'))
    copy = keras.Model.from_config(config)
    copy.set_weights(model.get_weights())
    return copy


@every_architecture
def test_training_is_the_same_with_padding_and_without(name):
    """Two steps on clips of three frames, alone and padded to twelve: equal in every weight.

    Moving means and variances of batch normalisation are among them.
    """
    architecture = ARCHITECTURES[name]
    model = build(architecture)
    start = model.get_weights()
    frames, mask = noise_clips([3, 3], 3, 0, frame_shape(architecture))
    longer_mask = padded(mask, 9)
    longer = garbage(padded(frames, 9), longer_mask, seed=1)

    alone = weights_after_training(model, start, frames, mask)
    with_padding = weights_after_training(model, start, longer, longer_mask)
    for before, one, other in zip(start, alone, with_padding, strict=True):
        np.testing.assert_allclose(other - before, one - before, rtol=1e-3, atol=2e-5)
    norms = [n for n, weight in enumerate(model.weights) if weight.name.startswith("moving_")]
    if architecture.cnn.batch_norm:
        assert max(np.abs(alone[n] - start[n]).max() for n in norms) > 1e-3


def weights_after_training(model, start, frames, mask):
    model.set_weights(start)
    optimizer = keras.optimizers.SGD(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=True)
    for _ in range(2):
        model.train_on_batch({"frames": frames, "mask": mask}, np.arange(len(frames)) % N_CLASSES)
    return model.get_weights()


@every_architecture
def test_a_clip_of_one_frame_works(built, name):
    one = built(name)
    frames, mask = one.clips([1], seed=0, n_frames=1)
    logits = one.logits(frames, mask)
    assert logits.shape == (1, N_CLASSES)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", set(ARCHITECTURES) - {"mean", "attention_alone"})
def test_the_order_of_real_frames_does_matter(built, name):
    """Otherwise the properties above would hold for a model that looks at nothing."""
    one = built(name)
    frames, mask = one.clips([N_FRAMES], seed=0)
    difference = one.logits(frames[:, ::-1], mask) - one.logits(frames, mask)
    assert np.abs(difference).max() > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["mean", "attention_alone"])
def test_without_recurrence_order_does_not_matter(built, name):
    one = built(name)
    frames, mask = one.clips([N_FRAMES], seed=0)
    np.testing.assert_allclose(
        one.logits(frames[:, ::-1], mask), one.logits(frames, mask), atol=TOLERANCE
    )
