"""Training on the cached features of a frozen CNN equals training on frames."""

import contextlib
import logging

import keras
import numpy as np
import pytest

from pipeline.clips.arrays import ClipArrays
from pipeline.common.errors import PipelineError
from pipeline.model.backbones import frame_encoder
from pipeline.model.features import cached_features, encoder_digest
from pipeline.model.fitting import fit
from pipeline.model.prediction import predict_arrays
from pipeline.model.saving import load_model, save_model
from pipeline.model.settings import AugmentationSection, FineTuningSection, TrainSection
from pipeline.model.strategy import machine_replicas
from tests.architectures import (
    CLASSES,
    MOBILENET,
    TASK,
    build,
    layer_of,
    noise_clips,
    only_encoder,
    small,
    stored_clips,
    tiny,
)

FROZEN = tiny(small(trainable="none"), recurrent="none", summary="mean")
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

pytestmark = pytest.mark.usefixtures("eager")


def six_clips(folder):
    """Six clips in two shards of three, of classes a, b, c, a, b, c."""
    frames, mask = noise_clips([1, 4, 2, 3, 4, 2], 4, 0, (8, 8, 3))
    return stored_clips(folder, frames, mask, CLASSES * 2, shards=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return six_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "features"


def fitted(clips, folder, section=FROZEN, **changes):
    model = build(section)
    training = TRAINING.model_copy(update=changes)
    return model, fit(model, TASK, clips, clips, training, features_folder=folder)


@pytest.fixture(scope="module")
def on_frames(clips):
    """A model with a frozen CNN, fitted on frames, and the result."""
    return fitted(clips, None)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """The cache of ``on_features``: only read it."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def on_features(clips, shared_folder):
    """A model with a frozen CNN, fitted on cached features, and the result."""
    return fitted(clips, shared_folder)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.npy")}


def warnings_of(caplog):
    return [message.split(":")[0] for message in caplog.messages]


def test_they_are_the_outputs_of_the_cnn(clips, folder):
    model = build(FROZEN)
    features = cached_features(model, clips, folder)
    frames = np.stack([clips.frames(index) for index in range(6)])
    expected = only_encoder(model).predict_on_batch({"frames": frames, "mask": clips.masks()})
    for index in range(6):
        np.testing.assert_allclose(
            features.frame_inputs(index)["features_frames"], expected[index], atol=1e-6
        )
        np.testing.assert_array_equal(features.mask(index), clips.mask(index))
    assert (features.frame_inputs(0)["features_frames"][1:] == 0).all()


def check_equal_training(on_features, on_frames):
    for cached, direct in zip(
        on_features[0].get_weights(), on_frames[0].get_weights(), strict=True
    ):
        np.testing.assert_allclose(cached, direct, atol=1e-5)
    assert on_features[1].kept_epoch == on_frames[1].kept_epoch
    for cached_row, row in zip(on_features[1].history, on_frames[1].history, strict=True):
        assert cached_row == pytest.approx(row, abs=1e-5)


def test_training_on_features_is_training_on_frames(clips, on_features, on_frames):
    check_equal_training(on_features, on_frames)
    outputs = predict_arrays(on_features[0], clips)
    assert np.abs(outputs - predict_arrays(build(FROZEN), clips)).max() > 1e-3
    np.testing.assert_allclose(outputs, predict_arrays(on_frames[0], clips), atol=1e-5)


@pytest.mark.parametrize(
    ("wrap", "temporal"),
    [
        ("per_layer", {"recurrent": "none", "summary": "mean"}),
        pytest.param("whole", {"recurrent": "lstm"}, marks=pytest.mark.long),
    ],
)
def test_so_it_is_with_layers_wrapped_alone_and_with_an_lstm(clips, folder, wrap, temporal):
    section = tiny(small(trainable="none", wrap=wrap), **temporal)
    features = fitted(clips, folder, section, epochs=1)
    check_equal_training(features, fitted(clips, None, section, epochs=1))


def test_the_saved_model_takes_pixels(clips, on_features, tmp_path):
    model, _ = on_features
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert set(loaded.input) == {"frames", "mask"}
    np.testing.assert_array_equal(predict_arrays(loaded, clips), predict_arrays(model, clips))


def test_the_second_training_computes_no_features(clips, shared_folder, on_features):
    first, _ = on_features
    times = {path: path.stat().st_mtime_ns for path in shared_folder.rglob("*")}
    second, _ = fitted(clips, shared_folder)
    assert times
    assert {path: path.stat().st_mtime_ns for path in shared_folder.rglob("*")} == times
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
        np.testing.assert_array_equal(
            first.frame_inputs(index)["features_frames"],
            second.frame_inputs(index)["features_frames"],
        )


def test_features_that_another_process_has_verified_are_only_opened(clips, folder):
    model = build(FROZEN)
    first = cached_features(model, clips, folder)
    for digest in folder.rglob("*.sha256"):
        digest.unlink()
    digests = {key: shard.digest() for key, shard in clips.shards().items()}
    second = cached_features(model, clips, folder, digests=digests, is_verified=True)
    assert not list(folder.rglob("*.sha256"))
    np.testing.assert_array_equal(
        first.frame_inputs(5)["features_frames"], second.frame_inputs(5)["features_frames"]
    )


def test_replicas_read_the_features_of_one_process(clips, folder):
    """The features do not depend on batch normalisation being synchronised."""
    model = build(FROZEN)
    cached_features(model, clips, folder)
    before = contents(folder)
    machine_replicas(["CPU:0"]).synchronize(model)
    cached_features(model, clips, folder)
    assert contents(folder) == before


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
    encoder = only_encoder(build(FROZEN))
    digest = encoder_digest(encoder)
    assert digest == encoder_digest(only_encoder(build(FROZEN)))
    encoder.get_layer("frame_features").layer.get_layer("norm1").epsilon = 0.1
    assert encoder_digest(encoder) != digest


def test_one_changed_clip_costs_one_shard(folder, tmp_path):
    model, clips = build(FROZEN), six_clips(tmp_path / "clips")
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


def test_a_full_disk_ends_with_a_message_and_leaves_no_features(clips, small_disk):
    with contextlib.suppress(OSError), (small_disk / "other").open("wb") as other:
        while True:
            other.write(bytes(4096))
    with pytest.raises(PipelineError, match=r"npy: cannot be written \(No space left on device\)"):
        cached_features(build(FROZEN), clips, small_disk)
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["other"]


NO_AUGMENTATION = "train.augmentation does not apply while the CNN is frozen"


def test_augmentation_does_not_apply_and_a_warning_says_so(clips, folder, on_features, caplog):
    with caplog.at_level(logging.WARNING):
        augmented, _ = fitted(clips, folder, augmentation=SHIFTED)
    assert warnings_of(caplog)[-1:] == [NO_AUGMENTATION]
    plain, _ = on_features
    for one, other in zip(augmented.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_the_cache_augmentation_applies(clips, folder, on_frames):
    augmented, _ = fitted(clips, folder, augmentation=SHIFTED, cache_features=False)
    plain, _ = on_frames
    assert not folder.exists()
    pairs = zip(augmented.get_weights(), plain.get_weights(), strict=True)
    assert any((one != other).any() for one, other in pairs)


def tuned(clips, folder, **changes):
    """Return the weights of a model that was fitted in two phases."""
    tuning = FineTuningSection(head_epochs=1, learning_rate=0.01)
    model, _ = fitted(clips, folder, TUNABLE, fine_tuning=tuning, **changes)
    return model.get_weights()


@pytest.fixture(scope="module")
def tuned_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def tuned_on_features(clips, tuned_folder):
    return tuned(clips, tuned_folder)


def test_fine_tuning_trains_on_features_first_and_on_frames_then(
    clips, folder, tuned_folder, tuned_on_features
):
    on_frames = tuned(clips, folder, cache_features=False)
    assert not folder.exists()
    assert len(contents(tuned_folder)) == 2  # features of the untrained CNN only
    start = build(TUNABLE)
    for cached, direct, before in zip(tuned_on_features, on_frames, start.weights, strict=True):
        np.testing.assert_allclose(cached, direct, atol=1e-4)
        assert (cached != np.array(before)).any() == before.trainable or "moving" in before.name


def test_the_second_phase_of_fine_tuning_augments(clips, folder, tuned_on_features, caplog):
    with caplog.at_level(logging.WARNING):
        augmented = tuned(clips, folder, augmentation=SHIFTED)
    assert warnings_of(caplog).count(NO_AUGMENTATION) == 1
    pairs = zip(augmented, tuned_on_features, strict=True)
    assert any((one != other).any() for one, other in pairs)


def test_a_cnn_that_trains_is_not_cached(clips, folder):
    fitted(clips, folder, TUNABLE, epochs=1)
    assert not folder.exists()


def test_bfloat16_is_stored_without_loss(clips, folder):
    model = build(FROZEN, precision="mixed_bfloat16")
    features = cached_features(model, clips, folder).frame_inputs(1)["features_frames"]
    assert features.dtype == np.float32
    rounded = keras.ops.cast(keras.ops.cast(features, "bfloat16"), "float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(rounded), features)


class SeenOptimizers(keras.callbacks.Callback):
    """Whether the loss is scaled, and the precision of a layer of the head, in each phase."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_begin(self, logs=None):  # noqa: ARG002
        is_scaled = isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer)
        precision = layer_of(self.model, "frame_dense").layer.dtype_policy.name
        self.seen.append((self.model.name, is_scaled, precision))


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_loss_is_scaled_in_both_phases_under_float16_only(clips, folder, precision):
    optimizers = SeenOptimizers()
    model = build(TUNABLE, precision=precision)
    tuning = FineTuningSection(head_epochs=1, learning_rate=0.01)
    section = TRAINING.model_copy(update={"fine_tuning": tuning})
    fit(model, TASK, clips, clips, section, callbacks=[optimizers], features_folder=folder)
    is_scaled = precision == "mixed_float16"
    assert optimizers.seen == [
        ("clip_head", is_scaled, precision),
        ("cnn_lstm", is_scaled, precision),
    ]
