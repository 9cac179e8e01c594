"""Frames are chosen by presentation time. Letters are frames, times are in seconds."""

from fractions import Fraction

import pytest

from pipeline.video.timing import TimedFrame, exact_rate, frames_at_rate


def shown(times: str, durations: str | None = None):
    """Return frames a, b, c, ... with the given times and durations."""
    starts = [Fraction(text) for text in times.split()]
    lengths = [Fraction(text) for text in (durations or "0 " * len(starts)).split()]
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        (TimedFrame(start, length), letter)
        for start, length, letter in zip(starts, lengths, letters, strict=False)
    ]


def chosen(frames, fps, **segment):
    return "".join(frames_at_rate(frames, fps=Fraction(fps), **segment))


def test_every_frame_once_at_the_rate_of_the_source():
    assert chosen(shown("0 1/10 2/10 3/10"), 10) == "abcd"


def test_every_third_frame_at_a_third_of_the_rate():
    thirtieths = " ".join(f"{n}/30" for n in range(9))
    assert chosen(shown(thirtieths), 10) == "adg"


def test_frames_are_repeated_when_the_source_is_slower():
    assert chosen(shown("0 1/5"), 10) == "aabb"


def test_variable_rate_shows_the_newest_frame_at_or_before_each_time():
    # Output times: 0, 0.1, 0.2, 0.3, 0.4. Frame b comes at 0.15, c at exactly 0.3, d at 0.31.
    assert chosen(shown("0 15/100 30/100 31/100", "0 0 0 1/10"), 10) == "aabcd"


def test_the_first_frame_is_never_skipped_and_a_lone_frame_is_one_frame():
    assert chosen(shown("0"), 10) == "a"


def test_the_last_frame_has_its_own_duration():
    assert chosen(shown("0 1/10", "1/10 3/10"), 10) == "abbb"


@pytest.mark.parametrize(
    ("durations", "times", "own_duration", "frames"),
    [
        ("presentation", "0 5/10", "1/10", "aaaaab"),
        ("estimated", "0 5/10", "1/10", "aaaaabbbbb"),
        ("decoding", "0 1/10", "9/10", "ab"),
    ],
)
def test_the_last_duration_by_kind_of_durations(durations, times, own_duration, frames):
    assert chosen(shown(times, f"0 {own_duration}"), 10, durations=durations) == frames


def test_a_last_frame_of_one_tick_has_the_duration_of_the_frame_before():
    assert chosen(shown("0 1/2", "1/1000 1/1000"), 10) == "aaaaabbbbb"


def test_ntsc_rates_do_not_drift():
    # 300 frames at 30000/1001 last 10.01 s: times 0, 0.1, ..., 10.0 are 101 frames.
    frames = ((TimedFrame(Fraction(1001 * n, 30000), Fraction(1001, 30000)), n) for n in range(300))
    kept = list(frames_at_rate(frames, fps=Fraction(10)))
    assert len(kept) == 101
    assert kept[:4] == [0, 2, 5, 8]  # shown at 0, 0.0667, 0.1668, 0.2669
    assert kept[-1] == 299  # shown at 9.977


def test_a_segment_counts_from_its_start_and_stops_before_its_end():
    tenths = " ".join(f"{n}/10" for n in range(10))
    segment = {"start_seconds": Fraction(3, 10), "end_seconds": Fraction(6, 10)}
    assert chosen(shown(tenths), 10, **segment) == "def"


def test_a_segment_may_start_between_two_frames():
    assert chosen(shown("0 1 2"), 1, start_seconds=Fraction(1, 2)) == "abc"


def test_a_segment_after_the_end_has_no_frame():
    assert chosen(shown("0 1"), 1, start_seconds=Fraction(7)) == ""


@pytest.mark.parametrize(("fps", "exact"), [(0.1, "1/10"), (29.97, "2997/100"), (10, "10")])
def test_a_rate_is_exactly_as_written(fps, exact):
    assert exact_rate(fps) == Fraction(exact)
