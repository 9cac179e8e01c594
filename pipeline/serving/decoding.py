"""Decoding for a server: bounded in time and memory, and in other processes where asked for.

Frames go through a temporary file that is memory-mapped, so that an hour of video costs disk
and not memory, and no process hands frames to another.
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

import cv2
import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessPool

from pipeline.clips.preprocessing import Preprocessing
from pipeline.serving.sources import VideoSource
from pipeline.video.damage import UNEXPECTED_ERRORS, detail
from pipeline.video.reading import FrameReader
from pipeline.video.source import VideoError

# Arguments of write_raw_frames.
Task = tuple[VideoSource, Path, Preprocessing, float]

# The number of frames of each video, or why there are none.
Outcomes = Generator[int | VideoError, None, None]

# The decoder looks at the clock after each frame. Who does not come back even then is stopped.
_GRACE_SECONDS = 5


class Decoder:
    """Makes frames of videos, as for training. Call it from as many threads as you like."""

    def __init__(
        self, preprocessing: Preprocessing, *, timeout_seconds: float, processes: int = 0
    ) -> None:
        """Start ``processes`` decoder processes; 0 decodes in this one.

        Processes are started afresh and not forked: a script that asks for them must guard its
        ``__main__``, as multiprocessing says.

        Args:
            timeout_seconds: for decoding one video.
        """
        self._preprocessing = preprocessing
        self._timeout_seconds = timeout_seconds
        self._workers = _Workers(processes) if processes else None

    def frames(
        self, sources: Sequence[VideoSource]
    ) -> Generator[NDArray[np.uint8] | VideoError, None, None]:
        """Yield what comes of each video, in their order: its frames, or why there are none.

        Frames are uint8 [N, H, W, 3], RGB, at the model's rate, mapped from a temporary file that
        is gone when the next video is asked for. Processes decode ahead, so that the frames of up
        to ``processes + 2`` videos lie on the disk. Close the generator to stop early.

        A VideoError is yielded for a video that is none, is damaged, is over a limit, takes too
        long or crashes the decoder.

        Raises:
            OSError: the frames cannot be written.
        """
        spec = self._preprocessing.frames
        # A process that is stopped may write while its folder is removed.
        with TemporaryDirectory(prefix="frames-", ignore_cleanup_errors=True) as folder:
            tasks = [
                (source, Path(folder, str(number)), self._preprocessing, self._timeout_seconds)
                for number, source in enumerate(sources)
            ]
            write = self._workers.write if self._workers else _write_here
            with closing(write(tasks)) as counts:
                for (_, path, _, _), count in zip(tasks, counts, strict=True):
                    if isinstance(count, VideoError):
                        yield count
                    else:
                        yield np.memmap(
                            path, np.uint8, "r", shape=(count, spec.height, spec.width, 3)
                        )
                    path.unlink(missing_ok=True)


class _Workers:
    """Processes that decode. Those that die are replaced."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._replacing = threading.Lock()
        self._pool = self._new_pool()

    def write(self, tasks: Sequence[Task]) -> Outcomes:
        """Yield what ``write_raw_frames`` gives of each task, or why it gives nothing.

        One task more than there are processes is under way: they work while the caller does.
        """
        futures: deque[Future[int]] = deque()
        try:
            for number, task in enumerate(tasks):
                for later in tasks[number + len(futures) : number + self._processes + 1]:
                    futures.append(self._scheduled(later))
                outcome = self._outcome(futures[0], task)
                futures.popleft()
                yield outcome
        finally:
            for future in futures:  # nobody waits for them any more
                future.cancel()

    def _outcome(self, future: "Future[int]", task: Task) -> int | VideoError:
        source, _, _, timeout_seconds = task
        try:
            try:
                return future.result()
            except BrokenProcessPool:  # a process died of something else, while it was idle
                return self._scheduled(task).result()
        except VideoError as error:
            return error
        except TimeoutError:
            return _too_slow(source.name, timeout_seconds)
        except ProcessExpired as error:
            return VideoError(source.name, f"the decoder died of it (exit code {error.exitcode})")

    def _scheduled(self, task: Task) -> "Future[int]":
        _, _, _, timeout_seconds = task
        with self._replacing:
            if not self._pool.active:
                self._pool = self._new_pool()
            return self._pool.schedule(
                write_raw_frames, args=task, timeout=timeout_seconds + _GRACE_SECONDS
            )

    def _new_pool(self) -> ProcessPool:
        # Forked processes would inherit threads and locks of this one.
        context = multiprocessing.get_context("spawn")
        # They use every core already: one thread of OpenCV each.
        pool = ProcessPool(
            self._processes, initializer=cv2.setNumThreads, initargs=[1], context=context
        )
        pool.schedule(os.getpid)  # starts them now, and not when the first request waits
        return pool


def _write_here(tasks: Sequence[Task]) -> Outcomes:
    for task in tasks:
        try:
            yield write_raw_frames(*task)
        except VideoError as error:
            yield error


def write_raw_frames(
    source: VideoSource, path: Path, preprocessing: Preprocessing, timeout_seconds: float
) -> int:
    """Write the frames of a video to ``path``, uint8 [N, H, W, 3], RGB; return N.

    Raises:
        VideoError: the video is none, is damaged, is over a limit or takes too long.
        OSError: the frames cannot be written.
    """
    deadline = time.monotonic() + timeout_seconds
    reader = FrameReader(
        source.content,
        preprocessing.frames,
        limits=preprocessing.limits,
        segment=source.segment,
    )
    count = 0
    try:
        with path.open("wb") as file:
            for picture in reader:
                file.write(picture.tobytes())
                count += 1
                if time.monotonic() > deadline:
                    raise _too_slow(source.name, timeout_seconds)
    except VideoError as error:
        raise VideoError(source.name, error.reason, error.is_lasting) from None
    except UNEXPECTED_ERRORS as error:
        raise VideoError(source.name, f"decoding failed: {detail(error)}") from None
    return count


def _too_slow(name: str, timeout_seconds: float) -> VideoError:
    return VideoError(name, f"not decoded after {timeout_seconds:g} s", is_lasting=False)
