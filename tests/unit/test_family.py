"""Every architecture is trained, saved and loaded; wrong ones are refused by the key to change."""

import logging
from dataclasses import replace

import keras
import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.clips.sampling import Clip
from pipeline.model.architecture import Architecture, Cnn, Temporal
from pipeline.model.backbones import check_frame_encoder, frame_encoder
from pipeline.model.classifier import clip_encoder, clip_head, cnn_layers
from pipeline.model.masking import LastRealStep
from pipeline.model.prediction import attention_weights, predict_clips
from pipeline.model.saving import save_classifier
from pipeline.model.wrapping import over_frames
from tests.architectures import (
    ARCHITECTURES,
    MOBILENET,
    SMALL,
    build,
    frame_shape,
    noise_clips,
    tiny,
)

SHAPE = (8, 8, 3)


def inputs_of(architecture, lengths=(2, 4), n_frames=4, seed=0):
    frames, mask = noise_clips(list(lengths), n_frames, seed, frame_shape(architecture))
    return {"frames": frames, "mask": mask}


def train(model, inputs, steps=2):
    model.compile(keras.optimizers.Adam(1e-2), model.loss or "sparse_categorical_crossentropy")
    model.run_eagerly = True  # faster than building a graph for two steps
    labels = np.arange(len(inputs["mask"])) % 3
    return [float(model.train_on_batch(inputs, labels)) for _ in range(steps)]


def on(model, inputs):
    model.run_eagerly = True  # as in train
    return np.array(model.predict_on_batch(inputs))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_trains_and_comes_back_from_disk(name, tmp_path):
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
    np.testing.assert_array_equal(on(loaded, inputs), on(model, inputs))


@pytest.mark.parametrize("cnn", [SMALL, MOBILENET], ids=["small_cnn", "mobilenet"])
def test_two_ways_to_wrap_give_the_same_outputs(cnn):
    whole = build(tiny(cnn))
    each = build(tiny(replace(cnn, wrap="per_layer")))
    each.set_weights(whole.get_weights())
    inputs = inputs_of(tiny(cnn))
    np.testing.assert_allclose(on(each, inputs), on(whole, inputs), atol=1e-6)
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
    found = on(each, clips)
    np.testing.assert_allclose(found, on(whole, clips), rtol=1e-5)
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
    features = on(clip_encoder(model), inputs)
    probabilities = on(clip_head(model), {"features": features, "mask": inputs["mask"]})
    np.testing.assert_allclose(probabilities, on(model, inputs), atol=1e-6)
    save_classifier(model, tmp_path / "classifier.keras")  # taking it apart leaves it whole


def test_training_the_head_trains_the_classifier():
    model, inputs = build(tiny(replace(SMALL, trainable="none"))), inputs_of(tiny())
    before = on(model, inputs)
    features = on(clip_encoder(model), inputs)
    train(clip_head(model), {"features": features, "mask": inputs["mask"]})
    assert np.abs(on(model, inputs) - before).max() > 1e-4


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


def trained_names(cnn, shape=SHAPE):
    encoder = frame_encoder(cnn, frame_shape=shape)
    return [weight.path.split("/")[-2] for weight in encoder.trainable_weights]


def test_the_last_layers_train_and_batch_norm_only_with_all():
    assert trained_names(SMALL) == ["conv1", "norm1", "norm1", "conv2", "norm2", "norm2"]
    assert trained_names(replace(SMALL, trainable=1)) == ["conv2"]
    assert trained_names(replace(SMALL, trainable=2)) == ["conv1", "conv2"]
    assert trained_names(replace(SMALL, trainable="none")) == []
    assert trained_names(replace(MOBILENET, trainable=2), (32, 32, 3)) == [
        "block_16_project",
        "Conv_1",
    ]


def test_batch_norm_of_a_frozen_cnn_keeps_its_statistics():
    model = build(tiny(replace(SMALL, trainable=1)))
    norms = [layer for layer in cnn_layers(model) if layer.name.startswith("norm")]
    before = [weight for layer in norms for weight in layer.get_weights()]
    train(model, inputs_of(tiny()))
    after = [weight for layer in norms for weight in layer.get_weights()]
    assert len(after) == 8
    np.testing.assert_equal(after, before)


def test_the_preprocessing_of_the_backbone_is_in_the_model():
    encoder = frame_encoder(MOBILENET, frame_shape=(32, 32, 3))
    assert encoder.inputs[0].dtype == "uint8"
    pixels = np.array([[[[0, 51, 255]]]], np.uint8)
    scaled = encoder.get_layer("preprocess")(pixels)
    np.testing.assert_allclose(scaled, [[[[-1, -0.6, 1]]]], atol=1e-6)
    vgg = frame_encoder(Cnn("VGG16", pooling="average"), frame_shape=(32, 32, 3))
    # RGB to BGR, less the means 103.939, 116.779 and 123.68 of ImageNet.
    centred = vgg.get_layer("preprocess")(pixels)
    np.testing.assert_allclose(centred, [[[[151.061, -65.779, -123.68]]]], atol=1e-3)


