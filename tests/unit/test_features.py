"""Training on the cached features of a frozen CNN equals training on frames."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.clips.arrays import ClipArrays
from pipeline.model.backbones import frame_encoder
from pipeline.model.features import cached_features, encoder_digest
from pipeline.model.fitting import fit
from pipeline.model.network import clip_encoder
from pipeline.model.prediction import predict_arrays
from pipeline.model.saving import load_model, save_model
from pipeline.model.settings import AugmentationSection, FineTuningSection, TrainSection
from tests.architectures import (
    ARCHITECTURES,
    CLASSES,
    MOBILENET,
    TASK,
    build,
    noise_clips,
    small,
    stored_clips,
    tiny,
)

FROZEN = tiny(small(trainable="none"))
# Without recurrent layers, which take most of the time.
FROZEN_MEAN = tiny(small(trainable="none"), recurrent="none", summary="mean")
TUNABLE = tiny(recurrent="none", summary="mean")
STILL = AugmentationSection(shift=0, brightness=0, contrast=0)
SHIFTED = AugmentationSection(shift=0.5, brightness=0, contrast=0)
TRAINING = TrainSection(
    epochs=2,
    batch_size=4,
    learning_rate=0.01,
    schedule="constant",
    weight_decay=0,
    patience=3,
    augmentation=STILL,
)

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run")


@pytest.fixture(autouse=True, scope="module")
def eager():
    """Run without graphs: building them takes longer than a few tiny steps."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def clips(tmp_path):
    """Six clips in two shards of three, of classes a, b, c, a, b, c."""
    frames, mask = noise_clips([1, 4, 2, 3, 4, 2], 4, 0, (8, 8, 3))
    return stored_clips(tmp_path / "clips", frames, mask, CLASSES * 2, shards=2)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "features"


def fitted(clips, folder, section=FROZEN_MEAN, **changes):
    model = build(section)
    training = TRAINING.model_copy(update=changes)
    return model, fit(model, TASK, clips, clips, training, features_folder=folder)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.npy")}


def warnings_of(caplog):
    return [message.split(":")[0] for message in caplog.messages]


def test_they_are_the_outputs_of_the_cnn(clips, folder):
    model = build(FROZEN)
    features = cached_features(model, clips, folder)
    frames = np.stack([clips.frames(index) for index in range(6)])
    expected = clip_encoder(model).predict_on_batch({"frames": frames, "mask": clips.masks()})
    for index in range(6):
        np.testing.assert_allclose(features.frames(index), expected[index], atol=1e-6)
        np.testing.assert_array_equal(features.mask(index), clips.mask(index))
    assert (features.frames(0)[1:] == 0).all()


@pytest.mark.parametrize("wrap", ["whole", "per_layer"])
def test_training_on_features_is_training_on_frames(clips, folder, wrap):
    kind = {} if wrap == "whole" else {"recurrent": "none", "summary": "mean"}
    section = tiny(small(trainable="none", wrap=wrap), **kind)
    on_frames, frames_result = fitted(clips, None, section)
    on_features, features_result = fitted(clips, folder, section)
    untrained = build(section)
    for cached, direct in zip(on_features.get_weights(), on_frames.get_weights(), strict=True):
        np.testing.assert_allclose(cached, direct, atol=1e-5)
    assert features_result.best_epoch == frames_result.best_epoch
    for cached_row, row in zip(features_result.history, frames_result.history, strict=True):
        assert cached_row == pytest.approx(row, abs=1e-5)
    outputs = predict_arrays(on_features, clips)
    assert np.abs(outputs - predict_arrays(untrained, clips)).max() > 1e-3
    np.testing.assert_allclose(outputs, predict_arrays(on_frames, clips), atol=1e-5)


def test_the_saved_model_takes_pixels(clips, folder, tmp_path):
    model, _ = fitted(clips, folder)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert set(loaded.input) == {"frames", "mask"}
    np.testing.assert_array_equal(predict_arrays(loaded, clips), predict_arrays(model, clips))


