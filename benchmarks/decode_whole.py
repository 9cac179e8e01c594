"""Measure the decoder as a whole: two processes, many clips, peak memory."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

from benchmarks.decode_sides import FPS, Job, decode_settings, project
from benchmarks.made_videos import SHORT, make_video
from benchmarks.timing import interleaved, pinned_process, seconds_of, usable_cores
from pipeline.common.records import VideoRecord
from pipeline.video.batch import decode_records
from pipeline.video.reading import FrameReader

_JOBS = 4  # shared by one process, then by two
_DIFFERENT_CLIPS = 8
_CLIP_SECONDS = 2


def two_process_speedup(job: Job, *, repetitions: int) -> float | None:
    """Return the speed of two processes, each on its own core, over that of one.

    None where this process may use only one core.
    """
    cores = usable_cores()[:2]
    if len(cores) < 2:
        return None
    with ExitStack() as stack:
        first, second = (stack.enter_context(pinned_process(core)) for core in cores)

        def one() -> float:
            return seconds_of(first.submit(_decode_again, job, _JOBS).result)

        def two() -> float:
            return seconds_of(lambda: _both(first, second, job))

        medians = interleaved({"one": one, "two": two}, repetitions=repetitions).medians
    return medians["one"] / medians["two"]


def clips_per_second(folder: Path, *, clips: int) -> float:
    """Return how many clips of 2 s (H.264, 240p) per second are stored, on every core.

    The time includes the start of the worker processes. There are eight different clips under
    many names.
    """
    folder.mkdir()
    encoding = SHORT["h264_240p"]
    different = [
        make_video(
            folder / f"clip{seed}{encoding.suffix}", encoding, seconds=_CLIP_SECONDS, seed=seed
        )
        for seed in range(_DIFFERENT_CLIPS)
    ]
    records = []
    for number in range(clips):
        source = folder / f"{number:06d}{encoding.suffix}"
        os.link(different[number % len(different)], source)
        # With the true hashes, only eight clips would be decoded.
        records.append(VideoRecord(source.name, target="", sha256=f"{number:064x}"))
    started = time.perf_counter()
    decoded = decode_records(
        folder / "store", records, videos=folder, decode=decode_settings(FPS), workers=0
    )
    seconds = time.perf_counter() - started
    reasons = [record.facts.reason for record in decoded if record.facts and record.facts.reason]
    if reasons:
        raise SystemExit(f"{len(reasons)} of {clips} clips were not stored: {reasons[0]}")
    return clips / seconds


def peak_memory_mb(path: Path, *, fps: float) -> float:
    """Return the growth of a new process that reads ``path``, in megabytes (10^6 bytes)."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_growth_mb, path, fps).result()


def _both(first: ProcessPoolExecutor, second: ProcessPoolExecutor, job: Job) -> None:
    halves = [process.submit(_decode_again, job, _JOBS // 2) for process in (first, second)]
    for half in halves:
        half.result()


def _decode_again(job: Job, times: int) -> None:
    for _ in range(times):
        project(job)


def _growth_mb(path: Path, fps: float) -> float:
    after_imports = _memory_kib("VmRSS")
    for _ in FrameReader(path, decode_settings(fps)):
        pass
    return (_memory_kib("VmHWM") - after_imports) * 1024 / 1e6


def _memory_kib(name: str) -> int:
    """Return VmRSS (now) or VmHWM (the peak) of this process.

    getrusage does not help: a new process inherits the peak of its parent on Linux.
    """
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise SystemExit(f"/proc/self/status: {name} is missing. This measurement needs Linux.")
