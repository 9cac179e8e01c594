"""Two streams: each is trained as if it were alone, and validation videos weight their fusion."""

import numpy as np
import pytest

from pipeline.model.fitting import calibrate, fit
from pipeline.model.prediction import predict_arrays
from pipeline.model.saving import load_model, save_model
from pipeline.model.settings import AugmentationSection, FineTuningSection, TrainSection
from pipeline.model.streams import fit_stream_weights, stream_weights, streams_of
from pipeline.tasks.classification import Classification
from pipeline.tasks.regression import Regression
from tests.architectures import build, small, stored_clips, tiny

STREAMS = ("frames", "differences")
TASK = Classification(("bright", "dark"), target_accuracy=0.95)
TRAINING = TrainSection(
    epochs=8,
    batch_size=8,
    learning_rate=0.01,
    augmentation=AugmentationSection(shift=0, brightness=0, contrast=0),
    threads=1,
)


def section(streams=STREAMS, **changes):
    return tiny(small(**changes), streams=streams, recurrent="none", summary="mean")


def noisy_clips(folder, n_clips, *, seed, brightness=60):
    """Clips of noise, every second one brighter; their differences are noise."""
    rng = np.random.default_rng(seed)
    is_bright = np.arange(n_clips) % 2 == 0
    frames = rng.integers(60, 120, (n_clips, 4, 8, 8, 3))
    frames += brightness * is_bright[:, None, None, None, None]
    targets = ["bright" if bright else "dark" for bright in is_bright]
    return stored_clips(folder, frames.astype(np.uint8), np.ones((n_clips, 4), bool), targets)