def test_the_second_training_computes_no_features(clips, folder):
    first, _ = fitted(clips, folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    second, _ = fitted(clips, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_features_that_are_replaced_can_still_be_read(clips, folder):
    """Two trainings with the same frozen CNN may run at the same time."""
    model = build(FROZEN)
    first = cached_features(model, clips, folder)
    for digest in folder.rglob("*.sha256"):
        digest.unlink()
    second = cached_features(model, clips, folder)
    for index in range(6):
        np.testing.assert_array_equal(first.frames(index), second.frames(index))


def test_other_weights_have_features_of_their_own(clips, folder):
    cached_features(build(FROZEN, seed=0), clips, folder)
    before = contents(folder)
    cached_features(build(FROZEN, seed=1), clips, folder)
    after = contents(folder)
    assert (len(before), len(after)) == (2, 4)
    assert before.items() <= after.items()


@pytest.mark.long
def test_names_that_keras_numbers_are_not_in_the_digest():
    """The input layer inside MobileNetV2 has another number in every model."""
    digests = set()
    for _ in range(2):
        keras.utils.set_random_seed(0)
        digests.add(encoder_digest(frame_encoder(MOBILENET, frame_shape=(32, 32, 3))))
    assert len(digests) == 1


def test_another_architecture_with_the_same_weights_has_another_digest():
    encoder = clip_encoder(build(FROZEN))
    digest = encoder_digest(encoder)
    assert digest == encoder_digest(clip_encoder(build(FROZEN)))
    encoder.get_layer("frame_features").layer.get_layer("norm1").epsilon = 0.1
    assert encoder_digest(encoder) != digest


def test_one_changed_clip_costs_one_shard(clips, folder):
    model = build(FROZEN)
    cached_features(model, clips, folder)
    before = contents(folder)
    path = sorted(clips.shards().items())[1][1].files[0]
    changed = np.load(path)
    changed[0, 0] = 255 - changed[0, 0]
    np.save(path, changed)
    cached_features(model, ClipArrays(path.parent), folder)
    after = contents(folder)
    assert (len(before), len(after)) == (2, 3)
    assert before.items() <= after.items()


@pytest.mark.parametrize("damage", ["cut", "flipped", "no_digest"])
def test_damaged_features_are_computed_again(clips, folder, caplog, damage):
    model = build(FROZEN)
    cached_features(model, clips, folder)
    intact = contents(folder)
    path = sorted(folder.rglob("*.npy"))[0]
    content = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(content[:-8])
        case "flipped":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "no_digest":
            path.write_bytes(b"")
            path.with_suffix(".sha256").unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        cached_features(model, clips, folder)
    assert contents(folder) == intact
    assert warnings_of(caplog) == ([] if damage == "no_digest" else [str(path)])


def test_an_interrupted_computation_leaves_no_file(clips, folder, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "predict_on_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached_features(build(FROZEN), clips, folder)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


NO_AUGMENTATION = "train.augmentation does not apply while the CNN is frozen"


def test_augmentation_does_not_apply_and_a_warning_says_so(clips, folder, caplog):
    with caplog.at_level(logging.WARNING):
        augmented, _ = fitted(clips, folder, augmentation=SHIFTED)
    assert warnings_of(caplog)[-1:] == [NO_AUGMENTATION]
    plain, _ = fitted(clips, folder)
    for one, other in zip(augmented.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_the_cache_augmentation_applies(clips, folder):
    augmented, _ = fitted(clips, folder, augmentation=SHIFTED, cache_features=False)
    plain, _ = fitted(clips, folder, cache_features=False)
    assert not folder.exists()
    pairs = zip(augmented.get_weights(), plain.get_weights(), strict=True)
    assert any((one != other).any() for one, other in pairs)


def tuned(clips, folder, **changes):
    """Return the weights of a model that was fitted in two phases."""
    tuning = FineTuningSection(head_epochs=2, learning_rate=0.01)
    model, _ = fitted(clips, folder, TUNABLE, epochs=4, fine_tuning=tuning, **changes)
    return model.get_weights()


def test_fine_tuning_trains_on_features_first_and_on_frames_then(clips, tmp_path):
    on_frames = tuned(clips, tmp_path / "none", cache_features=False)
    on_features = tuned(clips, tmp_path / "features")
    assert not (tmp_path / "none").exists()
    assert len(contents(tmp_path / "features")) == 2  # of the CNN as it was in the beginning
    start = build(TUNABLE)
    for cached, direct, before in zip(on_features, on_frames, start.weights, strict=True):
        np.testing.assert_allclose(cached, direct, atol=1e-4)
        assert (cached != np.array(before)).any() == before.trainable or "moving" in before.name


def test_the_second_phase_of_fine_tuning_augments(clips, folder, caplog):
    with caplog.at_level(logging.WARNING):
        augmented = tuned(clips, folder, augmentation=SHIFTED)
    assert warnings_of(caplog).count(NO_AUGMENTATION) == 1
    plain = tuned(clips, folder)
    assert any((one != other).any() for one, other in zip(augmented, plain, strict=True))


def test_a_cnn_that_trains_is_not_cached(clips, folder):
    fitted(clips, folder, ARCHITECTURES["mean"])
    assert not folder.exists()


def test_bfloat16_is_stored_without_loss(clips, folder):
    model = build(FROZEN, precision="mixed_bfloat16")
    features = cached_features(model, clips, folder).frames(1)
    assert features.dtype == np.float32
    rounded = keras.ops.cast(keras.ops.cast(features, "bfloat16"), "float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(rounded), features)
