"""The model learns what only time tells, and forgets it when time is taken away."""

import keras
import numpy as np
import pytest

from data.demo.scenes import render_clip
from pipeline.base.files import write_csv
from pipeline.clips.sampling import ClipSpec, make_clip
from pipeline.clips.shards import ClipArrays
from pipeline.model import task
from pipeline.model.architecture import Architecture, Cnn, Temporal
from pipeline.model.augmentation import Augmentation
from pipeline.model.classifier import build_classifier
from pipeline.model.prediction import predict_arrays, shuffled_order
from pipeline.model.training import FitOptions, fit

CLASSES = ("left", "right")
N_FRAMES = 10


def clips_of(folder, *, per_class: int, seed: int) -> ClipArrays:
    """Draw clips of the demo scenes, 32 x 32 pixels and 6 to 12 frames, as extract stores them."""
    rng = np.random.default_rng(seed)
    rows, clips = [], []
    for number in range(per_class * len(CLASSES)):
        label = CLASSES[number % len(CLASSES)]
        frames = render_clip(label, frames=6 + number // 2 % 7, rng=rng)[:, ::2, ::2]
        clips.append(make_clip(frames, ClipSpec(N_FRAMES, "uniform")))
        rows.append(
            {"name": f"{number:03d}", "label": label, "group": "", "shard": 0, "row": number}
        )
    folder.mkdir()
    np.save(folder / "00.frames.npy", np.stack([clip.frames for clip in clips]))
    np.save(folder / "00.mask.npy", np.stack([clip.mask for clip in clips]))
    write_csv(folder / "clips.csv", list(rows[0]), rows)
    return ClipArrays(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model fitted on left and right, and clips that it has not seen."""
    folder = tmp_path_factory.mktemp("clips")
    train = clips_of(folder / "train", per_class=120, seed=1)
    test = clips_of(folder / "test", per_class=40, seed=2)
    options = FitOptions(
        seed=0,
        epochs=10,
        batch_size=16,
        learning_rate=2e-3,
        clip_norm=1.0,
        patience=10,
        class_weights="none",
        augmentation=Augmentation(0.1, 0.1, 0.1, flip=True, flip_swaps=[CLASSES]),
    )
    architecture = Architecture(
        Cnn(filters=[8, 16, 16]),
        frame_features=24,
        temporal=Temporal(units=[24]),
        dropout=0.1,
        motion="none",  # so that the order of frames is the head's to learn
    )
    model = build_classifier(architecture, n_classes=2, frame_shape=(32, 32, 3))
    result = fit(model, train, test, CLASSES, options)
    return model, test, result


def accuracy(model, clips, **options) -> float:
    labels = task.encode_labels(clips.labels, CLASSES)
    return float(np.mean(predict_arrays(model, clips, **options).argmax(axis=1) == labels))


def test_the_direction_is_learned(trained):
    model, test, _ = trained
    assert accuracy(model, test) >= 0.9


def test_shuffled_frames_are_left_to_chance(trained):
    model, test, _ = trained
    assert accuracy(model, test, frame_order=shuffled_order(0)) <= 0.7


def test_played_backwards_left_is_right(trained):
    model, test, _ = trained
    backwards = accuracy(model, test, frame_order=lambda _, frames: np.arange(frames)[::-1])
    assert backwards <= 0.1


def test_the_model_has_the_weights_of_the_best_epoch(trained):
    model, test, result = trained
    losses = [row["val_loss"] for row in result.history]
    assert result.best_epoch == int(np.argmin(losses)) + 1
    labels = task.encode_labels(test.labels, CLASSES)
    probabilities = predict_arrays(model, test)[np.arange(len(labels)), labels]
    assert -np.log(probabilities).mean() == pytest.approx(min(losses), abs=1e-3)


def test_balanced_class_weights_change_what_is_learned(tmp_path):
    """With three times as many lefts, weights make the rights count: other weights come out."""
    clips = clips_of(tmp_path / "train", per_class=8, seed=3)
    clips.labels[1::4] = ["left"] * 4  # 12 lefts, 4 rights

    def fitted(class_weights):
        keras.utils.set_random_seed(0)
        architecture = Architecture(
            Cnn(filters=[4]), frame_features=4, temporal=Temporal(units=[4]), dropout=0.0
        )
        model = build_classifier(architecture, n_classes=2, frame_shape=(32, 32, 3))
        still = Augmentation(0.0, 0.0, 0.0, flip=False, flip_swaps=[])
        options = FitOptions(0, 1, 16, 1e-2, 1.0, 1, class_weights, still)
        return fit(model, clips, clips, CLASSES, options).history[0]["loss"]

    plain, balanced = fitted("none"), fitted("balanced")
    assert abs(plain - balanced) > 1e-3
