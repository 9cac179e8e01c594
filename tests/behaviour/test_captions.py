"""A model learns to describe clips in words, and its .keras file describes a clip by itself."""

import keras
import numpy as np
import pytest

from pipeline.clips.batches import evaluation_batches
from pipeline.clips.sampling import Clip, make_clip
from pipeline.clips.settings import ExtractSection
from pipeline.dataset.layouts import read_labels
from pipeline.dataset.settings import DataSection
from pipeline.model.explanations import grad_cam
from pipeline.model.fitting import fit
from pipeline.model.network import build_model, cnn_layers
from pipeline.model.prediction import predict_arrays, predict_clips
from pipeline.model.saving import load_model, save_model
from pipeline.model.settings import FineTuningSection, ModelSection, TrainSection
from pipeline.tasks.caption import Caption
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import join_references, targets_of
from pipeline.video.reading import read_frames
from pipeline.video.settings import DecodeSection
from tests.architectures import stored_clips, tiny

COLOURS = {"red": (230, 40, 40), "green": (40, 220, 60), "blue": (60, 80, 240)}
N_FRAMES, SIDE = 6, 8
SECTION = tiny(units=[24], frame_features=12)
TRAIN = TrainSection(epochs=40, learning_rate=0.01, batch_size=16, augmentation={
    "shift": 0.0, "brightness": 0.0, "contrast": 0.0,
})  # fmt: skip


def colour_clips(folder, n_clips: int, seed: int):
    """Clips that show one colour and then another, and captions that say so in two ways."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((n_clips, N_FRAMES, SIDE, SIDE, 3), np.uint8)
    lengths = rng.integers(2, N_FRAMES + 1, n_clips)
    mask = np.arange(N_FRAMES) < lengths[:, None]
    targets = []
    for index, length in enumerate(lengths):
        first, second = rng.choice(list(COLOURS), 2, replace=False)
        turn = rng.integers(1, length)
        frames[index, :turn], frames[index, turn:length] = COLOURS[first], COLOURS[second]
        targets.append(
            join_references([f"{first}, then {second}.", f"It is {first} and then {second}"])
        )
    noise = rng.integers(-15, 16, frames.shape)
    frames = np.clip(frames + noise, 0, 255).astype(np.uint8) * mask[..., None, None, None]
    return stored_clips(folder, frames, mask, targets)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colours")
    return [
        colour_clips(folder / split, n_clips, seed)
        for seed, (split, n_clips) in enumerate((("train", 96), ("val", 32), ("test", 48)))
    ]


def untrained(clips, **options):
    keras.utils.set_random_seed(0)
    task = Caption.learn(clips[0].targets, TaskSection(type="caption", max_words=8))
    model = build_model(SECTION, task, frame_shape=(SIDE, SIDE, 3), **options)
    return model, task


def exact(task, targets, outputs) -> float:
    terms = task.terms(targets, outputs)
    return float(task.scores(terms.sum(axis=0))["exact_match"])


@pytest.mark.long
def test_captions_are_learnt_and_the_file_captions_a_clip_alone(clips, tmp_path):
    model, task = untrained(clips)
    train, val, test = clips
    result = fit(model, task, train, val, TRAIN)
    assert result.history[-1]["val_loss"] < result.history[0]["val_loss"]
    outputs = predict_arrays(model, test)
    assert exact(task, test.targets, outputs) > 0.9
    assert set(COLOURS) < set(task.words)

    save_model(model, tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    inputs = {"frames": test.frames(0)[None], "mask": test.mask(0)[None]}
    tokens, totals = np.array(loaded(inputs))[0, :2]
    np.testing.assert_allclose(tokens, outputs[0, 0])
    np.testing.assert_allclose(totals, outputs[0, 1], atol=1e-5)

    one_frame = [Clip(test.frames(0)[:1], np.array([True]))]  # an image
    assert predict_clips(loaded, one_frame).shape == (1, 3, task.max_words + 2)

    chosen = [Clip(np.array(test.frames(n)), test.mask(n)) for n in range(2)]
    by_stream = grad_cam(loaded, chosen, task.explained_outputs(outputs[:2]).tolist())
    assert list(by_stream) == SECTION.streams
    for heat in by_stream.values():
        assert heat.shape[:2] == (2, N_FRAMES)
        assert np.isfinite(heat).all()
        assert heat.max() == 1


@pytest.mark.long
def test_a_decoder_is_fitted_on_the_features_of_a_frozen_cnn(clips, tmp_path):
    model, task = untrained(clips)
    for layer in cnn_layers(model):
        layer.trainable = False
    cnn = [np.array(weight) for layer in cnn_layers(model) for weight in layer.weights]
    train, val, _ = clips
    section = TRAIN.model_copy(update={"epochs": 4})
    result = fit(model, task, train, val, section, features_folder=tmp_path / "features")
    assert result.history[-1]["val_loss"] < result.history[0]["val_loss"]
    after = [np.array(weight) for layer in cnn_layers(model) for weight in layer.weights]
    assert all((one == other).all() for one, other in zip(cnn, after, strict=True))
    assert any((tmp_path / "features").rglob("*.npy"))
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict_arrays(loaded, val), predict_arrays(model, val), atol=1e-5)


@pytest.mark.long
def test_both_phases_of_fine_tuning_end_at_the_best_epoch(clips, tmp_path):
    model, task = untrained(clips)
    train, val, _ = clips
    tuning = FineTuningSection(head_epochs=2, learning_rate=0.5)  # worse after the first phase
    section = TRAIN.model_copy(update={"epochs": 4, "patience": 4, "fine_tuning": tuning})
    result = fit(model, task, train, val, section, features_folder=tmp_path)
    fitted = task.training_model(model)
    fitted.compile(loss=task.loss(label_smoothing=0))
    batches = evaluation_batches(
        val, task.encode(val.targets), batch_size=16, prepare=task.training_example
    )
    assert result.kept_epoch == 2
    best = result.history[result.kept_epoch - 1]["val_loss"]
    assert fitted.evaluate(batches, verbose=0) == pytest.approx(best, rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_captions_are_float32_in_half_precision(clips, precision):
    model, task = untrained(clips, precision=precision)
    train, val, test = clips
    fit(model, task, train, val, TRAIN.model_copy(update={"epochs": 1}))
    assert model.output.dtype == "float32"
    outputs = predict_arrays(model, test)
    assert task.find_invalid(outputs) is None
    assert task.training_model(model).dtype_policy.name == precision


@pytest.mark.long
def test_eleven_spoken_sentences_are_fitted_by_heart(real_videos, tmp_path):
    folder = real_videos / "grid"
    data = DataSection(videos=str(folder), labels="captions.csv")
    records = read_labels(data, targets_of("caption"))
    decode, extract = DecodeSection(fit="letterbox"), ExtractSection(frames=12)
    clips = [make_clip(read_frames(folder / record.video, decode), extract) for record in records]
    every = stored_clips(
        tmp_path / "all",
        np.stack([clip.frames for clip in clips]),
        np.stack([clip.mask for clip in clips]),
        [record.target for record in records],
    )
    keras.utils.set_random_seed(0)
    task = Caption.learn(every.targets, TaskSection(type="caption", max_words=8))
    model = build_model(ModelSection(), task, frame_shape=every.frames(0).shape[1:])
    section = TRAIN.model_copy(update={"epochs": 80, "learning_rate": 0.003})
    fit(model, task, every, every, section)
    outputs = predict_arrays(model, every)
    assert len(records) == 11
    assert exact(task, every.targets, outputs) == 1
