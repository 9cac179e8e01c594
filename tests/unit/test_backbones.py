"""Backbones: which layers train, whose weights they have, their scaling, and what is refused."""

import logging

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file
from pipeline.model.backbones import frame_encoder
from pipeline.model.network import build_model, check_model, cnn_layers
from pipeline.model.saving import load_model, save_model
from pipeline.model.settings import CnnSection, log_config_warnings
from tests.architectures import (
    MOBILENET,
    TASK,
    build,
    built,
    inputs_of,
    noise_clips,
    outputs_of,
    small,
    tiny,
    train,
)

SHAPE = (8, 8, 3)


def trained_names(cnn, shape=SHAPE):
    encoder = frame_encoder(cnn, frame_shape=shape)
    return [weight.path.split("/")[-2] for weight in encoder.trainable_weights]


def weights_of_cnn(model):
    return [weight for layer in cnn_layers(model) for weight in layer.get_weights()]


def test_the_last_layers_train_and_batch_norm_only_with_all():
    assert trained_names(small()) == ["conv1", "norm1", "norm1", "conv2", "norm2", "norm2"]
    assert trained_names(small(trainable=1)) == ["conv2"]
    assert trained_names(small(trainable=2)) == ["conv1", "conv2"]
    assert trained_names(small(trainable="none")) == []


@pytest.mark.long
def test_the_last_layers_of_an_application_train():
    cnn = MOBILENET.model_copy(update={"trainable": 2})
    assert trained_names(cnn, (32, 32, 3)) == ["block_16_project", "Conv_1"]


def test_batch_norm_of_a_partly_frozen_cnn_keeps_its_statistics():
    model = build(tiny(small(trainable=1), recurrent="none", summary="mean"))
    norms = [layer for layer in cnn_layers(model) if layer.name.startswith("norm")]
    before = [weight for layer in norms for weight in layer.get_weights()]
    train(model, inputs_of(tiny()))
    after = [weight for layer in norms for weight in layer.get_weights()]
    assert len(after) == 8
    np.testing.assert_equal(after, before)


def test_weights_come_from_a_saved_model_or_a_file_of_weights(tmp_path, caplog):
    path = tmp_path / "source.keras"
    save_model(built("lstm"), path)
    with caplog.at_level(logging.INFO):
        encoder = frame_encoder(small(weights=str(path)), frame_shape=SHAPE)
    np.testing.assert_equal(encoder.get_weights(), weights_of_cnn(built("lstm")))
    # The content of the file may change under the same name.
    assert caplog.messages == [f"model.cnn.weights: {path}, SHA-256 {sha256_of_file(path)}"]

    encoder.save_weights(tmp_path / "cnn.weights.h5")
    loaded = frame_encoder(small(weights=str(tmp_path / "cnn.weights.h5")), frame_shape=SHAPE)
    np.testing.assert_equal(loaded.get_weights(), encoder.get_weights())


@pytest.mark.parametrize("filters", [[5, 5], [4, 6, 6]])
@pytest.mark.parametrize("name", ["source.keras", "cnn.weights.h5"])
def test_weights_of_another_cnn_are_refused(filters, name, tmp_path):
    save_model(built("lstm"), tmp_path / "source.keras")
    frame_encoder(small(), frame_shape=SHAPE).save_weights(tmp_path / "cnn.weights.h5")
    other = small(filters=filters, weights=str(tmp_path / name))
    with pytest.raises(PipelineError) as caught:
        frame_encoder(other, frame_shape=SHAPE)
    message = str(caught.value)
    assert message.startswith("model.cnn.weights: the weights do not fit (")
    assert f"Received: {tmp_path / name}. Set backbone and filters as in" in message


@pytest.mark.parametrize(
    ("cnn", "message"),
    [
        (
            CnnSection(backbone="MobilenetV2"),
            r"model\.cnn\.backbone: .*Expected small_cnn or an image model of "
            r"keras\.applications .*Received: MobilenetV2\. Did you mean MobileNetV2",
        ),
        (
            CnnSection(backbone="MobileNetV2", weights="imagenet"),
            r"decode\.width, decode\.height: MobileNetV2 needs larger frames\. "
            r"Expected: Input size must be at least 32x32\. Received: 8 x 8$",
        ),
        (
            CnnSection(weights="nowhere.weights.h5"),
            r"model\.cnn\.weights: no such file\. .*Received: nowhere\.weights\.h5$",
        ),
        (
            CnnSection(weights="params.yaml"),
            r"model\.cnn\.weights: the weights do not fit .* Received: params\.yaml\. Set backbone",
        ),
        (
            small(trainable=3),
            r"model\.cnn\.trainable: .*all, none or at most 2, .* Received: 3$",
        ),
    ],
)
def test_a_cnn_that_cannot_be_built_is_refused(cnn, message):
    with pytest.raises(PipelineError, match=message):
        check_model(tiny(cnn), frame_shape=SHAPE)


IMAGENET = CnnSection(backbone="MobileNetV2", weights="imagenet")


