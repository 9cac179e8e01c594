"""The section ``extract`` of params.yaml."""

from typing import Literal

from pydantic import PositiveInt

from pipeline.common.settings import Section


class ExtractSection(Section):
    """How clips are cut from the frames of a video.

    Attributes:
        frames: T, the length of a clip; shorter videos are padded on the right and masked.
        sampling: which T frames of a longer window are kept: ``uniform`` over the window, every
            ``stride``-th, or the first T (``head``). With ``consecutive``, windows of at most T
            frames follow each other and cover the video, whatever ``clips_per_video``.
        stride: step between kept frames, only for sampling ``stride``.
        clips_per_video: maximum number of clips of a video. ``Task.combine_clips`` combines the
            outputs of its clips, to their mean by default.
    """

    frames: PositiveInt = 20
    sampling: Literal["uniform", "stride", "head", "consecutive"] = "uniform"
    stride: PositiveInt = 2
    clips_per_video: PositiveInt = 1
