"""The steps of a retraining, in their order."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.base.files import read_json, replacing_file
from pipeline.base.paths import CATALOG, DATA_CHECK, METRICS, PLOTS, PROMOTION_REPORT, RETRAINED
from pipeline.base.tools import run_python
from pipeline.catalog.records import read_catalog
from pipeline.lineage.objects import has_remote
from pipeline.promotion.decision import REFUSED_EXIT_CODE, Rules
from pipeline.retraining import progress, repository, transfer
from pipeline.retraining.data_changes import data_changes
from pipeline.retraining.outdated import outdated_stages
from pipeline.retraining.report import RetrainReport
from pipeline.retraining.standing import Registration, read_registration, standing
from pipeline.tracking.provenance import UNKNOWN, git_output

logger = logging.getLogger(__name__)

Outcome = Literal["nothing to do", "unfit data", "passed", "refused"]

_FAILED = 1  # exit code of the data check
_PICTURES = {"Confusion": "confusion.png", "Training": "training.png"}


@dataclass(frozen=True)
class Retrained:
    """What came of it."""

    outcome: Outcome
    sentence: str


def retrain(*, promote: bool, rules: Rules, was_cut_short: bool) -> Retrained:
    """Pull, check the data, run what changed, push, judge, and write ``eval/retrain.md``.

    A retraining that was killed goes on where it was: DVC knows which stages are done. The
    steps around them are done once more.

    Args:
        promote: make the model champion if it passes; otherwise it is judged only.
        rules: of the gate; a model that was judged by others is judged again.
        was_cut_short: what ``progress.begin`` says.

    Raises:
        PipelineError: a step fails; those before it need not be done again.
    """
    if not was_cut_short and (sentence := _nothing_to_do(promote, rules)):
        progress.note("nothing")
        return Retrained("nothing to do", sentence)
    progress.note("working")
    is_shared = has_remote()
    if is_shared:
        transfer.pull()
    else:
        logger.info("DVC has no default remote: nothing is pulled or pushed.")
    run_python("pipeline.check")
    if not _data_is_fit():
        return _finish("unfit data", "The data check failed: nothing is trained or judged.")
    run_python("dvc", "repro")
    registration = _registered(rules)
    if is_shared:
        transfer.push()  # before the gate: what becomes champion can be had by everybody
    return _judge(registration, promote=promote, is_shared=is_shared)


def _nothing_to_do(promote: bool, rules: Rules) -> str:
    """Say why there is nothing to do; empty if there is something."""
    if outdated_stages():
        return ""
    registration = read_registration()
    stands = standing(registration, rules)
    settled = ("champion", "replaced", "refused", *(() if promote else ("passed",)))
    if registration is None or stands not in settled:
        return ""
    said = registration.says(stands)
    return f"Nothing has changed since this model was trained and judged. {said}"


def _data_is_fit() -> bool:
    run_python("dvc", "repro", "decode")
    DATA_CHECK.unlink(missing_ok=True)  # so that an old one is not taken for the new one
    code = run_python("pipeline.data_check", accept=(0, _FAILED))
    if code and not DATA_CHECK.exists():
        run_python("pipeline.data_check")  # an error, no verdict: let it say so
    return code == 0


def _registered(rules: Rules) -> Registration:
    """Return what was registered; bring a model that only DVC has to the registry."""
    if standing(read_registration(), rules) == "not registered":
        run_python("dvc", "repro", "--force", "--single-item", "evaluate", "register")
    registration = read_registration()
    assert registration is not None  # the register stage has run
    return registration


def _judge(registration: Registration, *, promote: bool, is_shared: bool) -> Retrained:
    arguments = ["--version", str(registration.version), *([] if promote else ["--judge"])]
    code = run_python("pipeline.promote", *arguments, accept=(0, REFUSED_EXIT_CODE))
    pushed = "Data is pushed." if is_shared else "DVC has no remote: nothing was pushed."
    if code == REFUSED_EXIT_CODE:
        return _finish("refused", f"{registration} is refused by the gate.", pushed)
    sentence = f"{registration} is champion." if promote else f"{registration} passes the gate."
    return _finish("passed", sentence, pushed)


def _finish(outcome: Outcome, sentence: str, pushed: str = "") -> Retrained:
    is_trained = outcome != "unfit data"
    before = repository.committed_catalog()
    report = RetrainReport(
        headline=sentence,
        commit=git_output("rev-parse", "--short", "HEAD") or UNKNOWN,
        ran=repository.changed_stages(),
        data=data_changes(before or [], read_catalog(CATALOG)),
        is_catalog_lost=before is None,
        findings=read_json(DATA_CHECK)["checks"],
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
    progress.note("reported")
    return Retrained(outcome, f"{sentence} See {RETRAINED}.")
