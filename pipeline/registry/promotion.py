"""Promote a challenger that passes the gate; roll back to an earlier champion."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from pipeline.common.errors import PipelineError
from pipeline.common.findings import Finding
from pipeline.common.paths import CATALOG
from pipeline.common.records import read_catalog
from pipeline.params import Params
from pipeline.registry.champions import (
    History,
    Record,
    champion_history,
    champion_number,
    one_at_a_time,
    read_records,
    set_champion,
    version_text,
)
from pipeline.registry.contenders import Contender
from pipeline.registry.evidence import UnusableVersionError, gather
from pipeline.registry.gate import (
    RULES,
    Decision,
    GateRules,
    check_gate_settings,
    decide,
)
from pipeline.registry.gate_report import GateReport
from pipeline.registry.versions import (
    CHALLENGER,
    CHAMPION,
    existing_version,
    lookup_version,
    refuse_other_task,
    version_number,
    version_uri,
    version_with_alias,
)
from pipeline.tasks.task import task_class
from pipeline.tracking.runs import MODEL_SHA256
from pipeline.tracking.store import RESTORE, connect, mlflow_errors, shown_uri

# Returns what versions answer for the current test videos, in their order.
Judge = Callable[[Sequence[ModelVersion]], Sequence[Contender]]


def gate_rules(params: Params) -> GateRules:
    """Return the rules of the gate."""
    return GateRules(params.promote, params.evaluate, params.decode.max_bad_fraction)


def promote(
    params: Params,
    *,
    version: str | None = None,
    again: bool = False,
    dry_run: bool = False,
    judge: Judge | None = None,
) -> GateReport:
    """Judge a version by the current test videos; make it champion if it passes.

    The decision is written to ``eval/promotion.json`` and ``eval/promotion.md`` and to tags of
    the version.

    Args:
        version: of the registered model; None for the one with the alias ``challenger``.
        again: judge also a version that was rolled back.
        dry_run: keep the champion; the outcome is then ``passed`` or ``refused``.
        judge: in place of the versions in their processes.

    Raises:
        PipelineError: there is no such version, the champion or the challenger cannot be loaded,
            or the champion changes meanwhile.
    """
    name, rules, task = params.register_.name, gate_rules(params), task_class(params.task.type)
    check_gate_settings(params.promote, task)

    def judge_test_videos(versions: Sequence[ModelVersion]) -> Sequence[Contender]:
        return gather(
            versions,
            read_catalog(CATALOG),
            task=task,
            folder=Path(params.data.videos),
            timeout_seconds=params.decode.timeout_seconds,
        )

    with one_at_a_time(name, "gate"):
        text = version or f"@{CHALLENGER}"
        challenger = existing_version(name, version_number(text, name=name))
        if challenger is None:
            raise PipelineError(
                f"MLflow at {shown_uri()}: {name} has no version {text}, or its files were "
                f"deleted. Register one with: vidpipe repro. {RESTORE}"
            )
        report = GateReport(
            name=name,
            time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            rules=rules,
            challenger=challenger,
            champion=version_with_alias(name, CHAMPION),
            decision=Decision("already champion"),
        )
        for one in filter(None, (challenger, report.champion)):
            refuse_other_task(one, task.type)
        if report.champion is None or report.champion.version != challenger.version:
            report = _decide(report, judge or judge_test_videos, again=again)
            report = _apply(report, dry_run=dry_run)
            _tag(challenger, {RULES: rules.digest})
    report.write()
    return report


def _decide(report: GateReport, judge: Judge, *, again: bool) -> GateReport:
    """Return the report with the decision and its evidence."""
    name, champion, challenger = report.name, report.champion, report.challenger
    number = None if champion is None else int(champion.version)
    history = champion_history(read_records(name), number)
    if not again and (rolled_back := _rolled_back_as(challenger, history)):
        sentence = f"Version {challenger.version}"
        if rolled_back != int(challenger.version):
            sentence += f" has the weights and metadata of version {rolled_back}, which"
        sentence += (
            f" was champion and was rolled back {history.rolled_back[rolled_back]}. "
            f"Judge it anyway with: vidpipe promote {challenger.version} --again"
        )
        decision = Decision("refused", (Finding("history", "fail", sentence),))
        return replace(report, decision=decision)
    if number is not None and existing_version(name, number) is None:
        remedy = (
            "go back to the champion before with: vidpipe rollback"
            if len(history.succession) > 1
            else f"remove the alias {CHAMPION} from it with: make ui"
        )
        raise PipelineError(
            f"MLflow at {shown_uri()}: version {number} of {name} is champion, but its files are "
            f"gone, so nothing can be compared with it. Restore them, or {remedy}"
        )
    best, note = _best_before(name, history, {number, int(challenger.version)})
    versions = [one for one in (best, champion, challenger) if one is not None]
    try:
        contenders = judge(versions)
    except UnusableVersionError as error:
        if best is None or error.uri != version_uri(best):
            raise
        note = (
            f"Version {best.version} was the best champion of this line, and it is unusable "
            f"({error}): the challenger is compared with the champion only.",
        )
        best, contenders = None, judge(versions[1:])
    by_version = {contender.version: contender for contender in contenders}
    decision = decide(
        None if number is None else by_version[number],
        contenders[-1],
        report.rules,
        best=None if best is None else by_version[int(best.version)],
    )
    decision = replace(decision, notes=(*decision.notes, *note))
    return replace(report, decision=decision, contenders=contenders)


def _best_before(
    name: str, history: History, judged: Collection[int | None]
) -> tuple[ModelVersion | None, tuple[str, ...]]:
    """Return the best champion of the line, unless it is judged anyway, and a note.

    Without it, promotions that each lose what ``promote.min_gain`` permits would add up.
    """
    number = history.best_of_line
    if number is None or number in judged:
        return None, ()
    if version := existing_version(name, number):
        return version, ()
    return None, (
        f"Version {number} was the best champion of this line, and its files are gone: the "
        "challenger is compared with the champion only.",
    )


def _rolled_back_as(challenger: ModelVersion, history: History) -> int | None:
    """Return the version that was rolled back and has the weights and metadata of the challenger.

    The code that travels with them may differ: it is seldom the reason for a rollback.
    """
    if int(challenger.version) in history.rolled_back:
        return int(challenger.version)
    for number in sorted(history.rolled_back, reverse=True):
        model_sha256 = history.models.get(number)
        if model_sha256 is None and (
            version := lookup_version(str(number), name=challenger.name)
        ):  # champion by hand, or recorded by older code
            model_sha256 = version.tags.get(MODEL_SHA256)
        if model_sha256 is not None and model_sha256 == challenger.tags.get(MODEL_SHA256):
            return number
    return None


def _apply(report: GateReport, *, dry_run: bool) -> GateReport:
    """Tag the version with the decision, and make it champion if it passed.

    ``passed`` is written before the alias moves, so that a command that is killed in between
    leaves a champion with its reasons.
    """
    decision, challenger = report.decision, report.challenger
    if decision.outcome == "refused":
        _tag(challenger, report.tags())
        return report
    passed = replace(report, decision=replace(decision, outcome="passed"))
    _tag(challenger, passed.tags())
    if dry_run:
        return passed
    sentences = {finding.name: finding.sentence for finding in decision.findings}
    with one_at_a_time(report.name, "champion"):
        set_champion(
            report.name,
            challenger,
            expected=None if report.champion is None else int(report.champion.version),
            action="promoted",
            reason=sentences.get("gain", "The first champion; it passed every check."),
            best=_best_after(report),
        )
    _tag(challenger, report.tags())
    return report


def _best_after(report: GateReport) -> int:
    """Return the best champion of the line once the challenger is champion."""
    gain = report.decision.gain_over_best or report.decision.gain
    if gain is None or gain.gain >= 0:
        return int(report.challenger.version)
    return gain.version


def _tag(version: ModelVersion, tags: Mapping[str, str]) -> None:
    client = connect()
    with mlflow_errors():
        for key, value in tags.items():
            client.set_model_version_tag(version.name, version.version, key, value)


def roll_back(name: str, *, reason: str, version: str | None = None) -> Record:
    """Give the alias ``champion`` back to an earlier champion.

    Args:
        name: of the registered model.
        version: an earlier champion; None for the one before the present champion.

    Raises:
        PipelineError: there is no earlier champion, the version was never champion or was
            deleted, or the champion changes meanwhile.
    """
    with one_at_a_time(name, "champion"):
        champion = champion_number(name)
        succession = champion_history(read_records(name), champion).succession
        earlier = succession if champion is None else succession[:-1]
        if not earlier:
            raise PipelineError(
                f"MLflow at {shown_uri()}: there is nothing to roll back to. "
                + (
                    f"{name} never had a champion. Make one with: vidpipe promote"
                    if champion is None
                    else f"Version {champion} of {name} is the first champion."
                )
            )
        number = earlier[-1] if version is None else version_number(version, name=name)
        target = existing_version(name, number) if number in earlier else None
        if target is None:
            others = [str(one) for one in sorted({*earlier} - {number})]
            remedy = f"Go back to one with: vidpipe rollback {others[-1]}" if others else ""
            raise PipelineError(
                f"Expected a version of {name} that was champion before {version_text(champion)} "
                f"and whose files exist. Received: {number}. Other earlier champions: "
                f"{', '.join(others) or 'none'}. {remedy}".rstrip()
            )
        return set_champion(name, target, expected=champion, action="rolled back", reason=reason)
