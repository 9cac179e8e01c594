"""What is no video says so in its own words; what only looks odd gives its frames."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.video.ledger import LedgerRow
from tests.robustness import claims
from tests.robustness.outcomes import Frames, decode_files, load_stored, sound_frames
from tests.robustness.sound import HEIGHT, SPEC, WIDTH, moving_noise, sound_video
from tests.robustness.special import write_special_files

REPOSITORY = Path(__file__).parents[2]

NO_INDEX = "not a video that can be opened (moov atom not found)"
NO_FRAME = "the video stream holds no frame that can be decoded"

REASONS = {
    "an empty file": "the file is empty",
    "text": NO_INDEX,
    "noise": NO_INDEX,
    "zeros": NO_INDEX,
    "no index (moov)": NO_INDEX,
    "sound only": "no video stream (streams found: audio)",
    "encrypted": "encrypted",
    "encrypted, fragments": "encrypted",
    "initialisation segment only": NO_FRAME,
    "no frame": NO_FRAME,
    "claims 100,000 x 100,000 pixels, H.264": "damaged (mb_width/height overflow)",
    "claims 16,000 x 16,000 pixels, H.264": (
        "16000 x 16000 pixels are more than decode.max_pixels = 40000000"
    ),
    "claims 10^9 frames, sizes": "its index claims 1000000000 frames, its size is N bytes",
    "claims 10^9 frames of one byte": "its index claims 1000000000 frames, its size is N bytes",
    "claims 10^9 frames, avi stream": "truncated after 1.8 of 40000000.0 s",
    "claims 10^9 ticks, each frame": "longer than decode.max_seconds = 600",
    "a directory": "not a regular file",
    "a FIFO": "not a regular file",
    "a link to a device": "not a regular file",
    "a dangling link": "cannot be read (No such file or directory)",
    "a link to itself": "cannot be read (Too many levels of symbolic links)",
}

# The frames of these kinds come out, whatever the headers claim and whatever the name is.
RIGHT = {
    "claims 65,535 x 65,535 pixels, mp4": "H.264 mp4",
    "claims 100,000 x 100,000 pixels, mkv": "H.264 mp4",
    "claims 100,000 x 100,000 pixels, avi": "MPEG-4 avi",
    "claims 10^9 frames, times": "H.264 mp4",
    "claims 10^9 frames, avi": "MPEG-4 avi",
    "claims 2^32 - 1 ticks": "H.264 mp4",
    "a name with spaces": "H.264 mp4",
    "a name with quotes": "H.264 mp4",
    "a name with percent signs": "H.264 mp4",
    "a name with a newline": "H.264 mp4",
    "a name of 255 bytes": "H.264 mp4",
    "a name that is not UTF-8": "H.264 mp4",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, tuple[str, Frames | None]]:
    """The reason and the frames of each special file, by what it is."""
    folder = tmp_path_factory.mktemp("special")
    paths = write_special_files(folder)
    stored = decode_files(folder / "store", paths.values())
    return {
        what: (stored[path].reason, load_stored(folder / "store", stored[path]))
        for what, path in paths.items()
    }


def test_every_special_file_is_tested(found):
    assert set(found) == {*REASONS, *RIGHT, "one frame"}


@pytest.mark.parametrize("what", REASONS)
def test_the_reason_says_what_was_wrong(found, what):
    reason, frames = found[what]
    assert re.sub(r"size is \d+ bytes", "size is N bytes", reason) == REASONS[what]
    assert frames is None


@pytest.mark.parametrize("what", RIGHT)
def test_claims_and_names_change_no_frame(found, what):
    reason, frames = found[what]
    assert reason == ""
    np.testing.assert_array_equal(frames, sound_frames(RIGHT[what]))


def test_a_video_of_one_frame(found):
    reason, frames = found["one frame"]
    assert reason == ""
    assert frames.shape == (1, HEIGHT, WIDTH, 3)
    differences = abs(moving_noise().astype(int) - frames[0]).mean(axis=(1, 2, 3))
    assert differences.argmin() == 0


def test_real_odd_files(real_videos, tmp_path):
    """Of the clips that are known to break readers, these five cannot be used; none is fatal."""
    paths = sorted((real_videos / "odd").rglob("*.*"))
    assert len(paths) == 40
    stored = decode_files(tmp_path, paths, replace(SPEC, fps=1))
    rows = [LedgerRow(path.name, stored[path]) for path in paths]
    assert {row.name: row.stored.reason for row in rows if row.status != "ok"} == {
        "bbb_1ch_48kHz_q10_opus.webm": "no video stream (streams found: audio)",
        "bbb_mono_16kHz_23.05kbps_amrwb.3gp": "no video stream (streams found: audio)",
        "dash_segment_init.mp4": NO_FRAME,
        "sample_fragmented_clearkey.mp4": (
            "encrypted (hit EOF while reading sub-sample encryption info; error reading header)"
        ),
        "subsample_encrypted_altref.webm": "encrypted",
    }


@pytest.fixture(scope="module")
def usual_megabytes(tmp_path_factory) -> int:
    """What a worker takes that decodes a video without a fault."""
    folder = tmp_path_factory.mktemp("usual")
    return peak_megabytes(folder, sound_video("H.264 mp4"))


def peak_megabytes(folder: Path, *contents: bytes) -> int:
    paths = [folder / f"{number}.mp4" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    command = [sys.executable, "-m", "tests.robustness.peak_memory", str(folder / "store")]
    done = subprocess.run(
        [*command, *map(str, paths)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_claims_take_no_memory(tmp_path, usual_megabytes):
    contents = (
        claims.largest_mp4(),
        claims.wide_mkv(),
        claims.wide_avi(),
        claims.h264_that_says(claims.WIDE, claims.WIDE),
        claims.frames_in_size_table(claims.HUGE),
        claims.frames_of_one_byte(claims.HUGE),
        claims.frames_in_time_table(),
        claims.avi_main_header(),
        claims.avi_stream_header(),
        claims.long_headers(),
    )
    assert peak_megabytes(tmp_path, *contents) < usual_megabytes + 300


def test_a_picture_over_the_limit_is_not_decoded_to_look_at_it(tmp_path, usual_megabytes):
    content = claims.h264_that_says(16_000, 16_000)
    assert peak_megabytes(tmp_path, content) < usual_megabytes + 300


def test_an_index_that_is_larger_than_its_file_takes_no_memory(tmp_path, usual_megabytes):
    content = claims.frames_of_one_byte(claims.MANY)
    assert peak_megabytes(tmp_path, content) < usual_megabytes + 300