@pytest.mark.parametrize(
    ("section", "warnings"),
    [
        (
            tiny(small(trainable="none")),
            ["model.cnn.weights is none and model.cnn.trainable is none"],
        ),
        (tiny(small(trainable=2)), ["model.cnn.weights is none and model.cnn.trainable is 2"]),
        (
            tiny(IMAGENET.model_copy(update={"trainable": 2}), streams=["differences"]),
            ["model.cnn.weights is imagenet and model.cnn.trainable is 2"],
        ),
        (tiny(IMAGENET.model_copy(update={"trainable": 2})), []),
        (tiny(IMAGENET, streams=["differences"]), []),
        (tiny(streams=["differences"]), []),
    ],
)
def test_unusual_settings_give_a_warning(caplog, section, warnings):
    with caplog.at_level(logging.WARNING):
        log_config_warnings(section)
    assert [message.split(":")[0] for message in caplog.messages] == warnings


def test_building_a_model_warns_of_unusual_settings(caplog):
    with caplog.at_level(logging.WARNING):
        build(tiny(small(trainable="none"), recurrent="none", summary="mean"))
    assert len(caplog.records) == 1


SMALLEST = {"VGG16": 32, "ResNet50": 32, "EfficientNetV2B0": 32, "InceptionV3": 75}


@pytest.mark.long
@pytest.mark.parametrize("name", SMALLEST)
def test_an_application_runs_is_saved_and_gives_its_weights_to_another(name, tmp_path):
    shape = (SMALLEST[name], SMALLEST[name], 3)
    cnn = CnnSection(backbone=name, pooling="average")
    section = tiny(cnn, frame_features=0, recurrent="none", summary="mean")
    model = build_model(section, TASK, frame_shape=shape)
    clips = dict(zip(("frames", "mask"), noise_clips([1, 2], 2, 0, shape), strict=True))
    outputs = outputs_of(model, clips)
    np.testing.assert_allclose(outputs.sum(axis=1), [1, 1], atol=1e-6)
    path = tmp_path / "model.keras"
    save_model(model, path)
    np.testing.assert_array_equal(outputs_of(load_model(path), clips), outputs)
    if name == "InceptionV3":  # Keras numbers its layers from model to model: conv2d_94
        encoder = frame_encoder(cnn.model_copy(update={"weights": str(path)}), frame_shape=shape)
        np.testing.assert_equal(encoder.get_weights(), weights_of_cnn(model))


@pytest.fixture
def notop(tmp_path):
    """A file of weights of EfficientNetB0 as Keras publishes them, with its normalisation."""
    model = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    mean, variance, count = model.layers[2].get_weights()
    model.layers[2].set_weights([mean + 0.4, variance / 20, count])
    path = tmp_path / "efficientnetb0_notop.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


@pytest.mark.long
def test_efficientnet_gives_the_same_with_weights_from_a_file_as_with_a_download(
    notop, monkeypatch
):
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(notop))
    cnn = CnnSection(backbone="EfficientNetB0", weights="imagenet", pooling="none")
    downloaded = frame_encoder(cnn, frame_shape=(32, 32, 3))
    from_file = frame_encoder(
        cnn.model_copy(update={"weights": str(notop)}), frame_shape=(32, 32, 3)
    )
    frames, _ = noise_clips([2], 2, 0, (32, 32, 3))
    expected = np.array(downloaded(frames[0]))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(from_file(frames[0]), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "scaled"),
    [
        pytest.param("MobileNetV2", [-1, -0.6, 1], marks=pytest.mark.long),
        # RGB to BGR, minus the means 103.939, 116.779 and 123.68 of ImageNet.
        ("VGG16", [151.061, -65.779, -123.68]),
    ],
)
def test_the_preprocessing_of_the_backbone_is_in_the_model(backbone, scaled):
    cnn = CnnSection(backbone=backbone, pooling="average")
    encoder = frame_encoder(cnn, frame_shape=(32, 32, 3))
    assert encoder.inputs[0].dtype == "uint8"
    pixels = np.array([[[[0, 51, 255]]]], np.uint8)
    np.testing.assert_allclose(encoder.get_layer("preprocess")(pixels), [[[scaled]]], atol=1e-3)


def test_weights_that_cannot_be_downloaded_give_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(PipelineError) as caught:
        frame_encoder(IMAGENET, frame_shape=(96, 96, 3))
    assert str(caught.value).startswith(
        "model.cnn.weights: the weights of MobileNetV2 cannot be downloaded (URL fetch failure on "
        "https://storage.googleapis.com/"
    )
    assert str(caught.value).endswith("Received: imagenet. Name a file of weights, or use none")


@pytest.mark.long
def test_an_incomplete_download_is_not_an_error_of_the_frame_size(monkeypatch):
    def get_file(*_, **__):
        raise ValueError("Incomplete or corrupted file detected. The auto file hash differs.")

    monkeypatch.setattr(file_utils, "get_file", get_file)
    with pytest.raises(PipelineError, match=r"cannot be downloaded \(Incomplete or corrupted"):
        frame_encoder(IMAGENET, frame_shape=(96, 96, 3))
