"""What evaluate found, read from its files: scores, slices, audits, suspects."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.base.errors import PipelineError
from pipeline.base.files import read_csv, read_json
from pipeline.evaluation.audits import Audit
from pipeline.evaluation.label_issues import LabelIssue
from pipeline.evaluation.leaks import Leak
from pipeline.evaluation.slices import Slice

_Row = TypeVar("_Row")

CLASS_SCORES = ("precision", "recall", "f1", "average_precision")


@dataclass(frozen=True)
class Estimate:
    """A number, and the ends of its interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassRow:
    """Scores of one class; ``scores`` has the keys CLASS_SCORES."""

    name: str
    videos: int
    scores: Mapping[str, Estimate]


def read_scores(metrics: Path, intervals: Path) -> dict[str, Estimate]:
    """Return the scores of a run by name, with their intervals."""
    ends = _json(intervals)
    return {
        name: Estimate(float(value), *ends.get(name, (None, None)))
        for name, value in _json(metrics).items()
    }


def read_slices(path: Path) -> list[Slice]:
    """Return the slices in the order of the file: the worst first."""
    return _rows(path, _slice)


def read_classes(path: Path) -> list[ClassRow]:
    return _rows(path, _class_row)


def read_leaks(path: Path) -> list[Leak]:
    """Return the pairs, the closest first."""
    return sorted(_rows(path, _leak), key=lambda leak: leak.distance)


def read_label_issues(path: Path) -> list[LabelIssue]:
    """Return the suspects, the worst first."""
    return sorted(_rows(path, _label_issue), key=lambda issue: issue.quality)


def read_audits(path: Path) -> list[Audit]:
    return [Audit(**audit) for audit in _json(path)]


def _slice(row: Mapping[str, str]) -> Slice:
    accuracy, low, high = (float(row[name]) for name in ("accuracy", "low", "high"))
    return Slice(row["slice_by"], row["slice"], int(row["videos"]), accuracy, low, high)


def _class_row(row: Mapping[str, str]) -> ClassRow:
    scores = {
        name: Estimate(
            float(row[name]),
            _number_or_none(row[f"{name}_low"]),
            _number_or_none(row[f"{name}_high"]),
        )
        for name in CLASS_SCORES
    }
    return ClassRow(row["class"], int(row["support"]), scores)


def _leak(row: Mapping[str, str]) -> Leak:
    return Leak(
        row["video_a"],
        row["split_a"],
        float(row["seconds_a"]),
        row["video_b"],
        row["split_b"],
        float(row["seconds_b"]),
        int(row["distance"]),
    )


def _label_issue(row: Mapping[str, str]) -> LabelIssue:
    return LabelIssue(
        row["video"], row["split"], row["label"], row["suggested"], float(row["quality"])
    )


def _number_or_none(text: str) -> float | None:
    return float(text) if text else None


def _rows(path: Path, parse: Callable[[Mapping[str, str]], _Row]) -> list[_Row]:
    try:
        return [parse(row) for row in read_csv(path)]
    except FileNotFoundError:
        raise _missing(path) from None
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: not as evaluate writes it ({error!r}). Run dvc repro evaluate."
        ) from None


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except json.JSONDecodeError as error:
        raise PipelineError(f"{path}: not JSON ({error}). Run dvc repro evaluate.") from None


def _missing(path: Path) -> PipelineError:
    return PipelineError(f"{path}: no such file. Run dvc repro evaluate.")
