"""Promote a challenger that passes the gate; roll back to an earlier champion."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from pipeline.common.errors import PipelineError
from pipeline.common.paths import CATALOG
from pipeline.common.records import read_catalog
from pipeline.params import Params
from pipeline.registry.champions import (
    Record,
    champion_number,
    one_at_a_time,
    read_records,
    rolled_back,
    set_champion,
    succession,
    version_text,
)
from pipeline.registry.evidence import gather, read_test_videos
from pipeline.registry.gate import (
    RULES,
    Contender,
    Decision,
    GateRules,
    check_gate_settings,
    decide,
    refuse_rolled_back,
)
from pipeline.registry.gate_report import GateReport, Side
from pipeline.registry.versions import (
    CHALLENGER,
    CHAMPION,
    existing_version,
    version_number,
    version_with_alias,
)
from pipeline.tasks.task import task_class
from pipeline.tracking.provenance import UNKNOWN
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
        PipelineError: there is no such version, a model cannot be loaded, or the champion
            changes meanwhile.
    """
    check_gate_settings(params.promote, task_class(params.task.type))
    name, rules = params.register_.name, gate_rules(params)
    judge = judge or partial(_judge_test_videos, params)

    with one_at_a_time(name, "gate"):
        challenger = _find_challenger(name, version)
        champion = version_with_alias(name, CHAMPION)
        report = GateReport(
            name=name,
            time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            rules=rules,
            challenger=_side(challenger),
            champion=None if champion is None else _side(champion),
            decision=Decision("already champion"),
        )
        if champion is None or champion.version != challenger.version:
            report = _decide(report, challenger, champion, judge, again=again)
            report = _apply(report, challenger, dry_run=dry_run)
            _tag(challenger, {RULES: rules.digest})
    report.write()
    return report


def _find_challenger(name: str, version: str | None) -> ModelVersion:
    if version is None:
        newest = version_with_alias(name, CHALLENGER)
        number = None if newest is None else int(newest.version)
    else:
        number = version_number(version, name=name)
    challenger = None if number is None else existing_version(name, number)
    if challenger is None:
        raise PipelineError(
            f"MLflow at {shown_uri()}: {name} has no version {version or f'@{CHALLENGER}'}, or its "
            f"files were deleted. Register one with: vidpipe repro. {RESTORE}"
        )
    return challenger


def _decide(
    report: GateReport,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    judge: Judge,
    *,
    again: bool,
) -> GateReport:
    """Return the report with the decision and its evidence."""
    name, number = report.name, report.challenger.version
    champion_now = None if report.champion is None else report.champion.version
    records = read_records(name)
    reason = rolled_back(records, champion_now, number)
    if reason and not again:
        return replace(report, decision=refuse_rolled_back(number, reason))
    if champion is None:
        contenders = judge([challenger])
        decision = decide(None, contenders[0], report.rules)
        return replace(report, decision=decision, contenders=contenders)
    if existing_version(name, int(champion.version)) is None:
        has_earlier = len(succession(records, champion_now)) > 1
        remedy = (
            "go back to the champion before with: vidpipe rollback"
            if has_earlier
            else f"remove the alias {CHAMPION} from it with: make ui"
        )
        raise PipelineError(
            f"MLflow at {shown_uri()}: version {champion.version} of {name} is champion, but its "
            f"files are gone, so nothing can be compared with it. Restore them, or {remedy}"
        )
    contenders = judge([champion, challenger])
    decision = decide(contenders[0], contenders[1], report.rules)
    return replace(report, decision=decision, contenders=contenders)


def _judge_test_videos(params: Params, versions: Sequence[ModelVersion]) -> Sequence[Contender]:
    folder = Path(params.data.videos)
    return gather(
        versions,
        read_test_videos(read_catalog(CATALOG), folder),
        task=task_class(params.task.type),
        folder=folder,
        timeout_seconds=params.decode.timeout_seconds,
    )


def _apply(report: GateReport, challenger: ModelVersion, *, dry_run: bool) -> GateReport:
    """Tag the version with the decision, and make it champion if it passed.

    ``passed`` is written before the alias moves, so that a command that is killed in between
    leaves a champion with its reasons.
    """
    decision = report.decision
    is_refused = decision.outcome == "refused"
    waiting = report
    if not is_refused:
        waiting = replace(report, decision=replace(decision, outcome="passed"))
    _tag(challenger, waiting.tags())
    if is_refused or dry_run:
        return waiting
    sentences = {finding.name: finding.sentence for finding in decision.findings}
    with one_at_a_time(report.name, "champion"):
        set_champion(
            report.name,
            challenger,
            expected=None if report.champion is None else report.champion.version,
            action="promoted",
            reason=sentences.get("gain", "The first champion; it passed every check."),
        )
    _tag(challenger, report.tags())
    return report


def _side(version: ModelVersion) -> Side:
    return Side(int(version.version), version.tags.get("git.commit", UNKNOWN))


def _tag(version: ModelVersion, tags: Mapping[str, str]) -> None:
    client = connect()
    with mlflow_errors():
        for key, value in tags.items():
            client.set_model_version_tag(version.name, version.version, key, value)


def roll_back(name: str, *, reason: str, version: str | None = None) -> Record:
    """Give the alias ``champion`` back to an earlier champion.

    Args:
        name: of the registered model.
        reason: is recorded.
        version: an earlier champion; None for the one before the present champion.

    Raises:
        PipelineError: there is no earlier champion, the version was never champion or was
            deleted, or the champion changes meanwhile.
    """
    with one_at_a_time(name, "champion"):
        champion = champion_number(name)
        line = succession(read_records(name), champion)
        earlier = line if champion is None else line[:-1]
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
        choices = sorted({*earlier} - {number})
        others = (
            f"Other earlier champions: {', '.join(map(str, choices))}. Go back to one with: "
            f"vidpipe rollback {choices[-1]}"
            if choices
            else "There is no other earlier champion."
        )
        if number not in earlier:
            raise PipelineError(
                f"Expected a version of {name} that was champion before "
                f"{version_text(champion)}. Received: {number}. {others}"
            )
        target = existing_version(name, number)
        if target is None:
            raise PipelineError(
                f"{name} version {number} was champion before, but the version or its files were "
                f"deleted. {others}"
            )
        return set_champion(name, target, expected=champion, action="rolled back", reason=reason)
