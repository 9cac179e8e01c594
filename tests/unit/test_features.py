"""Training on the cached features of a frozen CNN is training on frames, only faster."""

import logging
from dataclasses import replace

import keras
import numpy as np
import pytest
from numpy.lib.format import open_memmap

from pipeline.base.files import write_csv
from pipeline.clips.shards import ClipArrays
from pipeline.model import features
from pipeline.model.augmentation import UNCHANGED, Augmentation
from pipeline.model.backbones import frame_encoder
from pipeline.model.classifier import clip_encoder
from pipeline.model.features import cached_features, encoder_digest, is_frozen
from pipeline.model.prediction import predict_arrays
from pipeline.model.saving import load_classifier, save_classifier
from pipeline.model.training import FineTuning, FitOptions, fit
from tests.architectures import ARCHITECTURES, MOBILENET, SMALL, build, noise_clips, tiny

NAMES = ("a", "b", "c")
LENGTHS = [1, 4, 2, 3, 4, 2]
FROZEN = tiny(replace(SMALL, trainable="none"))
OPTIONS = FitOptions(
    seed=0,
    epochs=2,
    batch_size=4,
    learning_rate=0.01,
    clip_norm=1.0,
    patience=3,
    class_weights="none",
    augmentation=UNCHANGED,
)


