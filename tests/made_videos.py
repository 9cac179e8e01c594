"""Small video files whose frames show their numbers, and changes to the boxes of an mp4."""

import io
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.video.opening import VideoError
from pipeline.video.reading import WHOLE_VIDEO, FrameReader, Segment
from pipeline.video.settings import DecodeSection

TICK = Fraction(1, 10)  # seconds
BITS = 5

# Options of the codec (H.264), and arguments of ``encode_frames`` for HEVC.
NO_B_FRAMES = {"bf": "0"}
B_FRAMES = {"bf": "3", "x264-params": "b-adapt=0"}
HEVC = {"codec": "libx265", "options": {"x265-params": "bframes=3:b-adapt=0:log-level=none"}}

# (a, b, c, d) of a track's matrix: pixel (p, q) of the coded picture, q downwards, is shown at
# (a p + c q + x, b p + d q + y). A quarter turn clockwise takes (p, q) to (height - q, p), and
# so on. Source: ISO 14496-12, 6.2.2 and 8.3.2; the offsets x and y are left at 0.
_CLOCKWISE = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}

# Offset of the duration in the body of each header box, all of version 0.
_DURATION_OFFSET = {"moov/mvhd": 16, "moov/trak/tkhd": 20, "moov/trak/mdia/mdhd": 16}


