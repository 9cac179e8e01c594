"""Write H.264 video files: for the demo data set, the model's input example and tests."""

import io
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

# Rounding that does not depend on the processor's vector instructions.
_EXACT_ROUNDING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT

# By default, x264 chooses algorithms by processor, and its macroblock tree reads uninitialised
# memory, so the bytes differ between machines and sometimes between runs.
_REPRODUCIBLE = "mbtree=0:cpu-independent=1"


def encode_mp4(
    frames: NDArray[np.uint8], *, fps: float, crf: int = 20, keyframe_every: int = 12
) -> bytes:
    """Encode ``frames`` as an mp4 file: H.264 with B-frames, yuv420p, constant rate.

    The same frames give the same bytes in every run and on every processor: one thread,
    keyframes at fixed places, no date and no muxer version in the file.

    Args:
        frames: uint8 [N, H, W, 3], RGB, N >= 1, H and W even.
        fps: frames per second; each frame, including the last one, lasts 1 / fps seconds.
        crf: constant rate factor of x264, from 0 (best) to 51 (smallest).
        keyframe_every: interval of keyframes, in frames.

    Raises:
        ValueError: ``frames`` or ``fps`` is not as described.
    """
    _check(frames, fps)
    options = {
        "crf": str(crf),
        "g": str(keyframe_every),
        "sc_threshold": "0",  # no keyframes that x264 chooses itself
        "threads": "1",
        "x264-params": _REPRODUCIBLE,
        "flags": "+bitexact",
    }
    mp4 = io.BytesIO()
    to_yuv = VideoReformatter()
    with av.open(mp4, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        rate = Fraction(fps).limit_denominator(1001)  # 29.97... becomes 30000/1001
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            rgb = av.VideoFrame.from_ndarray(picture, format="rgb24")
            yuv = to_yuv.reformat(rgb, format="yuv420p", interpolation=_EXACT_ROUNDING, threads=1)
            container.mux(stream.encode(yuv))
        container.mux(stream.encode(None))
    return mp4.getvalue()


def _check(frames: NDArray[np.uint8], fps: float) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(
            "frames: expected uint8 [N, H, W, 3] with N >= 1. "
            f"Received: {frames.dtype} {list(frames.shape)}"
        )
    height, width = frames.shape[1:3]
    if height < 2 or width < 2 or height % 2 or width % 2:
        raise ValueError(
            "frames: expected an even height and width, because yuv420p has one colour sample "
            f"for 2 x 2 pixels. Received: {height} x {width}"
        )
    if not fps > 0:
        raise ValueError(f"fps: expected a number above 0. Received: {fps}")
