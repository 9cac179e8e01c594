"""``vidpipe retrain``: pull, check the data, run what changed, push, judge, promote, report.

A retraining that was killed continues where it stopped: DVC knows which stages are done, and
``.dvc/tmp/retrain.state`` says that the steps around them must be repeated. Without that file, a
retraining killed between training and the gate would look finished.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from filelock import FileLock, Timeout

from pipeline.common.command import INTERRUPTED
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json, replacing_file
from pipeline.common.pages import words
from pipeline.common.paths import CATALOG, METRICS, PLOTS, PROMOTION_REPORT, RETRAIN_REPORT
from pipeline.common.records import read_catalog
from pipeline.params import Params, load_params
from pipeline.registry.champions import champion_number
from pipeline.registry.gate import OUTCOME, RULES, GateRules
from pipeline.registry.gate_report import GateReport
from pipeline.registry.promotion import gate_rules
from pipeline.registry.promotion import promote as promote_version
from pipeline.retraining import dvc_data
from pipeline.retraining.checks import DataCheck, check_data_set
from pipeline.retraining.report import RetrainReport, data_changes
from pipeline.retraining.repro import (
    Registration,
    read_registration,
    registered_version,
    reproduce,
)
from pipeline.tasks.targets import targets_of
from pipeline.tasks.task import task_class
from pipeline.tracking.provenance import UNKNOWN, git_output

logger = logging.getLogger(__name__)

Outcome = Literal["nothing to do", "unfit data", "passed", "refused"]

# nothing: there was nothing to do; reported: eval/retrain.md is of this retraining.
State = Literal["looking", "working", "nothing", "reported"]

# replaced: it was champion, and another version is.
Standing = Literal["not registered", "not judged", "passed", "refused", "champion", "replaced"]

_LOCK = Path(".dvc/tmp/retrain.lock")
_STATE = Path(".dvc/tmp/retrain.state")


@dataclass(frozen=True)
class RetrainResult:
    """The outcome, and the sentence for a terminal."""

    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class Steps:
    """The steps of a retraining that need videos, remotes, or hours; all can be replaced."""

    outdated_stages: Callable[[], list[str]] = dvc_data.outdated_stages
    has_remote: Callable[[], bool] = dvc_data.has_remote
    pull: Callable[[], None] = dvc_data.pull
    push: Callable[[], None] = dvc_data.push
    reproduce: Callable[..., int] = reproduce
    check_data_set: Callable[[Params], DataCheck] = check_data_set
    promote: Callable[..., GateReport] = promote_version


def retrain(
    *,
    promote: bool,
    wait: bool = False,
    ignore_data_check: bool = False,
    steps: Steps | None = None,
) -> RetrainResult:
    """Run all steps of a retraining and write ``eval/retrain.md``.

    Args:
        promote: make the version champion if it passes; otherwise it is only judged.
        wait: for another retraining in this folder.
        ignore_data_check: report data checks that fail, and continue.
        steps: in place of the real ones.

    Raises:
        PipelineError: another retraining is running, or a step fails. The steps before it need
            not run again.
    """
    steps = steps or Steps()
    with one_retraining(wait=wait):
        is_unfinished = last_state() == "working"
        if not is_unfinished:
            note("looking")
        params = load_params()
        rules = gate_rules(params)
        if not is_unfinished and (sentence := _nothing_to_do(steps, rules, promote=promote)):
            note("nothing")
            return RetrainResult("nothing to do", sentence)
        note("working")
        is_shared = steps.has_remote()
        if is_shared:
            steps.pull()
        else:
            logger.info("DVC has no default remote: nothing is pulled or pushed.")

        _reproduce(steps, "decode")
        data_check = steps.check_data_set(params)
        for line in data_check.lines():
            logger.info("%s", line)
        if data_check.failed and not ignore_data_check:
            sentence = "The data check failed: nothing is trained or judged."
            return _finish("unfit data", sentence, params, data_check)
        if data_check.failed:
            logger.warning("--ignore-data-check: the retraining continues.")

        _reproduce(steps)
        registration = read_registration()
        assert registration is not None  # the register stage has run
        pushed = "DVC has no remote: nothing was pushed."
        if is_shared:
            steps.push()  # before the gate, so that everybody can get the data of a champion
            pushed = "Data is pushed."

        report = steps.promote(params, version=registration.reference(), dry_run=not promote)
        for line in report.lines():
            logger.info("%s", line)
        outcome: Outcome = "refused" if report.decision.outcome == "refused" else "passed"
        meaning = {"refused": "is refused by the gate", "passed": "passes the gate"}
        sentence = f"{registration} {meaning.get(report.decision.outcome, 'is champion')}."
        return _finish(outcome, sentence, params, data_check, pushed)


def _reproduce(steps: Steps, *targets: str) -> None:
    code = steps.reproduce(targets)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise PipelineError(
            f"vidpipe repro {' '.join(targets)}".rstrip()
            + f" failed with exit code {code}. The lines above say why."
        )


def _nothing_to_do(steps: Steps, rules: GateRules, *, promote: bool) -> str:
    """Return why there is nothing to do; empty if there is something."""
    if steps.outdated_stages():
        return ""
    registration = read_registration()
    meaning = {
        "refused": "was refused by the gate.",
        "champion": "is champion.",
        "replaced": "was champion, and another version is now.",
    }
    if registration is not None and not promote:
        meaning["passed"] = f"passed the gate and waits for: vidpipe promote {registration.version}"
    sentence = meaning.get(standing(registration, rules))
    if sentence is None:
        return ""
    return f"Nothing has changed since this model was trained and judged. {registration} {sentence}"


def standing(registration: Registration | None, rules: GateRules) -> Standing:
    """Return where the model on disk stands in the registry.

    ``not judged`` includes a version that was judged by other rules and is not champion.

    Raises:
        PipelineError: the store cannot be read.
    """
    version = None if registration is None else registered_version(registration)
    if registration is None or version is None:
        return "not registered"
    if champion_number(registration.name) == registration.version:
        return "champion"
    outcome = version.tags.get(OUTCOME)
    if outcome is None or version.tags.get(RULES) != rules.digest:
        return "not judged"
    judged: dict[str, Standing] = {"passed": "passed", "refused": "refused"}
    return judged.get(outcome, "replaced")


def _finish(
    outcome: Outcome, sentence: str, params: Params, data_check: DataCheck, pushed: str = ""
) -> RetrainResult:
    """Write the report and record that the retraining has ended."""
    is_trained = outcome != "unfit data"
    before = dvc_data.committed_catalog()
    pictures = {
        words(name).capitalize(): (PLOTS / f"{name}.png").relative_to(RETRAIN_REPORT.parent)
        for name in (task_class(params.task.type).headline_chart, "training")
        if is_trained and (PLOTS / f"{name}.png").exists()
    }
    report = RetrainReport(
        headline=sentence,
        commit=git_output("rev-parse", "--short", "HEAD") or UNKNOWN,
        ran=dvc_data.changed_stages(),
        data=data_changes(before or [], read_catalog(CATALOG), targets_of(params.task.type)),
        is_catalog_lost=before is None,
        findings=data_check.findings,
        metrics=read_json(METRICS) if is_trained else {},
        committed_metrics=dvc_data.committed_metrics(),
        gate=PROMOTION_REPORT.read_text(encoding="utf-8") if is_trained else "",
        pictures=pictures,
        pushed=pushed,
    )
    with replacing_file(RETRAIN_REPORT) as temporary:
        temporary.write_text(report.markdown(), encoding="utf-8")
    note("reported")
    return RetrainResult(outcome, f"{sentence} See {RETRAIN_REPORT}.")


@contextmanager
def one_retraining(*, wait: bool) -> Iterator[None]:
    """Run one retraining at a time in this folder.

    Raises:
        PipelineError: another one is running, and ``wait`` is False.
    """
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise PipelineError(
                "Another retraining is running in this folder. Wait until it ends, or start this "
                "one with: vidpipe retrain --wait"
            ) from None
        logger.info("Another retraining is running in this folder; waiting until it ends.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def note(state: State) -> None:
    """Record how far this retraining has come."""
    _STATE.parent.mkdir(parents=True, exist_ok=True)
    _STATE.write_text(state, encoding="utf-8")


def last_state() -> State | None:
    """Return how far the last retraining in this folder came; None if there was none."""
    text = _STATE.read_text(encoding="utf-8") if _STATE.exists() else ""
    return cast(State, text) if text in get_args(State) else None
