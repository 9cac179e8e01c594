"""The model learns what only the order of frames shows, and needs that order."""

import keras
import numpy as np
import pytest

from data.demo.scenes import render_clip
from pipeline.clips.arrays import ClipArrays
from pipeline.clips.sampling import make_clip
from pipeline.clips.settings import ExtractSection
from pipeline.model.fitting import fit
from pipeline.model.network import build_model
from pipeline.model.prediction import predict_arrays, reversed_order, shuffled_order
from pipeline.model.settings import (
    AugmentationSection,
    CnnSection,
    ModelSection,
    TemporalSection,
    TrainSection,
)
from pipeline.tasks.classification import Classification
from tests.architectures import stored_clips

CLASSES = ("left", "right")
TASK = Classification(CLASSES, target_accuracy=0.95)


def demo_clips(folder, targets, *, seed: int) -> ClipArrays:
    """Store clips of the demo scenes, 32 x 32 pixels and 6 to 12 frames."""
    rng = np.random.default_rng(seed)
    clips = [
        make_clip(
            render_clip(CLASSES[number % 2], frames=6 + number // 2 % 7, rng=rng)[:, ::2, ::2],
            ExtractSection(frames=10),
        )
        for number in range(len(targets))
    ]
    frames, mask = (
        np.stack([getattr(clip, name) for clip in clips]) for name in ("frames", "mask")
    )
    return stored_clips(folder, frames, mask, targets)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model fitted on left and right, and clips that it was not trained on."""
    folder = tmp_path_factory.mktemp("clips")
    train = demo_clips(folder / "train", CLASSES * 80, seed=1)
    test = demo_clips(folder / "test", CLASSES * 30, seed=2)
    keras.utils.set_random_seed(0)
    section = ModelSection(
        streams=["frames"],  # only the layers over time see how frames follow each other
        cnn=CnnSection(filters=[8, 16, 16], pooling="flatten"),
        frame_features=24,
        temporal=TemporalSection(units=[24]),
        dropout=0.1,
    )
    model = build_model(section, TASK, frame_shape=(32, 32, 3))
    training = TrainSection(
        epochs=6,
        learning_rate=0.004,
        schedule="constant",
        weight_decay=0,
        patience=6,
        augmentation=AugmentationSection(
            shift=0.1, brightness=0.1, contrast=0.1, flip=True, flip_swaps=[list(CLASSES)]
        ),
    )
    return model, test, fit(model, TASK, train, test, training)


def accuracy(model, clips, **options) -> float:
    outputs = predict_arrays(model, clips, **options)
    return float(np.mean(outputs.argmax(axis=1) == TASK.encode(clips.targets)))


def test_the_direction_is_learned(trained):
    model, test, _ = trained
    assert accuracy(model, test) >= 0.9


def test_shuffled_frames_are_guessed(trained):
    model, test, _ = trained
    assert accuracy(model, test, frame_order=shuffled_order(0)) <= 0.7


def test_played_backwards_left_is_right(trained):
    model, test, _ = trained
    assert accuracy(model, test, frame_order=reversed_order) <= 0.1


def test_the_model_has_the_weights_of_the_best_epoch(trained):
    model, test, result = trained
    losses = [row["val_loss"] for row in result.history]
    assert result.kept_epoch == int(np.argmin(losses)) + 1
    labels = TASK.encode(test.targets)
    probabilities = predict_arrays(model, test)[np.arange(len(labels)), labels]
    assert -np.log(probabilities).mean() == pytest.approx(min(losses), abs=1e-3)
