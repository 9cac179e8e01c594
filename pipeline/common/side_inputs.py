"""Side inputs: columns of the labels table that a model reads beside the video.

``data.side_inputs`` names them. Every clip of a video has the same values. The inputs of a model
take them as they are, and ``model/side_inputs.py`` standardises and embeds them:

    numbers      float64 [N, columns of kind number]
    categories   text [N, columns of kind category]

Columns are in alphabetical order. An input exists only if there is a column of its kind.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import PipelineError
from pipeline.common.numbers import finite_number

SideInputKind = Literal["number", "category"]
SIDE_INPUT_KINDS: tuple[SideInputKind, ...] = get_args(SideInputKind)

SideArrays = dict[str, NDArray[Any]]  # name of an input of the model -> [N, columns] or [columns]

_INPUTS: tuple[tuple[str, SideInputKind], ...] = (("numbers", "number"), ("categories", "category"))


@dataclass(frozen=True)
class SideInput:
    """A column, and what was learnt about it from the training videos.

    Attributes:
        mean, deviation: of a number; a model reads (number - mean) / deviation.
        categories: of a category, in alphabetical order; any other value is unknown.
    """

    column: str
    kind: SideInputKind
    mean: float = 0.0
    deviation: float = 1.0
    categories: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that ``from_json`` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the result of ``to_json``."""
        return cls(**{**value, "categories": tuple(value["categories"])})


def learn_side_inputs(
    kinds: Mapping[str, SideInputKind], cells: Sequence[Mapping[str, str]]
) -> tuple[SideInput, ...]:
    """Learn mean and deviation, or the categories, of each column.

    Args:
        kinds: column -> kind.
        cells: column -> cell, of each training video.

    Raises:
        PipelineError: all videos have the same number.
    """
    learnt = []
    for column, kind in sorted(kinds.items()):
        texts = [row[column] for row in cells]
        if kind == "category":
            learnt.append(SideInput(column, kind, categories=tuple(sorted(set(texts)))))
            continue
        numbers = np.array(texts, np.float64)
        if numbers.min() == numbers.max():
            raise PipelineError(
                f"data.side_inputs.{column}: expected different numbers. Received: {texts[0]} for "
                "every training video. Remove the column from data.side_inputs."
            )
        mean, deviation = float(numbers.mean()), float(numbers.std())
        learnt.append(SideInput(column, kind, mean=mean, deviation=deviation))
    return tuple(learnt)


def side_arrays(
    kinds: Mapping[str, SideInputKind], cells: Sequence[Mapping[str, str]]
) -> SideArrays:
    """Return the values of N videos or clips as inputs of a model, [N, columns] each."""
    arrays: SideArrays = {}
    for name, kind in _INPUTS:
        columns = sorted(column for column in kinds if kinds[column] == kind)
        if columns:
            rows = [[row[column] for column in columns] for row in cells]
            # TensorFlow reads text from arrays of objects.
            array = np.array(rows, object).reshape(len(rows), len(columns))
            arrays[name] = array.astype(np.float64) if kind == "number" else array
    return arrays


def example_values(side_inputs: Iterable[SideInput]) -> dict[str, float | str]:
    """Return values that a request may give: the mean of a number, the first category."""
    return {
        one.column: one.mean if one.kind == "number" else one.categories[0] for one in side_inputs
    }


def side_values(
    side_inputs: Iterable[SideInput],
    given: Mapping[str, Any],
    *,
    where: str,
    remedy: str = "Correct the request.",
) -> SideArrays:
    """Return the values that a request gives for one video, [columns] each.

    Args:
        given: column -> value; other keys are ignored. None, NaN and empty text are missing.
        where: name of the video in messages.
        remedy: for a value that is missing or not valid.

    Raises:
        PipelineError: a value is missing or is not valid.
    """
    kinds = {one.column: one.kind for one in side_inputs}
    cells = {}
    for column, kind in kinds.items():
        value = given.get(column)
        text = "" if value is None or value != value else str(value)
        cells[column] = clean_side_input(kind, text, where=where, column=column, remedy=remedy)
    return {name: array[0] for name, array in side_arrays(kinds, [cells]).items()}


def clean_side_input(
    kind: SideInputKind, text: str, *, where: str, column: str, remedy: str
) -> str:
    """Return a cell as it is stored: one line, in Unicode NFC.

    Raises:
        PipelineError: it is empty, or not a finite number for the kind ``number``.
    """
    cleaned = unicodedata.normalize("NFC", " ".join(text.split()))
    expected = "a name" if kind == "category" else "a finite number such as 12.5"
    if not cleaned:
        raise PipelineError(
            f"{where}: the side input {column} is missing. Expected {expected}. {remedy}"
        )
    if kind == "number" and finite_number(cleaned) is None:
        raise PipelineError(
            f"{where}: the side input {column} must be {expected}. Received: {text!r}. {remedy}"
        )
    return cleaned
