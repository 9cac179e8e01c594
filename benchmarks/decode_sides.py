"""The ways of getting a video's frames that are compared, each as people write it.

Every side opens the file, takes the frames that the job asks for, and resizes them to
112 x 112 RGB. Each raises CannotMeasureError for a file that it cannot read.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
from cv2.typing import MatLike

from benchmarks.timing import CannotMeasureError, cpu_seconds_of
from pipeline.video.info import VideoInfo
from pipeline.video.picture import Picture
from pipeline.video.reading import FrameReader, FrameSpec
from pipeline.video.source import Limits, VideoError

FPS = 10
SIDE = 112
SPARSE_FRAMES = 16
LIMITS = Limits(max_seconds=7200, max_pixels=40_000_000)

SideName = Literal[
    "project",
    "project_full",
    "opencv",
    "opencv_kept",
    "grab",
    "decode_only",
    "decord",
    "torchcodec",
]


@dataclass(frozen=True)
class Job:
    """Frames of one video: by time for this project, by number for the others."""

    path: Path
    fps: float
    numbers: tuple[int, ...]


def frame_spec(fps: float) -> FrameSpec:
    """Return what every side gives: 112 x 112, the proportions given up."""
    return FrameSpec(fps=fps, width=SIDE, height=SIDE, fit="stretch")


def dense_job(path: Path, info: VideoInfo) -> Job:
    """Ask for 10 frames a second, or for every frame of a slower video."""
    step = max(1, round((info.source_fps or FPS) / FPS))
    return Job(path, FPS, tuple(range(0, info.source_frames, step)))


def sparse_job(path: Path, info: VideoInfo) -> Job:
    """Ask for 16 frames spread evenly over the whole video."""
    # A thousandth slower, so that no rounding brings a 17th frame at the very end.
    fps = float(f"{SPARSE_FRAMES / (1.001 * info.source_seconds):.6g}")
    numbers = (number * info.source_frames // SPARSE_FRAMES for number in range(SPARSE_FRAMES))
    return Job(path, fps, tuple(numbers))


def describe(path: Path) -> VideoInfo:
    """Return what is found in ``path``: its rate, length and number of frames.

    Raises:
        VideoError: the file cannot be used.
    """
    reader = FrameReader(path, frame_spec(1 / LIMITS.max_seconds), limits=LIMITS)
    for _ in reader:
        pass
    assert reader.info is not None  # the iteration has ended
    return reader.info


def has_b_frames(path: Path) -> bool:
    """Say whether frames are shown in another order than they are decoded."""
    with av.open(str(path)) as container:
        return bool(container.streams.video[0].codec_context.has_b_frames)


def time_side(name: SideName, job: Job) -> float:
    """Return the processor seconds that a side needs for a job, opening the file included."""
    return cpu_seconds_of(lambda: _SIDES[name](job))


def is_same_with_and_without_skipping(job: Job) -> bool:
    """Compare what the project reads bit for bit with what a full decode gives."""
    pictures = project(job)
    others = project_full(job)
    return len(pictures) == len(others) and all(map(np.array_equal, pictures, others))


def can_import(name: SideName) -> bool:
    return name not in ("decord", "torchcodec") or importlib.util.find_spec(name) is not None


def project(job: Job, *, selective: bool = True) -> list[Picture]:
    try:
        return list(FrameReader(job.path, frame_spec(job.fps), limits=LIMITS, selective=selective))
    except VideoError as error:
        raise CannotMeasureError(error.reason) from None


def project_full(job: Job) -> list[Picture]:
    """The same frames, every frame decoded."""
    return project(job, selective=False)


def opencv(job: Job) -> list[Picture]:
    """The loop that most people write: read, convert and resize every frame, then choose."""
    with _capture(job) as capture:
        pictures = []
        while True:
            found, picture = capture.read()
            if not found:
                break
            pictures.append(_small_rgb(picture))
        return _checked([pictures[n] for n in job.numbers if n < len(pictures)], job)


def opencv_kept(job: Job) -> list[Picture]:
    """The same loop with more care: only what is kept is converted and resized."""
    with _capture(job) as capture:
        wanted = set(job.numbers)
        pictures = []
        number = 0
        while True:
            found, picture = capture.read()
            if not found:
                break
            if number in wanted:
                pictures.append(_small_rgb(picture))
            number += 1
        return _checked(pictures, job)


def grab(job: Job) -> list[Picture]:
    """OpenCV at its best: every frame is decoded, only what is kept leaves the decoder."""
    with _capture(job) as capture:
        wanted = set(job.numbers)
        pictures = []
        number = 0
        while capture.grab():
            if number in wanted:
                found, picture = capture.retrieve()
                if not found:
                    break
                pictures.append(_small_rgb(picture))
            number += 1
        return _checked(pictures, job)


def decode_only(job: Job) -> list[Picture]:
    """Decode every frame and touch none: what a reader that skips nothing cannot beat."""
    try:
        with av.open(str(job.path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for _ in container.decode(stream):
                pass
    except av.FFmpegError as error:
        raise CannotMeasureError(str(error)) from None
    return []


def decord(job: Job) -> list[Picture]:
    library: Any = importlib.import_module("decord")
    try:
        reader = library.VideoReader(
            str(job.path), ctx=library.cpu(0), num_threads=1, width=SIDE, height=SIDE
        )
        batch = reader.get_batch(list(job.numbers)).asnumpy()
    except (library.DECORDError, IndexError, RuntimeError) as error:
        raise CannotMeasureError(str(error).strip().splitlines()[0]) from None
    return _checked(list(batch), job)


def torchcodec(job: Job) -> list[Picture]:
    try:
        library: Any = importlib.import_module("torchcodec.decoders")
        decoder = library.VideoDecoder(
            str(job.path), num_ffmpeg_threads=1, dimension_order="NHWC", seek_mode="exact"
        )
        batch = decoder.get_frames_at(list(job.numbers)).data.numpy()
    except (ImportError, OSError, IndexError, ValueError, RuntimeError) as error:
        raise CannotMeasureError(str(error).strip().splitlines()[0]) from None
    return _checked([cv2.resize(picture, (SIDE, SIDE)) for picture in batch], job)


_SIDES: dict[SideName, Callable[[Job], list[Picture]]] = {
    "project": project,
    "project_full": project_full,
    "opencv": opencv,
    "opencv_kept": opencv_kept,
    "grab": grab,
    "decode_only": decode_only,
    "decord": decord,
    "torchcodec": torchcodec,
}


@contextmanager
def _capture(job: Job) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(job.path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise CannotMeasureError("OpenCV does not open it")
        yield capture
    finally:
        capture.release()


def _small_rgb(picture: MatLike) -> Picture:
    return np.asarray(cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), (SIDE, SIDE)), np.uint8)


def _checked(pictures: list[Picture], job: Job) -> list[Picture]:
    if len(pictures) != len(job.numbers):
        raise CannotMeasureError(f"gave {len(pictures)} of {len(job.numbers)} frames")
    return pictures
