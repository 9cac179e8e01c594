"""From the registry and the test videos to a decision that is carried out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion

from pipeline.base.errors import PipelineError
from pipeline.promotion.champions import crown, existing_version, read_records, version_with
from pipeline.promotion.contender import Contender
from pipeline.promotion.decision import RULES, Decision, Rules
from pipeline.promotion.evidence import gather
from pipeline.promotion.gate import decide, refuse_rolled_back
from pipeline.promotion.history import rolled_back, succession
from pipeline.promotion.locks import one_at_a_time
from pipeline.promotion.report import Report, Side
from pipeline.promotion.videos import GateVideo
from pipeline.tracking.aliases import CHALLENGER, CHAMPION
from pipeline.tracking.provenance import UNKNOWN
from pipeline.tracking.store import RESTORE, connect, mlflow_errors, shown_uri


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
    with one_at_a_time(name, "gate"):
        challenger, champion = _challenger(name, version), version_with(name, CHAMPION)
        if champion is not None and champion.version == challenger.version:
            return _report(name, Decision("already champion", ()), challenger, champion)
        decision, contenders = _judge(
            challenger, champion, videos, rules, again=again, timeout_seconds=timeout_seconds
        )
        report = _report(name, decision, challenger, champion, contenders)
        report = _carry_out(report, challenger, judge_only=judge_only)
        _tag(challenger, {RULES: rules.digest})
        return report


def _challenger(name: str, version: int | None) -> ModelVersion:
    if version is None:
        newest, wanted = version_with(name, CHALLENGER), f"with the alias {CHALLENGER}"
        number = None if newest is None else int(newest.version)
    else:
        number, wanted = version, f"{version}"
    found = None if number is None else existing_version(name, number)
    if found is None:
        raise PipelineError(
            f"MLflow at {shown_uri()}: expected a version {wanted} of {name} and its files, found "
            f"none. Register one with: make repro. {RESTORE}"
        )
    return found


def _judge(
    challenger: ModelVersion,
    champion: ModelVersion | None,
    videos: Callable[[], Sequence[GateVideo]],
    rules: Rules,
    *,
    again: bool,
    timeout_seconds: float,
) -> tuple[Decision, Sequence[Contender]]:
    """Return the decision and what it is based on."""
    name, number = challenger.name, int(challenger.version)
    expected = None if champion is None else int(champion.version)
    records = read_records(name)
    before = rolled_back(records, expected, number)
    if before and not again:
        return refuse_rolled_back(number, before), ()
    if champion is None:
        contenders = gather([challenger], videos(), timeout_seconds=timeout_seconds)
        return decide(None, contenders[0], rules), contenders
    _check_files(champion, has_former=len(succession(records, expected)) > 1)
    contenders = gather([champion, challenger], videos(), timeout_seconds=timeout_seconds)
    return decide(contenders[0], contenders[1], rules), contenders


def _check_files(champion: ModelVersion, *, has_former: bool) -> None:
    name, number = champion.name, int(champion.version)
    if existing_version(name, number) is not None:
        return
    remedy = (
        "go back to the champion before with: make rollback"
        if has_former
        else f"take the alias {CHAMPION} from it: make ui"
    )
    raise PipelineError(
        f"MLflow at {shown_uri()}: version {number} of {name} is champion, but its files are "
        f"gone, so nothing can be compared with it. Bring them back, or {remedy}"
    )


def _carry_out(report: Report, challenger: ModelVersion, *, judge_only: bool) -> Report:
    """Write on the version what came of it, and make it champion; return what came of it.

    That it passed is on it before the alias moves, so that a command that is killed in between
    leaves a champion with its reasons.
    """
    decision = report.decision
    is_refused = decision.outcome == "refused"
    judged = decision if is_refused else replace(decision, outcome="passed")
    waiting = replace(report, decision=judged)
    _tag(challenger, waiting.tags())
    if is_refused or judge_only:
        return waiting
    expected = None if report.champion is None else report.champion.version
    with one_at_a_time(report.name, "champion"):
        crown(
            report.name,
            challenger,
            expected=expected,
            action="promoted",
            reason=_reason(decision),
        )
    _tag(challenger, report.tags())
    return report


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


def _tag(version: ModelVersion, tags: Mapping[str, str]) -> None:
    client = connect()
    with mlflow_errors():
        for key, value in tags.items():
            client.set_model_version_tag(version.name, version.version, key, value)
