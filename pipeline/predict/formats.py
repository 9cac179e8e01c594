"""Outcomes as a table to read, as csv and as JSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Literal

from pipeline.predict.outcomes import Outcome
from pipeline.tracking.loading import Prediction

Format = Literal["table", "csv", "json"]

_SHOWN_CLASSES = 3  # in a table with many videos
_SHOWN_OF_ONE = 10  # in a table with a single one


def as_table(outcomes: Sequence[Outcome]) -> str:
    """Return a line a video: its most probable classes, or why there is none."""
    shown = _SHOWN_OF_ONE if len(outcomes) == 1 else _SHOWN_CLASSES
    name_width = max(len(str(outcome.video)) for outcome in outcomes)
    cells = [_best(outcome.prediction, shown) for outcome in outcomes]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    lines = []
    for outcome, row in zip(outcomes, cells, strict=True):
        said = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        said = said or [f"error: {outcome.error}"]
        lines.append("  ".join([str(outcome.video).ljust(name_width), *said]).rstrip())
    return "\n".join(lines) + "\n"


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """Return a row a video; the columns are named as those of eval/predictions.csv."""
    predicted = [outcome.prediction for outcome in outcomes if outcome.prediction]
    classes = list(predicted[0].probabilities) if predicted else []
    columns = ["video", "predicted", "probability", *(f"p_{name}" for name in classes), "error"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for outcome in outcomes:
        row: dict[str, object] = {"video": outcome.video, "error": outcome.error}
        if found := outcome.prediction:
            row |= {"predicted": found.label, "probability": f"{found.probability:.9f}"}
            row |= {f"p_{name}": f"{value:.9f}" for name, value in found.probabilities.items()}
        writer.writerow(row)
    return text.getvalue()


def as_json(outcomes: Sequence[Outcome]) -> str:
    """Return a list with an object a video: what a server answers, or ``error``."""
    rows = [
        {
            "video": str(outcome.video),
            **(asdict(outcome.prediction) if outcome.prediction else {"error": outcome.error}),
        }
        for outcome in outcomes
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


FORMATS: Mapping[Format, Callable[[Sequence[Outcome]], str]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
}


def _best(prediction: Prediction | None, count: int) -> list[str]:
    if prediction is None:
        return []
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    cells = [f"{name} {probability:.4f}" for name, probability in ranked[:count]]
    left = len(ranked) - len(cells)
    return [*cells, f"and {left} more"] if left else cells
