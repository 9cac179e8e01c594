"""The clips of a review: which are shown, what is said of each, and their pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from pipeline.evaluation.predictions import Predictions
from pipeline.review.previews import Preview, preview
from pipeline.review.selection import Choice, Kind
from pipeline.review.strips import Seen, film_strip, strip_alt, strip_sheet

_MOST_NAMED = 3  # of the most probable classes


@dataclass(frozen=True)
class Guess:
    """A class and the probability that the model gives it."""

    class_name: str
    probability: float
    is_actual: bool


@dataclass(frozen=True)
class ShownClip:
    """One row of film strips."""

    video: str
    actual: str
    guesses: Sequence[Guess]  # the most probable first; the actual class is always there
    strip: Image.Image
    alt: str
    preview: Preview

    @property
    def is_right(self) -> bool:
        return self.guesses[0].is_actual

    @property
    def heading(self) -> str:
        """What a line of text has room for."""
        best = self.guesses[0]
        return f"{self.video}: {self.actual}, predicted {best.class_name} {best.probability:.3f}"


@dataclass(frozen=True)
class ShownChoice:
    """Film strips of one kind."""

    kind: Kind
    title: str
    explanation: str
    clips: Sequence[ShownClip]

    def sheet(self) -> Image.Image:
        """Put all strips into one picture; there must be a clip."""
        return strip_sheet(
            [clip.strip for clip in self.clips], [clip.heading for clip in self.clips]
        )


def shown_choices(
    predictions: Predictions,
    choices: Sequence[Choice],
    look: Callable[[Sequence[int]], Sequence[Seen]],
    *,
    fps: float,
    moves: bool,
) -> list[ShownChoice]:
    """Draw what was chosen.

    Args:
        look: from rows of the predictions to clips as the model saw them.
        fps: of the clips.
        moves: whether previews move.
    """
    seen = dict(
        zip(rows := [row for choice in choices for row in choice.rows], look(rows), strict=True)
    )
    return [
        ShownChoice(
            choice.kind,
            choice.title,
            choice.explanation,
            [_shown(predictions, row, seen[row], fps=fps, moves=moves) for row in choice.rows],
        )
        for choice in choices
    ]


def _shown(predictions: Predictions, row: int, seen: Seen, *, fps: float, moves: bool) -> ShownClip:
    return ShownClip(
        video=predictions.videos[row],
        actual=predictions.class_names[predictions.labels[row]],
        guesses=_guesses(predictions, row),
        strip=film_strip(seen),
        alt=strip_alt(seen),
        preview=preview(seen.frames[seen.mask], fps=fps, moves=moves),
    )


def _guesses(predictions: Predictions, row: int) -> list[Guess]:
    probabilities, actual = predictions.probabilities[row], int(predictions.labels[row])
    order = (-probabilities).argsort(kind="stable").tolist()
    named = order[:_MOST_NAMED]
    if actual not in named:
        named.append(actual)
    return [
        Guess(predictions.class_names[index], float(probabilities[index]), index == actual)
        for index in named
    ]
