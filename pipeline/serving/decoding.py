"""Decode videos for a server within limits of time and memory, in separate processes if wanted.

Frames go through memory-mapped temporary files, so that an hour of video does not fill the memory
of the server. Only the frames that the model sees are decoded and written.
"""

import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.serving.request import VideoRequest
from pipeline.video.ffmpeg_errors import UNEXPECTED_ERRORS, describe
from pipeline.video.memory import limit_memory
from pipeline.video.opening import VideoError
from pipeline.video.reading import FrameReader, FrameSelection
from pipeline.video.settings import DecodeSection

# The decoder checks its time after each frame. A process that is this late is killed.
_GRACE_SECONDS = 5
_START_SECONDS = 60  # for a process to start and receive a job
_MAX_STARTS = 2
_POLL_SECONDS = 0.1


class DecodeJob(NamedTuple):
    """Arguments of ``write_raw_frames``."""

    request: VideoRequest
    path: Path
    decode: DecodeSection
    timeout_seconds: float
    select: FrameSelection | None = None


# The number of frames of each video, or its error.
_FrameCounts = Generator[int | VideoError, None, None]


class Decoder:
    """Decode videos exactly as for training. Safe to use from several threads."""

    def __init__(
        self, decode: DecodeSection, *, timeout_seconds: float, processes: int = 0
    ) -> None:
        """Start the decoder processes.

        Processes are spawned: a script that starts some must guard its ``__main__``, see the
        documentation of multiprocessing.

        Args:
            decode: of the model's preprocessing.
            timeout_seconds: for decoding one video.
            processes: number of decoder processes; 0 decodes in this process.
        """
        self._decode = decode
        self._timeout_seconds = timeout_seconds
        self._pool = _DecoderPool(processes, decode) if processes else None

    def frames(
        self, requests: Sequence[VideoRequest], select: FrameSelection | None = None
    ) -> Generator[NDArray[np.uint8] | VideoError, None, None]:
        """Yield the frames of each video in order, or the reason why it is unusable.

        Frames are uint8 [N, H, W, 3], RGB, mapped from a temporary file that is deleted before
        the next video is yielded. Processes decode ahead: the frames of up to ``processes + 2``
        videos are on disk. Close the generator to stop early; running decoders are then killed.

        A VideoError is yielded for a file that is not a video, is damaged, exceeds a limit, takes
        too long or crashes the decoder.

        Args:
            select: the frames that are needed, as for ``FrameReader``; the others may be black.
                Decoder processes receive it by pickle.

        Raises:
            OSError: the frames cannot be written.
        """
        # A process that is being killed may still write while its folder is removed.
        timeout = self._timeout_seconds
        with TemporaryDirectory(prefix="frames-", ignore_cleanup_errors=True) as folder:
            jobs = [
                DecodeJob(request, Path(folder, str(number)), self._decode, timeout, select)
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
    """Decoder processes, each behind a pipe of its own that one thread serves.

    The processes share no lock. The workers of a pebble ``ProcessPool`` do: one that is killed
    while it holds the lock stops the others and disables their timeouts.
    """

    def __init__(self, processes: int, decode: DecodeSection) -> None:
        self._processes = processes
        self._jobs: SimpleQueue[tuple[DecodeJob, Future[int]]] = SimpleQueue()
        for _ in range(processes):
            process = _DecoderProcess(decode)
            threading.Thread(target=self._serve, args=[process], daemon=True).start()

    def write(self, jobs: Sequence[DecodeJob]) -> _FrameCounts:
        """Yield the result of ``write_raw_frames`` for each job, or its error.

        One job more than there are processes is scheduled: they work while the caller does.
        """
        futures: deque[Future[int]] = deque()
        try:
            for number in range(len(jobs)):
                for later in jobs[number + len(futures) : number + self._processes + 1]:
                    futures.append(Future())
                    self._jobs.put((later, futures[-1]))
                try:
                    count: int | VideoError = futures[0].result()
                except VideoError as error:
                    count = error
                futures.popleft()
                yield count
        finally:
            for future in futures:  # the caller stopped early
                future.cancel()

    def _serve(self, process: "_DecoderProcess") -> None:
        while True:
            job, future = self._jobs.get()
            with suppress(InvalidStateError):  # the caller stopped early
                try:
                    future.set_result(process.run(job, is_cancelled=future.cancelled))
                except Exception as error:  # noqa: BLE001  # it is raised in the caller
                    future.set_exception(error)


class _DecoderProcess:
    """A decoder process. After a crash, a timeout or a cancelled job, the next job gets another."""

    def __init__(self, decode: DecodeSection) -> None:
        self._decode = decode
        self._start()  # now, not when the first request waits

    def run(self, job: DecodeJob, *, is_cancelled: Callable[[], bool]) -> int:
        """Return the result of ``write_raw_frames``.

        Raises:
            VideoError: as ``write_raw_frames``, or the video crashed the process.
            OSError: as ``write_raw_frames``, or no process starts.
        """
        self._send(job, is_cancelled)
        if not self._wait(job.timeout_seconds + _GRACE_SECONDS, is_cancelled):
            self._kill()
            raise _too_slow(job.request.name, job.timeout_seconds)
        try:
            result = self._connection.recv()
        except (EOFError, OSError):
            reason = f"the video crashed the decoder (exit code {self._kill()})"
            raise VideoError(job.request.name, reason) from None
        if isinstance(result, Exception):
            raise result
        return int(result)

    def _send(self, job: DecodeJob, is_cancelled: Callable[[], bool]) -> None:
        """Send a job, to a new process if the present one was killed while it was idle."""
        for _ in range(_MAX_STARTS):
            if is_cancelled():
                raise CancelledError
            if self._connection.closed:
                self._start()
            try:
                self._connection.send(job)
                if self._wait(_START_SECONDS, is_cancelled):
                    self._connection.recv()  # the process has the job
                    return
            except (EOFError, OSError):
                pass
            self._kill()
        raise OSError(f"no decoder process started in {_START_SECONDS} s")

    def _wait(self, seconds: float, is_cancelled: Callable[[], bool]) -> bool:
        """Return whether the process sends something in time, or dies."""
        deadline = time.monotonic() + seconds
        while not self._connection.poll(_POLL_SECONDS):
            if is_cancelled() or time.monotonic() > deadline:
                return False
        return True

    def _start(self) -> None:
        # Forked processes would inherit threads and locks. A daemon ends with this process.
        context = multiprocessing.get_context("spawn")
        connection, other_end = context.Pipe()
        self._process = context.Process(
            target=_run_jobs, args=[other_end, self._decode], daemon=True
        )
        self._process.start()
        other_end.close()
        self._connection = connection

    def _kill(self) -> int | None:
        """End the process and return its exit code."""
        self._connection.close()
        self._process.join(_POLL_SECONDS)  # a process that crashed has an exit code of its own
        self._process.kill()
        self._process.join(_GRACE_SECONDS)
        return self._process.exitcode


def _run_jobs(connection: "Connection[object, DecodeJob]", decode: DecodeSection) -> None:
    """Receive jobs until the server ends, and send None and the result for each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, and with it this
    cv2.setNumThreads(1)  # the processes use every core already
    limit_memory(decode)
    with suppress(EOFError, ConnectionError):
        while True:
            job = connection.recv()
            connection.send(None)
            try:
                result: int | Exception = write_raw_frames(*job)
            except Exception as error:  # noqa: BLE001  # it is raised in the server
                result = error
            connection.send(result)


def _write_in_process(jobs: Sequence[DecodeJob]) -> _FrameCounts:
    for job in jobs:
        try:
            yield write_raw_frames(*job)
        except VideoError as error:
            yield error


def write_raw_frames(
    request: VideoRequest,
    path: Path,
    decode: DecodeSection,
    timeout_seconds: float,
    select: FrameSelection | None = None,
) -> int:
    """Write the frames of a video to ``path``, uint8 [N, H, W, 3], RGB; return N.

    Frames that ``select`` leaves out are holes in the file: they read as zeros and take no disk.

    Raises:
        VideoError: the file is not a video, is damaged, exceeds a limit or takes too long.
        OSError: the frames cannot be written.
    """
    deadline = time.monotonic() + timeout_seconds
    reader = FrameReader(request.content, decode, segment=request.segment, select=select)
    try:
        with path.open("wb") as file:
            for index, frame in reader.numbered():
                file.seek(index * frame.nbytes)
                file.write(frame.data)
                if time.monotonic() > deadline:
                    raise _too_slow(request.name, timeout_seconds)
            file.truncate(reader.count * decode.height * decode.width * 3)
    except VideoError as error:
        raise VideoError(request.name, error.reason, error.is_lasting) from None
    except UNEXPECTED_ERRORS as error:
        raise VideoError(request.name, f"decoding failed: {describe(error)}") from None
    return reader.count


def _too_slow(name: str, timeout_seconds: float) -> VideoError:
    return VideoError(name, f"not decoded after {timeout_seconds:g} s", is_lasting=False)
