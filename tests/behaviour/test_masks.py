"""The mask is a contract: the content and the amount of padding change nothing.

Every architecture keeps it, in its outputs, its gradients and its training.
"""

import json
from collections.abc import Callable
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tasks.frames import Frames
from pipeline.tasks.heads import FUSION_LAYER
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.regression import Regression
from pipeline.tasks.vocabulary import END
from tests.architectures import (
    ARCHITECTURES,
    CLASSES,
    EVERY_PART,
    build,
    build_captioner,
    built,
    every_architecture,
    frame_shape,
    noise_clips,
)

TOLERANCE = 1e-5
N_FRAMES = 7
ORDER_BLIND = ("mean", "attention_alone")

some_examples = settings(max_examples=10, deadline=None, derandomize=True)
lengths_of_batches = st.lists(st.integers(1, N_FRAMES), min_size=1, max_size=4)
seeds = st.integers(0, 1000)


def logits_of(model: keras.Model) -> Callable:
    """Return a function from frames and mask to the inputs of the softmax."""
    fused = keras.Model(model.input, model.get_layer(FUSION_LAYER).output)

    def logits(frames, mask):
        return fused({"frames": frames, "mask": mask}, training=False)

    return logits


@cache
def compiled(name: str) -> Callable:
    """Return ``logits_of`` as one graph for all lengths and batch sizes."""
    shape = frame_shape(ARCHITECTURES[name])
    signature = [
        tf.TensorSpec((None, None, *shape), tf.uint8),
        tf.TensorSpec((None, None), tf.bool),
    ]
    return tf.function(logits_of(built(name)), signature)


def clips(name, lengths, seed, n_frames=N_FRAMES):
    return noise_clips(lengths, n_frames, seed, frame_shape(ARCHITECTURES[name]))


def with_random_padding(frames, mask, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, frames.shape, dtype=np.uint8)
    return np.where(mask[:, :, None, None, None], frames, pixels)


def padded(array, more):
    return np.pad(array, [(0, 0), (0, more)] + [(0, 0)] * (array.ndim - 2))


@every_architecture
@some_examples
@given(lengths=lengths_of_batches, seed=seeds)
def test_pixels_of_the_padding_do_not_matter(name, lengths, seed):
    logits = compiled(name)
    frames, mask = clips(name, lengths, seed)
    other = with_random_padding(frames, mask, seed + 1)
    np.testing.assert_allclose(logits(other, mask), logits(frames, mask), atol=TOLERANCE)


@every_architecture
@some_examples
@given(lengths=lengths_of_batches, seed=seeds)
def test_padding_to_four_times_the_length_does_not_matter(name, lengths, seed):
    logits = compiled(name)
    frames, mask = clips(name, lengths, seed)
    longer, longer_mask = padded(frames, 3 * N_FRAMES), padded(mask, 3 * N_FRAMES)
    np.testing.assert_allclose(logits(longer, longer_mask), logits(frames, mask), atol=TOLERANCE)


@every_architecture
@some_examples
@given(lengths=st.lists(st.integers(1, N_FRAMES), min_size=2, max_size=4), seed=seeds)
def test_longer_and_shorter_clips_in_the_batch_do_not_matter(name, lengths, seed):
    logits = compiled(name)
    frames, mask = clips(name, lengths, seed)
    alone = [logits(frames[[n], :length], mask[[n], :length]) for n, length in enumerate(lengths)]
    np.testing.assert_allclose(logits(frames, mask), np.concatenate(alone), atol=TOLERANCE)


# A head reads the outputs of an encoder, whatever its parts.
some_architectures = pytest.mark.parametrize(
    "name",
    ["lstm_mean", *(pytest.param(name, marks=pytest.mark.long) for name in EVERY_PART)],
)


@some_architectures
@pytest.mark.parametrize(
    "task",
    [Multilabel(CLASSES), Regression(mean=0.0, deviation=1.0), Frames(CLASSES, fps=10.0)],
    ids=lambda task: task.type,
)
def test_padding_changes_no_output_of_a_task(name, task):
    """With random pixels in the padding, more padding, and other clips in the batch."""
    model = build(ARCHITECTURES[name], task=task)
    frames, mask = clips(name, [1, 3, N_FRAMES, 4], seed=0)
    outputs = outputs_of(model, frames, mask)
    other = with_random_padding(frames, mask, seed=1)
    longer = outputs_of(model, padded(other, N_FRAMES), padded(mask, N_FRAMES))
    alone = [outputs_of(model, frames[[n], :3], mask[[n], :3]) for n in (0, 1)]
    if task.reads_steps:  # an output for each frame
        assert (outputs[~mask] == 0).all()
        assert (longer[:, N_FRAMES:] == 0).all()
        longer = longer[:, :N_FRAMES]
        alone = [padded(one, N_FRAMES - 3) for one in alone]
    np.testing.assert_allclose(longer, outputs, atol=TOLERANCE)
    np.testing.assert_allclose(np.concatenate(alone), outputs[:2], atol=TOLERANCE)
    of_clips = outputs[1:, 2] if task.reads_steps else outputs
    assert np.ptp(of_clips, axis=0).max() > 10 * TOLERANCE  # they depend on the clip


