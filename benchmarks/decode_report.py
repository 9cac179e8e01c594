"""Ratios and a table from the times of benchmarks.decode."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.decode_sides import SideName
from benchmarks.decode_timing import DENSE_SIDES, SPARSE_SIDES, Kind, Side
from benchmarks.timing import Timings


@dataclass(frozen=True)
class FileResult:
    """What was measured on one video."""

    name: str
    codec: str
    has_b_frames: bool
    timings: Timings[Side]

    def ratio(self, kind: Kind, other: SideName) -> float | None:
        """Return another side's time over this project's; None where one has no time.

        For decode_only, which gives no frames, it is this project's time over the other.
        """
        medians = self.timings.medians
        own = medians.get((kind, "project"))
        # Decoding alone knows no kind: it decodes everything in any case.
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
            "dense_vs": {name: _rounded(self.ratio("dense", name)) for name in DENSE_SIDES[1:]},
            "sparse_vs": {
                name: _rounded(self.ratio("sparse", name))
                for name in ("opencv", "decord", "decode_only")
            },
            "failures": {
                f"{kind} {name}": reason for (kind, name), reason in self.timings.failures.items()
            },
        }


def summary(results: Sequence[FileResult]) -> dict[str, Any]:
    """Return the ratios over all files; None where no file has them."""
    opencv = list(_known(results, "dense", "opencv"))
    h264 = [result for result in results if result.codec == "h264" and result.has_b_frames]
    hevc = [result for result in results if result.codec == "hevc"]
    return {
        "dense_vs_opencv_median": _median(opencv),
        "dense_vs_opencv_min": _min(opencv),
        "dense_vs_opencv_kept_median": _median(_known(results, "dense", "opencv_kept")),
        "dense_vs_grab_median": _median(_known(results, "dense", "grab")),
        "dense_vs_decode_only_h264": _median(_known(h264, "dense", "decode_only")),
        "dense_vs_decode_only_hevc": _median(_known(hevc, "dense", "decode_only")),
        "dense_vs_decord_min": _min(_known(results, "dense", "decord")),
        "dense_vs_torchcodec_min": _min(_known(results, "dense", "torchcodec")),
        "sparse_vs_opencv_median": _median(_known(results, "sparse", "opencv")),
        "sparse_vs_decord_min": _min(_known(results, "sparse", "decord")),
        "sparse_vs_decode_only_median": _median(_known(results, "sparse", "decode_only")),
        "files": {result.name: result.as_json() for result in results},
    }


def table(results: Sequence[FileResult]) -> str:
    """Return the medians in milliseconds, a line a file and kind, then what has none and why."""
    width = max(len("video"), *(len(result.name) for result in results))
    header = "".join(f"{name:>12}" for name in DENSE_SIDES)
    lines = ["milliseconds (medians)", f"{'video':{width}}  {'frames':6}{header}"]
    for result in results:
        for kind in ("dense", "sparse"):
            cells = (result.timings.medians.get((kind, name)) for name in DENSE_SIDES)
            shown = "".join(f"{'-' if s is None else round(1000 * s, 1):>12}" for s in cells)
            lines.append(f"{result.name:{width}}  {kind:6}{shown}")
    for result in results:
        for (kind, name), reason in result.timings.failures.items():
            lines.append(f"{result.name}, {kind} {name}: {reason}")
    return "\n".join(lines)


def _known(results: Sequence[FileResult], kind: Kind, other: SideName) -> Iterator[float]:
    for result in results:
        ratio = result.ratio(kind, other)
        if ratio is not None:
            yield ratio


def _median(ratios: Iterator[float] | list[float]) -> float | None:
    found = list(ratios)
    return round(statistics.median(found), 3) if found else None


def _min(ratios: Iterator[float] | list[float]) -> float | None:
    return _rounded(min(ratios, default=None))


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)
