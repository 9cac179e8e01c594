"""Outcomes as a table to read, as csv and as JSON."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Literal

from pipeline.predict.outcomes import Outcome
from pipeline.tracking.loading import Prediction

Format = Literal["table", "csv", "json"]

_SHOWN_CLASSES = 3  # in a table with many videos
_SHOWN_OF_ONE = 10  # in a table with a single one


def as_table(outcomes: Sequence[Outcome]) -> str:
    """Return a line a video: its most probable classes, or why there is none.

    At the end stands ``unsure`` where the best is not probable enough for the model to be relied
    on. The parts of a timeline follow their video, a line each.
    """
    shown = _SHOWN_OF_ONE if len(outcomes) == 1 else _SHOWN_CLASSES
    rows = list(_rows(outcomes))
    names = [
        row.name if row.end is None else f"  {row.start:.1f} to {row.end:.1f} s" for row in rows
    ]
    name_width = max(map(len, names))
    cells = [_best(row.probabilities, shown) for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    lines = []
    for name, row, found in zip(names, rows, cells, strict=True):
        said = [cell.ljust(width) for cell, width in zip(found, widths, strict=False)]
        if row.confident is False:
            said.append("unsure")
        said = said or [f"error: {row.error}"]
        lines.append("  ".join([name.ljust(name_width), *said]).rstrip())
    return "\n".join(lines) + "\n"


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """Return a row a video; the columns are named as those of eval/predictions.csv.

    ``confident`` (true or false) is there where the model has a threshold for it. The parts of
    a timeline follow their video, a row each, with ``start_seconds`` and ``end_seconds``, which
    that of the video leaves empty.
    """
    rows = list(_rows(outcomes))
    classes = next((list(row.probabilities) for row in rows if row.probabilities), [])
    parts = ["start_seconds", "end_seconds"] if any(row.end is not None for row in rows) else []
    sure = ["confident"] if any(row.confident is not None for row in rows) else []
    columns = ["video", *parts, "predicted", "probability", *sure]
    columns += [*(f"p_{name}" for name in classes), "error"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells: dict[str, object] = {"video": row.name, "error": row.error}
        if row.end is not None:
            cells |= {"start_seconds": f"{row.start:.6f}", "end_seconds": f"{row.end:.6f}"}
        if row.confident is not None:
            cells["confident"] = "true" if row.confident else "false"
        if found := row.probabilities:
            label = max(found, key=lambda name: found[name])
            cells |= {"predicted": label, "probability": f"{found[label]:.9f}"}
            cells |= {f"p_{name}": f"{value:.9f}" for name, value in found.items()}
        writer.writerow(cells)
    return text.getvalue()


def as_json(outcomes: Sequence[Outcome]) -> str:
    """Return a list with an object a video: what a server answers, or ``error``."""
    rows = [
        {
            "video": str(outcome.video),
            **(_answer(outcome.prediction) if outcome.prediction else {"error": outcome.error}),
        }
        for outcome in outcomes
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


FORMATS: Mapping[Format, Callable[[Sequence[Outcome]], str]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
}


@dataclass(frozen=True)
class _Row:
    """A video, or a part of one, which has an end."""

    name: str
    probabilities: dict[str, float]  # none where there is an error
    error: str = ""
    confident: bool | None = None  # None: there is no threshold
    start: float = 0.0  # seconds
    end: float | None = None


def _rows(outcomes: Iterable[Outcome]) -> Iterator[_Row]:
    for outcome in outcomes:
        name, found = str(outcome.video), outcome.prediction
        if found is None:
            yield _Row(name, {}, outcome.error)
            continue
        yield _Row(name, found.probabilities, confident=found.confident)
        for part in found.timeline:
            yield _Row(name, part.probabilities, start=part.start_seconds, end=part.end_seconds)


def _answer(prediction: Prediction) -> dict[str, Any]:
    left_out: tuple[object, ...] = (None, ())  # no threshold, no timeline
    return {name: value for name, value in asdict(prediction).items() if value not in left_out}


def _best(probabilities: Mapping[str, float], count: int) -> list[str]:
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    cells = [f"{name} {probability:.4f}" for name, probability in ranked[:count]]
    left = len(ranked) - len(cells)
    return [*cells, f"and {left} more"] if left else cells
