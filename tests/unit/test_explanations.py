"""Grad-CAM equals class activation maps where these exist; attention weights can be read."""

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.model.explanations import attention_weights, grad_cam, has_attention
from pipeline.model.network import build_model
from tests.architectures import (
    ARCHITECTURES,
    MOBILENET,
    TASK,
    build,
    built,
    clips_of,
    every_architecture,
    inputs_of,
    layer_of,
    noise_clips,
    only_encoder,
    small,
    tiny,
    tiny_convlstm2d,
)

LENGTHS, N_FRAMES = (5, 2), 5


def averaging(wrap="whole"):
    """Mean over places, then over frames, then a dense layer: y = sum_k w_k mean(A_k)."""
    cnn = small(pooling="average", wrap=wrap)
    return tiny(cnn, frame_features=0, recurrent="none", summary="mean")


@pytest.mark.parametrize("wrap", ["whole", "per_layer"])
def test_it_is_the_class_activation_map_where_that_exists(wrap):
    """There Grad-CAM is relu(sum_k w_k A_k) up to a factor."""
    section = averaging(wrap)
    model = build(section)
    cnn = only_encoder(build(tiny_convlstm2d()))  # the same CNN up to its maps
    cnn.set_weights(only_encoder(model).get_weights())
    maps = np.asarray(cnn(inputs_of(section, LENGTHS, N_FRAMES)))
    for number in range(3):
        expected = np.maximum(maps @ np.asarray(layer_of(model, "classes").kernel)[:, number], 0)
        expected /= np.maximum(expected.max(axis=(1, 2, 3), keepdims=True), 1e-9)
        clips = clips_of(section, LENGTHS, N_FRAMES)
        heatmaps = grad_cam(model, clips, [number, number])["frames"]
        assert heatmaps.shape == (2, 5, 2, 2)
        np.testing.assert_allclose(heatmaps, expected, atol=1e-5)


@every_architecture
def test_every_architecture_has_one(name):
    if name == "mobilenet":
        pytest.skip("its map of these frames is a single place")
    section = ARCHITECTURES[name]
    by_stream = grad_cam(built(name), clips_of(section, LENGTHS, N_FRAMES), [0, 2])
    assert list(by_stream) == section.streams
    for heatmaps in by_stream.values():
        assert heatmaps.shape == (2, 5, 2, 2)
        assert np.isfinite(heatmaps).all()
        assert heatmaps.min() >= 0
        assert heatmaps.max() <= 1
        assert not heatmaps[1, 2:].any(), "padding raises no output"


def test_each_output_has_its_own():
    section = averaging()
    clip = clips_of(section, LENGTHS, N_FRAMES)[0]
    heatmaps = grad_cam(build(section), [clip] * 3, [0, 1, 2])["frames"]
    assert not np.allclose(heatmaps[0], heatmaps[1])
    assert not np.allclose(heatmaps[1], heatmaps[2])


def test_many_clips_give_the_same_as_one_at_a_time():
    clips = clips_of(tiny(), [1, 2, 3, 4, 5] * 2, N_FRAMES)
    together = grad_cam(built("mean"), clips, [1] * 10)["frames"]
    alone = [grad_cam(built("mean"), [clip], [1])["frames"][0] for clip in clips]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)


@pytest.mark.long
def test_an_image_model_has_one_where_its_map_has_several_places():
    section = tiny(MOBILENET, frame_features=0)
    clips = clips_of(section, LENGTHS, N_FRAMES)
    assert grad_cam(built("mobilenet"), clips, [0, 0]) == {}  # 32 x 32 becomes 1 x 1
    larger = build_model(section, TASK, frame_shape=(64, 64, 3))
    frames, mask = noise_clips([3], 3, 0, (64, 64, 3))
    clip = clips[0]._replace(frames=frames[0], mask=mask[0])
    assert grad_cam(larger, [clip], [0])["frames"].shape == (1, 3, 2, 2)


def test_attention_weights_can_be_read():
    name = "stacked_bidirectional_gru_attention"
    clips = clips_of(ARCHITECTURES[name])
    mask = np.stack([clip.mask for clip in clips])
    assert has_attention(built(name))
    weights = attention_weights(built(name), clips)["frames"]
    assert weights.shape == (2, 4)
    assert (weights[~mask] == 0).all()
    assert (weights[mask] > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


def test_a_model_without_attention_has_no_weights():
    assert not has_attention(built("lstm"))
    with pytest.raises(PipelineError, match=r"^model\.temporal\.summary: .*attention"):
        attention_weights(built("lstm"), clips_of(tiny()))
