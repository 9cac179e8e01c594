from dataclasses import replace

import keras
import numpy as np
import pytest

from pipeline.clips.sampling import Clip
from pipeline.model.classifier import build_classifier, clip_encoder
from pipeline.model.grad_cam import grad_cam
from tests.architectures import (
    ARCHITECTURES,
    MOBILENET,
    SMALL,
    build,
    frame_shape,
    noise_clips,
    tiny,
)


def clips_for(architecture, lengths=(5, 2)):
    frames, mask = noise_clips(list(lengths), 5, 1, frame_shape(architecture))
    return [Clip(*pair) for pair in zip(frames, mask, strict=True)]


def averaging(wrap):
    """Mean over places, then over frames, then a dense layer: what class activation maps need."""
    return tiny(
        replace(SMALL, pooling="average", wrap=wrap),
        frame_features=0,
        recurrent="none",
        summary="mean",
    )


@pytest.mark.parametrize("wrap", ["whole", "per_layer"])
def test_it_is_the_class_activation_map_where_that_exists(wrap):
    """There y = sum_k w_k mean(A_k), so Grad-CAM is relu(sum_k w_k A_k) up to a factor."""
    architecture = averaging(wrap)
    model = build(architecture)
    maps_only = tiny(
        replace(SMALL, pooling="none", wrap=wrap),
        frame_features=0,
        recurrent="convlstm2d",
    )
    other = build(maps_only)
    cnn = clip_encoder(other)
    cnn.set_weights(clip_encoder(model).get_weights())
    clips = clips_for(architecture)
    inputs = {name: np.stack([getattr(clip, name) for clip in clips]) for name in Clip._fields}
    maps = np.asarray(cnn(inputs))
    for number in range(3):
        expected = np.maximum(maps @ np.asarray(model.get_layer("classes").kernel)[:, number], 0)
        expected /= np.maximum(expected.max(axis=(1, 2, 3), keepdims=True), 1e-9)
        found = grad_cam(model, clips, [number, number])
        assert found.shape == (2, 5, 2, 2)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "mobilenet"])
def test_every_architecture_has_one(name):
    architecture = ARCHITECTURES[name]
    heat = grad_cam(build(architecture), clips_for(architecture), [0, 2])
    assert heat.shape == (2, 5, 2, 2)
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert not heat[1, 2:].any(), "padding speaks for nothing"


def test_the_class_that_is_asked_for_counts():
    architecture = averaging("whole")
    clip = clips_for(architecture)[0]
    heats = grad_cam(build(architecture), [clip] * 3, [0, 1, 2])
    assert not np.allclose(heats[0], heats[1])
    assert not np.allclose(heats[1], heats[2])


def test_many_clips_are_those_of_one_at_a_time():
    architecture = ARCHITECTURES["lstm"]
    model = build(architecture)
    clips = clips_for(architecture, lengths=[1, 2, 3, 4, 5] * 2)
    together = grad_cam(model, clips, [1] * 10)
    alone = [grad_cam(model, [clip], [1])[0] for clip in clips]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)


def test_an_image_model_has_one_where_its_map_has_places():
    architecture = tiny(MOBILENET, frame_features=0)
    model = build(architecture)
    assert grad_cam(model, clips_for(architecture), [0, 0]) is None  # 32 x 32 becomes 1 x 1
    keras.utils.set_random_seed(0)
    larger = build_classifier(architecture, n_classes=3, frame_shape=(64, 64, 3))
    frames, mask = noise_clips([3], 3, 0, (64, 64, 3))
    assert grad_cam(larger, [Clip(frames[0], mask[0])], [0]).shape == (1, 3, 2, 2)
