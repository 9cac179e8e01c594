"""Scores, pictures and tables of a run."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlflow.entities import Metric

from pipeline.tracking.store import connect, mlflow_errors

PICTURES = "evaluation"


def log_evaluation(
    run_id: str,
    *,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    pictures: Path,
) -> None:
    """Log scores and intervals, and everything in the folder ``pictures`` under ``evaluation/``.

    Called again, new values and files replace the old ones.
    """
    log_scores(run_id, scores, intervals)
    client = connect()
    with mlflow_errors():
        client.log_artifacts(run_id, str(pictures), PICTURES)


def log_scores(
    run_id: str,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> None:
    """Log scores as ``test/accuracy``, intervals as ``test/accuracy_low`` and ``_high``.

    The slash makes a section of its own in the UI.
    """
    values = {f"test/{name}": value for name, value in scores.items()}
    for name, (low, high) in intervals.items():
        values |= {f"test/{name}_low": low, f"test/{name}_high": high}
    client = connect()
    now = time.time_ns() // 1_000_000  # milliseconds
    with mlflow_errors():
        logged = client.get_run(run_id).data.metrics
        changed = {name: value for name, value in values.items() if logged.get(name) != value}
        client.log_batch(
            run_id, metrics=[Metric(name, value, now, 0) for name, value in changed.items()]
        )


def log_files(run_id: str, files: Iterable[Path]) -> None:
    """Log files under their own names."""
    client = connect()
    with mlflow_errors():
        for file in files:
            client.log_artifact(run_id, str(file))
