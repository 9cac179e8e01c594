"""Side inputs: learnt from the training clips, joined to the features of a clip, carried along."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.batches import evaluation_batches, training_batches
from pipeline.common.errors import PipelineError
from pipeline.common.files import write_csv
from pipeline.common.side_inputs import SideInput, learn_side_inputs, side_arrays, side_values
from pipeline.model.explanations import attention_weights, grad_cam
from pipeline.model.features import cached_features
from pipeline.model.fitting import calibrate, fit
from pipeline.model.network import build_model, clip_head, step_encoder
from pipeline.model.prediction import predict_arrays, predict_clips, shuffled_order
from pipeline.model.saving import export_saved_model, load_model, save_model
from pipeline.model.settings import FineTuningSection, TrainSection
from pipeline.model.side_inputs import SideInputFeatures
from pipeline.model.streams import stream_weights
from pipeline.tasks.intervals import ClipFrames
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import join_references, targets_of
from pipeline.tasks.task import task_class
from tests.architectures import (
    CLASSES,
    TASK,
    frame_shape,
    noise_clips,
    only_encoder,
    tiny,
    tiny_convlstm2d,
)

KINDS = {"age": "number", "site": "category"}
CELLS = [
    {"age": "20", "site": "Rom"},
    {"age": "40", "site": "Köln"},
    {"age": "60", "site": "Rom"},
]
LEARNT = learn_side_inputs(KINDS, CELLS)


TARGETS = {
    "classification": list(CLASSES),
    "multilabel": ["a", "", "a|b"],
    "regression": ["1", "2", "4"],
    "caption": [join_references([text]) for text in ("it runs", "it walks", "it sits down")],
    "frames": [
        targets_of("frames").of_clip(text, ClipFrames(range(length), 4, 10.0))
        for length, text in ((2, "0 to 0.2 a"), (4, "0 to 0.2 b|0.2 to 0.4 a"), (3, "0 to 0.3 b"))
    ],
}
TASKS = {
    name: task_class(name).learn(targets, TaskSection(type=name, max_words=3))
    for name, targets in TARGETS.items()
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def build(section=None, task=TASK, **options):
    keras.utils.set_random_seed(0)
    section = section or tiny()
    shape = frame_shape(section)
    return build_model(section, task, frame_shape=shape, side_inputs=LEARNT, **options)


def inputs_of(cells=CELLS, n_frames=4, seed=0):
    frames, mask = noise_clips([2, 4, 3][: len(cells)], n_frames, seed, frame_shape(tiny()))
    return {"frames": frames, "mask": mask, **side_arrays(KINDS, cells)}


def outputs_of(model, inputs):
    tensors = {name: tf.convert_to_tensor(array) for name, array in inputs.items()}
    return np.array(model(tensors, training=False))


@pytest.fixture
def clips(tmp_path) -> ClipArrays:
    return stored(tmp_path, "classification")


def stored(folder: Path, task_type: str) -> ClipArrays:
    """Store three clips with the side inputs of CELLS, as the extract stage does."""
    inputs = inputs_of()
    np.save(folder / "00.frames.npy", inputs["frames"])
    np.save(folder / "00.mask.npy", inputs["mask"])
    rows = [
        {"name": f"{row}.mp4", "target": target, "group": "", "frames": 4, "shard": 0,
         "row": row, "number.age": cells["age"], "category.site": cells["site"]}
        for row, (target, cells) in enumerate(zip(TARGETS[task_type], CELLS, strict=True))
    ]  # fmt: skip
    write_csv(folder / "clips.csv", list(rows[0]), rows)
    return ClipArrays(folder)


def test_numbers_have_the_mean_and_deviation_of_the_given_videos_only(clips):
    age, site = clips.chosen([0, 0, 1]).learn_side_inputs()  # two clips of the first video
    assert age == SideInput("age", "number", mean=30.0, deviation=10.0)
    assert site.categories == ("Köln", "Rom")
    assert clips.chosen([0, 2]).learn_side_inputs()[1].categories == ("Rom",)


def test_a_number_without_variance_is_refused():
    with pytest.raises(PipelineError, match=r"data\.side_inputs\.age: .*Received: 3 for every"):
        learn_side_inputs({"age": "number"}, [{"age": "3"}, {"age": "3"}])


def test_numbers_are_standardised_and_unknown_categories_share_an_index_of_their_own():
    layer = SideInputFeatures([one.to_json() for one in LEARNT])
    sites = ("Rom", "Köln", "Bonn", "Ulm")
    cells = [
        {"age": str(age), "site": site} for age, site in zip((40, 60, 20, 0), sites, strict=True)
    ]
    features = np.array(layer(side_arrays(KINDS, cells)))
    deviation = np.std([20, 40, 60])
    np.testing.assert_allclose(
        features[:, 0], [0, 20 / deviation, -20 / deviation, -40 / deviation]
    )
    assert (features[2, 1:] == features[3, 1:]).all()
    assert len(np.unique(features[:, 1:], axis=0)) == 3


def test_large_numbers_keep_their_differences_in_half_precision():
    seconds = [{"time": str(1_700_000_000 + step)} for step in range(3)]
    (learnt,) = learn_side_inputs({"time": "number"}, seconds)
    layer = SideInputFeatures([learnt.to_json()], dtype="mixed_float16")
    features = np.array(layer(side_arrays({"time": "number"}, seconds)))
    np.testing.assert_allclose(features[:, 0], [-1.2247, 0, 1.2247], atol=1e-3)


def test_a_request_gives_every_column():
    values = side_values(LEARNT, {"age": 50.0, "site": " Ko\u0308ln\n", "other": 1}, where="a.mp4")
    assert values["numbers"].tolist() == [50.0]
    assert values["categories"].tolist() == ["Köln"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"site": "Rom"}, "a.mp4: the side input age is missing"),
        ({"site": "Rom", "age": float("nan")}, "a.mp4: the side input age is missing"),
        ({"site": "", "age": 1.0}, "a.mp4: the side input site is missing"),
        ({"site": "Rom", "age": "old"}, "a.mp4: the side input age must be a finite number"),
        ({"site": "Rom", "age": "inf"}, "a.mp4: the side input age must be a finite number"),
    ],
)
def test_a_missing_or_invalid_value_is_named(given, message):
    with pytest.raises(PipelineError, match=message):
        side_values(LEARNT, given, where="a.mp4")


@every_task
def test_side_inputs_and_frames_both_change_the_outputs(task):
    model, inputs = build(task=task), inputs_of()
    before = outputs_of(model, inputs)
    for cells in ({"age": "50", "site": "Rom"}, {"age": "20", "site": "Köln"}):
        other = {**inputs, **side_arrays(KINDS, [cells, *CELLS[1:]])}
        changed = np.abs(outputs_of(model, other) - before).reshape(3, -1).max(axis=1)
        assert changed[0] > 1e-5
        assert changed[1:].max() < 1e-6
    assert np.abs(outputs_of(model, inputs_of(seed=1)) - before).max() > 1e-5


@every_task
def test_padding_does_not_matter(task):
    model, inputs = build(task=task), inputs_of()
    longer = {**inputs}
    for name in ("frames", "mask"):
        rest = [(0, 0)] * (inputs[name].ndim - 2)
        longer[name] = np.pad(inputs[name], [(0, 0), (0, 12), *rest])
    noise = np.random.default_rng(1).integers(0, 256, longer["frames"].shape, dtype=np.uint8)
    longer["frames"] = np.where(longer["mask"][..., None, None, None], longer["frames"], noise)
    unpadded, padded = outputs_of(model, inputs), outputs_of(model, longer)
    padded = padded[:, : unpadded.shape[1]]  # those of frames have further steps
    np.testing.assert_allclose(padded, unpadded, atol=1e-5)


def test_a_model_without_side_inputs_has_the_inputs_of_before():
    model = build_model(tiny(), TASK, frame_shape=frame_shape(tiny()))
    assert model.input.keys() == {"frames", "mask"}
    assert build().input.keys() == {"frames", "mask", "numbers", "categories"}


def test_clips_on_disk_and_in_memory_give_the_same_outputs(clips):
    model = build()
    stored = predict_arrays(model, clips)
    np.testing.assert_allclose(stored, outputs_of(model, inputs_of()), atol=1e-6)
    in_memory = predict_clips(model, [clips.clip(row) for row in range(3)])
    np.testing.assert_allclose(in_memory, stored, atol=1e-6)


def test_every_clip_keeps_its_side_inputs_in_every_order(clips):
    model = build()
    backwards = clips.chosen([2, 1, 0])
    stored, reversed_ = predict_arrays(model, clips), predict_arrays(model, backwards)
    np.testing.assert_allclose(reversed_, stored[::-1], atol=1e-6)
    for batches in (
        training_batches(clips, np.arange(3), batch_size=2, seed=0),
        evaluation_batches(clips, np.arange(3), batch_size=2, frame_order=shuffled_order(0)),
    ):
        for inputs, targets in batches.as_numpy_iterator():
            expected = [[float(CELLS[target]["age"])] for target in targets]
            assert inputs["numbers"].tolist() == expected


def test_a_saved_model_gives_the_same_outputs_and_equal_weights_the_same_bytes(tmp_path):
    inputs = inputs_of()
    for name in ("a", "b"):
        save_model(build(), tmp_path / f"{name}.keras")
    loaded = load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(outputs_of(loaded, inputs), outputs_of(build(), inputs))
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


def test_an_exported_model_takes_the_values_of_the_table(tmp_path):
    model, inputs = build(), inputs_of()
    export_saved_model(model, tmp_path / "saved")
    served = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
    tensors = {name: tf.convert_to_tensor(array) for name, array in inputs.items()}
    np.testing.assert_allclose(served(**tensors)["output_0"], outputs_of(model, inputs), atol=1e-6)


def test_the_head_reads_cached_features_and_side_inputs(clips, tmp_path):
    model = build()
    features = cached_features(model, clips, tmp_path / "features")
    assert only_encoder(model).input.keys() == {"frames", "mask"}
    batches = evaluation_batches(features, np.zeros(3), batch_size=3)
    outputs = clip_head(model).predict(batches, verbose=0)
    np.testing.assert_allclose(outputs, predict_arrays(model, clips), atol=1e-6)


@pytest.mark.parametrize("section", [tiny(), tiny_convlstm2d()], ids=["lstm", "convlstm2d"])
def test_baselines_read_the_side_inputs_after_the_frame_features(clips, section):
    model = build(section)
    features = predict_arrays(step_encoder(model), clips)
    side = model.get_layer("side_inputs").output
    expected = predict_arrays(keras.Model(model.input, side), clips)
    width, mask = expected.shape[1], clips.masks()
    for row in range(3):
        assert (features[row, ~mask[row]] == 0).all()
        for step in features[row, mask[row], -width:]:
            np.testing.assert_allclose(step, expected[row], atol=1e-6)


def test_explanations_use_the_side_inputs(clips):
    model = build(tiny(summary="attention"))
    in_memory = [clips.clip(row) for row in range(3)]
    heat = grad_cam(model, in_memory, [0, 1, 2])["frames"]
    assert heat.shape[:2] == (3, 4)
    np.testing.assert_allclose(
        attention_weights(model, in_memory)["frames"].sum(axis=1), 1, atol=1e-6
    )


@pytest.mark.long
@every_task
def test_every_task_fits_two_streams_with_side_inputs_on_frames_and_features(tmp_path, task):
    clips = stored(tmp_path, task.type)
    section = TrainSection(epochs=2, fine_tuning=FineTuningSection(head_epochs=1))
    model = build(tiny(streams=("frames", "differences")), task=task)
    before = [np.array(weight) for weight in model.get_layer("side_inputs").trainable_weights]
    fit(model, task, clips, clips, section, features_folder=tmp_path / "features")
    after = [np.array(weight) for weight in model.get_layer("side_inputs").trainable_weights]
    assert (before[0] != after[0]).any()
    calibrate(model, task, clips)
    assert sum(stream_weights(model).values()) == pytest.approx(1)
    outputs = predict_arrays(model, clips)
    assert np.isfinite(outputs).all()
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict_arrays(loaded, clips), outputs, atol=1e-6)


def test_training_replaces_some_categories_so_that_the_unknown_one_is_trained():
    model, inputs = build(), inputs_of([{"age": "20", "site": "Rom"}] * 3)
    layer = model.get_layer("side_inputs")
    (before,) = [np.array(weight) for weight in layer.trainable_weights]
    model.compile("adam", "sparse_categorical_crossentropy")
    batch = tf.data.Dataset.from_tensors((inputs, np.arange(3)))
    model.fit(batch.repeat(40), verbose=0)
    (after,) = [np.array(weight) for weight in layer.trainable_weights]
    assert (after[0] != before[0]).any()


def test_a_class_that_depends_on_frames_and_number_is_learnt():
    """Neither the brightness of the frames nor the number alone shows the class."""
    rng = np.random.default_rng(0)
    bright, sign = rng.integers(0, 2, (2, 64))
    frames = np.full((64, 2, 8, 8, 3), 40, np.uint8) + (
        150 * bright[:, None, None, None, None]
    ).astype(np.uint8)
    kinds = {"sign": "number"}
    cells = [{"sign": str(value)} for value in sign]
    learnt = learn_side_inputs(kinds, cells)
    keras.utils.set_random_seed(0)
    model = build_model(tiny(), TASK, frame_shape=(8, 8, 3), side_inputs=learnt)
    inputs = {"frames": frames, "mask": np.ones((64, 2), bool), **side_arrays(kinds, cells)}
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    batch = tf.data.Dataset.from_tensors((inputs, bright ^ sign))
    model.fit(batch.repeat(60), verbose=0)
    assert (outputs_of(model, inputs).argmax(axis=1) == bright ^ sign).mean() > 0.95
