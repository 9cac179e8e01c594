"""The steps of a retraining, in their order."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.base.files import read_json, replacing_file
from pipeline.base.paths import CATALOG, DATA_CHECK, METRICS, PLOTS, PROMOTION_REPORT, RETRAINED
from pipeline.base.tools import run_python
from pipeline.catalog.records import read_catalog
from pipeline.promotion.decision import REFUSED_EXIT_CODE
from pipeline.retraining import repository
from pipeline.retraining.data_changes import data_changes
from pipeline.retraining.report import RetrainReport
from pipeline.retraining.standing import Standing, read_registration, standing
from pipeline.tracking.provenance import UNKNOWN, git_output

logger = logging.getLogger(__name__)

Outcome = Literal["nothing to do", "unfit data", "passed", "refused"]

FRESH_REPORT = Path(".dvc/tmp/retrained")  # there is one, of the last command

_FAILED = 1  # exit code of the data check
_PICTURES = {"Confusion": "confusion.png", "Training": "training.png"}


@dataclass(frozen=True)
class Retrained:
    """What came of it."""

    outcome: Outcome
    sentence: str


def retrain(*, promote: bool) -> Retrained:
    """Pull, check the data, run what changed, judge, push, and write ``eval/retrain.md``.

    A retraining that was killed goes on where it was: DVC knows which stages are done, and
    the registry whether the model was judged.

    Args:
        promote: make the model champion if it passes; otherwise it is judged only.

    Raises:
        PipelineError: a step fails; those before it need not be done again.
    """
    FRESH_REPORT.unlink(missing_ok=True)
    outdated = repository.outdated_stages()
    stands = standing(read_registration()) if not outdated else "not registered"
    if not outdated and (stands == "done" or (stands == "passed" and not promote)):
        return Retrained("nothing to do", "Nothing has changed since the last retraining.")
    remote = repository.has_remote()
    if remote:
        repository.pull()
    else:
        logger.info("DVC has no default remote: nothing is pulled or pushed.")
    run_python("pipeline.check")
    if outdated and not _data_is_fit():
        return _finish("unfit data", "The data check failed: nothing was trained.")
    run_python("dvc", "repro")
    if not outdated:
        _register_again(stands)
    return _judge(promote=promote, remote=remote)


def _data_is_fit() -> bool:
    run_python("dvc", "repro", "decode")
    DATA_CHECK.unlink(missing_ok=True)  # so that an old one is not taken for the new one
    code = run_python("pipeline.data_check", accept=(0, _FAILED))
    if code and not DATA_CHECK.exists():
        run_python("pipeline.data_check")  # an error, no verdict: let it say so
    return code == 0


def _register_again(stands: Standing) -> None:
    """Bring a model that DVC has, and the registry does not, to the registry."""
    if stands == "not registered":
        run_python("dvc", "repro", "--force", "--single-item", "evaluate", "register")


def _judge(*, promote: bool, remote: bool) -> Retrained:
    registration = read_registration()
    assert registration is not None  # the register stage has run
    arguments = [] if promote else ["--judge"]
    version = str(registration.version)
    accept = (0, REFUSED_EXIT_CODE)
    code = run_python("pipeline.promote", "--version", version, *arguments, accept=accept)
    if remote:
        repository.push()
    pushed = (
        "Data and run-cache are pushed." if remote else "DVC has no remote: nothing was pushed."
    )
    what = f"{registration.name} version {version}"
    if code == REFUSED_EXIT_CODE:
        return _finish("refused", f"{what} is refused by the gate.", pushed)
    sentence = f"{what} is champion." if promote else f"{what} passes the gate."
    return _finish("passed", sentence, pushed)


def _finish(outcome: Outcome, sentence: str, pushed: str = "") -> Retrained:
    is_trained = outcome != "unfit data"
    report = RetrainReport(
        headline=sentence,
        commit=git_output("rev-parse", "--short", "HEAD") or UNKNOWN,
        ran=repository.changed_stages(),
        data=data_changes(repository.committed_catalog(), read_catalog(CATALOG)),
        findings=read_json(DATA_CHECK)["checks"] if DATA_CHECK.exists() else [],
        metrics=read_json(METRICS) if is_trained else {},
        committed_metrics=repository.committed_metrics(),
        gate=PROMOTION_REPORT.read_text(encoding="utf-8") if is_trained else "",
        pictures={title: Path(PLOTS.name, name) for title, name in _PICTURES.items()}
        if is_trained
        else {},
        pushed=pushed,
    )
    with replacing_file(RETRAINED) as temporary:
        temporary.write_text(report.markdown(), encoding="utf-8")
    FRESH_REPORT.touch()
    return Retrained(outcome, f"{sentence} See {RETRAINED}.")
