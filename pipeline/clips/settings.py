"""The section ``extract`` of params.yaml."""

from typing import Literal

from pydantic import PositiveInt

from pipeline.common.settings import Section


class ExtractSection(Section):
    """How the frames of a video become clips of fixed length.

    Attributes:
        frames: T, the length of a clip; shorter videos are padded on the right and masked.
        sampling: which T frames of a longer window: ``uniform`` over the window, every
            ``stride``-th, or the first T (``head``).
        stride: distance of the frames, only for sampling ``stride``.
        clips_per_video: clips of a video longer than one clip, at most; the outputs of a
            video's clips are averaged.
    """

    frames: PositiveInt = 20
    sampling: Literal["uniform", "stride", "head"] = "uniform"
    stride: PositiveInt = 2
    clips_per_video: PositiveInt = 1
