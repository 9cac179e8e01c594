"""Damaged videos give right frames or a reason; see docs/decoding.md for how many."""

import io
import re
from dataclasses import replace
from itertools import chain

import av
import numpy as np
import pytest

from pipeline.base.files import read_csv
from pipeline.video.damage import complaint_about, complaints
from pipeline.video.ledger import Ledger, LedgerRow
from tests.robustness.damaged import FLIPS, FUZZED, SWAPS, cuts, flips_and_swaps
from tests.robustness.outcomes import Outcome, decode_cases, table
from tests.robustness.sound import FRAMES, HEIGHT, KINDS, LIMITS, SPEC, WIDTH

KEEP = replace(SPEC, on_damage="keep")

# What may be wrong with a file whose end is missing.
CUT_REASON = re.compile(
    r"truncated after \d+\.\d( of \d+\.\d)? s"
    r"|damaged after \d+\.\d s \(.+\)"
    r"|not a video that can be opened \(.+\)"
    r"|the video stream holds no frame that can be decoded"
    r"|no video stream \(streams found: .+\)"
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[Outcome]:
    """All damaged files, after they went through the store as in the decode stage."""
    return decode_cases(tmp_path_factory.mktemp("damaged"), chain(cuts(), flips_and_swaps()))


@pytest.fixture(scope="module")
def cut(outcomes) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.case.damage == "cut short"]


def listed(outcomes) -> list[str]:
    """Name outcomes, for the message of a test that fails."""
    return [f"{each.case.file_name}: {each.word} {each.stored.reason}" for each in outcomes]


def test_a_thousand_flips_and_swaps_and_twenty_cuts_of_each_kind(outcomes, cut):
    assert len(outcomes) - len(cut) == len(FUZZED) * (FLIPS + SWAPS) == 1000
    assert len(cut) == 20 * len(KINDS)
    assert len({outcome.case.content for outcome in outcomes}) == len(outcomes)


def test_every_file_gives_whole_frames_or_a_reason(outcomes):
    for outcome in outcomes:
        if outcome.frames is None:
            assert outcome.stored.reason, outcome.case.file_name
        else:
            assert not outcome.stored.reason
            assert outcome.frames.dtype == np.uint8
            assert outcome.frames.shape == (outcome.stored.frames, HEIGHT, WIDTH, 3)


def test_no_file_kills_or_blocks_a_worker(outcomes):
    assert not listed(each for each in outcomes if "decoding failed" in each.stored.reason)


def test_no_damage_makes_a_video_much_longer(outcomes):
    """Headers may lie, but what is shown is what was decoded."""
    longer = [each for each in outcomes if each.stored.frames > 2 * FRAMES]
    assert not listed(longer)


@pytest.mark.parametrize("kind", FUZZED)
def test_some_flips_and_swaps_are_noticed(outcomes, kind):
    of_kind = [each for each in outcomes if each.case.kind == kind]
    for damage in ("bit flipped", "blocks swapped"):
        assert "quarantined" in {each.word for each in of_kind if each.case.damage == damage}


def test_damage_is_noticed_of_which_ffmpeg_complains_when_it_opens_the_file(outcomes):
    unnoticed = [outcome for outcome in outcomes if outcome.word == "unnoticed"]
    assert len(unnoticed) > 100
    assert not listed(each for each in unnoticed if complaint_at_opening(each.case.content))


def complaint_at_opening(content: bytes) -> str:
    with complaints() as heard:
        container = av.open(io.BytesIO(content))
    with container:
        return complaint_about(heard, container, container.streams.video[0])


def test_a_cut_is_never_unnoticed(cut):
    assert not listed(outcome for outcome in cut if outcome.word == "unnoticed")


def test_a_cut_shortens_no_video_whose_container_says_how_long_it_is(cut):
    """What may be missing without a loss is an index at the end."""
    shorter = [outcome for outcome in cut if outcome.word == "right, shorter"]
    assert not listed(outcome for outcome in shorter if KINDS[outcome.case.kind].has_length)


def test_a_cut_is_said_to_be_one(cut):
    refused = [outcome for outcome in cut if outcome.frames is None]
    assert len(refused) > 150
    assert not listed(each for each in refused if not CUT_REASON.match(each.stored.reason))


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> list[Outcome]:
    """The files that were cut short, with what comes before the cut kept."""
    return decode_cases(tmp_path_factory.mktemp("kept"), cuts(), KEEP)


def test_what_is_kept_of_a_cut_file_is_right(kept):
    assert not listed(outcome for outcome in kept if outcome.word == "unnoticed")
    shorter = [outcome for outcome in kept if outcome.word == "right, shorter"]
    assert {outcome.case.kind for outcome in shorter} == set(KINDS) - {"H.264 mp4"}  # no index


def test_a_cut_file_of_which_nothing_is_kept_gives_the_same_reason_as_a_quarantined_one(cut, kept):
    reasons = {outcome.case.file_name: outcome.stored.reason for outcome in cut}
    refused = {each.case.file_name: each.stored.reason for each in kept if each.frames is None}
    assert len(refused) > 20
    assert refused == {name: reasons[name] for name in refused}


def test_the_ledger_says_what_a_cut_file_claims_and_what_was_got(kept, tmp_path):
    (half,) = (
        outcome
        for outcome in kept
        if outcome.case.file_name == "H.264 mp4, index first, cut short 009.mp4"
    )
    Ledger([LedgerRow("half.mp4", half.stored)], KEEP, LIMITS).write(tmp_path)
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