def code_picture(number: int, *, height: int = 32, width: int = 80) -> NDArray[np.uint8]:
    """Draw a number from 0 to 31 as black and white blocks: uint8 [height, width, 3], RGB.

    The upper half holds its bits, the highest first, white for 1. The lower half holds their
    complement, so that any other picture is recognised.
    """
    bits = np.array([number >> place & 1 for place in reversed(range(BITS))])
    rows = np.arange(height) * 2 // height
    columns = np.arange(width) * BITS // width
    grey = (np.stack([bits, 1 - bits])[np.ix_(rows, columns)] * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def read_code(picture: NDArray[np.uint8]) -> int:
    """Read the number that ``code_picture`` drew, from the middle of every block."""
    height, width = picture.shape[:2]
    rows = ((np.arange(2) + 0.5) * height / 2).astype(int)
    columns = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    levels = picture[np.ix_(rows, columns)].mean(axis=2)
    upper, lower = levels > 127
    assert (abs(levels - 127.5) > 64).all(), f"expected black and white. Received: {levels}"
    assert (upper != lower).all(), f"expected bits above their complement. Received: {levels}"
    return int("".join("01"[bit] for bit in upper.astype(int)), 2)


def rgb_frame(picture: NDArray[np.uint8], pixel_format: str = "yuv420p") -> av.VideoFrame:
    """Convert uint8 [H, W, 3], RGB, to a frame."""
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return rgb.reformat(format=pixel_format)


def code_frames(count: int, pixel_format: str = "yuv420p", **size: int) -> list[av.VideoFrame]:
    """Return frames that show 0, 1, 2, ..."""
    return [rgb_frame(code_picture(number, **size), pixel_format) for number in range(count)]


def column_frame(
    columns: Sequence[tuple[int, int, int]], pixel_format: str = "yuv420p"
) -> av.VideoFrame:
    """Return a frame of columns, 16 x 32 pixels each, with these 8-bit values of Y, U and V."""
    frame = av.VideoFrame(16 * len(columns), 32, pixel_format)
    bits = frame.format.components[0].bits
    sample = np.dtype("<u2" if bits > 8 else "u1")
    for plane, levels in zip(frame.planes, np.array(columns).T << (bits - 8), strict=True):
        samples = np.zeros((plane.height, plane.line_size // sample.itemsize), sample)
        samples[:, : plane.width] = np.repeat(levels, plane.width // len(columns))
        plane.update(samples.tobytes())
    return frame


class _Pipe:
    """A file that cannot seek, so that the muxer cannot complete the header at the end."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, part: bytes) -> int:
        self.content += part
        return len(part)


def encode_frames(
    frames: Sequence[av.VideoFrame],
    *,
    ticks: Sequence[int] | None = None,
    last_ticks: int = 1,
    tick: Fraction = TICK,
    codec: str = "libx264",
    container: str = "mp4",
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    seekable: bool = True,
) -> bytes:
    """Return a video file in which frame k is shown from ``ticks[k]`` ticks on.

    Args:
        frames: size, pixel format, colour space and range are those of the first one.
        ticks: 0, 1, 2, ... by default.
        last_ticks: duration of the last frame.
        tick: in seconds.
        options: of the codec.
        muxing: options of the container.
    """
    shown = list(range(len(frames)) if ticks is None else ticks)
    durations = dict(zip(shown, np.diff([*shown, shown[-1] + last_ticks]).tolist(), strict=True))
    target = io.BytesIO() if seekable else _Pipe()
    with av.open(target, "w", format=container, options=muxing or {}) as file:
        stream = file.add_stream(codec, rate=1 / tick, options=options or {})
        first, context = frames[0], stream.codec_context
        stream.height, stream.width, stream.pix_fmt = first.height, first.width, first.format.name
        context.color_range, context.colorspace = first.color_range, first.colorspace
        context.time_base = tick
        if pixel_aspect is not None:
            context.sample_aspect_ratio = pixel_aspect
        for pts, frame in zip(shown, frames, strict=True):
            frame.pts, frame.time_base = pts, tick
        for frame_or_end in [*frames, None]:
            for packet in stream.encode(frame_or_end):
                packet.duration = durations[packet.pts]
                file.mux(packet)
    return target.getvalue() if isinstance(target, io.BytesIO) else bytes(target.content)


def with_packed_b_frames(avi: bytes, *, container: str = "avi", as_in_avi: bool = False) -> bytes:
    """Pack the first B-frame of each group of MPEG-4 with its reference, as DivX 5 did.

    A packet then holds a P-frame and the B-frame that is shown before it. An empty frame (N-VOP)
    follows after the other B-frames, so that there is one packet for each frame.

    Args:
        as_in_avi: in Matroska, keep the codec's tag of the AVI file, as tools on Windows do.
    """
    target = io.BytesIO()
    with av.open(io.BytesIO(avi)) as source, av.open(target, "w", format=container) as file:
        [video] = source.streams.video
        frames = [bytes(packet) for packet in source.demux(video) if packet.size]
        stream = file.add_stream_from_template(video)
        if as_in_avi:
            headers = video.codec_context.extradata or b""
            size = 40 + len(headers)
            bitmap = struct.pack("<IiiHH4s", size, video.width, video.height, 1, 24, b"XVID")
            stream.codec_context.extradata = bitmap.ljust(40, b"\0") + headers
        for number, content in enumerate(_packed(frames)):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, 1 / video.average_rate
            packet.pts = packet.dts = number
            packet.is_keyframe = _mpeg4_type(content) == _I_FRAME
            file.mux(packet)
    content = target.getvalue()
    return content.replace(b"V_MPEG4/ISO/ASP", b"V_MS/VFW/FOURCC") if as_in_avi else content


# Source: ISO 14496-2, 6.2.5 and 6.3.5.
_VOP = b"\0\0\1\xb6"  # the start code of a frame; two bits for its type follow
_I_FRAME, _B_FRAME = 0, 2
_EMPTY_FRAME = _VOP + b"\x51\x5f"  # a P-frame that is not coded
_DIVX_PACKED = b"\0\0\1\xb2DivX503b1393p"  # user data; "p" for packed


def _mpeg4_type(content: bytes) -> int:
    return content[content.index(_VOP) + 4] >> 6


def _packed(frames: Sequence[bytes]) -> list[bytes]:
    packets: list[bytes] = []
    references = [
        number for number, content in enumerate(frames) if _mpeg4_type(content) != _B_FRAME
    ]
    for start, end in zip(references, [*references[1:], len(frames)], strict=True):
        packets += [b"".join(frames[start : min(start + 2, end)]), *frames[start + 2 : end]]
        packets += [_EMPTY_FRAME] if end > start + 1 else []
    return [packets[0].replace(_VOP, _DIVX_PACKED + _VOP, 1), *packets[1:]]


def rewrite_box(content: bytes, path: str, change: Callable[[bytes], bytes]) -> bytes:
    """Replace the body of the first box at ``path`` ("moov/trak/tkhd") of an mp4.

    The boxes around it get their new sizes. If the size changes, the media data must come before
    the box, as it does without "faststart".

    Raises:
        KeyError: there is no such box.
    """
    kind, _, inner = path.partition("/")
    start = 0
    while start < len(content):
        size = int.from_bytes(content[start : start + 4], "big")
        if content[start + 4 : start + 8] == kind.encode():
            body = content[start + 8 : start + size]
            body = rewrite_box(body, inner, change) if inner else change(body)
            header = struct.pack(">I4s", 8 + len(body), kind.encode())
            return content[:start] + header + body + content[start + size :]
        start += size
    raise KeyError(path)


def overwrite(content: bytes, at: int, new: bytes) -> bytes:
    """Replace ``len(new)`` bytes from position ``at`` on."""
    return content[:at] + new + content[at + len(new) :]


def with_rotation(mp4: bytes, degrees: int) -> bytes:
    """Let an mp4 be shown rotated clockwise by 90, 180 or 270 degrees."""
    a, b, c, d = _CLOCKWISE[degrees]
    one = 1 << 16  # 16.16 fixed point; the last column has 2.30
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    return rewrite_box(mp4, "moov/trak/tkhd", lambda body: overwrite(body, 40, matrix))


def with_edits(mp4: bytes, *edits: tuple[int, int]) -> bytes:
    """Replace the edit list of an mp4: (duration, first media time; -1 for nothing shown).

    The duration is in milliseconds, the media time in ticks of ``video_track_timescale``.
    """
    entries = b"".join(struct.pack(">Iihh", *edit, 1, 0) for edit in edits)
    body = struct.pack(">II", 0, len(edits)) + entries
    return rewrite_box(mp4, "moov/trak/edts/elst", lambda _: body)


def with_duration(mp4: bytes, duration: int) -> bytes:
    """Write ``duration`` to all three headers of an mp4, in disagreement with its frames."""
    for path, at in _DURATION_OFFSET.items():
        mp4 = rewrite_box(
            mp4, path, lambda body, at=at: overwrite(body, at, duration.to_bytes(4, "big"))
        )
    return mp4


def read_both_ways(
    content: bytes, decode: DecodeSection, *, segment: Segment = WHOLE_VIDEO
) -> NDArray[np.uint8]:
    """Read with and without skipping frames in the codec, and require the same bits."""
    selective, sequential = (
        np.stack(list(FrameReader(content, decode, segment=segment, selective=is_selective)))
        for is_selective in (True, False)
    )
    np.testing.assert_array_equal(selective, sequential)
    return selective


def check_both_ways(path: Path, fps: float, *, segment: Segment = WHOLE_VIDEO) -> None:
    """Require the same frames, or the same reason, with and without skipping frames."""
    decode = DecodeSection(fps=fps, width=32, height=32, max_pixels=40_000_000)
    results: list[NDArray[np.uint8] | str] = []
    for is_selective in (True, False):
        reader = FrameReader(path, decode, segment=segment, selective=is_selective)
        try:
            results.append(np.stack(list(reader)))
        except VideoError as error:
            results.append(error.reason)
    np.testing.assert_array_equal(*results, err_msg=f"{path.name} at {fps} fps")


def read_numbers(content: bytes, fps: float, *, segment: Segment = WHOLE_VIDEO) -> list[int]:
    """Return the numbers that the frames show at ``fps``."""
    decode = DecodeSection(fps=fps, width=40, height=16, fit="stretch")
    return [read_code(frame) for frame in read_both_ways(content, decode, segment=segment)]


def check_numbers(content: bytes, *, at_10: list[int], at_4: list[int]) -> None:
    """Compare the numbers at 10 and at 4 fps with the expected ones."""
    assert read_numbers(content, 10) == at_10
    assert read_numbers(content, 4) == at_4
