"""From the registry and the test videos to a decision that is carried out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion

from pipeline.base.errors import PipelineError
from pipeline.promotion.champions import (
    crown,
    existing_version,
    one_at_a_time,
    read_records,
    version_with,
)
from pipeline.promotion.contender import Contender
from pipeline.promotion.decision import Decision, Rules
from pipeline.promotion.evidence import gather
from pipeline.promotion.gate import decide, refuse_rolled_back
from pipeline.promotion.history import rolled_back
from pipeline.promotion.report import Report, Side
from pipeline.promotion.videos import GateVideo
from pipeline.tracking.aliases import CHALLENGER, CHAMPION
from pipeline.tracking.provenance import UNKNOWN
from pipeline.tracking.store import connect, mlflow_errors, shown_uri


def promote(
    name: str,
    videos: Callable[[], Sequence[GateVideo]],
    rules: Rules,
    *,
    version: int | None,
    again: bool,
    timeout_seconds: float,
    judge_only: bool = False,
) -> Report:
    """Judge a version; make it champion if it passes; write on it what came of it.

    The lock is held throughout, so that nothing is judged against a champion that another
    process of this machine is about to replace.

    Args:
        name: of the registered model.
        videos: returns the current test videos; not called when there is nothing to judge.
        version: the one to judge; None: the one with the alias ``challenger``.
        again: judge also a version that was rolled back.
        timeout_seconds: for a model and a video.
        judge_only: leave the champion as it is; the outcome is then ``passed`` or ``refused``.

    Raises:
        PipelineError: there is no such version, a model cannot be loaded, or the champion
            changes meanwhile.
    """
    with one_at_a_time(name):
        challenger = _challenger(name, version)
        number = int(challenger.version)
        champion = version_with(name, CHAMPION)
        expected = None if champion is None else int(champion.version)
        if expected == number:
            return _report(name, Decision("already champion", ()), challenger, champion)
        before = rolled_back(read_records(name), expected, number)
        contenders: Sequence[Contender] = ()
        if before and not again:
            decision = refuse_rolled_back(number, before)
        else:
            sides = [challenger] if champion is None else [champion, challenger]
            contenders = gather(sides, videos(), timeout_seconds=timeout_seconds)
            old = None if champion is None else contenders[0]
            decision = decide(old, contenders[-1], rules)
        if decision.outcome != "refused" and judge_only:
            decision = replace(decision, outcome="passed")
        elif decision.outcome != "refused":
            crown(name, challenger, expected=expected, action="promoted", reason=_reason(decision))
        report = _report(name, decision, challenger, champion, contenders)
        _tag(challenger, report)
        return report


def _challenger(name: str, version: int | None) -> ModelVersion:
    if version is None:
        found, wanted = version_with(name, CHALLENGER), f"with the alias {CHALLENGER}"
    else:
        found, wanted = existing_version(name, version), f"{version}"
    if found is None:
        raise PipelineError(
            f"MLflow at {shown_uri()}: expected a version {wanted} of {name}, found none. "
            "Register one with: make repro"
        )
    return found


def _reason(decision: Decision) -> str:
    if decision.gain is None:
        return "the first one, it passed every check"
    return next(check.sentence for check in decision.checks if check.name == "gain")


def _report(
    name: str,
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    contenders: Sequence[Contender] = (),
) -> Report:
    return Report(
        name=name,
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        decision=decision,
        challenger=_side(challenger),
        champion=None if champion is None else _side(champion),
        contenders=contenders,
    )


def _side(version: ModelVersion) -> Side:
    return Side(int(version.version), version.tags.get("git.commit", UNKNOWN))


def _tag(version: ModelVersion, report: Report) -> None:
    client = connect()
    with mlflow_errors():
        for key, value in report.tags().items():
            client.set_model_version_tag(version.name, version.version, key, value)
