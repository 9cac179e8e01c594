"""Which layers of the CNN train, whose weights it has, and what is refused or warned of."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.base.files import sha256_of_file
from pipeline.model.architecture import Cnn
from pipeline.model.backbones import frame_encoder
from pipeline.model.classifier import check_classifier, cnn_layers
from pipeline.model.oddities import warn_of_oddities
from pipeline.model.saving import save_classifier
from tests.architectures import MAPS, MOBILENET, SMALL, build, inputs_of, tiny, train

SHAPE = (8, 8, 3)


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
        check_classifier(tiny(cnn), frame_shape=SHAPE)


def test_the_file_of_weights_is_in_the_log(tmp_path, caplog):
    """Its content may change under the same name."""
    path = tmp_path / "cnn.weights.h5"
    frame_encoder(SMALL, frame_shape=SHAPE).save_weights(path)
    with caplog.at_level(logging.INFO):
        frame_encoder(replace(SMALL, weights=str(path)), frame_shape=SHAPE)
    assert caplog.messages == [f"model.cnn.weights: {path}, SHA-256 {sha256_of_file(path)}"]


def test_weights_of_another_cnn_are_refused(tmp_path):
    save_classifier(build(tiny()), tmp_path / "source.keras")
    other = Cnn(filters=[5, 5], weights=str(tmp_path / "source.keras"))
    with pytest.raises(PipelineError, match=r"model\.cnn\.weights: expected weights that fit"):
        frame_encoder(other, frame_shape=SHAPE)


IMAGENET = Cnn("MobileNetV2", weights="imagenet")


@pytest.mark.parametrize(
    ("architecture", "warnings"),
    [
        (tiny(recurrent_dropout=0.2), ["model.temporal.recurrent_dropout is 0.2"]),
        (tiny(MAPS, recurrent="convlstm2d", recurrent_dropout=0.2), []),  # cuDNN never had it
        (
            tiny(replace(SMALL, trainable="none")),
            ["model.cnn.weights is none and model.cnn.trainable is none"],
        ),
        (
            tiny(replace(SMALL, trainable=2)),
            ["model.cnn.weights is none and model.cnn.trainable is 2"],
        ),
        (
            tiny(IMAGENET, motion="difference"),
            ["model.cnn.weights is imagenet and model.motion is difference"],
        ),
        (tiny(IMAGENET), []),
        (tiny(motion="difference"), []),
    ],
)
def test_what_is_only_slow_or_odd_is_a_warning(caplog, architecture, warnings):
    with caplog.at_level(logging.WARNING):
        warn_of_oddities(architecture)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == warnings


def test_building_warns(caplog):
    with caplog.at_level(logging.WARNING):
        build(tiny(replace(SMALL, trainable="none")))
    assert len(caplog.records) == 1
