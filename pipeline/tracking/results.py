"""Log the results of an evaluation to the run of its model: scores, tables, charts, data.

A run shows its last evaluation. Evaluations of one model on different test sets are also kept
side by side, under ``evaluations/<test set>/``: without that, new test videos would erase the
scores that a champion was chosen by.
"""

import json
import logging
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException

from pipeline.common.files import sha256_of_json
from pipeline.common.records import read_catalog
from pipeline.common.settings import flatten_as_text
from pipeline.tracking.notes import note_results
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.store import GONE, connect, mlflow_errors

logger = logging.getLogger(__name__)

EVALUATION = "evaluation"  # folder of the run's artifacts: files of the last evaluation
EVALUATIONS = "evaluations"  # folder of the run's artifacts: one folder a test set
DATA = "data"  # folder of the run's artifacts: tables of the data
CATALOG = "catalog.csv"  # in DATA
DECODE_INDEX = "index.csv"  # in DATA

SETTINGS = "evaluate."  # prefix of run and version tags: settings of the last evaluation
SCORES = "test."  # prefix of version tags: scores of the version
TEST_SET = "test_set"  # tag of the run: identity of the test set of the last evaluation

_TEST_SET_LENGTH = 12  # hex digits


def log_results(
    *,
    model_sha256: str,
    params: Mapping[str, Any],
    dataset: str,
    history: Sequence[Mapping[str, float]],
    catalog: Path,
    decode_index: Path,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    settings: Mapping[str, Any],
    confidence: float,
    audits: Sequence[Mapping[str, Any]],
    target_summary: str,
    clips: Mapping[str, int],
    headline: Sequence[str],
    files: Iterable[Path],
) -> str:
    """Log an evaluation to the run of the evaluated model and return the id of the run.

    A run is created from these values when the store has none of this model.

    Args:
        model_sha256: ``model.saving.model_digest`` of the model.
        params: ``Params.training_params()``.
        dataset: name of the data set, such as ``data.videos``.
        history: one row an epoch: ``epoch`` (from 1) and its metrics.
        catalog, decode_index: paths of the two tables of the data.
        scores: content of eval/metrics.json; ``videos`` is the number of test videos.
        intervals: content of eval/intervals.json; some scores have none.
        settings: the section ``evaluate`` as a dict.
        confidence: of the intervals, such as 0.95.
        audits: content of eval/audits.json: dicts with ``name``, ``status``, ``sentence``.
        target_summary: ``Task.summary()``, such as ``4 classes: left, right, up, down``.
        clips: split -> number of clips.
        headline: keys of ``scores`` that the note of the run shows first
            (``Task.headline_metrics``).
        files: as for ``log_evaluation``, such as ``[TABLES, PLOTS, AUDITS, REVIEW]``.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    run_id = ensure_run(model_sha256, params=params, dataset=dataset, history=history)
    log_data(run_id, catalog, name=CATALOG)
    log_data(run_id, decode_index, name=DECODE_INDEX)
    log_evaluation(run_id, scores=scores, intervals=intervals, settings=settings, files=files)
    _log_test_set(
        run_id,
        catalog,
        {"scores": scores, "intervals": intervals, "settings": settings, "audits": audits},
    )
    note_results(
        run_id,
        scores=scores,
        intervals=intervals,
        confidence=confidence,
        audits=audits,
        target_summary=target_summary,
        clips=clips,
        headline=headline,
    )
    return run_id


def log_evaluation(
    run_id: str,
    *,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    settings: Mapping[str, Any],
    files: Iterable[Path],
) -> None:
    """Log scores with intervals, the settings of the evaluation, and its tables and charts.

    A later evaluation replaces an earlier one. Settings are therefore tags, such as
    ``evaluate.confidence``: MLflow does not allow a param of a run to change.

    Args:
        run_id: of the training.
        scores, intervals: as for ``log_scores``.
        settings: the section ``evaluate`` as a dict.
        files: a file becomes ``evaluation/<file>``, a folder ``evaluation/<folder>/...``, such
            as ``evaluation/tables/predictions.csv``. Missing ones are skipped.
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
    """Log scores as ``test/accuracy``, intervals as ``test_interval/accuracy_low``, ``_high``.

    The MLflow UI shows the part before the slash as a section of charts. Unchanged values are
    not logged again.
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
    is a warning, because the model works without it.

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
        _log_content(client, run_id, path.read_bytes(), f"{DATA}/{name}")


def has_data(run_id: str, name: str) -> bool:
    """Whether a run has the table ``data/<name>``; False when the run is gone."""
    client = connect()
    with mlflow_errors():
        return _has(client, run_id, name)


def _log_test_set(run_id: str, catalog: Path, evaluation: Mapping[str, Any]) -> None:
    """Keep an evaluation under the identity of its test videos and their targets."""
    if not catalog.exists():
        return
    test_set = sha256_of_json(
        sorted(
            [record.name, record.target, record.sha256]
            for record in read_catalog(catalog)
            if record.split == "test"
        )
    )[:_TEST_SET_LENGTH]
    content = json.dumps(evaluation, indent=2, sort_keys=True) + "\n"
    client = connect()
    with mlflow_errors():
        client.set_tag(run_id, TEST_SET, test_set)
        _log_content(client, run_id, content.encode(), f"{EVALUATIONS}/{test_set}/evaluation.json")


def _log_content(client: MlflowClient, run_id: str, content: bytes, artifact: str) -> None:
    folder, _, name = artifact.rpartition("/")
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, name)
        file.write_bytes(content)
        client.log_artifact(run_id, str(file), folder)


def _has(client: MlflowClient, run_id: str, name: str) -> bool:
    try:
        files = client.list_artifacts(run_id, DATA)
    except MlflowException as error:
        if error.error_code != GONE:
            raise
        return False
    return f"{DATA}/{name}" in [file.path for file in files]
