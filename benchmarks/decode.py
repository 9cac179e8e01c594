"""Compare the decoder with a plain OpenCV loop, PyAV alone, decord and torchcodec.

`python -m benchmarks.decode [VIDEO ...]` measures the given files, or videos that it makes in
a temporary folder. Every side has a process of its own with one thread on one core, all on
the same core; they take turns, and medians of the processor time are reported. decord and
torchcodec take part where they can be imported. The last line of the output is JSON. Its
ratios are better when larger, but for those to `decode_only`: these are this project's time
over that of decoding every frame. `peak_memory_mb` is what reading adds to a fresh process,
`two_process_speedup` and `clips_per_second` go by the clock.
"""

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.decode_report import FileResult, summary, table
from benchmarks.decode_sides import (
    Job,
    dense_job,
    describe,
    has_b_frames,
    is_same_with_and_without_skipping,
    sparse_job,
)
from benchmarks.decode_timing import measure_file, measure_long
from benchmarks.decode_whole import clips_per_second, peak_memory_mb, two_process_speedup
from benchmarks.made_videos import LONG, SHORT, make_video, repeat_video
from pipeline.base.command import run_command

logger = logging.getLogger(__name__)

# What needs the made videos, for a report on given ones.
_NOT_MADE: dict[str, Any] = {
    "long_sparse_vs_full": None,
    "two_process_speedup": None,
    "clips_per_second": None,
    "peak_memory_mb_dense": None,
    "peak_memory_mb_sparse": None,
}


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    repetitions: int
    short_seconds: int = 10
    long_copies: int = 60  # of a stretch of short_seconds
    clips: int = 1000


def main() -> None:
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder's own log: errors only
    options = _arguments()
    scale = Scale(options.repetitions or 5)
    if options.quick:
        scale = Scale(options.repetitions or 2, short_seconds=4, long_copies=15, clips=100)
    if options.videos:
        report = _report(_named(options.videos), scale, {})
    else:
        with tempfile.TemporaryDirectory(prefix="decode-") as folder:
            videos = _make_short(Path(folder), scale)
            report = _report(videos, scale, _made_only(Path(folder), videos, scale))
    print(json.dumps({name: _rounded(value) for name, value in report.items()}))
    if not report["same_frames"]:
        raise SystemExit("skipping gave other frames than decoding everything; see above")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.decode", description=__doc__)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--repetitions", type=int, help="default: 5, or 2 with --quick")
    parser.add_argument("--quick", action="store_true", help="shorter videos, fewer clips")
    options = parser.parse_args()
    if options.repetitions is not None and options.repetitions < 1:
        parser.error(f"--repetitions must be at least 1; received {options.repetitions}")
    return options


def _named(paths: list[Path]) -> dict[str, Path]:
    return {str(path): path for path in paths}


def _make_short(folder: Path, scale: Scale) -> dict[str, Path]:
    return {
        name: make_video(
            folder / f"{name}{encoding.suffix}", encoding, seconds=scale.short_seconds, seed=0
        )
        for name, encoding in tqdm(SHORT.items(), desc="encode", unit="video", disable=None)
    }


def _report(
    videos: Mapping[str, Path], scale: Scale, made_only: Mapping[str, Any]
) -> dict[str, Any]:
    results = []
    is_same = made_only.get("same_frames", True)
    for name, path in tqdm(videos.items(), desc="measure", unit="video", disable=None):
        info = describe(path)
        jobs = (dense_job(path, info), sparse_job(path, info))
        is_same &= all(_is_same(job) for job in jobs)
        timings = measure_file(*jobs, repetitions=scale.repetitions)
        results.append(FileResult(name, info.codec, has_b_frames(path), timings))
    print(table(results))
    return {**summary(results), **_NOT_MADE, **made_only, "same_frames": is_same}


def _made_only(folder: Path, videos: Mapping[str, Path], scale: Scale) -> dict[str, Any]:
    """Measure what needs videos of known length and content."""
    logger.info("measuring a long video")
    stretch = make_video(folder / "stretch.mp4", LONG, seconds=scale.short_seconds, seed=1)
    long = repeat_video(stretch, folder / "long.mp4", copies=scale.long_copies)
    long_job = sparse_job(long, describe(long))
    logger.info("measuring two processes")
    middle = videos["h264_720p"]
    middle_job = dense_job(middle, describe(middle))
    measured = {
        "long_sparse_vs_full": measure_long(long_job, repetitions=scale.repetitions),
        "two_process_speedup": two_process_speedup(middle_job, repetitions=scale.repetitions),
        "same_frames": _is_same(long_job),
    }
    logger.info("measuring many clips")
    measured["clips_per_second"] = clips_per_second(folder / "clips", clips=scale.clips)
    logger.info("measuring memory")
    large = repeat_video(videos["h264_1080p"], folder / "large.mp4", copies=scale.long_copies)
    info = describe(large)
    for name, job in (("dense", dense_job(large, info)), ("sparse", sparse_job(large, info))):
        measured[f"peak_memory_mb_{name}"] = peak_memory_mb(large, fps=job.fps)
    return measured


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _is_same(job: Job) -> bool:
    is_same = is_same_with_and_without_skipping(job)
    if not is_same:
        print(f"{job.path}: skipping frames at {job.fps:g} fps gives other pictures")
    return is_same


if __name__ == "__main__":
    run_command(main)
