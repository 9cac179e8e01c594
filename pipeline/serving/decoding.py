"""Decode videos for a server: bounded in time and memory, in processes of their own if wanted.

Frames go through a temporary file that is memory-mapped. Without it, an hour of video would fill
the memory of the server, and decoder processes would copy every frame through a pipe.
"""

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessPool

from pipeline.serving.request import VideoRequest
from pipeline.video.ffmpeg_errors import UNEXPECTED_ERRORS, describe
from pipeline.video.opening import VideoError
from pipeline.video.reading import FrameReader
from pipeline.video.settings import DecodeSection

# The decoder checks its time after each frame. A process that is this late is killed.
_GRACE_SECONDS = 5


class DecodeJob(NamedTuple):
    """Arguments of ``write_raw_frames``."""

    request: VideoRequest
    path: Path
    decode: DecodeSection
    timeout_seconds: float


# The number of frames of each video, or the reason why there are none.
_FrameCounts = Generator[int | VideoError, None, None]


class Decoder:
    """Decode videos exactly as for training. Safe to use from several threads."""

    def __init__(
        self, decode: DecodeSection, *, timeout_seconds: float, processes: int = 0
    ) -> None:
        """Start ``processes`` decoder processes; 0 decodes in this process.

        Processes are spawned, not forked. A script that starts some must guard its ``__main__``,
        see the documentation of multiprocessing.

        Args:
            decode: of the model's preprocessing.
            timeout_seconds: for decoding one video.
            processes: number of decoder processes.
        """
        self._decode = decode
        self._timeout_seconds = timeout_seconds
        self._pool = _DecoderPool(processes) if processes else None

    def frames(
        self, requests: Sequence[VideoRequest]
    ) -> Generator[NDArray[np.uint8] | VideoError, None, None]:
        """Yield the frames of each video in order, or the reason why it has none.

        Frames are uint8 [N, H, W, 3], RGB, mapped from a temporary file that is deleted before
        the next video is yielded. Processes decode ahead: the frames of up to ``processes + 2``
        videos are on disk. Close the generator to stop early.

        A VideoError is yielded for a file that is not a video, is damaged, exceeds a limit, takes
        too long or crashes the decoder.

        Raises:
            OSError: the frames cannot be written.
        """
        # A process that is being killed may still write while its folder is removed.
        with TemporaryDirectory(prefix="frames-", ignore_cleanup_errors=True) as folder:
            jobs = [
                DecodeJob(request, Path(folder, str(number)), self._decode, self._timeout_seconds)
                for number, request in enumerate(requests)
            ]
            write = self._pool.write if self._pool else _write_in_process
            with closing(write(jobs)) as counts:
                for job, count in zip(jobs, counts, strict=True):
                    if isinstance(count, VideoError):
                        yield count
                    else:
                        shape = (count, self._decode.height, self._decode.width, 3)
                        yield np.memmap(job.path, np.uint8, "r", shape=shape)
                    job.path.unlink(missing_ok=True)


class _DecoderPool:
    """Decoder processes. A process that dies is replaced."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._replacing = threading.Lock()
        self._pool = self._new_pool()

    def write(self, jobs: Sequence[DecodeJob]) -> _FrameCounts:
        """Yield the result of ``write_raw_frames`` for each job, or its error.

        One job more than there are processes is scheduled: they work while the caller does.
        """
        futures: deque[Future[int]] = deque()
        try:
            for number, job in enumerate(jobs):
                for later in jobs[number + len(futures) : number + self._processes + 1]:
                    futures.append(self._schedule(later))
                count = self._result(futures[0], job)
                futures.popleft()
                yield count
        finally:
            for future in futures:  # the caller stopped early
                future.cancel()

    def _result(self, future: "Future[int]", job: DecodeJob) -> int | VideoError:
        name = job.request.name
        try:
            try:
                return future.result()
            except BrokenProcessPool:  # a process was killed while it was idle
                return self._schedule(job).result()
        except VideoError as error:
            return error
        except TimeoutError:
            return _too_slow(name, job.timeout_seconds)
        except ProcessExpired as error:
            return VideoError(name, f"the video crashed the decoder (exit code {error.exitcode})")

    def _schedule(self, job: DecodeJob) -> "Future[int]":
        with self._replacing:
            if not self._pool.active:
                self._pool = self._new_pool()
            return self._pool.schedule(
                write_raw_frames, args=job, timeout=job.timeout_seconds + _GRACE_SECONDS
            )

    def _new_pool(self) -> ProcessPool:
        # Forked processes would inherit threads and locks. The processes use every core already,
        # so OpenCV gets one thread in each.
        pool = ProcessPool(
            self._processes,
            initializer=cv2.setNumThreads,
            initargs=[1],
            context=multiprocessing.get_context("spawn"),
        )
        pool.schedule(os.getpid)  # start the processes now, not when the first request waits
        return pool


def _write_in_process(jobs: Sequence[DecodeJob]) -> _FrameCounts:
    for job in jobs:
        try:
            yield write_raw_frames(*job)
        except VideoError as error:
            yield error


def write_raw_frames(
    request: VideoRequest, path: Path, decode: DecodeSection, timeout_seconds: float
) -> int:
    """Write the frames of a video to ``path``, uint8 [N, H, W, 3], RGB; return N.

    Raises:
        VideoError: the file is not a video, is damaged, exceeds a limit or takes too long.
        OSError: the frames cannot be written.
    """
    deadline = time.monotonic() + timeout_seconds
    count = 0
    try:
        with path.open("wb") as file:
            for frame in FrameReader(request.content, decode, segment=request.segment):
                file.write(frame.tobytes())
                count += 1
                if time.monotonic() > deadline:
                    raise _too_slow(request.name, timeout_seconds)
    except VideoError as error:
        raise VideoError(request.name, error.reason, error.is_lasting) from None
    except UNEXPECTED_ERRORS as error:
        raise VideoError(request.name, f"decoding failed: {describe(error)}") from None
    return count


def _too_slow(name: str, timeout_seconds: float) -> VideoError:
    return VideoError(name, f"not decoded after {timeout_seconds:g} s", is_lasting=False)
