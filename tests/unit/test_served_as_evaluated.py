"""A server says of a video what evaluate says, also where a video gives several clips."""

import keras
import numpy as np
import pytest

from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.sampling import ClipSpec
from pipeline.clips.shards import ClipArrays, ClipSource, write_clips
from pipeline.model.architecture import Architecture, Cnn, Temporal
from pipeline.model.classifier import build_classifier
from pipeline.serving.contract import RequestOptions
from pipeline.serving.decoding import Decoder
from pipeline.serving.scoring import Scorer
from pipeline.serving.sources import VideoSource
from pipeline.stages.predicting import predict
from pipeline.video.batch import DecodeTask, update_store
from pipeline.video.reading import WHOLE_VIDEO, FrameSpec
from pipeline.video.source import Limits
from pipeline.video.store import stored_path
from pipeline.video.writing import encode_mp4

CLASSES = ("left", "right", "up")
LENGTHS = (2, 5, 9)
PREPROCESSING = Preprocessing(
    frames=FrameSpec(fps=10, width=16, height=16, fit="stretch"),
    clip=ClipSpec(frames=4, sampling="uniform", clips_per_video=3),
    limits=Limits(max_seconds=60, max_pixels=10**6),
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Paths of videos of noise at 10 fps."""
    folder = tmp_path_factory.mktemp("videos")
    generator = np.random.default_rng(0)
    paths = [folder / f"{length}.mp4" for length in LENGTHS]
    for path, length in zip(paths, LENGTHS, strict=True):
        noise = generator.integers(0, 256, (length, 32, 32, 3), dtype=np.uint8)
        path.write_bytes(encode_mp4(noise, fps=10))
    return paths


@pytest.fixture(scope="module")
def clips(videos, tmp_path_factory) -> ClipArrays:
    """What decode and extract make of them."""
    frames, folder = tmp_path_factory.mktemp("frames"), tmp_path_factory.mktemp("clips") / "test"
    spec, limits = PREPROCESSING.frames, PREPROCESSING.limits
    tasks = [DecodeTask(path, path.name, WHOLE_VIDEO, spec, limits) for path in videos]
    update_store(frames, tasks, workers=1, timeout_seconds=60)
    sources = [
        ClipSource(path.name, "up", "", task.key, stored_path(frames, task.key), length)
        for path, task, length in zip(videos, tasks, LENGTHS, strict=True)
    ]
    write_clips(folder, sources, frame_spec=spec, clip_spec=PREPROCESSING.clip, n_shards=2)
    return ClipArrays(folder)


def test_a_server_averages_the_clips_that_evaluate_averages(videos, clips):
    keras.utils.set_random_seed(0)
    model = build_classifier(
        Architecture(Cnn(filters=(4,)), frame_features=8, temporal=Temporal(units=(8,))),
        n_classes=len(CLASSES),
        frame_shape=(16, 16, 3),
    )
    # Two frames make one clip, five make two that differ, nine make three.
    assert len(clips) == 6
    predictions = predict(model, clips, CLASSES)
    evaluated = dict(zip(predictions.videos, predictions.probabilities, strict=True))

    decoder = Decoder(PREPROCESSING, timeout_seconds=30)
    scorer = Scorer(model, ClipsMetadata(CLASSES, PREPROCESSING), decoder)
    sources = [VideoSource(path, path.name) for path in videos]
    served, of_one_clip = (scorer.score(sources, RequestOptions(clips=n)) for n in (0, 1))

    for path, row, alone in zip(videos, served, of_one_clip, strict=True):
        expected = evaluated[path.name]
        assert list(row["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
        assert row["label"] == CLASSES[expected.argmax()]
        differs = not np.allclose(list(alone["probabilities"].values()), expected, atol=1e-5)
        assert differs == (path.name != "2.mp4")
