"""Image models of keras.applications as the CNN: built by name, with their weights and scaling."""

from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from pipeline.base.errors import PipelineError
from pipeline.model.architecture import Cnn
from pipeline.model.backbones import frame_encoder
from pipeline.model.classifier import build_classifier, cnn_layers
from pipeline.model.saving import load_classifier, save_classifier
from tests.architectures import MOBILENET, noise_clips, outputs_of, tiny

SMALLEST = {"VGG16": 32, "ResNet50": 32, "EfficientNetV2B0": 32, "InceptionV3": 75}


def weights_of_cnn(model):
    return [weight for layer in cnn_layers(model) for weight in layer.get_weights()]


@pytest.mark.parametrize("name", SMALLEST)  # together 50 s of processor time
def test_it_runs_comes_back_from_disk_and_lends_its_weights(name, tmp_path):
    shape = (SMALLEST[name], SMALLEST[name], 3)
    cnn, path = Cnn(name, pooling="average"), tmp_path / "classifier.keras"
    architecture = tiny(cnn, frame_features=0, recurrent="none", summary="mean")
    model = build_classifier(architecture, n_classes=3, frame_shape=shape)
    clips = dict(zip(("frames", "mask"), noise_clips([1, 2], 2, 0, shape), strict=True))
    found = outputs_of(model, clips)
    np.testing.assert_allclose(found.sum(axis=1), [1, 1], atol=1e-6)
    save_classifier(model, path)
    np.testing.assert_array_equal(outputs_of(load_classifier(path), clips), found)
    if name == "InceptionV3":  # whose layers Keras numbers on from model to model: conv2d_94
        encoder = frame_encoder(replace(cnn, weights=str(path)), frame_shape=shape)
        np.testing.assert_equal(encoder.get_weights(), weights_of_cnn(model))


@pytest.fixture
def notop(tmp_path):
    """Weights of EfficientNetB0 as Keras hands them out, normalisation included."""
    model = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    mean, variance, count = model.layers[2].get_weights()
    model.layers[2].set_weights([mean + 0.4, variance / 20, count])
    path = tmp_path / "efficientnetb0_notop.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def test_efficientnet_sees_the_same_with_weights_from_a_file_as_with_keras_own(notop, monkeypatch):
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(notop))
    cnn = Cnn("EfficientNetB0", weights="imagenet", pooling="none")
    keras_own = frame_encoder(cnn, frame_shape=(32, 32, 3))
    from_file = frame_encoder(replace(cnn, weights=str(notop)), frame_shape=(32, 32, 3))
    frames, _ = noise_clips([2], 2, 0, (32, 32, 3))
    expected = np.array(keras_own(frames[0]))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(from_file(frames[0]), expected, rtol=1e-4)


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


def test_weights_that_came_damaged_are_no_matter_of_the_size_of_frames(monkeypatch):
    def get_file(*_, **__):
        raise ValueError("Incomplete or corrupted file detected. The auto file hash differs.")

    monkeypatch.setattr(file_utils, "get_file", get_file)
    with pytest.raises(PipelineError) as caught:
        frame_encoder(Cnn("MobileNetV2", weights="imagenet"), frame_shape=(96, 96, 3))
    assert str(caught.value) == (
        "model.cnn.weights: expected the imagenet weights of MobileNetV2, which cannot be "
        "downloaded (Incomplete or corrupted file detected. The auto file hash differs.). Name a "
        "file of them, or set it to none. Received: imagenet"
    )
