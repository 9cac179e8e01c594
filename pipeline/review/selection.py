"""The test videos that the review shows as film strips, with their explanations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.sampling import Clip
from pipeline.common.charts import name_colours
from pipeline.evaluation.predictions import Predictions
from pipeline.review.film_strips import (
    Preview,
    SeenClip,
    film_strip,
    preview,
    strip_alt,
    strip_sheet,
)
from pipeline.tasks.targets import targets_of
from pipeline.tasks.task import Guess

if TYPE_CHECKING:  # pipeline.model imports TensorFlow
    import keras

Kind = Literal["mistakes", "least_sure", "right"]

_VIDEOS_OF_EACH_KIND = 4


@dataclass(frozen=True)
class Selection:
    """Test videos of one kind; ``rows`` are their rows in the predictions."""

    kind: Kind
    title: str
    explanation: str
    rows: Sequence[int]


@dataclass(frozen=True)
class ShownVideo:
    """A film strip with its captions.

    Attributes:
        guesses: best answer first; may be empty.
        alt: the film strip in words.
        side_inputs: cells by column.
    """

    video: str
    target: str
    is_right: bool
    guesses: Sequence[Guess]
    strip: Image.Image
    alt: str
    preview: Preview
    side_inputs: Mapping[str, str]

    @property
    def heading(self) -> str:
        """Return video, target and best answer in one line."""
        if not self.guesses:
            return f"{self.video}: {self.target}"
        best = self.guesses[0]
        return f"{self.video}: {self.target}, predicted {best.text} {best.score:.3f}"


@dataclass(frozen=True)
class ShownSelection(Selection):
    """A selection with the film strips of its videos."""

    videos: Sequence[ShownVideo]

    def sheet(self) -> Image.Image:
        """Put all strips, at least one, into one picture."""
        return strip_sheet(
            [video.strip for video in self.videos], [video.heading for video in self.videos]
        )


def select_videos(predictions: Predictions, *, each: int = _VIDEOS_OF_EACH_KIND) -> list[Selection]:
    """Select the worst mistakes, the least sure videos, and typical right ones.

    A video is in one selection only. The mistakes have the lowest video scores; of equal ones, the
    most confident come first. The least sure videos, right or wrong, have the smallest margins; a
    task without margins has none. The right ones have median confidence and come from each stratum
    of the targets in turn.

    Args:
        predictions: of the test videos.
        each: videos of each kind, at most.
    """
    task, outputs = predictions.task, predictions.outputs
    confidence = task.confidence(outputs)
    is_right = predictions.is_right
    worst_first = np.lexsort((-confidence, predictions.video_scores))
    mistakes = worst_first[~is_right[worst_first]][:each]
    is_free = ~np.isin(np.arange(len(is_right)), mistakes)
    margins = task.margins(outputs)
    least_sure = np.array([], np.int64)
    if margins is not None:
        by_margin = np.argsort(margins, kind="stable")
        least_sure = by_margin[is_free[by_margin]][:each]
    is_free[least_sure] = False
    strata = np.array(targets_of(task.type).strata(predictions.targets))
    return [
        Selection(
            "mistakes",
            "Worst mistakes",
            f"{int((~is_right).sum())} of {len(is_right)} test videos are predicted wrong. The "
            "lowest scores come first, of equal ones the most confident.",
            mistakes.tolist(),
        ),
        Selection(
            "least_sure",
            "Least sure",
            "The two best answers are closest to each other, right or wrong. The mistakes above "
            "are left out.",
            least_sure.tolist(),
        ),
        Selection(
            "right",
            "Right",
            "Right answers of median confidence.",
            _typical_videos(is_free & is_right, strata, confidence)[:each],
        ),
    ]


def see_clips(
    model: "keras.Model", clips: ClipArrays, predictions: Predictions, rows: Sequence[int]
) -> list[SeenClip]:
    """Return one clip with its explanations for each of ``rows``, at least one.

    ``Task.shown_clip`` chooses the clip of a video with several.

    Args:
        model: of the predictions.
        clips: of the test split.
        predictions: for the test videos.
        rows: of the predictions.
    """
    from pipeline.model.explanations import attention_weights, grad_cam, has_attention
    from pipeline.model.prediction import predict_clips

    explained = predictions.task.explained_outputs(predictions.outputs[list(rows)]).tolist()
    chosen: list[Clip] = []
    first_frames = []  # of the chosen clips, in their videos, if their clips follow each other
    for row, unit in zip(rows, explained, strict=True):
        candidates = [
            clips.clip(number)
            for number, name in enumerate(clips.names)
            if name == predictions.videos[row]
        ]
        best = 0
        if len(candidates) > 1:
            best = predictions.task.shown_clip(predict_clips(model, candidates), unit)
        chosen.append(candidates[best])
        first_frames.append(sum(int(clip.mask.sum()) for clip in candidates[:best]))
    cells = dict(zip(clips.names, clips.side_cells, strict=True))
    heat = grad_cam(model, chosen, explained)
    attention = attention_weights(model, chosen) if has_attention(model) else {}
    labels = [
        predictions.task.frame_labels(predictions.targets[row], predictions.outputs[row])
        for row in rows
    ]
    names = {name for pair in labels for side in pair or () for name in side} - {""}
    colours = name_colours(sorted(names))

    def labels_of_clip(index: int) -> tuple[Sequence[str], Sequence[str]] | None:
        if (pair := labels[index]) is None:
            return None
        first = first_frames[index]
        actual, predicted = (side[first : first + chosen[index].mask.sum()] for side in pair)
        return actual, predicted

    return [
        SeenClip(
            frames=clip.frames,
            mask=clip.mask,
            heat={stream: maps[index] for stream, maps in heat.items()},
            attention={stream: weights[index] for stream, weights in attention.items()},
            side_inputs=cells[predictions.videos[row]],
            labels=labels_of_clip(index),
            colours=colours,
        )
        for index, (row, clip) in enumerate(zip(rows, chosen, strict=True))
    ]


def draw_selections(
    predictions: Predictions,
    selections: Sequence[Selection],
    see: Callable[[Sequence[int]], Sequence[SeenClip]],
    *,
    fps: float,
) -> list[ShownSelection]:
    """Draw the film strips of the selected videos.

    Args:
        predictions: for the test videos.
        selections: the result of ``select_videos``.
        see: returns a clip with explanations for each of some rows; called once.
        fps: frames per second of the clips.
    """
    rows = [row for selection in selections for row in selection.rows]
    clips = dict(zip(rows, see(rows) if rows else [], strict=True))
    is_right = predictions.is_right

    def shown(row: int) -> ShownVideo:
        target, clip = predictions.targets[row], clips[row]
        return ShownVideo(
            video=predictions.videos[row],
            target=targets_of(predictions.task.type).text(target),
            is_right=bool(is_right[row]),
            guesses=predictions.task.guesses(target, predictions.outputs[row]),
            strip=film_strip(clip),
            alt=strip_alt(clip),
            preview=preview(clip.frames[clip.mask], fps=fps),
            side_inputs=clip.side_inputs,
        )

    return [
        ShownSelection(**vars(selection), videos=[shown(row) for row in selection.rows])
        for selection in selections
    ]


def _typical_videos(
    is_wanted: NDArray[np.bool_], strata: NDArray[np.str_], confidence: NDArray[np.float64]
) -> list[int]:
    """Return the wanted rows, of each stratum in turn the closest to its median confidence."""
    queues = []
    for stratum in np.unique(strata):
        members = np.flatnonzero(is_wanted & (strata == stratum))
        if len(members):
            distance = np.abs(confidence[members] - np.median(confidence[members]))
            queues.append(members[np.argsort(distance, kind="stable")].tolist())
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
