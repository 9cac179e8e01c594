"""Choose the frames to keep: by presentation time, never by frame number."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal, NamedTuple, TypeVar

FrameT = TypeVar("FrameT")

# Meaning of the frame durations of a file: intervals of presentation (mp4 without B-frames),
# estimates from a rate or one tick (FLV, Matroska, MPEG-TS), or intervals of decoding (mp4 with
# B-frames).
DurationKind = Literal["presentation", "estimated", "decoding"]


class TimedFrame(NamedTuple):
    """The presentation time of a frame, as exact seconds."""

    seconds: Fraction  # since the first frame of the video
    duration_seconds: Fraction  # 0 when unknown


def exact_rate(fps: float) -> Fraction:
    """Return ``fps`` as written: 0.1 becomes 1/10, not the nearest binary fraction."""
    return Fraction(str(fps))


def frames_at_rate(
    timed_frames: Iterable[tuple[TimedFrame, FrameT]],
    *,
    fps: Fraction,
    start_seconds: Fraction = Fraction(0),
    end_seconds: Fraction | None = None,
    durations: DurationKind = "estimated",
) -> Iterator[FrameT]:
    """Resample frames to a constant rate.

    Output k is the newest frame shown at or before ``start_seconds + k / fps``, for every such
    time before ``end_seconds`` and before the end of the video. The video ends with the duration
    of its last frame, or with the last interval; see ``durations``.

    Args:
        timed_frames: frames in presentation order, the first at 0 seconds.

    >>> quarter = Fraction(1, 4)
    >>> shown = [(TimedFrame(n * quarter, quarter), name) for n, name in enumerate("abcd")]
    >>> list(frames_at_rate(shown, fps=Fraction(2)))
    ['a', 'c']
    """
    kept = 0
    current: tuple[TimedFrame, FrameT] | None = None
    previous_seconds = Fraction(0)
    due = start_seconds
    for timed, frame in timed_frames:
        if current is not None:
            while due < timed.seconds and (end_seconds is None or due < end_seconds):
                yield current[1]
                kept += 1
                due = start_seconds + kept / fps
            previous_seconds = current[0].seconds
        if end_seconds is not None and due >= end_seconds:
            return
        current = (timed, frame)
    if current is None:
        return
    last = current[0]
    duration = _last_duration(last.duration_seconds, last.seconds - previous_seconds, durations)
    video_end = last.seconds + (duration or 1 / fps)
    if end_seconds is not None:
        video_end = min(video_end, end_seconds)
    while due < video_end:
        yield current[1]
        kept += 1
        due = start_seconds + kept / fps


def _last_duration(own: Fraction, interval: Fraction, durations: DurationKind) -> Fraction:
    """Return the duration of the last frame; 0 when unknown.

    Args:
        own: according to the file; 0 when unknown.
        interval: between the last two frames.
    """
    match durations:
        case "presentation":
            return own or interval
        case "estimated":
            return max(own, interval)
        case "decoding":
            return interval or own
