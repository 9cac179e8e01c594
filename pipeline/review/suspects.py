"""What a person should look at before trusting the data: leaks and doubtful labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.evaluation.label_issues import LabelIssue
from pipeline.evaluation.leaks import Leak
from pipeline.review.previews import Preview, preview, webp
from pipeline.review.stored import StoredFrames

_THUMB_SIDE = 144  # pixels, the longer one


@dataclass(frozen=True)
class ShownLeak:
    """A pair of near-duplicate frames, to be seen side by side."""

    leak: Leak
    pictures: tuple[bytes, bytes]  # WebP


@dataclass(frozen=True)
class ShownLabelIssue:
    issue: LabelIssue
    preview: Preview


def shown_leaks(leaks: Sequence[Leak], frames: StoredFrames) -> list[ShownLeak]:
    return [
        ShownLeak(
            leak,
            (
                _thumb(frames.at(leak.video_a, leak.seconds_a)),
                _thumb(frames.at(leak.video_b, leak.seconds_b)),
            ),
        )
        for leak in leaks
    ]


def shown_label_issues(
    issues: Sequence[LabelIssue], frames: StoredFrames, *, moves: bool
) -> list[ShownLabelIssue]:
    return [
        ShownLabelIssue(issue, preview(frames.of(issue.video), fps=frames.fps, moves=moves))
        for issue in issues
    ]


def _thumb(frame: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(frame)
    image.thumbnail((_THUMB_SIDE, _THUMB_SIDE), Image.Resampling.LANCZOS)
    return webp(image)
