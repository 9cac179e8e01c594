"""Video files made by hand: every frame shows its number, any box of an mp4 can be rewritten."""

import io
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.video.reading import WHOLE_VIDEO, FrameReader, FrameSpec, Segment
from pipeline.video.source import Limits

LIMITS = Limits(max_seconds=600, max_pixels=40_000_000)

TICK = Fraction(1, 10)  # seconds
BITS = 5

# Options of the codec (H.264), and of made_video for HEVC.
NO_B_FRAMES = {"bf": "0"}
B_FRAMES = {"bf": "3", "x264-params": "b-adapt=0"}
HEVC = {"codec": "libx265", "options": {"x265-params": "bframes=3:b-adapt=0:log-level=none"}}

# (a, b, c, d) of a track's matrix: pixel (p, q) of the coded picture, q downwards, is shown at
# (a p + c q + x, b p + d q + y). A quarter turn clockwise takes (p, q) to (height - q, p), and
# so on. Source: ISO 14496-12, 6.2.2 and 8.3.2; the offsets x and y are left at 0.
_CLOCKWISE = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}

# Where the duration stands in the body of each header box, all of version 0.
_DURATION_AT = {"moov/mvhd": 16, "moov/trak/tkhd": 20, "moov/trak/mdia/mdhd": 16}


