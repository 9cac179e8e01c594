"""One MLflow run a training, identified by the content of its model.

An outage of the store during a training is only a warning: ``buffer.py`` keeps what cannot be sent.
``ensure_run`` creates a missing run.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file
from pipeline.common.paths import CLIPS
from pipeline.common.settings import flatten_as_text
from pipeline.compute.processes import process_tags
from pipeline.tracking.buffer import BufferedRun, RunDescription
from pipeline.tracking.interruption import (
    Terminated,
    close_abandoned_runs,
    sigterm_raises,
)
from pipeline.tracking.provenance import (
    UNKNOWN,
    Changes,
    find_changes,
    locked_data,
    provenance_tags,
)
from pipeline.tracking.settings import OnError
from pipeline.tracking.store import (
    EXPERIMENT,
    GONE,
    StoreUnreachableError,
    connect,
    experiment_id,
    mlflow_errors,
)
from pipeline.tracking.system_metrics import SystemMetrics

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
    on_error: OnError = "fail",
) -> Iterator[BufferedRun]:
    """Start a run, yield it, and end it with the block.

    The run ends as FINISHED, as FAILED after an exception, and as KILLED after Ctrl-C or
    SIGTERM. Runs whose process is gone are ended first, as KILLED; see ``close_abandoned_runs``.
    System metrics are sampled every 10 seconds (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL).

    Args:
        params: sections of params.yaml that decide the model; nested keys become
            ``train.epochs``. MLflow does not allow a param of a run to change.
        dataset: name of the data set, such as the folder of the videos.
        name: of the run; by default the differences from the commit.
        parent: id of the parent run.
        on_error: ``buffer`` keeps the run in a file if the store is unreachable.

    Raises:
        StoreUnreachableError: ``on_error`` is ``fail``.
        PipelineError: the store refuses the run, whatever ``on_error`` is.
    """
    changes = find_changes(params)
    tags = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
    description = _describe(changes, name or changes.run_name, tags, params, dataset)
    run = BufferedRun(description)
    try:
        client = connect()
        experiment_number = experiment_id(client, EXPERIMENT)
        with mlflow_errors():
            close_abandoned_runs(client, experiment_number)
        run.create()
    except StoreUnreachableError as error:
        if on_error == "fail":
            raise
        run.keep()
        logger.warning(
            "%s Training without it, because tracking.on_error is buffer. Send the run later "
            "with: vidpipe sync",
            error,
        )
    status = "FAILED"
    with sigterm_raises():
        try:
            with SystemMetrics(run):
                yield run
            status = "FINISHED"
        except (KeyboardInterrupt, Terminated):
            status = "KILLED"
            raise
        finally:
            run.end(status)


def tag_model(run: BufferedRun, model_sha256: str) -> None:
    """Set the tag that ``find_run`` searches for."""
    run.set_tag(MODEL_SHA256, model_sha256)


def tag_cnn_weights(run: BufferedRun, path: Path) -> None:
    """Record the SHA-256 of the file of initial CNN weights, whose name is in the params."""
    run.set_tag(CNN_WEIGHTS_SHA256, sha256_of_file(path))


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
    changes = find_changes(params)
    name = f"{changes.run_name} (recreated)"
    run = BufferedRun(_describe(changes, name, {RECREATED: "true"}, params, dataset))
    run.create()
    assert run.id is not None
    client = connect()
    with mlflow_errors():
        for row in history:
            step, now = int(row["epoch"]), time.time_ns() // 1_000_000  # milliseconds
            metrics = [Metric(key, row[key], now, step) for key in row.keys() - {"epoch"}]
            client.log_batch(run.id, metrics=metrics)
        client.set_tag(run.id, MODEL_SHA256, model_sha256)
        client.set_terminated(run.id, "FINISHED")
    logger.info("MLflow had no run of this model. Created one from the files: %s", name)
    return run.id


@contextmanager
def warned(consequence: str) -> Iterator[None]:
    """Turn a PipelineError inside the block into a warning that names its consequence."""
    try:
        yield
    except PipelineError as error:
        logger.warning("%s: %s", consequence, error)


def _describe(
    changes: Changes,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    dataset: str,
) -> RunDescription:
    """Return params, commit and data of a new run."""
    clips = locked_data("extract", CLIPS)
    data = {
        "name": dataset,
        "digest": clips.md5[:_DIGEST_LENGTH],
        "source_type": "local",
        "source": json.dumps({"uri": str(clips.path)}),
    }
    return RunDescription(
        name=name,
        start_time=time.time_ns() // 1_000_000,  # milliseconds
        tags={
            **resolve_tags(),  # user and source, as mlflow.start_run
            **tags,
            **process_tags(),
            **provenance_tags(),
            **changes.tags,
        },
        params=flatten_as_text(params),
        note=changes.markdown,
        dataset={} if clips.md5 == UNKNOWN else data,
    )
