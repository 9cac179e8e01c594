"""The table of folds, its summary, and the files that they are written to."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.base.files import write_csv, write_json
from pipeline.evaluation.intervals import intervals
from pipeline.evaluation.metrics import Scores, score
from pipeline.evaluation.predictions import Predictions
from pipeline.params import EvaluateParams

_SHARES = ("accuracy", "macro_f1", "val_accuracy")
_COLUMNS = (
    "fold",
    "videos",
    "accuracy",
    "macro_f1",
    "val_accuracy",
    "epochs",
    "best_epoch",
    "seconds",
)


@dataclass(frozen=True)
class FoldRow:
    """One line of the table."""

    fold: int  # from 1
    videos: int  # that were tested
    accuracy: float
    macro_f1: float
    val_accuracy: float  # of the best epoch, on what early stopping watched
    epochs: int  # that were trained
    best_epoch: int  # whose weights were tested
    seconds: float  # of training


def scores_of(predictions: Predictions, params: EvaluateParams) -> Scores:
    """Score predictions as the evaluate stage does."""
    return score(
        predictions.labels,
        predictions.probabilities,
        top_k=params.top_k,
        calibration_bins=params.calibration_bins,
    )


def summarise(
    rows: Sequence[FoldRow], pooled: Predictions, params: EvaluateParams
) -> dict[str, Any]:
    """Return what the folds say together.

    ``mean`` and ``spread`` (the standard deviation, divided by the number of folds less one)
    of accuracy and macro F1 count every fold the same. ``pooled`` scores the predictions of
    all folds as if one model had made them, so every video counts the same. ``interval`` is
    its bootstrap over groups: how far the pooled score would move with other videos. It does
    not show how far it would move with other seeds. The mean of ``val_accuracy`` is what
    settings may be chosen by: it knows nothing of the test folds.

    Args:
        rows: of all folds.
        pooled: what each video was predicted as by the fold that tested it.
    """
    by_name = {name: [getattr(row, name) for row in rows] for name in _SHARES}
    return {
        "folds": len(rows),
        "videos": len(pooled.videos),
        "groups": len(set(pooled.units)),
        "mean": {name: statistics.fmean(values) for name, values in by_name.items()},
        "spread": {name: statistics.stdev(values) for name, values in by_name.items()},
        "pooled": asdict(scores_of(pooled, params)),
        "interval": intervals(
            pooled.labels,
            pooled.probabilities,
            units=pooled.units,
            top_k=params.top_k,
            calibration_bins=params.calibration_bins,
            samples=params.bootstrap_samples,
            confidence=params.confidence,
            seed=params.seed,
        ),
        "confidence": params.confidence,
        "seconds": sum(row.seconds for row in rows),
    }


def logged_scores(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the pooled scores, and ``accuracy_mean``, ``accuracy_spread`` and so on.

    Those of validation are left out: the runs of the folds have them, epoch by epoch.
    """
    over_folds = {
        f"{name}_{kind}": value
        for kind in ("mean", "spread")
        for name, value in summary[kind].items()
        if name != "val_accuracy"
    }
    return {**summary["pooled"], **over_folds}


def write_results(
    folder: Path, rows: Sequence[FoldRow], pooled: Predictions, summary: Mapping[str, Any]
) -> list[Path]:
    """Write folds.csv, predictions.csv and summary.json; return their paths."""
    paths = [folder / name for name in ("folds.csv", "predictions.csv", "summary.json")]
    write_csv(paths[0], _COLUMNS, [_cells(row) for row in rows])
    pooled.write_csv(paths[1])
    write_json(paths[2], summary)
    return paths


def table(rows: Sequence[FoldRow], summary: Mapping[str, Any]) -> str:
    """Return the table of folds, then mean, spread and the pooled scores with intervals."""
    lines = ["  ".join(f"{name:>12}" for name in _COLUMNS)]
    lines += ["  ".join(f"{value:>12}" for value in _cells(row).values()) for row in rows]
    for name in ("accuracy", "macro_f1"):
        low, high = summary["interval"][name]
        lines.append(
            f"{name.replace('_', ' ')}: mean {summary['mean'][name]:.3f}, "
            f"spread {summary['spread'][name]:.3f}; pooled {summary['pooled'][name]:.3f} "
            f"[{low:.3f}, {high:.3f}] at {summary['confidence']:.0%}, "
            f"{summary['videos']} videos in {summary['groups']} groups"
        )
    lines.append(
        f"validation accuracy, to choose settings by: mean {summary['mean']['val_accuracy']:.3f}, "
        f"spread {summary['spread']['val_accuracy']:.3f}"
    )
    return "\n".join(lines)


def _cells(row: FoldRow) -> dict[str, str]:
    cells = {name: str(value) for name, value in asdict(row).items()}
    shares = {name: f"{getattr(row, name):.6f}" for name in _SHARES}
    return cells | shares | {"seconds": f"{row.seconds:.1f}"}
