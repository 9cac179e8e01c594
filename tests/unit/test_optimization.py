"""Rates, optimizers, losses and the two phases of fine-tuning."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.base.files import write_csv
from pipeline.clips.shards import ClipArrays
from pipeline.model import task
from pipeline.model.architecture import Architecture
from pipeline.model.augmentation import Augmentation
from pipeline.model.classifier import cnn_layers
from pipeline.model.optimization import build_optimizer, rate_by_step
from pipeline.model.prediction import predict_arrays
from pipeline.model.training import FineTuning, FitOptions, fit
from pipeline.params import load_params
from pipeline.stages.train import architecture, fit_options
from tests.architectures import build, noise_clips, tiny

CLASSES = ("a", "b", "c")


@pytest.fixture
def clips(tmp_path):
    """Six clips of noise, as extract stores them."""
    frames, mask = noise_clips([1, 2, 3, 4, 4, 4], 4, 0, (8, 8, 3))
    np.save(tmp_path / "00.frames.npy", frames)
    np.save(tmp_path / "00.mask.npy", mask)
    rows = [
        {"name": f"{n}.mp4", "label": CLASSES[n % 3], "group": "", "shard": 0, "row": n}
        for n in range(6)
    ]
    write_csv(tmp_path / "clips.csv", list(rows[0]), rows)
    return ClipArrays(tmp_path)


def options(**changes) -> FitOptions:
    still = Augmentation(0.0, 0.0, 0.0, flip=False, flip_swaps=[])
    basic = {
        "seed": 0,
        "epochs": 3,
        "batch_size": 3,
        "learning_rate": 0.01,
        "clip_norm": 1.0,
        "patience": 9,
        "class_weights": "none",
        "augmentation": still,
    }
    return FitOptions(**{**basic, **changes})


def small() -> keras.Model:
    """Without recurrence, whose graphs take seconds to build."""
    return build(tiny(recurrent="none", summary="mean"))


def test_the_committed_params_are_the_defaults():
    committed = architecture(load_params())
    lists_as_tuples = replace(
        committed,
        cnn=replace(committed.cnn, filters=tuple(committed.cnn.filters)),
        temporal=replace(committed.temporal, units=tuple(committed.temporal.units)),
    )
    assert lists_as_tuples == Architecture()


def rates(**changes):
    options = {"schedule": "cosine", "warmup_steps": 4, "steps": 12, **changes}
    rate = rate_by_step(0.8, **options)
    return [float(rate(step)) for step in range(options["steps"] + 1)]


def test_the_rate_rises_and_falls_as_half_a_cosine():
    # Up by 0.8 / 4 a step; then 0.8 * (1 + cos(pi * n / 8)) / 2 for n = 0 to 8.
    expected = [0.2, 0.4, 0.6, 0.8, 0.8, 0.76955, 0.68284, 0.55307, 0.4]
    assert rates()[:9] == pytest.approx(expected, abs=1e-5)
    assert rates()[12] == pytest.approx(0.0, abs=1e-7)
    assert rates(warmup_steps=0)[6] == pytest.approx(0.4)


def test_a_constant_rate_stays_after_its_warm_up():
    assert rates(schedule="constant")[2:] == pytest.approx([0.6] + [0.8] * 10)
    assert rate_by_step(0.8, schedule="constant", warmup_steps=0, steps=9) == 0.8
    assert rate_by_step(0.8, schedule="reduce_on_plateau", warmup_steps=0, steps=9) == 0.8


def test_decay_spares_offsets_and_scales():
    """With no gradient, AdamW takes rate * decay = 0.1 * 0.5 of a kernel and nothing of a bias."""
    layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")
    layer.build((None, 1))
    optimizer = build_optimizer("adamw", learning_rate=0.1, weight_decay=0.5, clip_norm=1.0)
    optimizer.apply([weight * 0 for weight in layer.weights], layer.weights)
    assert [float(np.squeeze(weight)) for weight in layer.weights] == pytest.approx([0.95, 1.0])


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_gradients_are_clipped(name):
    """Gradients of 1000 and 1 count as 1 and 1, so Adam takes twice its rate of the weight.

    Unclipped, the first one would stay in its mean square: it would take 0.1 and then 0.07.
    """
    weight = keras.Variable([0.0])
    optimizer = build_optimizer(name, learning_rate=0.1, weight_decay=0.0, clip_norm=1.0)
    optimizer.build([weight])
    for gradient in (1000.0, 1.0):
        optimizer.apply([keras.ops.array([gradient])], [weight])
    assert float(weight[0]) == pytest.approx(-0.2, abs=1e-5)


def test_smoothed_labels():
    # 0.3 of the label is spread over three classes: 0.8, 0.1, 0.1.
    probabilities = np.array([[0.7, 0.2, 0.1]], np.float32)
    loss = float(task.loss(label_smoothing=0.3)(np.array([0]), probabilities))
    assert loss == pytest.approx(-(0.8 * np.log(0.7) + 0.1 * np.log(0.2) + 0.1 * np.log(0.1)))
    plain = float(task.loss()(np.array([0]), probabilities))
    assert plain == pytest.approx(-np.log(0.7))


@pytest.mark.parametrize("schedule", ["cosine", "reduce_on_plateau"])
def test_a_rate_that_changes_is_in_the_history(clips, schedule):
    result = fit(
        small(), clips, clips, CLASSES,
        options(schedule=schedule, optimizer="adamw", weight_decay=0.01, label_smoothing=0.1),
    )  # fmt: skip
    noted = [row["learning_rate"] for row in result.history]
    # Two steps an epoch, noted after the last: 0.01 * (1 + cos(pi * n / 6)) / 2 for n = 2, 4, 6.
    expected = {"cosine": [0.0075, 0.0025, 0.0], "reduce_on_plateau": [0.01] * 3}
    assert noted == pytest.approx(expected[schedule], abs=1e-8)


def test_without_changes_of_the_rate_the_history_has_none(clips):
    result = fit(small(), clips, clips, CLASSES, options(epochs=1))
    assert list(result.history[0]) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]


class Watch(keras.callbacks.Callback):
    """Keeps the weights of the CNN at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
        weights = [w for layer in cnn_layers(self.model) for w in layer.get_weights()]
        self.seen.append(np.concatenate([weight.ravel() for weight in weights]))


