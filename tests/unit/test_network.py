"""Every architecture trains, is saved and loaded; the model can be cut at its frame features."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.clips.sampling import Clip
from pipeline.common.errors import PipelineError
from pipeline.model.features import cached_features
from pipeline.model.layers import LastRealStep
from pipeline.model.network import clip_head, cnn_layers, is_frozen
from pipeline.model.prediction import predict_arrays, predict_clips, shuffled_order
from pipeline.model.saving import load_model, save_model
from pipeline.model.settings import ModelSection
from pipeline.model.streams import streams_of
from pipeline.model.temporal import clip_features
from pipeline.model.time_distributed import FEATURES_LAYER, TimeDistributed, over_frames
from pipeline.params import load_params
from tests.architectures import (
    ARCHITECTURES,
    MOBILENET,
    build,
    built,
    clips_of,
    every_architecture,
    head_inputs,
    inputs_of,
    layer_of,
    noise_clips,
    only_encoder,
    outputs_of,
    small,
    stored_clips,
    tiny,
    train,
)


def test_the_committed_model_is_the_default():
    assert load_params().model == ModelSection()


@every_architecture
def test_every_weight_trains_and_a_saved_model_gives_the_same_outputs(name, tmp_path):
    section = ARCHITECTURES[name]
    model, inputs = build(section), inputs_of(section)
    before = [np.array(weight) for weight in model.trainable_weights]
    assert np.isfinite(train(model, inputs)).all()
    unchanged = [
        weight.path
        for weight, old in zip(model.trainable_weights, before, strict=True)
        if (np.array(weight) == old).all()
    ]
    assert not unchanged
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs_of(loaded, inputs), outputs_of(model, inputs))


@every_architecture
def test_steps_are_the_states_at_real_frames_and_do_not_change_the_clip_features(name):
    section = ARCHITECTURES[name]
    width = (4, 4, 3) if section.temporal.recurrent == "convlstm2d" else (5,)
    frames, mask = keras.Input((None, *width)), keras.Input((None,), dtype="bool")
    outputs = []
    for has_steps in (False, True):
        keras.utils.set_random_seed(0)
        features = clip_features(section, frames, mask, has_steps=has_steps)
        model = keras.Model([frames, mask], [part for part in features[:2] if part is not None])
        real = np.arange(6) < np.array([[2], [6]])
        values = np.random.default_rng(0).normal(size=(2, 6, *width)) * real.reshape(
            2, 6, *[1] * len(width)
        )
        outputs.append(keras.tree.flatten(model([values.astype(np.float32), real])))
    clip, steps = map(np.array, outputs[1])
    np.testing.assert_allclose(clip, outputs[0][0], atol=1e-6)
    assert steps.shape[:2] == (2, 6)
    assert (steps[0, 2:] == 0).all()
    assert steps[real].any()
    if section.temporal.summary == "last" and not section.temporal.bidirectional:
        np.testing.assert_allclose(clip, [steps[0, 1], steps[1, 5]], atol=1e-6)


def test_inputs_and_outputs():
    model = built("lstm")
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in model.input.items()} == {
        "frames": ((None, None, 8, 8, 3), "uint8"),
        "mask": ((None, None), "bool"),
    }
    probabilities = predict_clips(model, clips_of(tiny(), lengths=(1, 3, 4)))
    assert (probabilities.shape, probabilities.dtype) == ((3, 3), np.float64)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "cnn", [small(), pytest.param(MOBILENET, marks=pytest.mark.long)], ids=["small", "mobilenet"]
)
def test_both_ways_to_wrap_give_the_same_outputs(cnn):
    whole = build(tiny(cnn))
    each = build(tiny(cnn.model_copy(update={"wrap": "per_layer"})))
    each.set_weights(whole.get_weights())
    inputs = inputs_of(tiny(cnn))
    np.testing.assert_allclose(outputs_of(each, inputs), outputs_of(whole, inputs), atol=1e-6)
    (wrapped,), (one_layer,) = streams_of(each).values(), streams_of(whole).values()
    assert len(wrapped.layers) > len(one_layer.layers)
    assert len(cnn_layers(each)) == len(cnn_layers(whole))


def test_per_layer_shows_each_layer_of_the_cnn_in_the_summary():
    for stream in streams_of(built("two_streams_per_layer")).values():
        assert [
            layer.name
            for layer in stream.layers
            if isinstance(layer, keras.layers.TimeDistributed)
        ] == [
            "scale_pixels", "conv1", "norm1", "relu1", "conv2", "norm2", "relu2",
            "frame_features", "frame_dense",
        ]  # fmt: skip


def test_arithmetic_and_models_inside_a_backbone_are_wrapped_too():
    """MobileNetV3 and ConvNeXt have x * 0.5, x + 3 and a Sequential between layers."""
    pixels = keras.Input((8, 8, 3))
    half = keras.layers.Conv2D(3, 3, padding="same")(pixels) * 0.5
    inner = keras.Sequential([keras.layers.Conv2D(3, 2), keras.layers.ReLU()])(half + 3)
    backbone = keras.Model(pixels, keras.layers.Concatenate()([inner, inner]))
    encoder = keras.Sequential([pixels, backbone, keras.layers.GlobalAveragePooling2D()])
    frames, mask = keras.Input((None, 8, 8, 3)), keras.Input((None,), dtype="bool")
    whole, each = (
        keras.Model([frames, mask], over_frames(encoder, frames, mask, wrap=wrap))
        for wrap in ("whole", "per_layer")
    )
    clips = list(noise_clips([2, 4], 4, 0, (8, 8, 3)))
    outputs = outputs_of(each, clips)
    np.testing.assert_allclose(outputs, outputs_of(whole, clips), rtol=1e-5)
    assert (outputs[0, 2:] == 0).all()
    assert (outputs[0, :2] != 0).any()


@pytest.mark.long
def test_feature_maps_of_an_application_can_be_wrapped_by_layer():
    cnn = MOBILENET.model_copy(update={"pooling": "none", "wrap": "per_layer"})
    model = build(tiny(cnn, frame_features=0, recurrent="convlstm2d"))
    assert only_encoder(model).output.shape == (None, None, 1, 1, 1280)


@pytest.mark.parametrize("name", ["lstm", "two_streams_per_layer", "convlstm2d"])
def test_encoder_and_head_together_are_the_model(name, tmp_path):
    section = ARCHITECTURES[name]
    model, inputs = built(name), inputs_of(section)
    outputs = outputs_of(clip_head(model), head_inputs(model, inputs))
    np.testing.assert_allclose(outputs, outputs_of(model, inputs), atol=1e-6)
    save_model(model, tmp_path / "model.keras")  # cutting does not change the model


def test_training_the_head_trains_the_model():
    model, inputs = build(tiny(small(trainable="none"))), inputs_of(tiny())
    before = outputs_of(model, inputs)
    train(clip_head(model), head_inputs(model, inputs))
    assert np.abs(outputs_of(model, inputs) - before).max() > 1e-4


def test_a_cnn_is_frozen_when_none_of_its_layers_trains():
    assert is_frozen(build(tiny(small(trainable="none"))))
    assert not is_frozen(build(tiny(small(trainable=1))))
    assert not is_frozen(built("lstm"))


def test_a_clip_without_a_real_frame_is_refused_by_name():
    one, other = clips_of(tiny())
    empty = other._replace(mask=np.zeros(4, bool))
    with pytest.raises(PipelineError, match=r"^clip 2: no real frame\."):
        predict_clips(built("lstm"), [one, empty])


def test_dropout_has_the_rate_of_the_params():
    section = tiny().model_copy(update={"dropout": 0.5})
    assert layer_of(build(section), "dropout").rate == 0.5


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_applies_to_the_model_only(precision, tmp_path):
    section = ARCHITECTURES["attention"]
    model, exact = build(section, precision=precision), built("attention")
    assert keras.config.dtype_policy().name == "float32"
    assert {str(weight.dtype) for weight in model.trainable_weights} == {"float32"}
    assert layer_of(model, "lstm1").compute_dtype == precision.removeprefix("mixed_")
    inputs = inputs_of(section)
    half = outputs_of(model, inputs)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, outputs_of(exact, inputs), atol=0.02)
    train(model, inputs)
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (precision == "mixed_float16")
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs_of(loaded, inputs), outputs_of(model, inputs))


@pytest.mark.parametrize("wrap", ["whole", "per_layer"])
def test_mixed_precision_keeps_small_differences_of_frames(wrap):
    """They are pixels of 128 and 128.5, which bfloat16 would round to 128."""
    model = build(tiny(small(wrap=wrap), streams=["differences"]), precision="mixed_bfloat16")
    frames = np.full((2, 2, 8, 8, 3), 100, np.uint8)
    frames[0, 1], frames[1, 1] = 101, 102
    one, two = outputs_of(only_encoder(model), {"frames": frames, "mask": np.ones((2, 2), bool)})
    assert (one[0] == two[0]).all()
    assert (one[1] != two[1]).any()


def test_the_same_constant_light_on_all_frames_does_not_change_differences():
    model = build(tiny(streams=["differences"]))
    frames = np.random.default_rng(0).integers(0, 200, (2, 4, 8, 8, 3), dtype=np.uint8)
    mask = np.ones((2, 4), bool)
    lighter = outputs_of(model, {"frames": frames + np.uint8(50), "mask": mask})
    np.testing.assert_array_equal(lighter, outputs_of(model, {"frames": frames, "mask": mask}))


def test_the_last_real_step_of_each_clip_is_taken():
    steps = np.array([[[1, 10], [2, 20], [3, 30]], [[4, 40], [5, 50], [6, 60]]], np.float32)
    mask = np.array([[True, True, False], [True, True, True]])
    assert np.array(LastRealStep()(steps, mask=mask)).tolist() == [[2, 20], [6, 60]]


@pytest.fixture
def frames_of_calls():
    """The frames of each call of the CNN of a model, run without graphs."""
    tf.config.run_functions_eagerly(True)
    calls = []

    class Counted(TimeDistributed):
        def call(self, inputs, mask):
            calls.append(mask.shape[0] * mask.shape[1])
            return super().call(inputs, mask)

    yield Counted, calls
    tf.config.run_functions_eagerly(False)


def counted_model(layer) -> keras.Model:
    """A mean over frames and places, of feature maps that ``layer`` computes."""
    frames = keras.Input((None, 8, 8, 3), dtype="uint8", name="frames")
    mask = keras.Input((None,), dtype="bool", name="mask")
    cnn = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(2, 3, strides=2),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    features = layer(cnn, name=FEATURES_LAYER)(frames, mask=mask)
    steps = keras.layers.GlobalAveragePooling1D()(features, mask=mask)
    inputs = {"frames": frames, "mask": mask}
    stream = keras.Model(inputs, keras.layers.Dense(2)(steps), name="frames_stream")
    return keras.Model(inputs, stream(inputs))


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run")
@pytest.mark.parametrize("n_frames", [5, 100, 300])
def test_no_call_of_a_model_takes_more_than_256_frames_or_one_clip(
    n_frames, frames_of_calls, tmp_path
):
    layer, calls = frames_of_calls
    n_clips = {5: 60, 100: 5, 300: 3}[n_frames]
    model = counted_model(layer)
    frames, mask = noise_clips([n_frames] * n_clips, n_frames, 0, (8, 8, 3))
    stored = stored_clips(tmp_path / "clips", frames, mask, ["a"] * n_clips)
    clips = [Clip(*pair) for pair in zip(frames, mask, strict=True)]
    for predict in (
        lambda: predict_arrays(model, stored),
        lambda: predict_clips(model, clips),
        lambda: cached_features(model, stored, tmp_path / "features"),
    ):
        calls.clear()
        predict()
        assert sum(calls) == n_clips * n_frames
        assert max(calls) == {5: 255, 100: 200, 300: 300}[n_frames]


def test_shuffled_order_is_a_permutation_that_stays_the_same():
    order = shuffled_order(seed=0)
    assert sorted(order(3, 8)) == list(range(8))
    np.testing.assert_array_equal(order(3, 8), order(3, 8))
    assert (order(3, 8) != order(4, 8)).any()
