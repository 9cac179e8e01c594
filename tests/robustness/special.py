"""Files that are not videos, hold no frame, claim too much, or have an unusual name."""

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from tests.robustness import claims
from tests.robustness.intact import KINDS, encode, intact_video, moving_noise

# Common encryption, as streaming services use it. Source: ISO/IEC 23001-7.
_ENCRYPTED = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00" * 16,
    "encryption_kid": "11" * 16,
}

_LONGEST_NAME_BYTES = 255


def write_special_files(folder: Path) -> dict[str, Path]:
    """Write one file of each kind and return the paths by kind."""
    written = {}
    for number, (kind, content) in enumerate(_CONTENTS.items()):
        written[kind] = folder / f"{number}.mp4"
        written[kind].write_bytes(content())
    written |= _not_regular(folder)
    for kind, name in _NAMES.items():
        written[kind] = folder / name
        written[kind].write_bytes(intact_video("H.264 mp4"))
    return written


def _not_regular(folder: Path) -> dict[str, Path]:
    (folder / "directory.mp4").mkdir()
    os.mkfifo(folder / "fifo.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "circle.mp4").symlink_to(folder / "circle.mp4")
    return {
        "a directory": folder / "directory.mp4",
        "a FIFO": folder / "fifo.mp4",
        "a link to a device": folder / "device.mp4",
        "a dangling link": folder / "dangling.mp4",
        "a link to itself": folder / "circle.mp4",
    }


def _no_index() -> bytes:
    mp4 = intact_video("H.264 mp4")
    return mp4[: mp4.rindex(b"moov") - 4]


def _initialisation_segment() -> bytes:
    mp4 = intact_video("H.264 mp4, fragments")
    return mp4[: mp4.index(b"moof") - 4]


def _encrypted(movflags: str) -> bytes:
    muxing = {**_ENCRYPTED, "movflags": movflags}
    return encode(moving_noise(), replace(KINDS["H.264 mp4"], muxing=muxing))


def _audio_only() -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        file.mux(stream.encode(silence))
        file.mux(stream.encode(None))
    return content.getvalue()


_CONTENTS: dict[str, Callable[[], bytes]] = {
    "an empty file": bytes,
    "text": lambda: b"These are not the frames you are looking for.\n" * 99,
    "noise": lambda: np.random.default_rng(0).bytes(50_000),
    "zeros": lambda: bytes(50_000),
    "no index (moov)": _no_index,
    "audio only": _audio_only,
    "encrypted": lambda: _encrypted("faststart"),
    "encrypted, fragments": lambda: _encrypted("frag_keyframe+empty_moov+default_base_moof"),
    "initialisation segment only": _initialisation_segment,
    "no frame": lambda: encode([], KINDS["MPEG-4 avi"]),
    "one frame": lambda: encode(moving_noise()[:1], KINDS["H.264 mp4"]),
    "claims 65,535 x 65,535 pixels, mp4": claims.largest_mp4,
    "claims 100,000 x 100,000 pixels, mkv": claims.wide_mkv,
    "claims 100,000 x 100,000 pixels, avi": claims.wide_avi,
    "claims 100,000 x 100,000 pixels, H.264": lambda: claims.h264_that_claims(
        claims.WIDE, claims.WIDE
    ),
    "claims 16,000 x 16,000 pixels, H.264": lambda: claims.h264_that_claims(16_000, 16_000),
    "claims 10^9 frames, sizes": lambda: claims.frames_in_size_table(claims.HUGE),
    "claims 10^9 frames of one byte": lambda: claims.frames_of_one_byte(claims.HUGE),
    "claims 10^9 frames, times": claims.frames_in_time_table,
    "claims 10^9 frames, avi": claims.avi_main_header,
    "claims 10^9 frames, avi stream": claims.avi_stream_header,
    "claims 10^9 ticks, each frame": claims.long_frames,
    "claims 2^32 - 1 ticks": claims.long_headers,
}

_SUFFIX = ".mp4"
_NAMES = {
    "a name with spaces": "  a name .mp4",
    "a name with quotes": 'it\'s "quoted" `so`.mp4',
    "a name with percent signs": "100%d%s%20.mp4",
    "a name with a newline": "two\nlines.mp4",
    "a name of 255 bytes": "n" * (_LONGEST_NAME_BYTES - len(_SUFFIX)) + _SUFFIX,
    "a name that is not UTF-8": os.fsdecode(b"\xff\xfe.mp4"),
}
