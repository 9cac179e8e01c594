"""Compare an interval at the end of a long video with the same interval as a file of its own.

`python -m benchmarks.long_video [--minutes 60]` creates a video of 10 s (H.264, 480p, B-frames)
and long files that repeat it, as mp4 and Matroska. The interval is its last repetition, at 10
frames a second. All sides run in one process on one core and in turns. The report has medians of
the wall time, with the files in the page cache, and the bytes that a side reads. The last line of
the output is JSON. ``interval_over_own_file`` is the time of the interval over that of the short
file, so smaller is better; ``packet_scan_over_interval`` is the time of reading all packets of the
long file, which other containers need, over that of the interval.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.made_videos import LONG, make_video, repeat_video
from benchmarks.timing import interleaved, pinned_process, rounded, seconds_of, usable_cores
from pipeline.common.command import run_command
from pipeline.common.tables import align_columns
from pipeline.video.opening import open_video
from pipeline.video.packet_scan import scan_packets
from pipeline.video.reading import WHOLE_VIDEO, Segment, read_frames
from pipeline.video.settings import DecodeSection

_SECONDS = 10
_DECODE = DecodeSection(fps=10, width=112, height=112, max_seconds=_SECONDS + 1)
_SUFFIXES = (".mp4", ".mkv")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.long_video", description=__doc__)
    parser.add_argument("--minutes", type=int, default=60, help="of the long files; default: 60")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    copies = options.minutes * 60 // _SECONDS
    segment = Segment(float((copies - 1) * _SECONDS), float(copies * _SECONDS))
    report: dict[str, Any] = {"minutes": options.minutes}
    rows = [("container", "side", "ms", "MB read")]
    with tempfile.TemporaryDirectory(prefix="long-video-") as folder:
        part = make_video(Path(folder, "part.mp4"), LONG, seconds=_SECONDS, seed=1)
        for suffix in _SUFFIXES:
            own = repeat_video(part, Path(folder, f"own{suffix}"), copies=1)
            long = repeat_video(part, Path(folder, f"long{suffix}"), copies=copies)
            interval = read_frames(long, _DECODE, segment=segment)
            # Matroska rounds times to milliseconds: the own file may seem longer than 10 s.
            if not np.array_equal(read_frames(own, _DECODE)[: len(interval)], interval):
                raise SystemExit(f"{suffix}: the interval has other frames than its own file.")
            sides: dict[str, Callable[[], None]] = {
                "interval": partial(_read, long, segment),
                "own_file": partial(_read, own, WHOLE_VIDEO),
                "packet_scan": partial(_scan, long),
            }
            seconds, megabytes = _measure(sides, repetitions=options.repetitions)
            for name in sides:
                cells = (f"{1000 * seconds[name]:.1f}", f"{megabytes[name]:.1f}")
                rows.append((suffix.removeprefix("."), name, *cells))
            report[suffix.removeprefix(".")] = {
                "file_megabytes": rounded(long.stat().st_size / 1e6),
                "milliseconds": {name: rounded(1000 * seconds[name]) for name in sides},
                "megabytes_read": {name: rounded(megabytes[name]) for name in sides},
                "interval_over_own_file": rounded(seconds["interval"] / seconds["own_file"]),
                "packet_scan_over_interval": rounded(seconds["packet_scan"] / seconds["interval"]),
            }
    print("\n".join(align_columns(rows, "<<>>", indent="")))
    print(json.dumps(report))


def _read(path: Path, segment: Segment) -> None:
    read_frames(path, _DECODE, segment=segment)


def _scan(path: Path) -> None:
    with open_video(path, _DECODE) as video:
        scan_packets(video, path, _DECODE)


def _measure(
    sides: dict[str, Callable[[], None]], *, repetitions: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds and the megabytes read of each side."""
    with pinned_process(usable_cores()[0]) as process:
        timings = interleaved(
            {name: partial(_seconds_in, process, work) for name, work in sides.items()},
            repetitions=repetitions,
        )
        megabytes = {
            name: process.submit(_megabytes_read, work).result() for name, work in sides.items()
        }
    return timings.medians, megabytes


def _seconds_in(process: ProcessPoolExecutor, work: Callable[[], None]) -> float:
    return process.submit(seconds_of, work).result()


def _megabytes_read(work: Callable[[], None]) -> float:
    before = _read_so_far()
    work()
    return (_read_so_far() - before) / 1e6


def _read_so_far() -> int:
    """Return the bytes that this process has read, from disk or from the page cache."""
    for line in Path("/proc/self/io").read_text("ascii").splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise SystemExit("/proc/self/io: expected a line rchar. Run the benchmark on Linux.")


if __name__ == "__main__":
    run_command(main)
