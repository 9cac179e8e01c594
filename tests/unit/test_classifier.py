import hashlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.clips.sampling import ClipSpec, make_clip
from pipeline.model.architecture import Architecture, Cnn, Temporal
from pipeline.model.classifier import build_classifier
from pipeline.model.prediction import mean_of_videos, predict_clips, shuffled_order
from pipeline.model.saving import load_classifier, save_classifier
from pipeline.model.task import balanced_weights, encode_labels

TINY = Architecture(Cnn(filters=[4, 8]), frame_features=8, temporal=Temporal(units=[8]))
SAVE_IN_A_NEW_PROCESS = """
import sys
from pathlib import Path
import keras
from tests.unit.test_classifier import tiny_model
from pipeline.model.saving import save_classifier
save_classifier(tiny_model(), Path(sys.argv[1]))
"""


def tiny_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_classifier(TINY, n_classes=3, frame_shape=(16, 16, 3))


def some_clips():
    frames = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    return [make_clip(frames[:n], ClipSpec(5, "uniform")) for n in (1, 3, 7)]


def test_inputs_and_output():
    model = tiny_model()
    assert {name: (t.shape, t.dtype) for name, t in model.input.items()} == {
        "frames": ((None, None, 16, 16, 3), "uint8"),
        "mask": ((None, None), "bool"),
    }
    probabilities = predict_clips(model, some_clips())
    assert probabilities.shape == (3, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_saved_model_predicts_the_same(tmp_path):
    model = tiny_model()
    save_classifier(model, tmp_path / "classifier.keras")
    loaded = load_classifier(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(
        predict_clips(loaded, some_clips()), predict_clips(model, some_clips())
    )


def test_saving_does_not_keep_the_optimizer(tmp_path):
    model = tiny_model()
    save_classifier(model, tmp_path / "plain.keras")
    model.compile("adam", "sparse_categorical_crossentropy")
    save_classifier(model, tmp_path / "compiled.keras")
    assert (tmp_path / "plain.keras").read_bytes() == (tmp_path / "compiled.keras").read_bytes()


def test_the_same_weights_give_the_same_bytes_in_another_process(tmp_path):
    digests = set()
    for number in range(2):
        path = tmp_path / f"{number}.keras"
        subprocess.run([sys.executable, "-c", SAVE_IN_A_NEW_PROCESS, str(path)], check=True)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_file_that_is_no_model_is_named(tmp_path):
    path = tmp_path / "classifier.keras"
    with pytest.raises(PipelineError, match=r"classifier\.keras: not a model that can be loaded"):
        load_classifier(path)
    path.write_text("text")
    with pytest.raises(PipelineError, match=r"classifier\.keras: not a model that can be loaded"):
        load_classifier(path)


def test_labels_are_positions_in_the_class_names():
    assert encode_labels(["b", "a", "b"], ("a", "b")).tolist() == [1, 0, 1]


def test_balanced_weights_give_every_class_the_same_total():
    # 6 clips, 3 classes: 6 / (3 * 3) = 2/3, 6 / (3 * 2) = 1, 6 / (3 * 1) = 2.
    weights = balanced_weights(np.array([0, 0, 0, 1, 1, 2]), n_classes=3)
    assert weights == pytest.approx({0: 2 / 3, 1: 1.0, 2: 2.0})


def test_shuffled_order_is_a_permutation_that_stays_the_same():
    order = shuffled_order(seed=0)
    assert sorted(order(3, 8)) == list(range(8))
    np.testing.assert_array_equal(order(3, 8), order(3, 8))
    assert (order(3, 8) != order(4, 8)).any()


def test_the_probabilities_of_a_video_are_the_mean_of_those_of_its_clips():
    of_clips = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    found = mean_of_videos(of_clips, np.array([0, 1, 1, 1]))
    assert found[0].tolist() == [0.9, 0.1]
    assert found[1] == pytest.approx([0.5, 0.5])


def test_with_one_clip_a_video_probabilities_stay_bit_for_bit():
    of_clips = np.random.default_rng(0).dirichlet(np.ones(5), size=50)
    assert (mean_of_videos(of_clips, np.arange(50)) == of_clips).all()
