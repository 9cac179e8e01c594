"""What a served model makes of a request, with a model whose answer can be worked out by hand."""

import base64
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.sampling import ClipSpec
from pipeline.serving.contract import RequestOptions, ServingConfig
from pipeline.serving.decoding import Decoder, write_raw_frames
from pipeline.serving.scoring import Scorer
from pipeline.serving.sources import VideoSource, source_of
from pipeline.video.reading import FrameSpec, Segment, read_frames
from pipeline.video.source import Limits, VideoError
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames
from tests.deadly import DeadlyVideo

PREPROCESSING = Preprocessing(
    frames=FrameSpec(fps=10, width=16, height=16, fit="stretch"),
    clip=ClipSpec(frames=4, sampling="uniform"),
    limits=Limits(max_seconds=60, max_pixels=10**6),
)
CLASSES = ("dark", "grey", "light")


def source(content: bytes | Path, number: int = 1) -> VideoSource:
    return VideoSource(content, f"Video {number}: it")


@pytest.fixture(scope="module")
def mp4() -> bytes:
    """Ten numbered frames at 10 fps."""
    return encode_mp4(numbered_frames(10), fps=10)


@pytest.fixture
def root(tmp_path, mp4) -> Path:
    """A folder that may be read, with links out of it and within it, beside a secret."""
    (tmp_path / "secret.mp4").write_bytes(mp4)
    (tmp_path / "rooted").mkdir()
    folder = tmp_path / "root"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a b.mp4").write_bytes(mp4)
    (folder / "link in.mp4").symlink_to("inner/a b.mp4")
    (folder / "link out.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "folder out").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    return folder


@pytest.mark.parametrize("path", ["inner/a b.mp4", "link in.mp4", "inner/../inner/a b.mp4"])
def test_a_path_below_the_root_is_read(root, path):
    found = source_of({"video": None, "path": path}, number=3, path_root=str(root))
    assert found == VideoSource(root / "inner" / "a b.mp4", f"Video 3: {path}")
    whole = str(root / path)
    assert source_of({"path": whole}, number=1, path_root=str(root)).content == found.content


@pytest.mark.parametrize(
    "path",
    [
        "../secret.mp4",
        "inner/../../secret.mp4",
        "link out.mp4",
        "folder out/secret.mp4",
        "/etc/passwd",
        "../rooted/a.mp4",  # the name of the root is only the beginning of its own
        "../nowhere.mp4",
        "loop",
        "a\0b.mp4",
    ],
)
def test_a_path_that_leads_out_of_the_root_is_refused(root, path):
    with pytest.raises(PipelineError) as caught:
        source_of({"path": path}, number=2, path_root=str(root))
    assert str(caught.value) == (
        f"Video 2: {path}: expected a path below the folder that this server reads"
    )


def test_without_a_root_no_path_is_read(root):
    with pytest.raises(PipelineError, match=r"^Video 1: .* this server reads no files by path"):
        source_of({"path": str(root / "link in.mp4")}, number=1, path_root="")


@pytest.mark.parametrize("missing", [None, float("nan"), "", b""])
def test_a_row_needs_a_video_or_a_path(missing):
    assert source_of({"video": b"a!", "path": missing}, number=1, path_root="").content == b"a!"
    with pytest.raises(PipelineError, match=r"^Video 1: expected either.*Received: neither"):
        source_of({"video": missing}, number=1, path_root="/")


def test_base64_that_mlflow_has_left_is_decoded(mp4):
    for content in (mp4, base64.b64encode(mp4), np.bytes_(base64.b64encode(mp4))):
        found = source_of({"video": content}, number=1, path_root="")
        assert found == VideoSource(mp4, f"Video 1: <{len(content)} bytes>")


def test_top_k_counts_from_0():
    assert RequestOptions.from_params({"top_k": 0, "timeline": True}) == RequestOptions(0, True)
    with pytest.raises(PipelineError, match=r"^params\.top_k: expected .* Received: -1$"):
        RequestOptions.from_params({"top_k": -1})


def test_clips_are_as_in_training_or_so_many():
    assert RequestOptions().applied_to(PREPROCESSING.clip) == PREPROCESSING.clip
    assert RequestOptions(clips=3).applied_to(PREPROCESSING.clip).clips_per_video == 3
    as_trained = [RequestOptions(clips=n).is_as_trained(PREPROCESSING.clip) for n in (0, 1, 2)]
    assert as_trained == [True, True, False]
    for wrong in (-1, 1001):
        with pytest.raises(PipelineError, match=rf"^params\.clips: .* Received: {wrong}$"):
            RequestOptions.from_params({"clips": wrong})
    with pytest.raises(PipelineError, match=r"^--clips: expected a number from 0"):
        RequestOptions.from_params({"clips": -1}, prefix="--")


def test_only_what_differs_from_the_default_is_asked_of_a_model():
    assert RequestOptions().to_params() == {}
    assert RequestOptions(timeline=True, clips=2).to_params() == {"timeline": True, "clips": 2}


def test_config_that_is_left_out_is_the_safe_one():
    assert ServingConfig.from_json(None) == ServingConfig(path_root="", decoders=0)
    config = ServingConfig("/videos", 5, 2)
    assert ServingConfig.from_json(config.to_json()) == config


@pytest.fixture(scope="module", params=[0, 1], ids=["in this process", "in another process"])
def decoder(request) -> Decoder:
    return Decoder(PREPROCESSING, timeout_seconds=30, processes=request.param)


def decoded(decoder: Decoder, *sources: VideoSource) -> list[int | str]:
    """The number of frames of each video, or why there are none."""
    return [
        str(found) if isinstance(found, VideoError) else len(found)
        for found in decoder.frames(sources)
    ]


def test_frames_are_those_of_training(decoder, mp4, tmp_path):
    path = tmp_path / "one.mp4"
    path.write_bytes(mp4)
    expected = read_frames(mp4, PREPROCESSING.frames, limits=PREPROCESSING.limits)
    for frames in decoder.frames([source(mp4), source(path)]):
        np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"junk", "not a video that can be opened"),
        (Path("/nowhere.mp4"), "cannot be read (No such file or directory)"),
        (Path("/dev/zero"), "not a regular file"),
    ],
)
def test_a_bad_video_is_named_and_the_others_are_decoded(decoder, mp4, bad, reason):
    first, second, *others = decoded(decoder, source(mp4), source(bad, 2), *[source(mp4)] * 3)
    assert second.startswith(f"Video 2: it: {reason}")
    assert [first, *others] == [10] * 4


