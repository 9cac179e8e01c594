"""Measure the decoder: two processes, many clips, peak memory."""

import os
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.decode_sides import FPS, Job, decode_settings, project
from benchmarks.made_videos import SHORT, make_video
from benchmarks.timing import (
    interleaved,
    memory_mb,
    new_process,
    pinned_process,
    seconds_of,
    usable_cores,
)
from pipeline.common.records import VideoRecord
from pipeline.compute.settings import ComputeSection
from pipeline.video.batch import decode_records
from pipeline.video.reading import FrameReader

_JOBS = 4  # shared by one process, then by two
_DIFFERENT_CLIPS = 8
_CLIP_SECONDS = 2


def two_process_speedup(job: Job, repetitions: int) -> float | None:
    """Return the speed of two processes on two cores over that of one process.

    None if this process may use only one core.
    """
    cores = usable_cores()[:2]
    if len(cores) < 2:
        return None
    with ExitStack() as stack:
        first, second = (stack.enter_context(pinned_process(core)) for core in cores)

        def one() -> float:
            return seconds_of(first.submit(_decode_again, job, _JOBS).result)

        def both() -> None:
            halves = [process.submit(_decode_again, job, _JOBS // 2) for process in (first, second)]
            for half in halves:
                half.result()

        def two() -> float:
            return seconds_of(both)

        medians = interleaved({"one": one, "two": two}, repetitions=repetitions).medians
    return medians["one"] / medians["two"]


def clips_per_second(folder: Path, *, clips: int) -> float:
    """Return the number of clips of 2 s (H.264, 240p) stored per second, on every core.

    The time includes the start of the worker processes. Eight different clips have many names.
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
        folder / "store",
        records,
        videos=folder,
        decode=decode_settings(FPS),
        compute=ComputeSection(),
    )
    seconds = time.perf_counter() - started
    reasons = [record.facts.reason for record in decoded if record.facts and record.facts.reason]
    if reasons:
        raise SystemExit(f"{len(reasons)} of {clips} clips were not stored: {reasons[0]}")
    return clips / seconds


def peak_memory_mb(path: Path, *, fps: float) -> float:
    """Return the growth of a new process that reads ``path``, in megabytes (10^6 bytes)."""
    with new_process() as process:
        return process.submit(_growth_mb, path, fps).result()


def _decode_again(job: Job, times: int) -> None:
    for _ in range(times):
        project(job)


def _growth_mb(path: Path, fps: float) -> float:
    after_imports = memory_mb("VmRSS")
    for _ in FrameReader(path, decode_settings(fps)):
        pass
    return memory_mb("VmHWM") - after_imports
