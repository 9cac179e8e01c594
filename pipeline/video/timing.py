"""Which frames of a video are kept: a rule on presentation times, never on frame numbers."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal, NamedTuple, TypeVar

FrameT = TypeVar("FrameT")

# What the durations of a file's frames are worth: stated by its index; guessed from a rate,
# or one tick (FLV, Matroska, MPEG-TS); or of decoding and not of showing (mp4 with B-frames).
Durations = Literal["stated", "guessed", "of decoding"]


class TimedFrame(NamedTuple):
    """When a frame is shown, as exact seconds."""

    seconds: Fraction  # since the first frame of the video
    duration_seconds: Fraction  # 0 when the file does not say


def exact_rate(fps: float) -> Fraction:
    """Return ``fps`` as written: 0.1 becomes 1/10, not the nearest binary fraction."""
    return Fraction(str(fps))


def frames_at_rate(
    timed_frames: Iterable[tuple[TimedFrame, FrameT]],
    *,
    fps: Fraction,
    start_seconds: Fraction = Fraction(0),
    end_seconds: Fraction | None = None,
    durations: Durations = "guessed",
) -> Iterator[FrameT]:
    """Resample frames to a constant rate.

    Output k is the newest frame shown at or before ``start_seconds + k / fps``, for every
    such time before ``end_seconds`` and before the video's own end. How long the last frame
    lasts follows from what it says and from how long the one before it lasted.

    Args:
        timed_frames: frames in presentation order, the first at 0 seconds.

    >>> quarter = Fraction(1, 4)
    >>> shown = [(TimedFrame(n * quarter, quarter), name) for n, name in enumerate("abcd")]
    >>> list(frames_at_rate(shown, fps=Fraction(2)))
    ['a', 'c']
    """
    kept = 0
    current: tuple[TimedFrame, FrameT] | None = None
    before = Fraction(0)
    due = start_seconds
    for timed, frame in timed_frames:
        if current is not None:
            while due < timed.seconds and (end_seconds is None or due < end_seconds):
                yield current[1]
                kept += 1
                due = start_seconds + kept / fps
            before = current[0].seconds
        if end_seconds is not None and due >= end_seconds:
            return
        current = (timed, frame)
    if current is None:
        return
    last = current[0]
    lasts = _last_duration(last.duration_seconds, last.seconds - before, durations)
    ends = last.seconds + (lasts or 1 / fps)
    if end_seconds is not None:
        ends = min(ends, end_seconds)
    while due < ends:
        yield current[1]
        kept += 1
        due = start_seconds + kept / fps


def _last_duration(says: Fraction, gap: Fraction, durations: Durations) -> Fraction:
    match durations:
        case "stated":
            return says or gap
        case "guessed":
            return max(says, gap)
        case "of decoding":
            return gap or says
