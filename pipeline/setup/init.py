"""``vidpipe init``: point params.yaml at a folder of videos, with settings that fit it."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.common.command import run_python
from pipeline.common.errors import PipelineError
from pipeline.common.params_text import set_values, value_at, with_values, yaml_text
from pipeline.common.paths import PARAMS
from pipeline.common.tables import align_columns, printable
from pipeline.params import load_params, parse_params
from pipeline.setup.data_findings import data_findings
from pipeline.setup.inspection import inspect_folder
from pipeline.setup.proposal import estimates, propose, summary_rows


@dataclass(frozen=True)
class Initialised:
    """The result of ``initialise``.

    Attributes:
        lines: what was found and changed, for a terminal.
        is_trainable: whether nothing was found that the stages refuse.
    """

    lines: Sequence[str]
    is_trainable: bool


def initialise(folder: Path, *, task_type: str | None, dvc_add: bool) -> Initialised:
    """Inspect ``folder``, write params.yaml, and return what was found and changed.

    Args:
        task_type: value of ``task.type``; None: guessed from the labels.
        dvc_add: also track the folder with DVC.

    Raises:
        PipelineError: the folder is not a data set, or DVC cannot track it. params.yaml is then
            as before.
    """
    before = load_params()
    videos = _relative_to_project(folder)
    if dvc_add and Path(videos).is_absolute():
        raise PipelineError(
            f"--dvc-add: expected a folder in this repository, {Path.cwd()}. Received: {folder}. "
            "Move the videos into data/, or leave out --dvc-add: the folder's content is hashed "
            "where it is."
        )
    inspection = inspect_folder(
        Path(videos), task_type=task_type, decode=before.decode, compute=before.compute
    )
    proposal = propose(inspection, before, videos=videos)
    text = PARAMS.read_text(encoding="utf-8")
    after = parse_params(yaml.safe_load(with_values(text, proposal.values, where=PARAMS)))
    content = yaml.safe_load(text)
    changed = {
        key: value for key, value in proposal.values.items() if value_at(content, key) != value
    }
    if dvc_add:
        run_python("dvc", "add", "--quiet", videos)
    set_values(PARAMS, changed)

    lines = [f"{printable(str(folder))}:", *align_columns(summary_rows(inspection), "<<")]
    findings = data_findings(inspection, after)
    for title, status in (("To fix:", "fail"), ("To look at:", "warn")):
        if own := [finding.sentence for finding in findings if finding.status == status]:
            lines += ["", title, *(f"  - {printable(sentence)}" for sentence in own)]
    rows = [
        (
            f"{key}:",
            yaml_text(value),
            f"({proposal.reasons[key]})" if key in proposal.reasons else "",
        )
        for key, value in changed.items()
    ]
    lines += ["", "Changed in params.yaml:" if rows else "params.yaml fits already."]
    lines += align_columns(rows, "<<<") if rows else []
    lines += ["", "Estimates:", *align_columns(estimates(inspection, after), "<<")]
    is_trainable = all(finding.status != "fail" for finding in findings)
    next_line = (
        "Next: vidpipe repro    # or first, to look at the data: vidpipe repro report"
        if is_trainable
        else "Next: change the data as To fix says, because vidpipe repro would fail. Then again: "
        f"vidpipe init {shlex.quote(printable(str(folder)))}"
    )
    return Initialised([*lines, "", next_line], is_trainable)


def _relative_to_project(folder: Path) -> str:
    """Return the value of ``data.videos``: relative to the project for a folder inside it."""
    path = Path(os.path.normpath(Path.cwd() / folder.expanduser()))  # links in it stay
    root = Path.cwd()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
