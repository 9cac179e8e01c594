"""Checks before a run: of other runs, of params.yaml, and of the data against the champion's."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.common.errors import PipelineError
from pipeline.common.files import write_json
from pipeline.common.findings import STATUS_MARKS, Finding
from pipeline.common.paths import CATALOG, DATA_CHECK, DECODE_INDEX
from pipeline.common.records import read_decoded
from pipeline.common.tables import align_columns
from pipeline.params import Params, load_params

DEMO = Path("data/demo")  # built by a pipeline of its own, data/demo/dvc.yaml

_DVC_LOCKS = Path(".dvc/tmp/rwlock")  # outputs of running stages, and their processes


def running_process() -> int | None:
    """Return the id of the process that runs a stage of this project; None if there is none."""
    try:
        locks: dict[str, dict[str, Any]] = json.loads(_DVC_LOCKS.read_bytes())
    except (FileNotFoundError, ValueError):  # none yet, or DVC is writing the file
        return None
    processes = (owner["pid"] for owner in locks.get("write", {}).values())
    return next(filter(psutil.pid_exists, processes), None)


def require_no_run() -> None:
    """Check that no stage is running: the next ones would use settings that change now.

    Raises:
        PipelineError: one is running, in a process of this machine.
    """
    if process := running_process():
        raise PipelineError(
            f"The stages of this folder are running, in process {process}, and read params.yaml. "
            "Wait for their end, stop them, or work in another clone."
        )


def check_settings() -> Params:
    """Read and check params.yaml before anything runs: a typo costs a second, not an hour.

    Raises:
        PipelineError: a setting is not valid, a path does not exist, a class folder is a link,
            the gate has no such metric or limit, or the model cannot be built.
    """
    from pipeline.dataset.layouts import check_class_folders
    from pipeline.registry.gate import check_gate_settings
    from pipeline.tasks.task import task_class

    params = load_params()
    videos, labels, cnn = Path(params.data.videos), params.data.labels, params.model.cnn
    if Path(labels).is_absolute():  # DVC would look for it below data.videos
        raise PipelineError(
            "params.yaml: data.labels: expected a path relative to data.videos, such as "
            f"{os.path.relpath(labels, videos)}. Received: {labels}"
        )
    if not videos.is_relative_to(DEMO):
        if not videos.exists():
            raise PipelineError(
                f"params.yaml: data.videos: no such folder. Received: {videos} (relative to the "
                "root of the repository, or absolute)"
            )
        if labels and not (videos / labels).exists():
            raise PipelineError(
                f"params.yaml: data.labels: no such file. Received: {labels} (relative to "
                f"data.videos, {videos})"
            )
    check_class_folders(params.data)
    check_gate_settings(params.promote, task_class(params.task.type))
    is_counted = isinstance(cnn.trainable, int)
    if cnn.backbone != "small_cnn" or cnn.weights != "none" or is_counted:
        # Any other model is valid, and Keras takes seconds to import.
        from pipeline.model.network import check_model

        check_model(params.model, frame_shape=(params.decode.height, params.decode.width, 3))
    return params


@dataclass(frozen=True)
class DataCheck:
    """The findings of the data check."""

    compared_with: str  # a sentence
    findings: Sequence[Finding]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [finding.name for finding in self.findings if finding.status == "fail"]

    def lines(self) -> list[str]:
        """Return the table for a terminal."""
        rows = [
            (
                STATUS_MARKS[finding.status],
                finding.name,
                "" if finding.value is None else f"{finding.value:.3g}",
                finding.sentence,
            )
            for finding in self.findings
        ]
        lines = [self.compared_with, *align_columns(rows, "<<><")]
        if self.failed:
            lines.append(f"The data is not fit to train on: {', '.join(self.failed)}.")
        return lines


def check_data_set(params: Params) -> DataCheck:
    """Check catalog and decode index against those of the champion; write eval/data_check.json.

    Raises:
        PipelineError: catalog or decode index are missing, the champion has another task, or
            the registry cannot be read.
    """
    from pipeline.dataset.checks import check_data
    from pipeline.registry.versions import (
        CHAMPION,
        recorded_records,
        refuse_other_task,
        version_with_alias,
    )
    from pipeline.tasks.targets import targets_of

    now = read_decoded(CATALOG, DECODE_INDEX)
    champion = version_with_alias(params.register_.name, CHAMPION)
    if champion is not None:
        refuse_other_task(champion, params.task.type)
    before = None if champion is None else recorded_records(champion)
    findings = check_data(now, before, targets_of(params.task.type), params.data.side_inputs)
    if champion is None:
        sentence = "There is no champion yet: checked without a comparison."
    elif before is None:
        sentence = (
            f"{champion.name} version {champion.version} is champion and its run recorded no "
            "catalog: checked without a comparison."
        )
    else:
        sentence = (
            f"Compared with the {len(before)} videos of {champion.name} version "
            f"{champion.version}, the champion:"
        )
    number = None if champion is None else int(champion.version)
    write_json(
        DATA_CHECK, {"champion": number, "checks": [asdict(finding) for finding in findings]}
    )
    return DataCheck(sentence, findings)
