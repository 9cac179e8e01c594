"""Labelled intervals of a video as text, such as ``0 to 1.5 walk|1.5 to end fall|else stand``.

Intervals are half-open, in seconds since the first frame, and do not overlap. ``else`` names the
label of all other frames; without it, these are unlabelled. The target of a clip is that text after
its frames: ``frames 20-40 of 64 at 10 fps: 0 to 1.5 walk``.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_END = "end"  # of the video
_ELSE = "else "
_INTERVAL = re.compile(r"(\S+) to (\S+) (.+)")
_CLIP = re.compile(r"frames (\d+)-(\d+) of (\d+) at (\S+) fps: (.*)")

_ROUNDING = 1e-6  # frames: 0.3 s at 10 fps is frame 3, although 0.3 * 10 may be 3.0000000000000004


class Interval(NamedTuple):
    """Seconds ``start`` to ``end`` (infinity: the end of the video) have the label."""

    start: float
    end: float
    label: str

    @property
    def text(self) -> str:
        end = _END if math.isinf(self.end) else _exact(self.end)
        return f"{_exact(self.start)} to {end} {self.label}"


class LabelledIntervals(NamedTuple):
    """The intervals of a video, in their order, and the label of all other frames, if any."""

    intervals: tuple[Interval, ...]
    background: str = ""

    @property
    def text(self) -> str:
        parts = [interval.text for interval in self.intervals]
        return "|".join([*parts, _ELSE + self.background] if self.background else parts)

    @property
    def labels(self) -> list[str]:
        """The labels of intervals, and the background, each once, in alphabetical order."""
        return sorted({*(interval.label for interval in self.intervals), self.background} - {""})

    def frame_labels(self, fps: float, frames: range) -> list[str]:
        """Return the label of each frame, shown at ``frame / fps``; empty: unlabelled.

        >>> read_intervals("0.1 to 0.3 walk").frame_labels(10, range(4))
        ['', 'walk', 'walk', '']
        """
        labels = [self.background] * len(frames)
        for start, end, label in self.intervals:
            first, stop = (
                frames.stop
                if math.isinf(seconds)
                else min(max(math.ceil(seconds * fps - _ROUNDING), frames.start), frames.stop)
                for seconds in (start, end)
            )
            for frame in range(first, stop):
                labels[frame - frames.start] = label
        return labels


class ClipFrames(NamedTuple):
    """The frames of a video that a clip has, and the number of frames of the padded clip."""

    frames: range
    length: int
    fps: float


def read_intervals(text: str) -> LabelledIntervals:
    """Read ``LabelledIntervals.text``, also after the frames of a clip."""
    match = _CLIP.fullmatch(text)
    parts = (match[5] if match else text).split("|")
    background = ""
    if parts[-1].startswith(_ELSE):
        background = parts.pop().removeprefix(_ELSE)
    return LabelledIntervals(tuple(_read_interval(part) for part in parts if part), background)


def clip_text(text: str, clip: ClipFrames) -> str:
    """Return the target of a clip of the video with the target ``text``."""
    frames = f"frames {clip.frames.start}-{clip.frames.stop} of {clip.length}"
    return f"{frames} at {_exact(clip.fps)} fps: {text}"


def read_clip_text(text: str) -> tuple[ClipFrames, str] | None:
    """Read the result of ``clip_text``; None for the target of a video."""
    match = _CLIP.fullmatch(text)
    if match is None:
        return None
    start, stop, length = (int(match[group]) for group in (1, 2, 3))
    return ClipFrames(range(start, stop), length, float(match[4])), match[5]


def runs(labels: Sequence[str] | Sequence[int]) -> Iterable[tuple[int, int]]:
    """Yield start and stop of each run of equal labels.

    >>> list(runs("aab"))
    [(0, 2), (2, 3)]
    """
    start = 0
    for index in range(1, len(labels) + 1):
        if index == len(labels) or labels[index] != labels[start]:
            yield start, index
            start = index


def _read_interval(text: str) -> Interval:
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise ValueError(f"expected an interval such as '0 to 1.5 walk'. Received: {text!r}")
    end = math.inf if match[2] == _END else float(match[2])
    return Interval(float(match[1]), end, match[3])


def _exact(seconds: float) -> str:
    return repr(float(seconds)).removesuffix(".0")