def code_picture(number: int, *, height: int = 32, width: int = 80) -> NDArray[np.uint8]:
    """Show a number from 0 to 31 in black and white blocks: uint8 [height, width, 3], RGB.

    The upper half holds its bits, the highest first, white for 1; the lower half their
    complement, so that a picture of anything else is noticed.
    """
    bits = np.array([number >> place & 1 for place in reversed(range(BITS))])
    rows = np.arange(height) * 2 // height
    columns = np.arange(width) * BITS // width
    grey = (np.stack([bits, 1 - bits])[np.ix_(rows, columns)] * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def code_in(picture: NDArray[np.uint8]) -> int:
    """Read the number that code_picture wrote, at the middle of every block."""
    height, width = picture.shape[:2]
    rows = ((np.arange(2) + 0.5) * height / 2).astype(int)
    columns = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    levels = picture[np.ix_(rows, columns)].mean(axis=2)
    upper, lower = levels > 127
    assert (abs(levels - 127.5) > 64).all(), f"expected black and white, received {levels}"
    assert (upper != lower).all(), f"expected bits above their complement, received {levels}"
    return int("".join("01"[bit] for bit in upper.astype(int)), 2)


def rgb_frame(picture: NDArray[np.uint8], pixel_format: str = "yuv420p") -> av.VideoFrame:
    """Make a frame of uint8 [H, W, 3], RGB."""
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return rgb.reformat(format=pixel_format)


def code_frames(count: int, pixel_format: str = "yuv420p", **size: int) -> list[av.VideoFrame]:
    """Make frames that show 0, 1, 2, ..."""
    return [rgb_frame(code_picture(number, **size), pixel_format) for number in range(count)]


def column_frame(
    columns: Sequence[tuple[int, int, int]], pixel_format: str = "yuv420p"
) -> av.VideoFrame:
    """Make a frame of columns, 16 x 32 pixels each, with these 8-bit values of Y, U and V."""
    frame = av.VideoFrame(16 * len(columns), 32, pixel_format)
    bits = frame.format.components[0].bits
    sample = np.dtype("<u2" if bits > 8 else "u1")
    for plane, levels in zip(frame.planes, np.array(columns).T << (bits - 8), strict=True):
        samples = np.zeros((plane.height, plane.line_size // sample.itemsize), sample)
        samples[:, : plane.width] = np.repeat(levels, plane.width // len(columns))
        plane.update(samples.tobytes())
    return frame


class _Pipe:
    """A file that can be written and not sought, so that no header is mended at the end."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, part: bytes) -> int:
        self.content += part
        return len(part)


def made_video(
    frames: Sequence[av.VideoFrame],
    *,
    ticks: Sequence[int] | None = None,
    last_ticks: int = 1,
    codec: str = "libx264",
    container: str = "mp4",
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    seekable: bool = True,
) -> bytes:
    """Return a file in which frame k is shown from ``ticks[k]`` tenths of a second on.

    Args:
        frames: all alike; size, pixel format, colour space and range are those of the first.
        ticks: 0, 1, 2, ... when not given.
        last_ticks: how long the last frame is shown.
        options: of the codec; ``muxing``: of the container.
    """
    shown = list(range(len(frames)) if ticks is None else ticks)
    lasting = dict(zip(shown, np.diff([*shown, shown[-1] + last_ticks]).tolist(), strict=True))
    target = io.BytesIO() if seekable else _Pipe()
    with av.open(target, "w", format=container, options=muxing or {}) as file:
        stream = file.add_stream(codec, rate=1 / TICK, options=options or {})
        first, context = frames[0], stream.codec_context
        stream.height, stream.width, stream.pix_fmt = first.height, first.width, first.format.name
        context.color_range, context.colorspace = first.color_range, first.colorspace
        context.time_base = TICK
        if pixel_aspect is not None:
            context.sample_aspect_ratio = pixel_aspect
        for tick, frame in zip(shown, frames, strict=True):
            frame.pts, frame.time_base = tick, TICK
        for frame_or_end in [*frames, None]:
            for packet in stream.encode(frame_or_end):
                packet.duration = lasting[packet.pts]
                file.mux(packet)
    return target.getvalue() if isinstance(target, io.BytesIO) else bytes(target.content)


def rewrite_box(content: bytes, path: str, change: Callable[[bytes], bytes]) -> bytes:
    """Replace the body of the first box at ``path`` ("moov/trak/tkhd") of an mp4.

    The boxes around it get their new sizes. The media data must come before the box if its
    size changes, as it does unless "faststart" was asked for.

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
    """Replace as many bytes as ``new`` has, from position ``at`` on."""
    return content[:at] + new + content[at + len(new) :]


def with_turn(mp4: bytes, degrees: int) -> bytes:
    """Have an mp4 shown turned clockwise by 90, 180 or 270 degrees."""
    a, b, c, d = _CLOCKWISE[degrees]
    one = 1 << 16  # 16.16 fixed point; the last column has 2.30
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    return rewrite_box(mp4, "moov/trak/tkhd", lambda body: overwrite(body, 40, matrix))


def with_edits(mp4: bytes, *edits: tuple[int, int]) -> bytes:
    """Give an mp4 another edit list: (duration, first media time; -1 for nothing shown).

    Both are in the file's own units: milliseconds, and ticks of ``video_track_timescale``.
    """
    entries = b"".join(struct.pack(">Iihh", *edit, 1, 0) for edit in edits)
    body = struct.pack(">II", 0, len(edits)) + entries
    return rewrite_box(mp4, "moov/trak/edts/elst", lambda _: body)


def with_duration(mp4: bytes, duration: int) -> bytes:
    """Have all three headers of an mp4 state ``duration``, whatever the frames say."""
    for path, at in _DURATION_AT.items():
        mp4 = rewrite_box(
            mp4, path, lambda body, at=at: overwrite(body, at, duration.to_bytes(4, "big"))
        )
    return mp4


def read_both_ways(
    content: bytes, spec: FrameSpec, *, segment: Segment = WHOLE_VIDEO
) -> NDArray[np.uint8]:
    """Read with and without skipping in the codec, which must give the same bits."""
    selective, sequential = (
        np.stack(list(FrameReader(content, spec, limits=LIMITS, segment=segment, selective=chosen)))
        for chosen in (True, False)
    )
    np.testing.assert_array_equal(selective, sequential)
    return selective


def numbers_in_file(content: bytes, fps: float, *, segment: Segment = WHOLE_VIDEO) -> list[int]:
    """List the numbers that the frames show at ``fps``."""
    frames = read_both_ways(content, FrameSpec(fps, 40, 16, "stretch"), segment=segment)
    return [code_in(frame) for frame in frames]


def check_numbers(content: bytes, *, at_10: list[int], at_4: list[int]) -> None:
    """Compare the numbers at 10 and at 4 fps with those that were worked out by hand."""
    assert numbers_in_file(content, 10) == at_10
    assert numbers_in_file(content, 4) == at_4
