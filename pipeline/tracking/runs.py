"""One MLflow run a training, identified by the content of its model.

An error of the store before the training raises. A later one is only a warning, so that the
restart of a server does not waste hours of training. ``ensure_run`` creates a missing run.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file
from pipeline.common.paths import CLIPS
from pipeline.common.settings import flatten_as_text
from pipeline.tracking.interruption import (
    Terminated,
    close_abandoned_runs,
    process_tags,
    sigterm_raises,
)
from pipeline.tracking.notes import start_note
from pipeline.tracking.provenance import (
    UNKNOWN,
    Changes,
    find_changes,
    locked_data,
    provenance_tags,
)
from pipeline.tracking.store import EXPERIMENT, GONE, connect, experiment_id, mlflow_errors

logger = logging.getLogger(__name__)

MODEL_SHA256 = "model.sha256"
CNN_WEIGHTS_SHA256 = "cnn_weights.sha256"
RECREATED = "recreated"

_DIGEST_LENGTH = 36  # the longest digest of a data set that MLflow accepts


@contextmanager
def training_run(
    *,
    params: Mapping[str, Any],
    dataset: str,
    name: str | None = None,
    parent: str | None = None,
) -> Iterator[str]:
    """Start a run, yield its id, and end the run with the block.

    The run ends as FINISHED, as FAILED after an exception, and as KILLED after Ctrl-C or
    SIGTERM. Runs whose process is gone are ended first, as KILLED; see ``close_abandoned_runs``.
    System metrics are sampled every 10 seconds (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL).

    Args:
        params: sections of params.yaml that decide the model; nested keys become
            ``train.epochs``. MLflow does not allow a param of a run to change.
        dataset: name of the data set, such as the folder of the videos.
        name: of the run; by default the differences from the commit.
        parent: id of the parent run.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    client = connect()
    experiment_number = experiment_id(client, EXPERIMENT)
    changes = find_changes(params)
    with mlflow_errors():
        close_abandoned_runs(client, experiment_number)
    with sigterm_raises():
        with mlflow_errors():
            run = mlflow.start_run(
                experiment_id=experiment_number,
                run_name=name or changes.run_name,
                parent_run_id=parent,
                nested=parent is not None,
                tags=process_tags(),
                log_system_metrics=True,
            )
        run_id = str(run.info.run_id)
        status = RunStatus.FAILED
        try:
            with mlflow_errors():
                _describe(client, run_id, params=params, dataset=dataset, changes=changes)
            yield run_id
            status = RunStatus.FINISHED
        except (KeyboardInterrupt, Terminated):
            status = RunStatus.KILLED
            raise
        finally:
            with warned("The run stays open"), mlflow_errors():
                mlflow.end_run(RunStatus.to_string(status))


def log_epoch(run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """Log the metrics of an epoch, counted from 1."""
    client = connect()
    now = time.time_ns() // 1_000_000  # milliseconds
    with mlflow_errors():
        client.log_batch(
            run_id, metrics=[Metric(name, value, now, epoch) for name, value in metrics.items()]
        )


def tag_model(run_id: str, model_sha256: str) -> None:
    """Set the tag that ``find_run`` searches for; log a warning if that fails."""
    with warned("The register stage will create another run for this model"):
        _tag(run_id, MODEL_SHA256, model_sha256)


def tag_cnn_weights(run_id: str, path: Path) -> None:
    """Record the SHA-256 of the file of initial CNN weights, whose name is in the params."""
    with warned(f"The run does not record the content of {path}"):
        _tag(run_id, CNN_WEIGHTS_SHA256, sha256_of_file(path))


def find_run(model_sha256: str) -> str | None:
    """Return the id of the newest run that trained this model; None if there is none."""
    client = connect()
    experiment_number = experiment_id(client, EXPERIMENT)
    with mlflow_errors():
        runs = client.search_runs(
            [experiment_number],
            f"tags.`{MODEL_SHA256}` = '{model_sha256}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
    return str(runs[0].info.run_id) if runs else None


def existing_run(run_id: str | None) -> Run | None:
    """Return a run by its id; None if it does not exist."""
    if not run_id:
        return None
    client = connect()
    with mlflow_errors():
        try:
            return client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != GONE:
                raise
            return None


def ensure_run(
    model_sha256: str,
    *,
    params: Mapping[str, Any],
    dataset: str,
    history: Sequence[Mapping[str, float]],
) -> str:
    """Return the id of the run that trained this model; create the run if it is missing.

    A run is missing when the store was deleted or replaced. A created run has the tag
    ``recreated`` and no system metrics.

    Args:
        model_sha256: digest of the model, as given to ``tag_model``.
        params, dataset: as for ``training_run``.
        history: one row an epoch: ``epoch``, counted from 1, and its metrics.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    run_id = find_run(model_sha256)
    if run_id is not None:
        return run_id
    client = connect()
    experiment_number = experiment_id(client, EXPERIMENT)
    changes = find_changes(params)
    with mlflow_errors():
        close_abandoned_runs(client, experiment_number)
        name = f"{changes.run_name} (recreated)"
        tags = {**process_tags(), RECREATED: "true"}
        run = client.create_run(experiment_number, run_name=name, tags=tags)
        run_id = str(run.info.run_id)
        _describe(client, run_id, params=params, dataset=dataset, changes=changes)
    for row in history:
        log_epoch(run_id, int(row["epoch"]), {key: row[key] for key in row.keys() - {"epoch"}})
    with mlflow_errors():
        client.set_tag(run_id, MODEL_SHA256, model_sha256)
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))
    logger.info("MLflow had no run of this model. Created one from the files: %s", name)
    return run_id


@contextmanager
def warned(consequence: str) -> Iterator[None]:
    """Turn a PipelineError inside the block into a warning that names its consequence."""
    try:
        yield
    except PipelineError as error:
        logger.warning("%s: %s", consequence, error)


def _describe(
    client: MlflowClient,
    run_id: str,
    *,
    params: Mapping[str, Any],
    dataset: str,
    changes: Changes,
) -> None:
    """Log params, commit and data of a new run."""
    mlflow.log_params(flatten_as_text(params), run_id=run_id)
    tags = {**provenance_tags(), **changes.tags}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    start_note(client, run_id, changes.markdown)
    clips = locked_data("extract", CLIPS)
    if clips.md5 != UNKNOWN:
        data = Dataset(
            name=dataset,
            digest=clips.md5[:_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": str(clips.path)}),
        )
        context = InputTag("mlflow.data.context", "training")
        client.log_inputs(run_id, [DatasetInput(data, [context])])


def _tag(run_id: str, key: str, value: str) -> None:
    client = connect()
    with mlflow_errors():
        client.set_tag(run_id, key, value)
