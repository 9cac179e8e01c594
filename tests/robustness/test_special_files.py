"""A file that is not a video gives a reason; one that is only unusual gives its frames."""

import re
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from tests.robustness import claims
from tests.robustness.intact import DECODE, HEIGHT, WIDTH, intact_video, moving_noise
from tests.robustness.outcomes import Frames, decode_files, intact_frames, load_stored
from tests.robustness.special import write_special_files

BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss

NO_INDEX = "not a video that can be opened (moov atom not found)"
TOO_MANY_FRAMES = "the index claims 1000000000 frames, but the file has N bytes"
NO_FRAME = "the video stream holds no frame that can be decoded"

REASONS = {
    "an empty file": "the file is empty",
    "text": NO_INDEX,
    "noise": NO_INDEX,
    "zeros": NO_INDEX,
    "no index (moov)": NO_INDEX,
    "audio only": "no video stream (streams found: audio)",
    "encrypted": "encrypted",
    "encrypted, fragments": "encrypted",
    "initialisation segment only": NO_FRAME,
    "no frame": NO_FRAME,
    "claims 100,000 x 100,000 pixels, H.264": "damaged (mb_width/height overflow)",
    "claims 16,000 x 16,000 pixels, H.264": (
        "16000 x 16000 pixels are more than decode.max_pixels = 40000000"
    ),
    "claims 10^9 frames, sizes": TOO_MANY_FRAMES,
    "claims 10^9 frames of one byte": TOO_MANY_FRAMES,
    "claims 10^9 frames, avi stream": "truncated after 1.8 of 40000000.0 s",
    "claims 10^9 ticks, each frame": "longer than decode.max_seconds = 600",
    "a directory": "not a folder of numbered pictures (the folder has no picture)",
    "a FIFO": "not a regular file",
    "a link to a device": "not a regular file",
    "a dangling link": "cannot be read (No such file or directory)",
    "a link to itself": "cannot be read (Too many levels of symbolic links)",
}

# These give the frames of an intact file, whatever headers and names claim.
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
def results(tmp_path_factory) -> dict[str, tuple[str, Frames | None]]:
    """Return the reason and the frames of each special file."""
    folder = tmp_path_factory.mktemp("special")
    paths = write_special_files(folder)
    facts = decode_files(folder / "store", paths.values())
    return {
        kind: (facts[path].reason, load_stored(folder / "store", facts[path]))
        for kind, path in paths.items()
    }


def test_every_special_file_is_tested(results):
    assert set(results) == {*REASONS, *RIGHT, "one frame"}


@pytest.mark.parametrize("kind", REASONS)
def test_the_reason_names_the_fault(results, kind):
    reason, frames = results[kind]
    assert re.sub(r"has \d+ bytes", "has N bytes", reason) == REASONS[kind]
    assert frames is None


@pytest.mark.parametrize("kind", RIGHT)
def test_claims_and_names_change_no_frame(results, kind):
    reason, frames = results[kind]
    assert reason == ""
    np.testing.assert_array_equal(frames, intact_frames(RIGHT[kind]))


def test_a_video_of_one_frame(results):
    reason, frames = results["one frame"]
    assert reason == ""
    assert frames.shape == (1, HEIGHT, WIDTH, 3)
    differences = abs(moving_noise().astype(int) - frames[0]).mean(axis=(1, 2, 3))
    assert differences.argmin() == 0


@pytest.mark.long
def test_real_odd_files(real_videos, tmp_path):
    """Of these clips, which are known to break readers, five are quarantined."""
    paths = sorted((real_videos / "odd").rglob("*.*"))
    assert len(paths) == 40
    facts = decode_files(tmp_path, paths, DECODE.model_copy(update={"fps": 1.0}))
    assert {path.name: facts[path].reason for path in paths if facts[path].status != "ok"} == {
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
    """Return the peak memory of a worker that decodes an intact video."""
    folder = tmp_path_factory.mktemp("usual")
    return peak_megabytes(folder, intact_video("H.264 mp4"))


def peak_megabytes(folder: Path, *contents: bytes) -> int:
    paths = [folder / f"{number}.mp4" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    # A process knows only the largest of all its children, so each measurement has its own.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(decode_and_measure, folder / "store", paths).result()


def decode_and_measure(store: Path, paths: list[Path]) -> int:
    """Return the megabytes of the largest worker."""
    decode_files(store, paths)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * BYTES // 1_000_000


def test_claims_allocate_no_memory(tmp_path, usual_megabytes):
    contents = (
        claims.largest_mp4(),
        claims.wide_mkv(),
        claims.wide_avi(),
        claims.h264_that_claims(claims.WIDE, claims.WIDE),
        claims.frames_in_size_table(claims.HUGE),
        claims.frames_of_one_byte(claims.HUGE),
        claims.frames_in_time_table(),
        claims.avi_main_header(),
        claims.avi_stream_header(),
        claims.long_headers(),
        *claims.hidden_claims().values(),
    )
    assert peak_megabytes(tmp_path, *contents) < usual_megabytes + 300


def test_a_picture_over_the_limit_is_not_decoded_to_probe_it(tmp_path, usual_megabytes):
    content = claims.h264_that_claims(16_000, 16_000)
    assert peak_megabytes(tmp_path, content) < usual_megabytes + 300


def test_an_index_larger_than_its_file_allocates_no_memory(tmp_path, usual_megabytes):
    content = claims.frames_of_one_byte(claims.MANY)
    assert peak_megabytes(tmp_path, content) < usual_megabytes + 300
