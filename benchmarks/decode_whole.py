"""What the decoder does as a whole: with two processes, over many clips, in how much memory."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

from benchmarks.decode_sides import FPS, LIMITS, Job, frame_spec, project
from benchmarks.made_videos import SHORT, make_video
from benchmarks.timing import interleaved, pinned_process, seconds_of, usable_cores
from pipeline.video.batch import DecodeTask, update_store
from pipeline.video.reading import WHOLE_VIDEO, FrameReader

_JOBS = 4  # shared by one process, then by two
_DIFFERENT_CLIPS = 8
_CLIP_SECONDS = 2
_TIMEOUT_SECONDS = 600


def two_process_speedup(job: Job, *, repetitions: int) -> float | None:
    """Return how much more a process on each of two cores decodes than one process alone.

    None where this process may use one core only.
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
    """Return how many clips of 2 s (H.264, 240p) a second the store takes up, on every core.

    The start of the worker processes counts. There are eight different clips under many names.
    """
    folder.mkdir()
    encoding = SHORT["h264_240p"]
    made = [
        make_video(
            folder / f"made{seed}{encoding.suffix}", encoding, seconds=_CLIP_SECONDS, seed=seed
        )
        for seed in range(_DIFFERENT_CLIPS)
    ]
    tasks = []
    for number in range(clips):
        source = folder / f"{number:06d}{encoding.suffix}"
        os.link(made[number % len(made)], source)
        tasks.append(
            DecodeTask(
                source=source,
                source_sha256=f"{number:064x}",  # otherwise eight are decoded and shared by all
                segment=WHOLE_VIDEO,
                spec=frame_spec(FPS),
                limits=LIMITS,
            )
        )
    started = time.perf_counter()
    stored = update_store(folder / "store", tasks, workers=0, timeout_seconds=_TIMEOUT_SECONDS)
    seconds = time.perf_counter() - started
    refused = [row.reason for row in stored.values() if row.reason]
    if refused:
        raise SystemExit(f"expected every clip to be stored; {len(refused)} not: {refused[0]}")
    return clips / seconds


def peak_memory_mb(path: Path, *, fps: float) -> float:
    """Return by how many megabytes (10^6 bytes) a fresh process grows that reads ``path``."""
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
    for _ in FrameReader(path, frame_spec(fps), limits=LIMITS):
        pass
    return (_memory_kib("VmHWM") - after_imports) * 1024 / 1e6


def _memory_kib(name: str) -> int:
    """Return VmRSS (now) or VmHWM (the peak) of this process.

    getrusage does not serve: Linux hands the parent's peak down to a new process.
    """
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise SystemExit(f"expected {name} in /proc/self/status: this measure needs Linux")
