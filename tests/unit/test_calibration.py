import numpy as np
import pytest

from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.sampling import ClipSpec, make_clip
from pipeline.model.calibration import fit_abstention, fit_temperature, tempered
from pipeline.model.metadata import ClassifierMetadata
from pipeline.model.prediction import predict_clips
from pipeline.model.saving import load_classifier, save_classifier
from pipeline.model.temperature import set_temperature, temperature_of, uncalibrated
from pipeline.video.reading import FrameSpec
from pipeline.video.source import Limits
from tests.architectures import build, tiny

PREPROCESSING = Preprocessing(
    frames=FrameSpec(fps=10, width=8, height=8, fit="crop"),
    clip=ClipSpec(frames=4, sampling="uniform"),
    limits=Limits(max_seconds=60, max_pixels=10_000),
)


def each_its_own(n_videos):
    return np.arange(n_videos)


def one_confidence(n_videos, n_hits, confidence):
    """Two classes: every video is class 0, and is called so with the same confidence if a hit."""
    first = np.where(np.arange(n_videos) < n_hits, confidence, 1 - confidence)
    return np.stack([first, 1 - first], axis=1), np.zeros(n_videos, np.int64)


def test_a_temperature_of_two_halves_the_log_odds():
    # The odds of 0.8 are 4 to 1; their root is 2 to 1.
    assert tempered(np.array([[0.8, 0.2]]), 2.0)[0] == pytest.approx([2 / 3, 1 / 3])
    assert tempered(np.array([[0.8, 0.2]]), 1.0)[0] == pytest.approx([0.8, 0.2])


def test_the_temperature_makes_confidence_what_the_share_of_hits_is():
    # Each of 79 hits counts as 99 / 100 of a hit, each of 19 misses as 1 / 100. The model says
    # 0.99, odds of 99 to 1, which a temperature of ln 99 / ln odds turns into those of the share.
    probabilities, labels = one_confidence(98, 79, 0.99)
    share = (79 * 0.99 + 19 * 0.01) / 98
    expected = np.log(99) / np.log(share / (1 - share))
    found = fit_temperature(probabilities, labels, each_its_own(98))
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_model_that_is_too_modest_gets_a_temperature_below_one():
    probabilities, labels = one_confidence(98, 97, 0.6)
    assert fit_temperature(probabilities, labels, each_its_own(98)) < 1


def test_without_a_mistake_the_model_still_doubts():
    # 98 of 98 right: smoothed, 99 of 100.
    probabilities, labels = one_confidence(98, 98, 0.8)
    temperature = fit_temperature(probabilities, labels, each_its_own(98))
    assert tempered(probabilities, temperature)[0, 0] == pytest.approx(0.99, abs=1e-4)


def test_the_loss_is_that_of_videos_and_not_of_clips():
    # Each video has a clip that is surely right and one that is surely wrong: their mean, 1/2,
    # is the same at every temperature, so the mean of ten videos without that decides.
    sure, labels = one_confidence(98, 79, 0.99)
    split = np.array([[0.999, 0.001], [0.001, 0.999]] * 50)
    of_clips = np.concatenate([sure, split])
    videos = np.concatenate([np.arange(98), 98 + np.arange(100) // 2])
    alone = fit_temperature(sure, labels, each_its_own(98))
    found = fit_temperature(of_clips, np.zeros(148, np.int64), videos)
    assert found == pytest.approx(alone, rel=0.05)


def test_abstention_keeps_as_many_videos_as_the_accuracy_allows():
    confidence = np.array([0.95, 0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 0, 1, 0, 1])  # right, right, wrong, right, wrong
    # Accuracy of the surest 1 to 5: 1, 1, 2/3, 3/4, 3/5.
    assert fit_abstention(probabilities, labels, target_accuracy=0.9) == 0.9
    assert fit_abstention(probabilities, labels, target_accuracy=0.7) == 0.7
    assert fit_abstention(probabilities, labels, target_accuracy=0.6) == 0.6


def test_videos_of_one_confidence_are_kept_or_left_together():
    confidence = np.array([0.9, 0.8, 0.8])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    assert fit_abstention(probabilities, np.array([0, 0, 1]), target_accuracy=0.9) == 0.9


def test_an_accuracy_out_of_reach_has_no_threshold():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert fit_abstention(probabilities, np.array([1, 0]), target_accuracy=0.9) is None


def test_the_threshold_is_rounded_down():
    probabilities = np.array([[0.87654321, 0.12345679]])
    assert fit_abstention(probabilities, np.array([0]), target_accuracy=0.9) == 0.876543


@pytest.fixture(scope="module")
def model():
    return build(tiny())


def clips():
    frames = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    return [make_clip(frames[:n], ClipSpec(5, "uniform")) for n in (1, 4, 9)]


def test_the_model_itself_is_tempered_and_keeps_its_temperature_on_disk(model, tmp_path):
    before = predict_clips(model, clips())
    assert temperature_of(model) == 1
    set_temperature(model, 2.5)
    after = predict_clips(model, clips())
    np.testing.assert_allclose(after, tempered(before, 2.5), atol=1e-6)
    save_classifier(model, tmp_path / "model.keras")
    loaded = load_classifier(tmp_path / "model.keras")
    assert temperature_of(loaded) == 2.5
    np.testing.assert_array_equal(predict_clips(loaded, clips()), after)
    with uncalibrated(loaded):
        np.testing.assert_array_equal(predict_clips(loaded, clips()), before)
    assert temperature_of(loaded) == 2.5
    set_temperature(model, 1.0)


def test_no_optimizer_sees_the_temperature(model):
    assert "temperature" not in [weight.name for weight in model.trainable_weights]
    assert "temperature" in [weight.name for weight in model.non_trainable_weights]


def test_the_metadata_of_a_model_has_the_threshold(tmp_path):
    path = tmp_path / "classifier.json"
    metadata = ClassifierMetadata(("a", "b"), PREPROCESSING, abstain_below=0.75)
    metadata.write(path)
    assert ClassifierMetadata.read(path) == metadata
