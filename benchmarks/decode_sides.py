"""The compared ways of reading frames of a video.

Every side opens the file, reads the frames of the job, and resizes them to 112 x 112 RGB. It
raises CannotMeasureError for a file that it cannot read.
"""

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np

from benchmarks.timing import (
    CannotMeasureError,
    Timings,
    cpu_seconds_of,
    interleaved,
    pinned_process,
    usable_cores,
)
from pipeline.common.records import DecodeFacts
from pipeline.video.opening import VideoError
from pipeline.video.picture import Picture
from pipeline.video.reading import FrameReader
from pipeline.video.settings import DecodeSection

FPS = 10
SIDE = 112
SPARSE_FRAMES = 16
_MAX_SECONDS = 7200

Kind = Literal["dense", "sparse"]
Side = tuple[Kind, str]  # the second is a key of SIDES

DENSE_SIDES = ("project", "opencv", "opencv_kept", "grab", "decode_only", "decord", "torchcodec")
SPARSE_SIDES = ("project", "opencv", "decord")


@dataclass(frozen=True)
class Job:
    """Frames of one video: chosen by time for this project, by number for the others."""

    path: Path
    fps: float
    numbers: tuple[int, ...]


def decode_settings(fps: float) -> DecodeSection:
    """Return the settings for the frames of the other sides: 112 x 112, stretched."""
    return DecodeSection(
        fps=fps,
        width=SIDE,
        height=SIDE,
        fit="stretch",
        max_seconds=_MAX_SECONDS,
        max_pixels=40_000_000,
    )


def dense_job(path: Path, facts: DecodeFacts) -> Job:
    """Choose 10 frames a second, or every frame of a slower video."""
    assert facts.source_frames is not None
    step = max(1, round((facts.source_fps or FPS) / FPS))
    return Job(path, FPS, tuple(range(0, facts.source_frames, step)))


def sparse_job(path: Path, facts: DecodeFacts) -> Job:
    """Choose 16 frames spread evenly over the whole video."""
    assert facts.source_seconds is not None
    assert facts.source_frames is not None
    # A thousandth slower, so that rounding does not add a 17th frame at the end.
    fps = float(f"{SPARSE_FRAMES / (1.001 * facts.source_seconds):.6g}")
    numbers = (number * facts.source_frames // SPARSE_FRAMES for number in range(SPARSE_FRAMES))
    return Job(path, fps, tuple(numbers))


def read_facts(path: Path) -> DecodeFacts:
    """Return the facts about a video: its rate, length and number of frames.

    Raises:
        VideoError: the file cannot be used.
    """
    reader = FrameReader(path, decode_settings(1 / _MAX_SECONDS))
    for _ in reader:
        pass
    assert reader.facts is not None  # the iteration has ended
    return reader.facts


def has_b_frames(path: Path) -> bool:
    """Return whether frames are shown in another order than they are decoded."""
    with av.open(str(path)) as container:
        return bool(container.streams.video[0].codec_context.has_b_frames)


def measure_file(dense: Job, sparse: Job, *, repetitions: int) -> Timings[Side]:
    """Time every side that can be imported on both jobs."""
    jobs: dict[Side, Job] = {("dense", name): dense for name in DENSE_SIDES if _can_import(name)}
    jobs |= {("sparse", name): sparse for name in SPARSE_SIDES if _can_import(name)}
    return _measure(jobs, repetitions)


def full_over_selective(job: Job, repetitions: int) -> float:
    """Return the time of decoding everything over that of selective decoding."""
    jobs: dict[Side, Job] = {("sparse", "project"): job, ("sparse", "project_full"): job}
    medians = _measure(jobs, repetitions).medians
    return medians["sparse", "project_full"] / medians["sparse", "project"]


def _measure(jobs: dict[Side, Job], repetitions: int) -> Timings[Side]:
    """Time each side in its own process, all of them on one core."""
    core = usable_cores()[0]
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(pinned_process(core)) for name in {side[1] for side in jobs}
        }

        def run(name: str, job: Job) -> float:
            return processes[name].submit(_time_side, name, job).result()

        sides = {side: partial(run, side[1], job) for side, job in jobs.items()}
        return interleaved(sides, repetitions=repetitions)


def _time_side(name: str, job: Job) -> float:
    """Return the processor seconds of a side, including opening the file."""
    return cpu_seconds_of(lambda: SIDES[name](job))


def is_same_with_and_without_skipping(job: Job) -> bool:
    """Return whether selective decoding gives the frames of decoding everything."""
    pictures = project(job)
    others = project_full(job)
    return len(pictures) == len(others) and all(map(np.array_equal, pictures, others))


def _can_import(name: str) -> bool:
    return name not in ("decord", "torchcodec") or importlib.util.find_spec(name) is not None


def project(job: Job, *, selective: bool = True) -> list[Picture]:
    try:
        return list(FrameReader(job.path, decode_settings(job.fps), selective=selective))
    except VideoError as error:
        raise CannotMeasureError(error.reason) from None


def project_full(job: Job) -> list[Picture]:
    """Read the same frames by decoding every frame."""
    return project(job, selective=False)


def opencv(job: Job, *, retrieve_all: bool = True, convert_all: bool = True) -> list[Picture]:
    """Decode every frame with OpenCV; by default, copy, convert and resize every frame too."""
    wanted = set(job.numbers)
    pictures = []
    capture = cv2.VideoCapture(str(job.path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise CannotMeasureError("OpenCV cannot open the file")
        number = 0
        while capture.grab():
            is_wanted = number in wanted
            if is_wanted or retrieve_all:
                has_frame, bgr = capture.retrieve()
                if not has_frame:
                    break
                if is_wanted or convert_all:
                    rgb = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), (SIDE, SIDE))
                if is_wanted:
                    pictures.append(np.asarray(rgb, np.uint8))
            number += 1
    finally:
        capture.release()
    return _checked(pictures, job)


def opencv_kept(job: Job) -> list[Picture]:
    """Copy every frame, and convert and resize only the kept ones."""
    return opencv(job, convert_all=False)


def grab(job: Job) -> list[Picture]:
    """Copy, convert and resize only the kept frames: the fastest loop with OpenCV."""
    return opencv(job, retrieve_all=False, convert_all=False)


def decode_only(job: Job) -> list[Picture]:
    """Decode every frame without using it: the lower bound of readers that skip nothing."""
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


SIDES: dict[str, Callable[[Job], list[Picture]]] = {
    "project": project,
    "project_full": project_full,
    "opencv": opencv,
    "opencv_kept": opencv_kept,
    "grab": grab,
    "decode_only": decode_only,
    "decord": decord,
    "torchcodec": torchcodec,
}


def _checked(pictures: list[Picture], job: Job) -> list[Picture]:
    if len(pictures) != len(job.numbers):
        raise CannotMeasureError(f"{len(pictures)} of {len(job.numbers)} frames")
    return pictures
