"""Damaged videos give right frames or a reason; docs/decoding.md counts how many.

The tests use a sample of the damaged files by default, and all 1,200 with ``-m long``.
"""

import io
import re
from itertools import chain

import av
import numpy as np
import pytest

from pipeline.common.files import read_csv
from pipeline.common.records import VideoRecord, write_decode_index
from pipeline.video.ffmpeg_errors import capture_errors, relevant_error
from tests.robustness.damaged import FLIPS, FUZZED, SWAPS, Case, cuts, flips_and_swaps
from tests.robustness.intact import DECODE, FRAMES, HEIGHT, KINDS, WIDTH
from tests.robustness.outcomes import Outcome, decode_cases, table

KEEP = DECODE.model_copy(update={"on_damage": "keep"})

SAMPLE_OF_CUTS = (4, 9, 19)  # after 25 % and 50 % of the bytes, and before the last byte
SAMPLE_OF_OTHERS = range(5)

# Possible reasons for a file without an end.
CUT_REASON = re.compile(
    r"truncated after \d+\.\d( of \d+\.\d)? s"
    r"|damaged after \d+\.\d s \(.+\)"
    r"|not a video that can be opened \(.+\)"
    r"|the video stream holds no frame that can be decoded"
    r"|no video stream \(streams found: .+\)"
)


@pytest.fixture(scope="module", params=["sample", pytest.param("all", marks=pytest.mark.long)])
def cases(request) -> list[Case]:
    every_case = list(chain(cuts(), flips_and_swaps()))
    if request.param == "all":
        return every_case
    numbers = {"cut short": SAMPLE_OF_CUTS}
    return [
        case for case in every_case if case.number in numbers.get(case.damage, SAMPLE_OF_OTHERS)
    ]


@pytest.fixture(scope="module")
def outcomes(cases, tmp_path_factory) -> list[Outcome]:
    """The damaged files, decoded as by the decode stage."""
    return decode_cases(tmp_path_factory.mktemp("damaged"), cases)


@pytest.fixture(scope="module")
def kept(cases, tmp_path_factory) -> list[Outcome]:
    """The truncated files, decoded up to the damage."""
    truncated = [case for case in cases if case.damage == "cut short"]
    return decode_cases(tmp_path_factory.mktemp("kept"), truncated, KEEP)


def cut_short(outcomes) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.case.damage == "cut short"]


def names(outcomes) -> list[str]:
    """Name outcomes, for the message of a test that fails."""
    return [f"{each.case.file_name}: {each.result} {each.facts.reason}" for each in outcomes]


def test_there_are_1000_flips_and_swaps_and_20_cuts_of_each_kind():
    others, truncated = list(flips_and_swaps()), list(cuts())
    assert len(others) == len(FUZZED) * (FLIPS + SWAPS) == 1000
    assert len(truncated) == 20 * len(KINDS) == 200
    assert len({case.content for case in others + truncated}) == 1200


def test_every_file_gives_whole_frames_or_a_reason(outcomes):
    for outcome in outcomes:
        if outcome.frames is None:
            assert outcome.facts.reason, outcome.case.file_name
        else:
            assert not outcome.facts.reason
            assert outcome.frames.dtype == np.uint8
            assert outcome.frames.shape == (outcome.facts.frames, HEIGHT, WIDTH, 3)


def test_no_file_kills_or_blocks_a_worker(outcomes):
    assert not names(each for each in outcomes if "decoding failed" in each.facts.reason)


def test_no_damage_makes_a_video_much_longer(outcomes):
    """The number of frames depends on what is decoded, not on headers."""
    assert not names(each for each in outcomes if each.facts.frames > 2 * FRAMES)


@pytest.mark.parametrize("cases", [pytest.param("all", marks=pytest.mark.long)], indirect=True)
def test_some_flips_and_some_swaps_of_every_kind_are_noticed(outcomes):
    quarantined = {
        (each.case.kind, each.case.damage) for each in outcomes if each.result == "quarantined"
    }
    for damage in ("bit flipped", "blocks swapped"):
        assert quarantined >= {(kind, damage) for kind in FUZZED}


def test_damage_that_ffmpeg_reports_on_opening_is_noticed(outcomes):
    unnoticed = [outcome for outcome in outcomes if outcome.result == "unnoticed"]
    assert len(unnoticed) > len(outcomes) / 12
    assert not names(each for each in unnoticed if error_on_opening(each.case.content))


def error_on_opening(content: bytes) -> str:
    with capture_errors() as errors:
        container = av.open(io.BytesIO(content))
    with container:
        return relevant_error(errors, container, container.streams.video[0])


def test_truncation_is_always_noticed(outcomes):
    assert not names(each for each in cut_short(outcomes) if each.result == "unnoticed")


def test_truncation_shortens_no_video_whose_container_holds_its_length(outcomes):
    """A truncated file gives all frames only if an index at the end is missing."""
    shorter = [each for each in cut_short(outcomes) if each.result == "right, shorter"]
    assert not names(each for each in shorter if KINDS[each.case.kind].has_length)


def test_the_reason_describes_the_truncation(outcomes):
    quarantined = [each for each in cut_short(outcomes) if each.frames is None]
    assert len(quarantined) > 0.7 * len(cut_short(outcomes))
    assert not names(each for each in quarantined if not CUT_REASON.match(each.facts.reason))


def test_frames_kept_of_a_truncated_file_are_right(kept):
    assert not names(outcome for outcome in kept if outcome.result == "unnoticed")
    shorter = {outcome.case.kind for outcome in kept if outcome.result == "right, shorter"}
    assert shorter == set(KINDS) - {"H.264 mp4"}  # its index is at the end


def test_a_truncated_file_without_kept_frames_has_the_reason_of_a_quarantined_one(outcomes, kept):
    reasons = {outcome.case.file_name: outcome.facts.reason for outcome in outcomes}
    empty = {each.case.file_name: each.facts.reason for each in kept if each.frames is None}
    assert len(empty) >= len(kept) / 10
    assert empty == {name: reasons[name] for name in empty}


def test_the_decode_index_holds_what_a_truncated_file_claims_and_gives(kept, tmp_path):
    (half,) = (
        outcome
        for outcome in kept
        if outcome.case.file_name == "H.264 mp4, index first, cut short 009.mp4"
    )
    record = VideoRecord(video="half.mp4", target="", facts=half.facts)
    write_decode_index(tmp_path / "index.csv", [record])
    (row,) = read_csv(tmp_path / "index.csv")
    assert row["status"] == "damaged"
    assert re.match(r"truncated after 0\.\d of 1\.8 s", row["reason"])
    assert (row["claimed_seconds"], row["claimed_frames"]) == ("1.8", "45")
    assert half.frames is not None
    assert 5 < len(half.frames) < 40
    assert row["frames"] == row["source_frames"] == str(len(half.frames))
    assert float(row["source_seconds"]) == pytest.approx(len(half.frames) / 25, abs=1e-3)


def test_the_table_counts_every_file(outcomes):
    header, _, *rows = table(outcomes)
    assert header.startswith("| file | damage | files | right | right, shorter | quarantined |")
    numbers = [[int(cell) for cell in row.split("|")[3:-1]] for row in rows]
    assert len(rows) == len(KINDS) + 2 * len(FUZZED)
    assert all(total == sum(counts) for total, *counts in numbers)
    assert sum(total for total, *_ in numbers) == len(outcomes)
