"""One MLflow run a training, found again by the content of its model.

What goes wrong before a training costs nothing and stops it. What goes wrong with the store
later is a warning: hours of training must not be lost to a server that restarts, and
``ensure_run`` makes up for what is missing from what lies on disk.
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

from pipeline.base.dotted import flat_params
from pipeline.base.errors import PipelineError
from pipeline.base.files import sha256_of_file
from pipeline.tracking.changes import Changes, find_changes
from pipeline.tracking.interruption import (
    Terminated,
    close_abandoned_runs,
    process_tags,
    sigterm_raises,
)
from pipeline.tracking.notes import start_note
from pipeline.tracking.provenance import UNKNOWN, clips_data, provenance_tags
from pipeline.tracking.store import EXPERIMENT, connect, experiment_id, mlflow_errors

logger = logging.getLogger(__name__)

MODEL_SHA256 = "model.sha256"
CNN_WEIGHTS_SHA256 = "cnn_weights.sha256"
RECREATED = "recreated"

_GONE = "RESOURCE_DOES_NOT_EXIST"
_DIGEST_LENGTH = 36  # the longest digest of a data set that MLflow takes


@contextmanager
def training_run(
    *,
    params: Mapping[str, Any],
    dataset: str,
    experiment: str = EXPERIMENT,
    name: str | None = None,
    parent: str | None = None,
) -> Iterator[str]:
    """Yield the id of a new run, which ends with the block.

    It ends as FINISHED, as FAILED after an exception, and as KILLED after Ctrl-C or SIGTERM.
    Runs that a SIGKILL on this host left open are closed as KILLED first. System metrics are
    sampled every 10 seconds meanwhile (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL).

    Args:
        params: sections of params.yaml; nested keys become ``train.epochs``. A run never
            forgets a param, so they are those that made the model, and no others.
        dataset: name of the data set, such as the folder of the videos.
        experiment: name of the experiment.
        name: of the run; without one, what differs from the commit.
        parent: id of the run that this one is a part of.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    client = connect()
    experiment_number = experiment_id(client, experiment)
    changes = find_changes(params)
    with mlflow_errors():
        close_abandoned_runs(client, experiment_number)
    with sigterm_raises():
        with mlflow_errors():
            run_id = _start(experiment_number, name=name or changes.run_name, parent=parent)
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
    now = _milliseconds()
    with mlflow_errors():
        client.log_batch(
            run_id, metrics=[Metric(name, value, now, epoch) for name, value in metrics.items()]
        )


def tag_model(run_id: str, model_sha256: str) -> None:
    """Make the run the one that ``find_run`` finds for this model; a warning if that fails."""
    with warned("evaluate will start another run for this model"):
        _tag(run_id, MODEL_SHA256, model_sha256)


def tag_cnn_weights(run_id: str, path: Path) -> None:
    """Note the content of the file that the CNN began with: params have nothing but its name."""
    with warned(f"The run does not say what {path} held"):
        _tag(run_id, CNN_WEIGHTS_SHA256, sha256_of_file(path))


def find_run(model_sha256: str, *, experiment: str = EXPERIMENT) -> str | None:
    """Return the id of the newest run that made this model, None if there is none."""
    client = connect()
    experiment_number = experiment_id(client, experiment)
    with mlflow_errors():
        found = client.search_runs(
            [experiment_number],
            f"tags.`{MODEL_SHA256}` = '{model_sha256}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
    return str(found[0].info.run_id) if found else None


def existing_run(run_id: str | None) -> Run | None:
    """Return a run by its id; None if there is no such run any more."""
    if not run_id:
        return None
    client = connect()
    with mlflow_errors():
        try:
            return client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != _GONE:
                raise
            return None


def ensure_run(
    model_sha256: str,
    *,
    params: Mapping[str, Any],
    dataset: str,
    history: Sequence[Mapping[str, float]],
    experiment: str = EXPERIMENT,
) -> str:
    """Return the id of the run that made this model; make up for it when the store has none.

    That happens when the store was deleted, is another one, or the model came from DVC's
    cache. Such a run has the tag ``recreated`` and no system metrics.

    Args:
        model_sha256: digest of the model, as given to ``tag_model``.
        params, dataset: as for ``training_run``.
        history: one row an epoch: ``epoch``, counted from 1, and its metrics.
        experiment: name of the experiment.
    """
    run_id = find_run(model_sha256, experiment=experiment)
    if run_id is not None:
        return run_id
    client = connect()
    experiment_number = experiment_id(client, experiment)
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
    logger.info("MLflow had no run of this model; made one from the files: %s", name)
    return run_id


def _start(experiment_number: str, *, name: str, parent: str | None) -> str:
    run = mlflow.start_run(
        experiment_id=experiment_number,
        run_name=name,
        parent_run_id=parent,
        tags=process_tags(),
        log_system_metrics=True,
    )
    return str(run.info.run_id)


def _describe(
    client: MlflowClient,
    run_id: str,
    *,
    params: Mapping[str, Any],
    dataset: str,
    changes: Changes,
) -> None:
    """Log what the run was made from: params, commit and data."""
    mlflow.log_params(flat_params(params), run_id=run_id)
    tags = {**provenance_tags(), **changes.tags}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    start_note(client, run_id, changes.markdown)
    clips = clips_data()
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


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def warned(consequence: str) -> Iterator[None]:
    """Turn a PipelineError inside the block into a warning that names its consequence."""
    try:
        yield
    except PipelineError as error:
        logger.warning("%s: %s", consequence, error)