@pytest.fixture
def clips(tmp_path):
    """Six clips in two shards of three, of classes a, b, c, a, b, c."""
    folder = tmp_path / "clips"
    folder.mkdir()
    frames, mask = noise_clips(LENGTHS, 4, 0, (8, 8, 3))
    for shard, rows in enumerate([slice(0, 3), slice(3, 6)]):
        for kind, values in (("frames", frames[rows]), ("mask", mask[rows])):
            path = folder / f"{shard:02d}.{kind}.npy"
            open_memmap(path, "w+", values.dtype, values.shape)[:] = values
    rows = [
        {"name": f"{index}.mp4", "label": NAMES[index % 3], "group": "", "frames": length,
         "shard": index // 3, "row": index % 3}
        for index, length in enumerate(LENGTHS)
    ]  # fmt: skip
    write_csv(folder / "clips.csv", list(rows[0]), rows)
    return ClipArrays(folder)


def fitted(clips, folder, architecture=FROZEN, **changes):
    model = build(architecture)
    options = replace(OPTIONS, **changes)
    result = fit(model, clips, clips, NAMES, options, features_folder=folder)
    return model, result


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.npy")}


def test_features_are_what_the_cnn_makes_of_the_frames(clips, tmp_path):
    model = build(FROZEN)
    found = cached_features(model, clips, tmp_path)
    whole = [clips.frames(index) for index in range(6)], [clips.mask(i) for i in range(6)]
    expected = clip_encoder(model).predict_on_batch(
        {"frames": np.stack(whole[0]), "mask": np.stack(whole[1])}
    )
    for index in range(6):
        np.testing.assert_allclose(found.frames(index), expected[index], atol=1e-6)
        np.testing.assert_array_equal(found.mask(index), clips.mask(index))
    assert (found.frames(0)[1:] == 0).all()


@pytest.mark.parametrize("wrap", ["whole", "per_layer"])
def test_training_on_features_is_training_on_frames(clips, tmp_path, wrap):
    architecture = replace(FROZEN, cnn=replace(FROZEN.cnn, wrap=wrap))
    on_frames, of_frames = fitted(clips, None, architecture)
    on_features, of_features = fitted(clips, tmp_path / "features", architecture)
    untrained = build(architecture)
    for cached, direct, start in zip(
        on_features.get_weights(), on_frames.get_weights(), untrained.get_weights(), strict=True
    ):
        np.testing.assert_allclose(cached, direct, atol=1e-5)
        assert cached.shape == start.shape
    assert of_features.best_epoch == of_frames.best_epoch
    for cached_row, direct_row in zip(of_features.history, of_frames.history, strict=True):
        assert cached_row == pytest.approx(direct_row, abs=1e-5)
    moved = np.abs(predict_arrays(on_features, clips) - predict_arrays(untrained, clips)).max()
    assert moved > 1e-3
    np.testing.assert_allclose(
        predict_arrays(on_features, clips), predict_arrays(on_frames, clips), atol=1e-5
    )


def test_the_model_that_is_saved_takes_pixels(clips, tmp_path):
    model, _ = fitted(clips, tmp_path / "features")
    save_classifier(model, tmp_path / "classifier.keras")
    loaded = load_classifier(tmp_path / "classifier.keras")
    assert set(loaded.input) == {"frames", "mask"}
    np.testing.assert_array_equal(predict_arrays(loaded, clips), predict_arrays(model, clips))


def refuse_to_compute(*_):
    raise AssertionError("expected the features on disk to be used")


def test_the_second_run_computes_nothing(clips, tmp_path, monkeypatch):
    first, _ = fitted(clips, tmp_path / "features")
    monkeypatch.setattr(features, "_write", refuse_to_compute)
    second, _ = fitted(clips, tmp_path / "features")
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_that_compute_the_same_at_once_do_no_harm(clips, tmp_path, monkeypatch):
    """As two folds of a cross-validation might: the second replaces what the first reads."""
    model = build(FROZEN)
    first = cached_features(model, clips, tmp_path)
    monkeypatch.setattr(features, "_is_whole", lambda path: not path)
    second = cached_features(model, clips, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(features, "_write", refuse_to_compute)
    third = cached_features(model, clips, tmp_path)
    for index in range(6):
        np.testing.assert_array_equal(first.frames(index), second.frames(index))
        np.testing.assert_array_equal(first.frames(index), third.frames(index))


def test_other_weights_have_features_of_their_own(clips, tmp_path):
    cached_features(build(FROZEN, seed=0), clips, tmp_path / "features")
    before = files(tmp_path / "features")
    cached_features(build(FROZEN, seed=1), clips, tmp_path / "features")
    after = files(tmp_path / "features")
    assert len(before) == 2
    assert len(after) == 4
    assert before.items() <= after.items()


def test_names_that_keras_counts_up_are_not_in_the_digest():
    """The input layer inside MobileNetV2 has another number in every model."""
    digests = set()
    for _ in range(2):
        keras.utils.set_random_seed(0)
        digests.add(encoder_digest(frame_encoder(MOBILENET, frame_shape=(32, 32, 3))))
    assert len(digests) == 1


def test_another_architecture_with_the_same_weights_has_another_digest():
    model = build(FROZEN)
    strict = clip_encoder(model)
    digest = encoder_digest(strict)
    assert digest == encoder_digest(clip_encoder(build(FROZEN)))
    next(layer for layer in strict.layers if layer.name == "frame_features").layer.get_layer(
        "norm1"
    ).epsilon = 0.1
    assert encoder_digest(strict) != digest


def test_one_changed_clip_costs_one_shard(clips, tmp_path):
    model = build(FROZEN)
    cached_features(model, clips, tmp_path / "features")
    before = files(tmp_path / "features")
    path = sorted(clips.shards().items())[1][1].files[0]
    changed = np.load(path)
    changed[0, 0] = 255 - changed[0, 0]
    np.save(path, changed)
    cached_features(model, ClipArrays(path.parent), tmp_path / "features")
    after = files(tmp_path / "features")
    assert len(before) == 2
    assert len(after) == 3
    assert before.items() <= after.items()


@pytest.mark.parametrize("damage", ["cut", "flipped", "no_digest"])
def test_damaged_features_are_computed_again(clips, tmp_path, caplog, damage):
    model = build(FROZEN)
    cached_features(model, clips, tmp_path / "features")
    whole = files(tmp_path / "features")
    path = sorted((tmp_path / "features").rglob("*.npy"))[0]
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
        cached_features(model, clips, tmp_path / "features")
    assert files(tmp_path / "features") == whole
    if damage != "no_digest":
        assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
            "damaged; its features are computed again."
        ]


def test_a_stopped_computation_leaves_no_file(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_storable", refuse_to_compute)
    with pytest.raises(AssertionError, match="expected the features on disk"):
        cached_features(build(FROZEN), clips, tmp_path / "features")
    assert [path for path in (tmp_path / "features").rglob("*") if path.is_file()] == []


SHIFTED = Augmentation(shift=0.5, brightness=0, contrast=0, flip=False, flip_swaps=())


def test_augmentation_does_not_apply_and_a_warning_says_so(clips, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        augmented, _ = fitted(clips, tmp_path / "features", augmentation=SHIFTED)
    assert [record.getMessage().split(":")[0] for record in caplog.records[-1:]] == [
        "train.augmentation does not apply while the CNN is frozen"
    ]
    plain, _ = fitted(clips, tmp_path / "features")
    for one, other in zip(augmented.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


TUNABLE = tiny(recurrent="none", summary="mean")  # the graphs of recurrent layers take seconds
TUNED = replace(OPTIONS, epochs=4, fine_tuning=FineTuning(head_epochs=2, learning_rate=0.01))


def tuned(clips, folder, **changes):
    """Weights of a classifier that was fitted in two phases."""
    model = build(TUNABLE)
    fit(model, clips, clips, NAMES, replace(TUNED, **changes), features_folder=folder)
    return model.get_weights()


def test_the_first_phase_of_fine_tuning_is_on_features_and_the_second_on_frames(clips, tmp_path):
    on_frames = tuned(clips, tmp_path / "none", cache_features=False)
    on_features = tuned(clips, tmp_path / "features")
    assert not (tmp_path / "none").exists()
    assert len(files(tmp_path / "features")) == 2  # of the CNN as it was in the beginning
    start = build(TUNABLE)
    for cached, direct, before in zip(on_features, on_frames, start.weights, strict=True):
        np.testing.assert_allclose(cached, direct, atol=1e-4)
        assert (cached != np.array(before)).any() == before.trainable or "moving" in before.name


def test_the_second_phase_of_fine_tuning_augments(clips, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        augmented = tuned(clips, tmp_path, augmentation=SHIFTED)
    said = [record for record in caplog.records if record.name == "pipeline.model.training"]
    assert [record.getMessage().split(":")[0] for record in said] == [
        "train.augmentation does not apply while the CNN is frozen"
    ]
    plain = tuned(clips, tmp_path)
    assert any((one != other).any() for one, other in zip(augmented, plain, strict=True))


def test_without_the_cache_augmentation_applies(clips, tmp_path):
    folder = tmp_path / "features"
    augmented, _ = fitted(clips, folder, augmentation=SHIFTED, cache_features=False)
    plain, _ = fitted(clips, folder, cache_features=False)
    assert not folder.exists()
    assert any(
        (one != other).any()
        for one, other in zip(augmented.get_weights(), plain.get_weights(), strict=True)
    )


def test_a_cnn_that_trains_is_not_cached(clips, tmp_path):
    assert not is_frozen(build(ARCHITECTURES["lstm"]))
    assert not is_frozen(build(tiny(replace(SMALL, trainable=1))))
    assert is_frozen(build(FROZEN))
    fitted(clips, tmp_path / "features", ARCHITECTURES["lstm"])
    assert not (tmp_path / "features").exists()


def test_bfloat16_is_kept_without_loss(clips, tmp_path):
    model = build(FROZEN, precision="mixed_bfloat16")
    found = cached_features(model, clips, tmp_path)
    assert found.frames(1).dtype == np.float32
    exact = keras.ops.convert_to_numpy(
        keras.ops.cast(keras.ops.cast(found.frames(1), "bfloat16"), "float32")
    )
    np.testing.assert_array_equal(exact, found.frames(1))