def test_weights_of_a_file_are_those_of_the_cnn(tmp_path):
    source = build(tiny())
    save_classifier(source, tmp_path / "source.keras")
    encoder = frame_encoder(SMALL, frame_shape=SHAPE)
    encoder.save_weights(tmp_path / "cnn.weights.h5")

    taken = frame_encoder(replace(SMALL, weights=str(tmp_path / "source.keras")), frame_shape=SHAPE)
    conv = next(layer for layer in cnn_layers(source) if layer.name == "conv1")
    np.testing.assert_equal(taken.get_layer("conv1").get_weights(), conv.get_weights())
    loaded = frame_encoder(
        replace(SMALL, weights=str(tmp_path / "cnn.weights.h5")), frame_shape=SHAPE
    )
    np.testing.assert_equal(loaded.get_weights(), encoder.get_weights())


@pytest.mark.parametrize(
    ("cnn", "message"),
    [
        (
            Cnn("MobilenetV2"),
            r"model\.cnn\.backbone: expected small_cnn or an image model of keras\.applications "
            r".*Received: MobilenetV2\. Did you mean MobileNetV2",
        ),
        (
            Cnn("MobileNetV2"),
            r"decode\.width, decode\.height: MobileNetV2 takes no frames of this size "
            r"\(Input size must be at least 32x32\)\. Received: 8 x 8$",
        ),
        (
            Cnn(weights="nowhere.weights.h5"),
            r"model\.cnn\.weights: expected none, imagenet or the path of a file\. "
            r"No such file: nowhere\.weights\.h5$",
        ),
        (
            Cnn(weights="params.yaml"),
            r"model\.cnn\.weights: expected weights that fit the layers of small_cnn\. "
            r"Received: params\.yaml \(",
        ),
        (
            Cnn(filters=[4, 4], trainable=3),
            r"model\.cnn\.trainable: expected all, none or at most 2, the number of layers with "
            r"weights\. Received: 3$",
        ),
    ],
)
def test_a_cnn_that_cannot_be_is_refused(cnn, message):
    with pytest.raises(PipelineError, match=message):
        check_frame_encoder(cnn, frame_shape=SHAPE)


def test_weights_of_another_cnn_are_refused(tmp_path):
    save_classifier(build(tiny()), tmp_path / "source.keras")
    other = Cnn(filters=[5, 5], weights=str(tmp_path / "source.keras"))
    with pytest.raises(PipelineError, match=r"model\.cnn\.weights: expected weights that fit"):
        frame_encoder(other, frame_shape=SHAPE)


def test_what_is_only_slow_or_odd_is_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        build(tiny(recurrent_dropout=0.2))
        build(tiny(replace(SMALL, trainable="none")))
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "model.temporal.recurrent_dropout is 0.2",
        "model.cnn.weights is none and model.cnn.trainable is none",
    ]


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
def test_mixed_precision_is_of_the_model_and_of_nothing_else(precision):
    architecture = ARCHITECTURES["attention"]
    model, exact = build(architecture, precision=precision), build(architecture)
    assert keras.config.dtype_policy().name == "float32"
    assert {str(weight.dtype) for weight in model.trainable_weights} == {"float32"}
    assert model.get_layer("lstm1").compute_dtype == precision.removeprefix("mixed_")
    inputs = inputs_of(architecture)
    half = on(model, inputs)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, on(exact, inputs), atol=0.02)
    train(model, inputs)
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (precision == "mixed_float16")


def test_weights_that_cannot_be_downloaded_are_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    with pytest.raises(PipelineError) as caught:
        frame_encoder(Cnn("MobileNetV2", weights="imagenet"), frame_shape=(96, 96, 3))
    assert str(caught.value).startswith(
        "model.cnn.weights: expected the imagenet weights of MobileNetV2, which cannot be "
        "downloaded (URL fetch failure on https://storage.googleapis.com/"
    )
    assert str(caught.value).endswith("Name a file of them, or set it to none. Received: imagenet")


def test_the_last_real_step_is_that_of_each_clip():
    steps = np.array([[[1, 10], [2, 20], [3, 30]], [[4, 40], [5, 50], [6, 60]]], np.float32)
    mask = np.array([[True, True, False], [True, True, True]])
    assert np.array(LastRealStep()(steps, mask=mask)).tolist() == [[2, 20], [6, 60]]
    assert np.array(LastRealStep()(steps)).tolist() == [[3, 30], [6, 60]]
