"""Log the results of an evaluation to the run of its model: scores, tables, charts, data.

A run shows its last evaluation. The scores of a registered version are tags of that version, so
a later evaluation does not change them.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException

from pipeline.common.settings import flatten_as_text
from pipeline.tracking.notes import Results, note_results
from pipeline.tracking.store import GONE, connect, mlflow_errors

logger = logging.getLogger(__name__)

EVALUATION = "evaluation"  # folder of the run's artifacts: files of the last evaluation
DATA = "data"  # folder of the run's artifacts: tables of the data
CATALOG = "catalog.csv"  # in DATA
DECODE_INDEX = "index.csv"  # in DATA

SETTINGS = "evaluate."  # prefix of run and version tags: settings of the last evaluation
SCORES = "test."  # prefix of version tags: scores of the version


def log_results(
    run_id: str, results: Results, *, catalog: Path, decode_index: Path, files: Iterable[Path]
) -> None:
    """Log an evaluation and the tables of its data to the run of the evaluated model.

    Args:
        run_id: of the training.
        results: the results.
        catalog, decode_index: paths of the two tables of the data.
        files: as for ``log_evaluation``.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    log_data(run_id, catalog, name=CATALOG)
    log_data(run_id, decode_index, name=DECODE_INDEX)
    log_evaluation(
        run_id,
        scores=results.scores,
        intervals=results.intervals,
        settings=results.settings,
        files=files,
    )
    note_results(run_id, results)


def log_evaluation(
    run_id: str,
    *,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    settings: Mapping[str, Any],
    files: Iterable[Path],
) -> None:
    """Log scores with intervals, settings, and files, in place of an earlier evaluation.

    Settings are tags, such as ``evaluate.confidence``: MLflow does not allow a param of a run to
    change.

    Args:
        run_id: of the training.
        scores, intervals: as for ``log_scores``.
        settings: the section ``evaluate`` as a dict.
        files: a file becomes ``evaluation/<file>``, a folder ``evaluation/<folder>/...``.
            Missing ones are skipped.
    """
    log_scores(run_id, scores, intervals)
    client = connect()
    with mlflow_errors():
        tags = flatten_as_text(settings, SETTINGS)
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        for file in files:
            if file.is_dir():
                client.log_artifacts(run_id, str(file), f"{EVALUATION}/{file.name}")
            elif file.exists():
                client.log_artifact(run_id, str(file), EVALUATION)


def log_scores(
    run_id: str,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> None:
    """Log scores as ``test/<score>`` and intervals as ``test_interval/<score>_low``, ``_high``.

    The MLflow UI makes a section of charts of each prefix. Unchanged values are not logged again.
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
    """Log files as artifacts at the top of a run."""
    client = connect()
    with mlflow_errors():
        for file in files:
            client.log_artifact(run_id, str(file))


def log_data(run_id: str, path: Path, *, name: str) -> None:
    """Log a table of the data as ``data/<name>`` of a run, unless the run has one.

    The first table is kept: it describes the data that the model was trained on. A missing file
    is a warning.

    Args:
        name: ``CATALOG`` or ``DECODE_INDEX``.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    client = connect()
    with mlflow_errors():
        if _has(client, run_id, name):
            return
        if not path.exists():
            logger.warning("%s: no such file. The run does not record its data.", path)
            return
        with tempfile.TemporaryDirectory() as folder:
            client.log_artifact(run_id, shutil.copy(path, Path(folder, name)), DATA)


def has_data(run_id: str, name: str) -> bool:
    """Return whether a run has the table ``data/<name>``; False for a deleted run."""
    client = connect()
    with mlflow_errors():
        return _has(client, run_id, name)


def _has(client: MlflowClient, run_id: str, name: str) -> bool:
    try:
        files = client.list_artifacts(run_id, DATA)
    except MlflowException as error:
        if error.error_code != GONE:
            raise
        return False
    return f"{DATA}/{name}" in [file.path for file in files]