def test_the_head_trains_first_and_then_the_cnn_at_a_lower_rate(clips):
    model, watch = small(), Watch()
    start = np.concatenate([w.ravel() for layer in cnn_layers(model) for w in layer.get_weights()])
    tuning = FineTuning(head_epochs=2, learning_rate=0.001)
    result = fit(
        model, clips, clips, CLASSES, options(epochs=4, fine_tuning=tuning), callbacks=[watch]
    )
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    rates = [row["learning_rate"] for row in result.history]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])
    np.testing.assert_array_equal(watch.seen[0], start)
    np.testing.assert_array_equal(watch.seen[1], start)
    assert np.abs(watch.seen[2] - start).max() > 0
    assert all(layer.trainable for layer in cnn_layers(model))


@pytest.mark.parametrize("cache", [False, True])
def test_the_best_epoch_of_both_phases_is_kept(clips, tmp_path, cache):
    """A second phase at an absurd rate spoils the model; the first one's weights come back."""
    model = small()
    tuning = FineTuning(head_epochs=2, learning_rate=50.0)
    result = fit(
        model, clips, clips, CLASSES, options(epochs=4, fine_tuning=tuning, cache_features=cache),
        features_folder=tmp_path / "features",
    )  # fmt: skip
    losses = [row["val_loss"] for row in result.history]
    assert result.best_epoch == int(np.argmin(losses)) + 1 <= 2
    labels = task.encode_labels(clips.labels, CLASSES)
    probabilities = predict_arrays(model, clips)[np.arange(6), labels]
    assert -np.log(probabilities).mean() == pytest.approx(min(losses), abs=1e-5)


class Spoil(keras.callbacks.Callback):
    """Makes all weights NaN before an epoch, counted from 1."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
        if epoch + 1 == self._epoch:
            self.model.set_weights([weight * np.nan for weight in self.model.get_weights()])


def test_a_loss_that_is_no_number_from_the_start_is_an_error(clips):
    with pytest.raises(PipelineError) as caught:
        fit(small(), clips, clips, CLASSES, options(), callbacks=[Spoil(1)])
    assert str(caught.value) == (
        "Expected a loss that is a number. Received: loss nan in epoch 1. Lower "
        "train.learning_rate or, if train.precision is a mixed one, try float32."
    )


def test_a_loss_that_becomes_no_number_ends_at_the_best_epoch(clips, caplog):
    model = small()
    result = fit(model, clips, clips, CLASSES, options(epochs=5), callbacks=[Spoil(3)])
    assert len(result.history) == 3
    assert result.best_epoch in (1, 2)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert "Received: loss nan in epoch 3." in caplog.messages[-1]
    assert caplog.messages[-1].endswith(
        f"The training stops; epoch {result.best_epoch} was the best."
    )


def test_a_stored_clip_without_a_real_frame_is_refused_by_name(clips, tmp_path):
    mask = clips.masks().copy()
    mask[1] = False
    np.save(tmp_path / "00.mask.npy", mask)
    damaged, message = ClipArrays(tmp_path), r"nothing but padding: 1\.mp4$"
    with pytest.raises(PipelineError, match=message):
        predict_arrays(small(), damaged)
    with pytest.raises(PipelineError, match=message):
        fit(small(), damaged, clips, CLASSES, options())


def test_params_become_options():
    params = load_params()
    found = fit_options(params, epochs=7)
    assert (found.epochs, found.optimizer, found.schedule) == (7, "adamw", "cosine")
    assert found.fine_tuning == FineTuning(head_epochs=0, learning_rate=1e-4)
