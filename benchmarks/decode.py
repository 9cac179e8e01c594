"""Compare the decoder with a plain OpenCV loop, PyAV alone, decord and torchcodec.

`python -m benchmarks.decode [VIDEO ...]` measures the given files, or generated videos in a
temporary folder. Every side runs in its own process with one thread, all on the same core and
in turns. The report has medians of the processor time. decord and torchcodec are measured if they
can be imported. The last line of the output is JSON. Its ratios are the time of the other side
over the time of this project, so larger is better; ratios to `decode_only` are the inverse.
`peak_memory_mb` is the growth of a new process; `two_process_speedup` and `clips_per_second` are
measured in wall time.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from benchmarks.decode_sides import (
    DENSE_SIDES,
    SPARSE_SIDES,
    Job,
    Kind,
    Side,
    dense_job,
    full_over_selective,
    has_b_frames,
    is_same_with_and_without_skipping,
    measure_file,
    read_facts,
    sparse_job,
)
from benchmarks.decode_whole import clips_per_second, peak_memory_mb, two_process_speedup
from benchmarks.made_videos import LONG, SHORT, make_video, repeat_video
from benchmarks.timing import Timings, rounded
from pipeline.common.command import run_command
from pipeline.common.tables import align_columns

logger = logging.getLogger(__name__)

# Measurements that need the generated videos, in a report about given files.
_NOT_MEASURED: dict[str, Any] = {
    "long_sparse_vs_full": None,
    "two_process_speedup": None,
    "clips_per_second": None,
    "peak_memory_mb_dense": None,
    "peak_memory_mb_sparse": None,
}


@dataclass(frozen=True)
class Scale:
    """The amount of measurements."""

    repetitions: int
    short_seconds: int = 10
    long_copies: int = 60  # of a video of short_seconds
    clips: int = 1000


@dataclass(frozen=True)
class FileResult:
    """The measurements of one video."""

    name: str
    codec: str
    has_b_frames: bool
    timings: Timings[Side]

    def ratio(self, kind: Kind, other: str) -> float | None:
        """Return the time of another side over that of this project, or None.

        For decode_only, it is the time of this project over the other.
        """
        medians = self.timings.medians
        own = medians.get((kind, "project"))
        # decode_only decodes everything for both kinds.
        others = medians.get(("dense" if other == "decode_only" else kind, other))
        if own is None or others is None:
            return None
        return own / others if other == "decode_only" else others / own

    def as_json(self) -> dict[str, Any]:
        milliseconds = {side: round(1000 * s, 1) for side, s in self.timings.medians.items()}
        return {
            "codec": self.codec,
            "dense_ms": {name: milliseconds.get(("dense", name)) for name in DENSE_SIDES},
            "sparse_ms": {name: milliseconds.get(("sparse", name)) for name in SPARSE_SIDES},
            "dense_vs": {name: rounded(self.ratio("dense", name)) for name in DENSE_SIDES[1:]},
            "sparse_vs": {
                name: rounded(self.ratio("sparse", name))
                for name in ("opencv", "decord", "decode_only")
            },
            "failures": {
                f"{kind} {name}": reason for (kind, name), reason in self.timings.failures.items()
            },
        }


def main() -> None:
    os.environ.setdefault("SVT_LOG", "1")  # log level of the AV1 encoder: errors only
    options = _arguments()
    scale = Scale(options.repetitions or 5)
    if options.quick:
        scale = Scale(options.repetitions or 2, short_seconds=4, long_copies=15, clips=100)
    if options.videos:
        report = _report({str(path): path for path in options.videos}, scale, {})
    else:
        with tempfile.TemporaryDirectory(prefix="decode-") as folder:
            videos = _make_short(Path(folder), scale)
            report = _report(videos, scale, _measure_generated(Path(folder), videos, scale))
    print(json.dumps(report))
    if not report["same_frames"]:
        raise SystemExit(
            "Selective decoding gave other frames than decoding everything. The videos are above."
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.decode", description=__doc__)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--repetitions", type=int, help="default: 5, or 2 with --quick")
    parser.add_argument("--quick", action="store_true", help="shorter videos, fewer clips")
    options = parser.parse_args()
    if options.repetitions is not None and options.repetitions < 1:
        parser.error(f"--repetitions must be 1 or more. Received: {options.repetitions}")
    return options


def _make_short(folder: Path, scale: Scale) -> dict[str, Path]:
    return {
        name: make_video(
            folder / f"{name}{encoding.suffix}", encoding, seconds=scale.short_seconds, seed=0
        )
        for name, encoding in tqdm(SHORT.items(), desc="encode", unit="video", disable=None)
    }


def _report(
    videos: Mapping[str, Path], scale: Scale, generated: Mapping[str, Any]
) -> dict[str, Any]:
    results = []
    is_same = generated.get("same_frames", True)
    for name, path in tqdm(videos.items(), desc="measure", unit="video", disable=None):
        facts = read_facts(path)
        jobs = (dense_job(path, facts), sparse_job(path, facts))
        is_same &= all(_is_same(job) for job in jobs)
        timings = measure_file(*jobs, repetitions=scale.repetitions)
        results.append(FileResult(name, str(facts.codec), has_b_frames(path), timings))
    print("\n".join(_table(results)))
    return {**_summary(results), **_NOT_MEASURED, **generated, "same_frames": is_same}


def _measure_generated(folder: Path, videos: Mapping[str, Path], scale: Scale) -> dict[str, Any]:
    """Measure what needs generated videos."""
    logger.info("measuring a long video")
    part = make_video(folder / "part.mp4", LONG, seconds=scale.short_seconds, seed=1)
    long = repeat_video(part, folder / "long.mp4", copies=scale.long_copies)
    long_job = sparse_job(long, read_facts(long))
    logger.info("measuring two processes")
    middle = videos["h264_720p"]
    middle_job = dense_job(middle, read_facts(middle))
    measured = {
        "long_sparse_vs_full": rounded(full_over_selective(long_job, scale.repetitions)),
        "two_process_speedup": rounded(two_process_speedup(middle_job, scale.repetitions)),
        "same_frames": _is_same(long_job),
    }
    logger.info("measuring many clips")
    measured["clips_per_second"] = rounded(clips_per_second(folder / "clips", clips=scale.clips))
    logger.info("measuring memory")
    large = repeat_video(videos["h264_1080p"], folder / "large.mp4", copies=scale.long_copies)
    facts = read_facts(large)
    for name, job in (("dense", dense_job(large, facts)), ("sparse", sparse_job(large, facts))):
        measured[f"peak_memory_mb_{name}"] = rounded(peak_memory_mb(large, fps=job.fps))
    return measured


def _is_same(job: Job) -> bool:
    is_same = is_same_with_and_without_skipping(job)
    if not is_same:
        print(f"{job.path}: selective decoding at {job.fps:g} fps gives other frames")
    return is_same


def _summary(results: Sequence[FileResult]) -> dict[str, Any]:
    """Return the ratios over all files; None where no file has them."""

    def over_files(
        summarise: Callable[[list[float]], float], kind: Kind, other: str, codec: str = ""
    ) -> float | None:
        chosen = [result for result in results if codec in ("", result.codec)]
        if codec == "h264":
            chosen = [result for result in chosen if result.has_b_frames]
        ratios = [result.ratio(kind, other) for result in chosen]
        known = [ratio for ratio in ratios if ratio is not None]
        return rounded(summarise(known)) if known else None

    return {
        "dense_vs_opencv_median": over_files(statistics.median, "dense", "opencv"),
        "dense_vs_opencv_min": over_files(min, "dense", "opencv"),
        "dense_vs_opencv_kept_median": over_files(statistics.median, "dense", "opencv_kept"),
        "dense_vs_grab_median": over_files(statistics.median, "dense", "grab"),
        "dense_vs_decode_only_h264": over_files(statistics.median, "dense", "decode_only", "h264"),
        "dense_vs_decode_only_hevc": over_files(statistics.median, "dense", "decode_only", "hevc"),
        "dense_vs_decord_min": over_files(min, "dense", "decord"),
        "dense_vs_torchcodec_min": over_files(min, "dense", "torchcodec"),
        "sparse_vs_opencv_median": over_files(statistics.median, "sparse", "opencv"),
        "sparse_vs_decord_min": over_files(min, "sparse", "decord"),
        "sparse_vs_decode_only_median": over_files(statistics.median, "sparse", "decode_only"),
        "files": {result.name: result.as_json() for result in results},
    }


def _table(results: Sequence[FileResult]) -> Iterable[str]:
    """Yield the lines of a table of medians, and the reason of each missing one."""
    yield "milliseconds (medians)"
    rows = [("video", "frames", *DENSE_SIDES)]
    for result in results:
        for kind in get_args(Kind):
            medians = [result.timings.medians.get((kind, name)) for name in DENSE_SIDES]
            cells = ("-" if s is None else f"{1000 * s:.1f}" for s in medians)
            rows.append((result.name, kind, *cells))
    yield from align_columns(rows, "<<" + ">" * len(DENSE_SIDES), indent="")
    for result in results:
        for (kind, name), reason in result.timings.failures.items():
            yield f"{result.name}, {kind} {name}: {reason}"


if __name__ == "__main__":
    run_command(main)
