"""``vidpipe repro``: check, run outdated stages, restore outputs after a failure, summarise."""

import logging
import os
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import psutil

from pipeline.common.command import INTERRUPTED, run_python
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv, read_json
from pipeline.common.params_text import read_yaml
from pipeline.common.paths import (
    CATALOG,
    CLIPS,
    CLIPS_INDEX,
    DECODE_INDEX,
    INTERVALS,
    METRICS,
    MODEL,
    REGISTRATION,
    REVIEW_REPORT,
)
from pipeline.common.records import SPLITS, read_catalog
from pipeline.common.tables import align_columns, count_of, shorten_list
from pipeline.dataset.layouts import LABELS_TABLE
from pipeline.params import Params
from pipeline.retraining.checks import DEMO, check_settings, require_no_run
from pipeline.tracking.provenance import git_output

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger(__name__)

_ANY_CODE = range(-64, 256)  # negative: DVC was killed by a signal
_SHOWN_PATHS = 8


@dataclass(frozen=True)
class Registration:
    """The content of eval/registration.json."""

    name: str
    version: int | None  # None: MLflow was unreachable
    alias: str
    model_sha256: str

    def __str__(self) -> str:
        return f"{self.name} version {self.version or '(not registered yet)'}"

    def reference(self) -> str:
        """Return the version as commands name it, such as ``video-classifier/3``.

        Raises:
            PipelineError: the model is not registered yet.
        """
        if self.version is None:
            raise PipelineError(
                f"{REGISTRATION}: the model is not registered, because MLflow was unreachable. "
                "When it is reachable again, run: vidpipe sync"
            )
        return f"{self.name}/{self.version}"


def read_registration() -> Registration | None:
    """Return what the register stage wrote; None if it never ran."""
    return Registration(**read_json(REGISTRATION)) if REGISTRATION.exists() else None


def reproduce(
    targets: Sequence[str] = (), *, force: bool = False, single_item: bool = False
) -> int:
    """Check params.yaml and run ``dvc repro``.

    When a stage fails, the last good outputs of it and of the stages after it are checked out
    again, and the log says which. Outputs of stages that succeeded stay. A model that DVC has and
    the MLflow store does not (a new server, a deleted store) is registered again.

    Args:
        targets: stages; all by default.
        force: run stages that are up to date.
        single_item: run the targets without the stages before them.

    Returns:
        The exit code of DVC, or 130 after Ctrl-C or SIGTERM.

    Raises:
        PipelineError: a target is not a stage, params.yaml is not valid, the folder is read-only
            or has no git, or another process runs its stages.
    """
    _check_folder()
    require_no_run()
    _check_targets(targets)
    params = check_settings()
    if not single_item:
        logger.info("Videos of %s", _videos(params))
    options = [*(["--force"] if force else []), *(["--single-item"] if single_item else [])]
    with _interrupts_left_to_children() as interrupts:
        code = run_python("dvc", "repro", *options, *targets, accept=_ANY_CODE)
    if code:
        _restore()
    if interrupts:
        logger.info("Stages that ended are done, and decoded videos are kept.")
        return INTERRUPTED
    if code:
        logger.error(
            "To go on, correct what the lines above report and run the command again. Stages that "
            "succeeded do not run again."
        )
    if code == 0 and not single_item and (not targets or "register" in targets):
        return _register_if_missing()
    return code if code >= 0 else 128 - code


def _check_folder() -> None:
    """Refuse a read-only folder, and one without git, such as an unpacked archive."""
    if not os.access(Path(), os.W_OK):
        raise PipelineError(
            f"{Path.cwd()}: the folder cannot be written. Make it writable, or clone the project "
            "to another disk."
        )
    config = Path(".dvc/config")  # of a project without git: dvc init --no-scm
    needs_git = config.is_file() and "no_scm" not in config.read_text(encoding="utf-8")
    if needs_git and git_output("rev-parse", "--git-dir") is None:
        raise PipelineError(
            f"{Path.cwd()}: expected a git repository, which DVC needs. Received: a folder without "
            "git, such as an unpacked archive. Clone the project, or run: git init && git add "
            "--all && git commit -m Start"
        )


def _videos(params: Params) -> str:
    """Return the folder of videos; a demo data set is named as such."""
    folder = Path(params.data.videos)
    return f"{folder} (a demo data set)" if folder.is_relative_to(DEMO) else str(folder)


def _check_targets(targets: Sequence[str]) -> None:
    """Refuse a target that is not a stage, before DVC starts."""
    stages = list(read_yaml(Path("dvc.yaml"))["stages"])
    for target in targets:
        if target in stages or ":" in target or Path(target).exists():
            continue
        similar = get_close_matches(target.lower(), stages, n=1)
        raise PipelineError(
            f"vidpipe repro: expected a stage of dvc.yaml ({', '.join(stages)}). "
            f"Received: {target}." + (f" Did you mean {similar[0]}?" if similar else "")
        )