@some_architectures
def test_padding_changes_neither_words_nor_probabilities_nor_attention(name):
    """Of captions, with random pixels in the padding, more padding, and other clips."""
    model = build_captioner(ARCHITECTURES[name])
    lengths = [1, 3, N_FRAMES, 4]
    frames, mask = clips(name, lengths, seed=0)
    captions = outputs_of(model, frames, mask)
    other = with_random_padding(frames, mask, seed=1)
    np.testing.assert_allclose(outputs_of(model, other, mask), captions, atol=TOLERANCE)
    longer = outputs_of(model, padded(frames, N_FRAMES), padded(mask, N_FRAMES))
    np.testing.assert_allclose(longer[:, : captions.shape[1]], captions, atol=TOLERANCE)
    assert (longer[:, captions.shape[1] :] == 0).all()
    alone = [outputs_of(model, frames[[n], :3], mask[[n], :3]) for n in (0, 1)]
    np.testing.assert_allclose(np.concatenate(alone), captions[:2, : 2 + 3], atol=TOLERANCE)
    assert (captions[:, 2:][~mask] == 0).all()
    assert (captions[:, 0] > END).sum(axis=1).min() > 1  # words
    assert np.ptp(captions[:, 1, -1]) > 100 * TOLERANCE  # they depend on the clip


def outputs_of(model: keras.Model, frames, mask) -> np.ndarray:
    return np.array(model({"frames": frames, "mask": mask}, training=False))


@every_architecture
def test_the_gradient_of_padded_pixels_is_zero(name):
    frames, mask = clips(name, [2, N_FRAMES, 1], seed=0)
    pixels = tf.constant(with_random_padding(frames, mask, seed=1), tf.float32)
    logits = logits_of(with_float_pixels(built(name)))
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        total = tf.reduce_sum(logits(pixels, tf.constant(mask)) * [1.0, -2.0, 3.0])
    gradient = np.array(tape.gradient(total, pixels))
    assert (gradient[~mask] == 0).all()
    assert np.abs(gradient[mask]).max() > 0


def with_float_pixels(model: keras.Model) -> keras.Model:
    """Return the same model for float32 pixels: integers have no gradient."""
    config = json.loads(json.dumps(model.get_config()).replace('"uint8"', '"float32"'))
    copy = keras.Model.from_config(config)
    copy.set_weights(model.get_weights())
    return copy


@every_architecture
def test_training_is_the_same_with_padding_and_without(name):
    """Two steps on clips of three frames, alone and padded to six: equal in every weight.

    Moving means and variances of batch normalisation are among them.
    """
    model = build(ARCHITECTURES[name])
    start = model.get_weights()
    frames, mask = clips(name, [3, 3], seed=0, n_frames=3)
    longer_mask = padded(mask, 3)
    longer = with_random_padding(padded(frames, 3), longer_mask, seed=1)

    alone = weights_after_training(model, start, frames, mask)
    with_padding = weights_after_training(model, start, longer, longer_mask)
    for before, one, other in zip(start, alone, with_padding, strict=True):
        np.testing.assert_allclose(other - before, one - before, rtol=1e-3, atol=2e-5)
    norms = [n for n, weight in enumerate(model.weights) if weight.name.startswith("moving_")]
    assert max(np.abs(alone[n] - start[n]).max() for n in norms) > 1e-3


def weights_after_training(model, start, frames, mask):
    model.set_weights(start)
    optimizer = keras.optimizers.SGD(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=True)
    for _ in range(2):
        model.train_on_batch({"frames": frames, "mask": mask}, np.arange(len(frames)))
    return model.get_weights()


@every_architecture
def test_a_clip_of_one_frame_works(name):
    logits = compiled(name)(*clips(name, [1], seed=0, n_frames=1))
    assert logits.shape == (1, len(CLASSES))
    assert np.isfinite(logits).all()


@every_architecture
def test_the_order_of_real_frames_matters_unless_the_model_averages(name):
    """Otherwise the properties above would hold for a model that ignores its inputs."""
    frames, mask = clips(name, [N_FRAMES], seed=0)
    difference = compiled(name)(frames[:, ::-1], mask) - compiled(name)(frames, mask)
    if name in ORDER_BLIND:
        assert np.abs(difference).max() <= TOLERANCE
    else:
        assert np.abs(difference).max() > 10 * TOLERANCE
