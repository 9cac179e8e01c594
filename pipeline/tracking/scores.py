"""Scores, pictures and tables of a run."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlflow.entities import Metric, RunTag

from pipeline.base.dotted import flat_params
from pipeline.tracking.store import connect, mlflow_errors

EVALUATION = "evaluation"  # folder of the run's artifacts
SETTINGS = "evaluate."  # tags that say how it was evaluated
SCORES = "test."  # tags of a version: what it was registered with


def log_evaluation(
    run_id: str,
    *,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    settings: Mapping[str, Any],
    files: Iterable[Path],
) -> None:
    """Log scores with intervals, how they were computed, and tables and pictures of them.

    Called again, as after ``evaluate`` with other params, the new replace the old. That is
    why the settings are tags, such as ``evaluate.top_k``: MLflow lets no param of a run
    change, and a model may be evaluated many times.

    Args:
        run_id: of the training.
        scores, intervals: as for ``log_scores``.
        settings: the section ``evaluate`` of params.yaml.
        files: go to ``evaluation/``, and what is in a folder to ``evaluation/<folder>/``.
    """
    log_scores(run_id, scores, intervals)
    client = connect()
    with mlflow_errors():
        tags = flat_params(settings, SETTINGS)
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        for file in files:
            if file.is_dir():
                client.log_artifacts(run_id, str(file), f"{EVALUATION}/{file.name}")
            else:
                client.log_artifact(run_id, str(file), EVALUATION)


def log_scores(
    run_id: str,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> None:
    """Log scores as ``test/accuracy``, intervals as ``test_interval/accuracy_low``, ``_high``.

    The part before the slash is a section of charts in the UI.
    """
    values = {f"test/{name}": value for name, value in scores.items()}
    for name, (low, high) in intervals.items():
        values |= {f"test_interval/{name}_low": low, f"test_interval/{name}_high": high}
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
