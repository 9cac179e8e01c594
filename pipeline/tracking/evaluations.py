"""The evaluations of a run: each has a folder in its artifacts, and none replaces another.

A model can be evaluated on several sets of test videos, or again with other settings. An
evaluation is found by the digest of its test videos.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json, sha256_of_json
from pipeline.common.records import read_decoded
from pipeline.common.settings import flatten_as_text
from pipeline.tracking.provenance import UNKNOWN, git_output
from pipeline.tracking.store import GONE, connect, mlflow_errors

EVALUATION = "evaluation"  # folder of the run's artifacts, and tag: folder of the last evaluation
SETTINGS = "evaluate."  # prefix of run and version tags: settings of an evaluation

_RECORD = "evaluation.json"  # in the folder of an evaluation; logged last
_KEY_LENGTH = 12


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of a run.

    Attributes:
        test_data: ``digest_of_test_data`` of the test videos.
        scores: content of eval/metrics.json.
        settings: the section ``evaluate`` as text, by dotted key.
        time: when it was last logged; UTC, ISO 8601.
        git_commit: HEAD at that time.
    """

    test_data: str
    scores: Mapping[str, float]
    settings: Mapping[str, str]
    time: str = ""
    git_commit: str = UNKNOWN

    @property
    def folder(self) -> str:
        """Folder of its files in the artifacts of the run; equal results have the same folder."""
        key = sha256_of_json([self.test_data, dict(self.scores), dict(self.settings)])
        return f"{EVALUATION}/{key[:_KEY_LENGTH]}"


def digest_of_test_data(catalog: Path, decode_index: Path) -> str:
    """Return a SHA-256 of content, segment, target and group of the test videos.

    Quarantined videos are left out.

    Raises:
        PipelineError: a table is missing, or the index lacks a row of the catalog.
    """
    return sha256_of_json(
        sorted(
            [record.name, record.sha256, record.target, record.group]
            for record in read_decoded(catalog, decode_index)
            if record.split == "test" and record.is_usable
        )
    )


def log_evaluation(
    run_id: str,
    *,
    test_data: str,
    scores: Mapping[str, float],
    settings: Mapping[str, Any],
    files: Iterable[Path],
) -> Evaluation:
    """Log an evaluation in a folder of its own; return its record.

    Args:
        run_id: of the training.
        test_data: ``digest_of_test_data`` of the test videos.
        scores: content of eval/metrics.json.
        settings: the section ``evaluate`` as a dict.
        files: files and folders, which become ``evaluation/<key>/<name>``. Missing ones are
            skipped.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    evaluation = Evaluation(
        test_data,
        scores,
        flatten_as_text(settings, SETTINGS),
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        git_commit=git_output("rev-parse", "--verify", "HEAD") or UNKNOWN,
    )
    client = connect()
    with mlflow_errors():
        for file in files:
            if file.is_dir():
                client.log_artifacts(run_id, str(file), f"{evaluation.folder}/{file.name}")
            elif file.exists():
                client.log_artifact(run_id, str(file), evaluation.folder)
        client.log_dict(run_id, asdict(evaluation), f"{evaluation.folder}/{_RECORD}")
        # MLflow does not allow a param of a run to change, so settings are tags.
        tags = {**evaluation.settings, EVALUATION: evaluation.folder}
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    return evaluation


def recorded_evaluations(run_id: str | None) -> list[Evaluation]:
    """Return the evaluations of a run, the last one first; none for a deleted run.

    Raises:
        PipelineError: the store cannot be read.
    """
    if not run_id:
        return []
    client = connect()
    records = []
    with mlflow_errors(), tempfile.TemporaryDirectory() as temporary:
        try:
            folders = [file.path for file in client.list_artifacts(run_id, EVALUATION)]
        except MlflowException as error:
            if error.error_code != GONE:
                raise
            return []
        for folder in folders:
            record = f"{folder}/{_RECORD}"
            if record in [file.path for file in client.list_artifacts(run_id, folder)]:
                records.append(read_json(_download(run_id, record, Path(temporary))))
    evaluations = [Evaluation(**record) for record in records]
    return sorted(evaluations, key=lambda evaluation: evaluation.time, reverse=True)


def evaluation_file(run_id: str, evaluation: Evaluation, name: str, folder: Path) -> Path:
    """Copy a file of an evaluation, such as ``tables/predictions.csv``, into ``folder``.

    Raises:
        PipelineError: the store cannot be read, or the evaluation has no such file.
    """
    path = f"{evaluation.folder}/{name}"
    client = connect()
    with mlflow_errors():
        files = client.list_artifacts(run_id, str(Path(path).parent))
        if path in [file.path for file in files]:
            return _download(run_id, path, folder)
    raise PipelineError(f"Run {run_id} has no {path}.")


def _download(run_id: str, path: str, folder: Path) -> Path:
    copied = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path=path, dst_path=str(folder)
    )
    return Path(copied)
