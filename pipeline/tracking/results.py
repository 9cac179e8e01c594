"""Log the results of an evaluation to the run of its model: scores, tables, charts, data.

The metrics and the note of a run are those of its last evaluation. ``evaluations.py`` keeps the
results of every evaluation.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from pipeline.tracking.evaluations import Evaluation, digest_of_test_data, log_evaluation
from pipeline.tracking.notes import Results, note_results
from pipeline.tracking.store import GONE, connect, mlflow_errors

logger = logging.getLogger(__name__)

DATA = "data"  # folder of the run's artifacts: tables of the data
CATALOG = "catalog.csv"  # in DATA
DECODE_INDEX = "index.csv"  # in DATA

SCORES = "test."  # prefix of version tags: scores of the version


def log_results(
    run_id: str, results: Results, *, catalog: Path, decode_index: Path, files: Iterable[Path]
) -> Evaluation:
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
    evaluation = log_evaluation(
        run_id,
        test_data=digest_of_test_data(catalog, decode_index),
        scores=results.scores,
        settings=results.settings,
        files=files,
    )
    log_scores(run_id, results.scores, results.intervals)
    note_results(run_id, results)
    return evaluation


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