def synchronise() -> int:
    """Send what MLflow lacks after an outage: runs, and the version of the present model.

    Returns:
        0, or 1 or the exit code of DVC if the model is not registered, or a run is not sent.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    from pipeline.tracking.buffer import upload_buffered
    from pipeline.tracking.store import (
        EXPERIMENT,
        StoreUnreachableError,
        connect,
        experiment_id,
    )

    experiment_id(connect(), EXPERIMENT)  # raises if the store is unreachable
    try:
        n_runs = upload_buffered()
    except StoreUnreachableError:
        raise
    except PipelineError as error:  # of single files
        logger.error("%s", error)
        _register_pending()
        return 1
    logger.info("%s sent to MLflow.", count_of(n_runs, "run"))
    return _register_pending()


def _register_pending() -> int:
    """Register the present model if the store lacks it; return the exit code."""
    registration = read_registration()
    if registration is None and MODEL.exists():
        logger.error(
            "%s is missing: the register stage has not run, or failed. Run: vidpipe repro",
            REGISTRATION,
        )
        return 1
    if registration is None or registered_version(registration) is not None:
        return 0
    if code := reproduce(["register"], force=True, single_item=True):
        return code
    registration = read_registration()
    return 0 if registration is not None and registration.version is not None else 1


def registered_version(registration: Registration) -> "ModelVersion | None":
    """Return the registered version; None if the store does not have it with this model.

    Raises:
        PipelineError: the store cannot be read.
    """
    from pipeline.registry.versions import existing_version
    from pipeline.tracking.runs import MODEL_SHA256

    if registration.version is None:
        return None
    version = existing_version(registration.name, registration.version)
    has_model = version and version.tags.get(MODEL_SHA256) == registration.model_sha256
    return version if has_model else None


def _register_if_missing() -> int:
    """Register the model again when the store does not have its version; return the exit code."""
    from pipeline.tracking.store import shown_uri

    registration = read_registration()
    if registration is None or registration.version is None:  # vidpipe sync registers it
        return 0
    try:
        if registered_version(registration) is not None:
            return 0
    except PipelineError as error:
        logger.warning("Whether MLflow has %s is unknown. %s", registration, error)
        return 0
    logger.info("MLflow at %s does not have %s: registering again.", shown_uri(), registration)
    return reproduce(["register"], force=True, single_item=True)


@contextmanager
def _interrupts_left_to_children() -> Iterator[list[int]]:
    """Survive Ctrl-C, which DVC and its stage receive too; yield the signals that came.

    Python would kill DVC a quarter of a second later, before the stage ended its MLflow run.
    Only this process receives SIGTERM, so it sends SIGINT to the processes below it.
    """
    interrupts: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        interrupts.append(number)
        if number == signal.SIGTERM:
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.send_signal(signal.SIGINT)

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield interrupts
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def _restore() -> None:
    from pipeline.retraining.dvc_data import restore_outputs

    try:
        restored, missing = restore_outputs()
    except PipelineError as error:
        logger.error("The last good outputs could not be checked out. %s", error)
        return
    if restored:
        logger.error(
            "Checked out the last good outputs again: %s.",
            shorten_list(restored, shown=_SHOWN_PATHS),
        )
    if missing:
        logger.error(
            "These outputs are missing and are not in DVC's cache: %s.",
            shorten_list(missing, shown=_SHOWN_PATHS),
        )


def summary_lines(params: Params) -> list[str]:
    """Return a table of videos, clips, scores and the registered version, and what to do next."""
    rows = list(_summary_rows(params))
    records = read_catalog(CATALOG)
    video = Path(params.data.videos) / next(
        record.video for record in records if record.split == "test"
    )
    table = Path(params.data.videos) / (params.data.labels or LABELS_TABLE)
    side_table = f" --side-table {shlex.quote(str(table))}" if params.data.side_inputs else ""
    return [
        *align_columns(rows, "<<"),
        "",
        "Next:",
        f"  {REVIEW_REPORT}   # scores, audits and film strips: open it in a browser",
        "  make ui                   # runs, charts and models in the browser",
        "  vidpipe promote           # make it @champion if it passes the gate",
        f"  vidpipe predict {shlex.quote(str(video))}{side_table}",
    ]


def _summary_rows(params: Params) -> Iterator[tuple[str, str]]:
    from pipeline.tasks.task import task_class

    task = task_class(params.task.type)
    index = read_csv(DECODE_INDEX)
    quarantined = sum(row["status"] == "quarantined" for row in index)
    clips = {split: len(read_csv(CLIPS / split / CLIPS_INDEX)) for split in SPLITS}
    metrics, intervals = read_json(METRICS), read_json(INTERVALS)
    yield "videos", f"{len(index)} of {_videos(params)}"
    yield "quarantined", f"{quarantined} (see {DECODE_INDEX})" if quarantined else "0"
    yield "clips", ", ".join(f"{count} {split}" for split, count in clips.items())
    for name in task.headline_metrics:
        value = f"{metrics[name]:.3f}"
        if name in intervals:
            low, high = intervals[name]
            value += f"  [{low:.3f}, {high:.3f}] at {params.evaluate.confidence:.0%}"
        for baseline in task.baselines:
            if (score := metrics.get(f"{name}_{baseline}")) is not None:
                value += f"; baseline {baseline.replace('_', ' ')} {score:.3f}"
        yield f"test {name.replace('_', ' ')}", value
    video_score = task.video_score
    for title, name in (
        ("with frames shuffled", f"{video_score}_frames_shuffled"),
        ("from clip length only", f"{video_score}_length_only"),
    ):
        if name in metrics:
            yield title, f"{metrics[name]:.3f} {video_score.replace('_', ' ')}"
    if registration := read_registration():
        yield "registered", f"{registration}, {_aliases(registration)}"


def _aliases(registration: Registration) -> str:
    """Return the present aliases of the version, such as @challenger, or how to register it."""
    try:
        version = registered_version(registration)
    except PipelineError:  # MLflow does not answer
        version = None
    if version is not None:
        return ", ".join(f"@{alias}" for alias in sorted(version.aliases)) or "no alias"
    return f"@{registration.alias}" if registration.version else "run: vidpipe sync"