def test_the_frames_of_few_videos_lie_on_the_disk(decoder, mp4, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number, frames in enumerate(decoder.frames([source(mp4)] * 6), start=1):
        assert len(frames) == 10
        names = {path.name for path in tmp_path.glob("frames-*/*")}
        assert str(number - 1) in names
        assert names <= {str(number - 1), str(number)}  # another process decodes one ahead
    assert list(tmp_path.iterdir()) == []


def test_who_stops_early_leaves_nothing_behind(decoder, mp4, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    videos = decoder.frames([source(mp4)] * 6)
    next(videos)
    videos.close()
    assert list(tmp_path.iterdir()) == []
    assert decoded(decoder, source(mp4)) == [10]


def test_a_folder_that_cannot_be_written_is_no_fault_of_a_video(decoder, mp4, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/tmp")
    with pytest.raises(OSError, match="Not a directory"):
        decoded(decoder, source(mp4))


def test_a_full_disk_is_no_fault_of_a_video(mp4):
    with pytest.raises(OSError, match="No space left on device"):
        write_raw_frames(source(mp4), Path("/dev/full"), PREPROCESSING, 30)


def test_limits_hold_for_requests(mp4):
    for limits, reason in (
        (Limits(max_seconds=0.5, max_pixels=10**6), "longer than decode.max_seconds = 0.5"),
        (
            Limits(max_seconds=60, max_pixels=1000),
            "48 x 32 pixels are more than decode.max_pixels = 1000",
        ),
    ):
        narrow = Preprocessing(PREPROCESSING.frames, PREPROCESSING.clip, limits)
        assert decoded(Decoder(narrow, timeout_seconds=30), source(mp4)) == [
            f"Video 1: it: {reason}"
        ]


def test_a_video_that_takes_too_long_is_refused(mp4):
    assert decoded(Decoder(PREPROCESSING, timeout_seconds=1e-9), source(mp4)) == [
        "Video 1: it: not decoded after 1e-09 s"
    ]


def test_a_video_that_kills_the_decoder_harms_no_other(mp4):
    decoder = Decoder(PREPROCESSING, timeout_seconds=30, processes=1)
    deadly = VideoSource(DeadlyVideo(), "Video 2: it")
    first, second, third = decoded(decoder, source(mp4), deadly, source(mp4))
    assert second.startswith("Video 2: it: the decoder died of it (exit code ")
    assert (first, third) == (10, 10)


def test_a_decoder_that_was_killed_while_idle_is_replaced(mp4):
    before = {child.pid for child in multiprocessing.active_children()}
    decoder = Decoder(PREPROCESSING, timeout_seconds=30, processes=1)
    assert decoded(decoder, source(mp4)) == [10]
    for child in multiprocessing.active_children():
        if child.pid not in before:
            os.kill(child.pid, signal.SIGKILL)
            child.join()
    assert decoded(decoder, source(mp4)) == [10]


class Brightness(keras.Model):
    """Says "light" with the mean brightness of a clip's real frames, and else "dark"."""

    def call(self, inputs):
        frames = keras.ops.cast(inputs["frames"], "float32") / 255
        mask = keras.ops.cast(inputs["mask"], "float32")
        light = keras.ops.mean(frames, axis=(2, 3, 4)) * mask
        light = keras.ops.sum(light, axis=1) / keras.ops.sum(mask, axis=1)
        return keras.ops.stack([1 - light, 0 * light, light], axis=1)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    metadata = ClipsMetadata(CLASSES, PREPROCESSING)
    return Scorer(Brightness(), metadata, Decoder(PREPROCESSING, timeout_seconds=30))


def light(frames: list[int]) -> float:
    """The mean brightness of numbered frames."""
    return (10 + 8 * float(np.mean(frames))) / 255


def test_a_video_is_scored_on_the_clip_of_training(scorer, mp4):
    (row,) = scorer.score([source(mp4)], RequestOptions())
    # The middle frames of four parts of ten frames.
    assert row["probabilities"]["light"] == pytest.approx(light([1, 3, 6, 8]), abs=2e-3)
    assert list(row["probabilities"]) == list(CLASSES)
    assert row["label"] == "dark"
    assert row["probability"] == row["probabilities"]["dark"]
    assert "timeline" not in row


def test_a_longer_video_is_cut_into_clips_and_averaged(scorer):
    bright = [20 if number in (1, 3, 6, 8) else 0 for number in range(10)]
    video = encode_mp4(numbered_frames(21)[bright], fps=10)
    whole, halves = (scorer.score([source(video)], RequestOptions(clips=n))[0] for n in (1, 2))
    # One clip is the middle frames of four parts of the video. Two are those of its halves:
    # 0, 1, 3 and 4, and 5, 6, 8 and 9.
    assert whole["probabilities"]["light"] == pytest.approx(light([20] * 4), abs=0.01)
    assert halves["probabilities"]["light"] == pytest.approx(light([0, 20] * 4), abs=0.01)
    short = encode_mp4(numbered_frames(2), fps=10)  # no longer than a clip: nothing to cut
    plain, cut = (scorer.score([source(short)], RequestOptions(clips=n))[0] for n in (0, 5))
    assert cut["probabilities"] == plain["probabilities"]


def scorer_with(threshold: float | None) -> Scorer:
    metadata = ClipsMetadata(CLASSES, PREPROCESSING)
    decoder = Decoder(PREPROCESSING, timeout_seconds=30)
    return Scorer(Brightness(), metadata, decoder, abstain_below=threshold)


@pytest.mark.parametrize(("over", "expected"), [(-1e-9, True), (0, True), (1e-9, False)])
def test_a_model_is_confident_from_its_threshold_on(scorer, mp4, over, expected):
    (plain,) = scorer.score([source(mp4)], RequestOptions())
    assert "confident" not in plain  # this one has no threshold
    threshold = plain["probability"] + over
    (row,) = scorer_with(threshold).score([source(mp4)], RequestOptions(top_k=1, clips=1))
    assert row["confident"] is expected


def test_the_threshold_says_nothing_of_more_clips_than_in_training(mp4):
    (row,) = scorer_with(0.1).score([source(mp4)], RequestOptions(clips=2))
    assert "confident" not in row


def test_a_bad_video_ends_the_request_unless_it_is_to_go_on(scorer, mp4):
    sources = [source(mp4), source(b"junk", 2), source(mp4, 3)]
    with pytest.raises(VideoError, match=r"^Video 2: it: not a video that can be opened"):
        scorer.score(sources, RequestOptions())
    options = RequestOptions(keep_going=True, timeline=True)
    first, second, third = scorer.score(sources, options)
    assert second.keys() == {"error"}
    assert second["error"].startswith("not a video that can be opened")
    assert first.pop("error") is None
    assert third.pop("error") is None
    (alone,) = scorer.score([source(mp4)], RequestOptions(timeline=True))
    assert first == third == alone


def test_nothing_but_bad_videos_is_answered_too(scorer):
    (row,) = scorer.score([source(b"")], RequestOptions(keep_going=True))
    assert row == {"error": "the file is empty"}


def test_top_k_names_the_most_probable_classes_first(scorer, mp4):
    (row,) = scorer.score([source(mp4)], RequestOptions(top_k=2))
    assert list(row["probabilities"]) == ["dark", "light"]
    (row,) = scorer.score([source(mp4)], RequestOptions(top_k=9))
    assert list(row["probabilities"]) == ["dark", "light", "grey"]


def test_a_timeline_scores_consecutive_frames_over_the_whole_video(scorer, mp4):
    plain, over_time = (
        scorer.score([source(mp4)], RequestOptions(timeline=timeline))[0]
        for timeline in (False, True)
    )
    timeline = over_time.pop("timeline")
    assert over_time == plain
    assert [(part["start_seconds"], part["end_seconds"]) for part in timeline] == [
        (0.0, 0.4), (0.3, 0.7), (0.6, 1.0),
    ]  # fmt: skip
    assert [part["probabilities"]["light"] for part in timeline] == pytest.approx(
        [light([0, 1, 2, 3]), light([3, 4, 5, 6]), light([6, 7, 8, 9])], abs=2e-3
    )


def test_the_timeline_of_a_part_counts_from_the_first_frame_of_the_video(scorer, mp4):
    part = VideoSource(mp4, "it", Segment(0.5, 0.9))
    (row,) = scorer.score([part], RequestOptions(timeline=True))
    (found,) = row["timeline"]
    assert (found["start_seconds"], found["end_seconds"]) == (0.5, 0.9)
    assert found["probabilities"]["light"] == pytest.approx(light([5, 6, 7, 8]), abs=2e-3)


def test_a_video_shorter_than_a_clip_is_one_window(scorer):
    short = encode_mp4(numbered_frames(2), fps=10)
    (row,) = scorer.score([source(short)], RequestOptions(timeline=True))
    (part,) = row["timeline"]
    assert (part["start_seconds"], part["end_seconds"]) == (0.0, 0.2)
    assert part["probabilities"] == row["probabilities"]


def test_more_videos_than_go_at_once_are_scored_in_their_order(scorer, mp4):
    bright = encode_mp4(numbered_frames(28)[20:], fps=10)
    rows = scorer.score([source(mp4)] * 33 + [source(bright)], RequestOptions())
    found = [row["probabilities"]["light"] for row in rows]
    assert found[:33] == pytest.approx([light([1, 3, 6, 8])] * 33, abs=2e-3)
    assert found[33] == pytest.approx(light([21, 23, 25, 27]), abs=2e-3)
