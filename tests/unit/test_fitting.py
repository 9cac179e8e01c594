"""Fitting: learning rates, optimizers, two phases, the best epoch, and calibration."""

import keras
import numpy as np
import pytest

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.batches import evaluation_batches
from pipeline.common.errors import PipelineError
from pipeline.model.fitting import calibrate, fit
from pipeline.model.network import cnn_layers
from pipeline.model.optimization import build_optimizer
from pipeline.model.prediction import predict_arrays
from pipeline.model.settings import AugmentationSection, FineTuningSection, TrainSection
from tests.architectures import CLASSES, TASK, build, noise_clips, stored_clips, tiny

STILL = AugmentationSection(shift=0, brightness=0, contrast=0)

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture
def clips(tmp_path):
    """Six clips of noise."""
    frames, mask = noise_clips([1, 2, 3, 4, 4, 4], 4, 0, (8, 8, 3))
    return stored_clips(tmp_path, frames, mask, CLASSES * 2)


def training(**changes) -> TrainSection:
    plain = {
        "epochs": 3,
        "batch_size": 3,
        "learning_rate": 0.01,
        "schedule": "constant",
        "weight_decay": 0.0,
        "patience": 9,
        "augmentation": STILL,
    }
    return TrainSection(**{**plain, **changes})


def model_without_recurrence() -> keras.Model:
    return build(tiny(recurrent="none", summary="mean"))


def optimizer_of(*, learning_rate=0.8, epochs=3, steps_per_epoch=4, **changes):
    return build_optimizer(
        training(**changes),
        learning_rate=learning_rate,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
    )


def rates(**changes):
    """Return the learning rate before each of 12 steps, and after the last."""
    optimizer = optimizer_of(**changes)
    weight = keras.Variable([0.0])
    optimizer.build([weight])
    values = [float(optimizer.learning_rate)]
    for _ in range(12):
        optimizer.apply([keras.ops.zeros(1)], [weight])
        values.append(float(optimizer.learning_rate))
    return values


def test_the_rate_rises_and_falls_as_half_a_cosine():
    # Up by 0.8 / 4 a step; then 0.8 * (1 + cos(pi * n / 8)) / 2 for n = 0 to 8.
    expected = [0.2, 0.4, 0.6, 0.8, 0.8, 0.76955, 0.68284, 0.55307, 0.4]
    with_warmup = rates(schedule="cosine", warmup_epochs=1)
    assert with_warmup[:9] == pytest.approx(expected, abs=1e-5)
    assert with_warmup[12] == pytest.approx(0.0, abs=1e-7)
    assert rates(schedule="cosine")[6] == pytest.approx(0.4)


def test_a_constant_rate_stays_after_its_warmup():
    assert rates(warmup_epochs=1)[2:] == pytest.approx([0.6] + [0.8] * 10)
    assert rates() == pytest.approx([0.8] * 13)
    assert rates(schedule="reduce_on_plateau") == pytest.approx([0.8] * 13)


def test_decay_spares_biases():
    """With no gradient, AdamW subtracts rate * decay = 0.1 * 0.5 of a kernel, not of a bias."""
    layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")
    layer.build((None, 1))
    optimizer = optimizer_of(learning_rate=0.1, weight_decay=0.5)
    optimizer.apply([weight * 0 for weight in layer.weights], layer.weights)
    assert [float(np.squeeze(weight)) for weight in layer.weights] == pytest.approx([0.95, 1.0])


@pytest.mark.parametrize("weight_decay", [0.0, 1e-9])
def test_gradients_are_clipped(weight_decay):
    """Gradients of 1000 and 1 count as 1 and 1, so Adam subtracts its rate twice.

    Without clipping, the first one would stay in its mean square: 0.1, then 0.07.
    """
    weight = keras.Variable([0.0])
    optimizer = optimizer_of(learning_rate=0.1, weight_decay=weight_decay)
    optimizer.build([weight])
    for gradient in (1000.0, 1.0):
        optimizer.apply([keras.ops.array([gradient])], [weight])
    assert float(weight[0]) == pytest.approx(-0.2, abs=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "reduce_on_plateau"])
def test_a_rate_that_changes_is_in_the_history(clips, schedule):
    section = training(schedule=schedule, weight_decay=0.01, label_smoothing=0.1)
    result = fit(model_without_recurrence(), TASK, clips, clips, section)
    logged = [row["learning_rate"] for row in result.history]
    # Two steps an epoch, logged after the last: 0.01 * (1 + cos(pi * n / 6)) / 2, n = 2, 4, 6.
    expected = {"cosine": [0.0075, 0.0025, 0.0], "reduce_on_plateau": [0.01] * 3}
    assert logged == pytest.approx(expected[schedule], abs=1e-8)


def test_a_constant_rate_is_not_in_the_history(clips):
    result = fit(model_without_recurrence(), TASK, clips, clips, training(epochs=1))
    assert list(result.history[0]) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]


def test_balanced_class_weights_change_the_loss(tmp_path):
    frames, mask = noise_clips([4] * 6, 4, 0, (8, 8, 3))
    clips = stored_clips(tmp_path, frames, mask, list("aaaabc"))
    plain, balanced = (
        fit(model_without_recurrence(), TASK, clips, clips, training(epochs=1, class_weights=kind))
        for kind in ("none", "balanced")
    )
    assert abs(plain.history[0]["loss"] - balanced.history[0]["loss"]) > 1e-3


