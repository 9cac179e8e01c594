"""Decoding for a server: the frames of training, limits, crashes, temporary files."""

import multiprocessing
import os
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.clips.sampling import make_clips, used_frames
from pipeline.clips.settings import ExtractSection
from pipeline.serving.decoding import Decoder, write_raw_frames
from pipeline.serving.request import VideoRequest
from pipeline.video.opening import VideoError
from pipeline.video.reading import read_frames
from pipeline.video.settings import DecodeSection
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames
from tests.deadly import BlockingVideo, DeadlyVideo, GreedyVideo

DECODE = DecodeSection(fps=10, width=16, height=16, fit="stretch", max_seconds=60)


def request_of(content: bytes | Path, number: int = 1) -> VideoRequest:
    return VideoRequest(content, f"Video {number}: it")


@pytest.fixture(scope="module")
def mp4() -> bytes:
    """Ten numbered frames at 10 fps."""
    return encode_mp4(numbered_frames(10), fps=10)


@pytest.fixture(scope="module", params=[0, 1], ids=["in this process", "in another process"])
def decoder(request) -> Decoder:
    return Decoder(DECODE, timeout_seconds=30, processes=request.param)


def decoded(decoder: Decoder, *requests: VideoRequest) -> list[int | str]:
    """The number of frames of each video, or the error."""
    return [
        str(frames) if isinstance(frames, VideoError) else len(frames)
        for frames in decoder.frames(requests)
    ]


def test_frames_are_those_of_training(decoder, mp4, tmp_path):
    path = tmp_path / "one.mp4"
    path.write_bytes(mp4)
    expected = read_frames(mp4, DECODE)
    for frames in decoder.frames([request_of(mp4), request_of(path)]):
        np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize("length", [1, 10, 30])
@pytest.mark.parametrize("options", [{}, {"sampling": "stride", "clips_per_video": 3}])
def test_selected_frames_give_the_clips_of_all_frames(decoder, length, options):
    extract = ExtractSection(frames=4, **options)
    video = encode_mp4(numbered_frames(31)[:length], fps=10)
    select = partial(used_frames, extract=extract)
    (frames,) = decoder.frames([request_of(video)], select)
    expected = read_frames(video, DECODE)
    assert frames.shape == expected.shape
    for clip, of_all in zip(
        make_clips(frames, extract), make_clips(expected, extract), strict=True
    ):
        np.testing.assert_array_equal(clip.frames, of_all.frames)
        np.testing.assert_array_equal(clip.mask, of_all.mask)
    assert sum(frame.any() for frame in frames) == len(select(length))  # the others are black


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"junk", "not a video that can be opened"),
        (Path("/nowhere.mp4"), "cannot be read (No such file or directory)"),
        (Path("/dev/zero"), "not a regular file"),
    ],
)
def test_a_bad_video_is_named_and_the_others_are_decoded(decoder, mp4, bad, reason):
    requests = [request_of(mp4), request_of(bad, 2), *[request_of(mp4)] * 3]
    first, second, *others = decoded(decoder, *requests)
    assert second.startswith(f"Video 2: it: {reason}")
    assert [first, *others] == [10] * 4


def test_few_videos_are_on_disk_at_a_time(decoder, mp4, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number, frames in enumerate(decoder.frames([request_of(mp4)] * 6), start=1):
        assert len(frames) == 10
        names = {path.name for path in tmp_path.glob("frames-*/*")}
        assert str(number - 1) in names
        assert names <= {str(number - 1), str(number)}  # another process decodes one ahead
    assert list(tmp_path.iterdir()) == []


def test_stopping_early_leaves_no_files(decoder, mp4, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    videos = decoder.frames([request_of(mp4)] * 6)
    next(videos)
    videos.close()
    assert list(tmp_path.iterdir()) == []
    assert decoded(decoder, request_of(mp4)) == [10]


def test_a_folder_that_cannot_be_written_is_an_error_of_the_machine(decoder, mp4, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/tmp")
    with pytest.raises(OSError, match="Not a directory"):
        decoded(decoder, request_of(mp4))


def test_a_full_disk_is_an_error_of_the_machine(mp4):
    with pytest.raises(OSError, match="No space left on device"):
        write_raw_frames(request_of(mp4), Path("/dev/full"), DECODE, 30)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_seconds": 0.5}, "longer than decode.max_seconds = 0.5"),
        ({"max_pixels": 1000}, "48 x 32 pixels"),
    ],
)
def test_limits_of_the_training_hold_for_requests(mp4, limit, reason):
    narrow = DECODE.model_copy(update=limit)
    (error,) = decoded(Decoder(narrow, timeout_seconds=30), request_of(mp4))
    assert error.startswith("Video 1: it: ")
    assert reason in error


def test_a_video_that_takes_too_long_is_refused(mp4):
    assert decoded(Decoder(DECODE, timeout_seconds=1e-9), request_of(mp4)) == [
        "Video 1: it: not decoded after 1e-09 s"
    ]


def test_a_video_that_crashes_the_decoder_does_not_affect_the_others(mp4):
    decoder = Decoder(DECODE, timeout_seconds=30, processes=1)
    deadly = VideoRequest(DeadlyVideo(), "Video 2: it")
    first, second, third = decoded(decoder, request_of(mp4), deadly, request_of(mp4))
    assert second.startswith("Video 2: it: the video crashed the decoder (exit code ")
    assert (first, third) == (10, 10)


def test_a_video_that_needs_too_much_memory_is_refused_and_its_process_goes_on(mp4):
    decoder = Decoder(DECODE, timeout_seconds=30, processes=1)
    greedy = VideoRequest(GreedyVideo(), "Video 2: it")
    before = multiprocessing.active_children()
    assert decoded(decoder, request_of(mp4), greedy, request_of(mp4)) == [
        10,
        "Video 2: it: decoding it needs too much memory (the limit of a decoder process is "
        "3.3 GB, from decode.max_pixels)",
        10,
    ]
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_a_decoder_that_dies_while_idle_is_replaced(mp4, stop):
    before = {child.pid for child in multiprocessing.active_children()}
    decoder = Decoder(DECODE, timeout_seconds=30, processes=2)
    for _ in range(3):
        assert decoded(decoder, *[request_of(mp4)] * 3) == [10] * 3
        for child in multiprocessing.active_children():
            if child.pid not in before:
                os.kill(child.pid, stop)
    assert decoded(decoder, request_of(mp4)) == [10]


def test_a_decoder_that_blocks_is_killed_and_the_others_are_decoded(mp4, monkeypatch):
    monkeypatch.setattr("pipeline.serving.decoding._GRACE_SECONDS", 0.2)
    decoder = Decoder(DECODE, timeout_seconds=3, processes=1)
    blocking = VideoRequest(BlockingVideo(), "Video 2: it")
    started = time.monotonic()
    assert decoded(decoder, request_of(mp4), blocking, request_of(mp4)) == [
        10,
        "Video 2: it: not decoded after 3 s",
        10,
    ]
    assert time.monotonic() - started < 30


def test_stopping_early_ends_the_decoder_that_works(mp4):
    decoder = Decoder(DECODE, timeout_seconds=600, processes=1)
    videos = decoder.frames([request_of(mp4), VideoRequest(BlockingVideo(), "Video 2: it")])
    next(videos)
    videos.close()
    started = time.monotonic()
    assert decoded(decoder, request_of(mp4)) == [10]
    assert time.monotonic() - started < 30