@pytest.fixture
def clips(tmp_path):
    return noisy_clips(tmp_path / "clips", 16, seed=0)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A model of both streams, fitted on clips of which frames show the class."""
    folder = tmp_path_factory.mktemp("fitted")
    train, val = (noisy_clips(folder / str(seed), 32, seed=seed) for seed in (1, 2))
    model = build(section(), task=TASK)
    return model, fit(model, TASK, train, val, TRAINING)


def test_each_stream_is_trained_as_if_it_were_alone(clips):
    both = build(section(), task=TASK)
    start = {name: stream.get_weights() for name, stream in streams_of(both).items()}
    last_epoch = TRAINING.model_copy(update={"epochs": 1})
    fit(both, TASK, clips, clips, last_epoch)
    for name, stream in streams_of(both).items():
        alone = build(section([name]), task=TASK)
        streams_of(alone)[name].set_weights(start[name])
        fit(alone, TASK, clips, clips, last_epoch)
        pairs = zip(streams_of(alone)[name].get_weights(), stream.get_weights(), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_fusion_is_the_weighted_mean_of_log_probabilities(clips):
    both = build(section(), task=TASK)
    fusion = both.get_layer("fusion")
    logs = []
    for weights in ([1, 0], [0, 1]):
        fusion.stream_weights.assign(weights)
        logs.append(np.log(predict_arrays(both, clips)))
    fusion.stream_weights.assign([0.25, 0.75])
    mean = np.exp(0.25 * logs[0] + 0.75 * logs[1])
    expected = mean / mean.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict_arrays(both, clips), expected, atol=1e-5)


def test_the_history_has_the_fused_metric_and_the_loss_of_each_stream(fitted):
    _, result = fitted
    assert set(result.history[0]) == {
        "epoch", "learning_rate", "loss", "val_loss", "accuracy", "val_accuracy",
        "frames_loss", "val_frames_loss", "differences_loss", "val_differences_loss",
    }  # fmt: skip
    last = result.history[-1]
    assert last["loss"] == pytest.approx(last["frames_loss"] + last["differences_loss"], rel=1e-4)
    assert last["val_accuracy"] == 1


@pytest.fixture
def misled(fitted):
    """The fitted model, with a stream of differences that is sure of random answers."""
    model, _ = fitted
    classes = streams_of(model)["differences"].get_layer("classes")
    before = classes.get_weights()
    classes.set_weights([300 * weight for weight in before])
    yield model
    classes.set_weights(before)


def test_equal_weights_move_towards_the_better_stream_with_more_videos(misled, tmp_path):
    model = misled
    weights = []
    for n_clips in (2, 10, 100):
        val = noisy_clips(tmp_path / str(n_clips), n_clips, seed=3)
        fit_stream_weights(model, TASK, val)
        weights.append(stream_weights(model)["frames"])
        assert sum(stream_weights(model).values()) == pytest.approx(1)
    assert 0.5 < weights[0] < weights[1] < weights[2]
    assert weights[0] < 0.75
    assert weights[2] > 0.85


def test_many_outputs_are_represented_by_clips_at_equal_distances(misled, tmp_path):
    """Two classes: 20 values are those of 10 clips."""
    val = noisy_clips(tmp_path, 55, seed=3)
    fit_stream_weights(misled, TASK, val, most_values=20)
    of_some = stream_weights(misled)
    fit_stream_weights(misled, TASK, val.chosen(range(0, 55, 6)))
    assert stream_weights(misled) == of_some
    fit_stream_weights(misled, TASK, val)
    assert stream_weights(misled) != of_some


def test_the_model_is_calibrated_after_the_fusion_and_saved_with_its_weights(misled, tmp_path):
    model = misled
    val = noisy_clips(tmp_path / "clips", 32, seed=4)
    task = calibrate(model, TASK, val)
    assert stream_weights(model)["frames"] > 0.6
    assert (predict_arrays(model, val).argmax(axis=1) == np.arange(32) % 2).all()
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert stream_weights(loaded) == stream_weights(model)
    assert task.calibration(loaded) == task.calibration(model)
    np.testing.assert_array_equal(predict_arrays(loaded, val), predict_arrays(model, val))


def test_a_single_stream_has_the_weight_one(clips):
    model = build(section(["differences"]), task=TASK)
    fit_stream_weights(model, TASK, clips)
    assert stream_weights(model) == {"differences": 1}


def test_numbers_of_two_streams_are_weighted_too(tmp_path):
    clips = noisy_clips(tmp_path / "clips", 32, seed=5)
    clips.targets = ["2.0" if target == "bright" else "-2.0" for target in clips.targets]
    task = Regression(0.0, 2.0)
    model = build(section(), task=task)
    fit(model, task, clips, clips, TRAINING)
    fit_stream_weights(model, task, clips)
    assert stream_weights(model)["frames"] > 0.7


def weights_of_cnn(model, stream):
    return streams_of(model)[stream].get_layer("frame_features").layer.get_weights()


@pytest.mark.parametrize("streams", [STREAMS, ["differences"]])
def test_each_stream_starts_from_the_weights_of_its_stream_of_a_saved_model(
    fitted, streams, tmp_path
):
    model, _ = fitted
    save_model(model, tmp_path / "model.keras")
    cnn = {"weights": str(tmp_path / "model.keras")}
    started = build(section(streams, **cnn), task=TASK)
    for name in streams:
        np.testing.assert_equal(weights_of_cnn(started, name), weights_of_cnn(model, name))


def test_both_streams_start_from_the_weights_of_a_model_with_one_stream(tmp_path):
    single = build(section(["frames"]), task=TASK)
    save_model(single, tmp_path / "model.keras")
    started = build(section(weights=str(tmp_path / "model.keras")), task=TASK)
    for name in STREAMS:
        np.testing.assert_equal(weights_of_cnn(started, name), weights_of_cnn(single, "frames"))


@pytest.mark.parametrize("cache_features", [True, False])
def test_frozen_cnns_keep_the_weights_of_the_file(fitted, clips, cache_features, tmp_path):
    """Those of batch normalisation too."""
    source, _ = fitted
    save_model(source, tmp_path / "model.keras")
    cnn = {"weights": str(tmp_path / "model.keras"), "trainable": "none"}
    model = build(section(**cnn), task=TASK)
    before = model.get_weights()
    training = TRAINING.model_copy(update={"epochs": 1, "cache_features": cache_features})
    fit(model, TASK, clips, clips, training, features_folder=tmp_path / "features")
    for name in STREAMS:
        np.testing.assert_equal(weights_of_cnn(model, name), weights_of_cnn(source, name))
    pairs = zip(before, model.get_weights(), strict=True)
    assert any((one != other).any() for one, other in pairs)


@pytest.mark.usefixtures("eager")
def test_the_features_of_both_frozen_cnns_are_computed_once(clips, tmp_path):
    """By a second training, and by the first phase of fine-tuning."""
    frozen, tuned = section(trainable="none"), section()
    one_epoch = TRAINING.model_copy(update={"epochs": 1})
    tuning = FineTuningSection(head_epochs=1)
    two_phases = TRAINING.model_copy(update={"epochs": 2, "fine_tuning": tuning})
    folder = tmp_path / "features"
    times = []
    for cnn, training in ((frozen, one_epoch), (frozen, one_epoch), (tuned, two_phases)):
        fit(build(cnn, task=TASK), TASK, clips, clips, training, features_folder=folder)
        times.append({path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")})
    assert len({path.parent for path in times[0]}) == 2
    assert times[0] == times[1] == times[2]


@pytest.mark.usefixtures("eager")
def test_two_phases_of_fine_tuning_train_both_streams(clips, tmp_path):
    model = build(section(), task=TASK)
    before = [np.array(weight) for weight in model.trainable_weights]
    tuning = FineTuningSection(head_epochs=1, learning_rate=0.01)
    training = TRAINING.model_copy(update={"epochs": 2, "fine_tuning": tuning})
    result = fit(model, TASK, clips, clips, training, features_folder=tmp_path / "features")
    assert len(result.history) == 2
    after = [np.array(weight) for weight in model.trainable_weights]
    assert result.kept_epoch == 2
    assert all((one != other).any() for one, other in zip(before, after, strict=True))