class RecordCnn(keras.callbacks.Callback):
    """Keeps the weights of the CNN at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.recorded = []

    def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
        self.recorded.append(cnn_weights(self.model))


def cnn_weights(model):
    weights = [weight for layer in cnn_layers(model) for weight in layer.get_weights()]
    return np.concatenate([weight.ravel() for weight in weights])


def test_the_head_trains_first_and_then_the_cnn_at_a_lower_rate(clips):
    model, cnn = model_without_recurrence(), RecordCnn()
    start = cnn_weights(model)
    section = training(epochs=2, fine_tuning=FineTuningSection(head_epochs=1, learning_rate=0.001))
    result = fit(model, TASK, clips, clips, section, callbacks=[cnn])
    assert [row["epoch"] for row in result.history] == [1, 2]
    rates = [row["learning_rate"] for row in result.history]
    assert rates == pytest.approx([0.01, 0.001])
    np.testing.assert_array_equal(cnn.recorded[0], start)
    assert np.abs(cnn.recorded[1] - start).max() > 0
    assert all(layer.trainable for layer in cnn_layers(model))


@pytest.mark.parametrize("cache", [False, True])
def test_the_best_epoch_of_both_phases_is_kept(clips, tmp_path, cache):
    """The rate of the second phase is absurd; the weights of the first phase are restored."""
    model = model_without_recurrence()
    section = training(
        epochs=2,
        fine_tuning=FineTuningSection(head_epochs=1, learning_rate=50.0),
        cache_features=cache,
    )
    result = fit(model, TASK, clips, clips, section, features_folder=tmp_path / "features")
    losses = [row["val_loss"] for row in result.history]
    assert losses[0] < losses[1]
    assert result.kept_epoch == 1
    probabilities = predict_arrays(model, clips)[np.arange(6), TASK.encode(clips.targets)]
    assert -np.log(probabilities).mean() == pytest.approx(min(losses), abs=1e-5)


class MakeNan(keras.callbacks.Callback):
    """Makes all weights NaN before an epoch, counted from 1."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
        if epoch + 1 == self._epoch:
            self.model.set_weights([weight * np.nan for weight in self.model.get_weights()])


def test_a_loss_that_is_nan_from_the_start_is_an_error(clips):
    model = model_without_recurrence()
    with pytest.raises(
        PipelineError, match=r"Epoch 1: .* Received: loss nan\. Lower train\.learning_rate"
    ):
        fit(model, TASK, clips, clips, training(), callbacks=[MakeNan(1)])


def test_a_loss_that_becomes_nan_ends_at_the_best_epoch(clips, caplog):
    model = model_without_recurrence()
    result = fit(model, TASK, clips, clips, training(), callbacks=[MakeNan(2)])
    assert len(result.history) == 2
    assert result.kept_epoch == 1
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert caplog.messages[-1].startswith("Epoch 2: the loss is not finite. Received: loss nan.")
    assert caplog.messages[-1].endswith("the best epoch is 1.")


def test_a_stored_clip_without_a_real_frame_is_refused_by_name(clips, tmp_path):
    mask = clips.masks()
    mask[1] = False
    np.save(tmp_path / "00.mask.npy", mask)
    damaged, message = ClipArrays(tmp_path), r"^001\.mp4: no real frame\."
    model = model_without_recurrence()
    with pytest.raises(PipelineError, match=message):
        predict_arrays(model, damaged)
    with pytest.raises(PipelineError, match=message):
        fit(model, TASK, damaged, clips, training())


@pytest.mark.parametrize("streams", [["differences"], ["frames", "differences"]])
def test_clips_of_one_frame_have_no_differences_to_learn_from(tmp_path, caplog, streams):
    model = build(tiny(recurrent="none", summary="mean", streams=streams))
    frames, mask = noise_clips([1] * 6, 4, 0, (8, 8, 3))
    single = stored_clips(tmp_path / "single", frames, mask, CLASSES * 2)
    message = "model.streams: 6 of 6 training clips have one real frame.* lower extract.stride"
    with pytest.raises(PipelineError, match=message):
        fit(model, TASK, single, single, training(epochs=1))
    frames, mask = noise_clips([1, 1, 4, 4, 4, 4], 4, 0, (8, 8, 3))
    some = stored_clips(tmp_path / "some", frames, mask, CLASSES * 2)
    fit(model, TASK, some, some, training(epochs=1))
    assert "model.streams: 2 of 6 training clips have one real frame" in caplog.text


def test_without_patience_the_last_epoch_is_kept(clips):
    model = model_without_recurrence()
    worse_at_the_end = training(patience=0, learning_rate=0.5, epochs=4)
    result = fit(model, TASK, clips, clips, worse_at_the_end)
    losses = [row["val_loss"] for row in result.history]
    assert result.kept_epoch == len(losses) == 4
    assert min(losses) < losses[-1]
    fitted = TASK.training_model(model)
    fitted.compile(loss=TASK.loss(label_smoothing=0))
    batches = evaluation_batches(clips, TASK.encode(clips.targets), batch_size=6)
    assert fitted.evaluate(batches, verbose=0) == pytest.approx(losses[-1], rel=1e-4)


def test_few_clips_get_more_epochs_and_many_clips_at_least_24():
    section = TrainSection(batch_size=16)
    assert section.epochs == "auto"
    assert [section.n_epochs(n_clips) for n_clips in (1, 70, 500, 100_000)] == [800, 160, 25, 24]
    assert training(epochs=5).n_epochs(70) == 5


def test_calibration_is_fitted_on_uncalibrated_outputs(clips):
    model = model_without_recurrence()
    first = calibrate(model, TASK, clips).calibration(model)
    assert first["temperature"] != 1
    assert calibrate(model, TASK, clips).calibration(model) == first
