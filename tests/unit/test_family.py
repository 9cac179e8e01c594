"""Every architecture is trained, saved, loaded and served; wrong ones are refused by their key."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.preprocessing import Preprocessing, clips_from_video
from pipeline.clips.sampling import Clip, ClipSpec
from pipeline.model.architecture import Architecture, Temporal
from pipeline.model.classifier import clip_encoder, clip_head, cnn_layers
from pipeline.model.masking import LastRealStep
from pipeline.model.prediction import attention_weights, predict_clips
from pipeline.model.saving import save_classifier
from pipeline.model.wrapping import over_frames
from pipeline.serving.contract import RequestOptions
from pipeline.serving.decoding import Decoder
from pipeline.serving.scoring import Scorer
from pipeline.serving.sources import VideoSource
from pipeline.video.reading import FrameSpec
from pipeline.video.source import Limits
from pipeline.video.writing import encode_mp4
from tests.architectures import (
    ARCHITECTURES,
    MOBILENET,
    SMALL,
    build,
    frame_shape,
    inputs_of,
    noise_clips,
    outputs_of,
    tiny,
    train,
)

SHAPE = (8, 8, 3)


def served(model, mp4, shape):
    """Return what a server says of a video, and what the model makes of its clip."""
    height, width, _ = shape
    preprocessing = Preprocessing(
        FrameSpec(fps=10, width=width, height=height, fit="stretch"),
        ClipSpec(4, "uniform"),
        Limits(max_seconds=60, max_pixels=10**6),
    )
    decoder = Decoder(preprocessing, timeout_seconds=60)
    scorer = Scorer(model, ClipsMetadata(("a", "b", "c"), preprocessing), decoder)
    (row,) = scorer.score([VideoSource(mp4, "it")], RequestOptions())
    return row["probabilities"], predict_clips(model, clips_from_video(mp4, preprocessing))[0]


@pytest.fixture(scope="module")
def mp4():
    """Three frames of noise, to be padded to four."""
    return encode_mp4(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8), fps=10)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_trains_comes_back_from_disk_and_is_served(name, mp4, tmp_path):
    architecture = ARCHITECTURES[name]
    model, inputs = build(architecture), inputs_of(architecture)
    before = [np.array(weight) for weight in model.trainable_weights]
    losses = train(model, inputs)
    assert np.isfinite(losses).all()
    still = [
        weight.path
        for weight, old in zip(model.trainable_weights, before, strict=True)
        if (np.array(weight) == old).all()
    ]
    assert not still
    save_classifier(model, tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")  # no custom_objects
    np.testing.assert_array_equal(outputs_of(loaded, inputs), outputs_of(model, inputs))
    answer, direct = served(loaded, mp4, frame_shape(architecture))
    assert answer == dict(zip("abc", direct, strict=True))
    assert sum(answer.values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("cnn", [SMALL, MOBILENET], ids=["small_cnn", "mobilenet"])
def test_two_ways_to_wrap_give_the_same_outputs(cnn):
    whole = build(tiny(cnn))
    each = build(tiny(replace(cnn, wrap="per_layer")))
    each.set_weights(whole.get_weights())
    inputs = inputs_of(tiny(cnn))
    np.testing.assert_allclose(outputs_of(each, inputs), outputs_of(whole, inputs), atol=1e-6)
    assert len(each.layers) > len(whole.layers)
    assert len(cnn_layers(each)) == len(cnn_layers(whole))


def test_each_layer_of_the_cnn_is_in_the_summary_of_per_layer():
    layers = build(ARCHITECTURES["per_layer"]).layers
    wrapped = [layer.name for layer in layers if isinstance(layer, keras.layers.TimeDistributed)]
    assert wrapped == [
        "scale_pixels", "conv1", "norm1", "relu1", "conv2", "norm2", "relu2", "frame_features",
        "frame_dense",
    ]  # fmt: skip


def test_arithmetic_and_models_inside_a_backbone_are_wrapped_too():
    """As MobileNetV3 and ConvNeXt have them: x * 0.5, x + 3 and a Sequential between layers."""
    pixels = keras.Input((8, 8, 3))
    half = keras.layers.Conv2D(3, 3, padding="same")(pixels) * 0.5
    sharper = keras.Sequential([keras.layers.Conv2D(3, 2), keras.layers.ReLU()])(half + 3)
    backbone = keras.Model(pixels, keras.layers.Concatenate()([sharper, sharper]))
    encoder = keras.Sequential([pixels, backbone, keras.layers.GlobalAveragePooling2D()])
    frames, mask = keras.Input((None, 8, 8, 3)), keras.Input((None,), dtype="bool")
    whole, each = (
        keras.Model([frames, mask], over_frames(encoder, frames, mask, wrap=wrap))
        for wrap in ("whole", "per_layer")
    )
    clips = list(noise_clips([2, 4], 4, 0, SHAPE))
    found = outputs_of(each, clips)
    np.testing.assert_allclose(found, outputs_of(whole, clips), rtol=1e-5)
    assert (found[0, 2:] == 0).all()
    assert (found[0, :2] != 0).any()


def test_feature_maps_of_an_application_can_be_wrapped_by_layer():
    cnn = replace(MOBILENET, pooling="none", wrap="per_layer")
    model = build(tiny(cnn, frame_features=0, recurrent="convlstm2d"))
    assert clip_encoder(model).output.shape == (None, None, 1, 1, 1280)


@pytest.mark.parametrize("name", ["lstm", "per_layer", "convlstm2d"])
def test_the_two_parts_make_the_whole(name, tmp_path):
    architecture = ARCHITECTURES[name]
    model, inputs = build(architecture), inputs_of(architecture)
    features = outputs_of(clip_encoder(model), inputs)
    probabilities = outputs_of(clip_head(model), {"features": features, "mask": inputs["mask"]})
    np.testing.assert_allclose(probabilities, outputs_of(model, inputs), atol=1e-6)
    save_classifier(model, tmp_path / "classifier.keras")  # taking it apart leaves it whole


def test_training_the_head_trains_the_classifier():
    model, inputs = build(tiny(replace(SMALL, trainable="none"))), inputs_of(tiny())
    before = outputs_of(model, inputs)
    features = outputs_of(clip_encoder(model), inputs)
    train(clip_head(model), {"features": features, "mask": inputs["mask"]})
    assert np.abs(outputs_of(model, inputs) - before).max() > 1e-4


def test_attention_weights_can_be_read():
    architecture = ARCHITECTURES["attention"]
    frames, mask = inputs_of(architecture).values()
    clips = [Clip(*clip) for clip in zip(frames, mask, strict=True)]
    weights = attention_weights(build(architecture), clips)
    assert weights.shape == (2, 4)
    assert (weights[~mask] == 0).all()
    assert (weights[mask] > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    with pytest.raises(PipelineError, match=r"Expected a model with model\.temporal\.summary"):
        attention_weights(build(tiny()), clips)


def test_a_clip_without_a_real_frame_is_refused_by_name():
    frames, mask = inputs_of(tiny()).values()
    clips = [Clip(frames[0], mask[0]), Clip(frames[1], np.zeros(4, bool))]
    with pytest.raises(PipelineError, match=r"clips of nothing but padding: clip 2$"):
        predict_clips(build(tiny()), clips)


def test_dropout_and_penalties_are_where_the_params_say():
    architecture = Architecture(
        SMALL, 6, Temporal("gru", [5], recurrent_dropout=0.25), dropout=0.5, l2=0.01
    )
    model = build(architecture)
    gru = model.get_layer("gru1")
    assert (gru.recurrent_dropout, model.get_layer("dropout").rate) == (0.25, 0.5)
    penalized = [layer for layer in model._flatten_layers() if hasattr(layer, "kernel_regularizer")]
    penalties = [float(layer.kernel_regularizer.l2) for layer in penalized]
    assert penalties == pytest.approx([0.01] * len(penalized))
    assert {layer.name for layer in penalized} >= {"conv1", "conv2", "features", "gru1", "classes"}


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_of_the_model_and_of_nothing_else(precision, tmp_path):
    architecture = ARCHITECTURES["attention"]
    model, exact = build(architecture, precision=precision), build(architecture)
    assert keras.config.dtype_policy().name == "float32"
    assert {str(weight.dtype) for weight in model.trainable_weights} == {"float32"}
    assert model.get_layer("lstm1").compute_dtype == precision.removeprefix("mixed_")
    inputs = inputs_of(architecture)
    half = outputs_of(model, inputs)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, outputs_of(exact, inputs), atol=0.02)
    train(model, inputs)
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (precision == "mixed_float16")
    save_classifier(model, tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(outputs_of(loaded, inputs), outputs_of(model, inputs))


@pytest.mark.parametrize("wrap", ["whole", "per_layer"])
def test_mixed_precision_sees_small_differences_of_frames(wrap):
    """Shown as 128 and 128.5, of which bfloat16 would make 128 both times."""
    model = build(tiny(replace(SMALL, wrap=wrap), motion="difference"), precision="mixed_bfloat16")
    frames = np.full((2, 2, 8, 8, 3), 100, np.uint8)
    frames[0, 1], frames[1, 1] = 101, 102
    one, two = outputs_of(clip_encoder(model), {"frames": frames, "mask": np.ones((2, 2), bool)})
    assert (one[0] == two[0]).all()
    assert (one[1] != two[1]).any()


def test_the_last_real_step_is_that_of_each_clip():
    steps = np.array([[[1, 10], [2, 20], [3, 30]], [[4, 40], [5, 50], [6, 60]]], np.float32)
    mask = np.array([[True, True, False], [True, True, True]])
    assert np.array(LastRealStep()(steps, mask=mask)).tolist() == [[2, 20], [6, 60]]
    assert np.array(LastRealStep()(steps)).tolist() == [[3, 30], [6, 60]]
