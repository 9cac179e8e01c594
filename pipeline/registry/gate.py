"""The gate: may the challenger replace the champion?

Pure functions of the outputs of both for the test videos; nothing here opens a file or a store.
To add a rule: yield one more finding from ``_check_alone`` or ``_check_against``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_json
from pipeline.common.findings import Finding, Status
from pipeline.common.tables import count_of, shorten_list
from pipeline.evaluation.settings import EvaluateSection
from pipeline.registry.contenders import ROUNDING, Contender, Gain, measure_gain
from pipeline.registry.settings import PromoteSection
from pipeline.tasks.task import Limit, LimitedValue, Task

REFUSED_EXIT_CODE = 3

# Tags of a version that was judged.
OUTCOME = "gate.outcome"
RULES = "gate.rules"  # digest; written last

Outcome = Literal["promoted", "refused", "first champion", "already champion", "passed"]

PRIMARY = "primary"  # value of promote.metric: the first of ``Task.compared_metrics``

# Increase it when a rule is added or judges differently: versions are then judged again.
GATE_VERSION = 2

# With fewer test videos, of a class or of all classes, a limit is not judged.
MIN_VIDEOS = 5


@dataclass(frozen=True)
class GateRules:
    """The rules of the gate.

    Attributes:
        promote, evaluate: sections of params.yaml.
        max_bad_fraction: largest fraction of test videos that a first champion may be unable to
            read (``decode.max_bad_fraction``).
    """

    promote: PromoteSection
    evaluate: EvaluateSection
    max_bad_fraction: float

    @property
    def digest(self) -> str:
        """16 hex digits that are equal for equal rules."""
        rules = {
            "version": GATE_VERSION,
            "promote": self.promote.model_dump(mode="json"),
            "evaluate": self.evaluate.model_dump(mode="json"),
            "max_bad_fraction": self.max_bad_fraction,
            "seed": self.evaluate.resampling(()).seed,
        }
        return sha256_of_json(rules)[:16]


@dataclass(frozen=True)
class Decision:
    """The decision of the gate and its evidence.

    Attributes:
        findings: a warning does not refuse.
        gain: over the champion; None without one or without a common test video.
        gain_over_best: over the best champion of the line, if it is not the champion.
    """

    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    gain: Gain | None = None
    gain_over_best: Gain | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every reason for a refusal."""
        return tuple(finding.sentence for finding in self.findings if finding.status == "fail")


def check_gate_settings(promote: PromoteSection, task: type[Task]) -> None:
    """Refuse a metric or a limit that the task does not have.

    Raises:
        PipelineError: names the dotted key and what the task has.
    """
    if promote.metric not in (PRIMARY, *task.compared_metrics):
        raise PipelineError(
            f"params.yaml: promote.metric must be {PRIMARY} or one of "
            f"{', '.join(task.compared_metrics)}, the scores of the task {task.type}. "
            f"Received: {promote.metric}"
        )
    for name in sorted(promote.limits.keys() - task.limits.keys()):
        raise PipelineError(
            f"params.yaml: promote.limits.{name}: the task {task.type} has no such limit. "
            f"Expected: {', '.join(task.limits) or 'none'}"
        )


def decide(
    champion: Contender | None,
    challenger: Contender,
    rules: GateRules,
    *,
    best: Contender | None = None,
) -> Decision:
    """Judge the challenger, against the champion if there is one.

    Absolute checks hold for a first champion too, because it will be served. They use all test
    videos that the challenger was not trained on. The gain uses those that neither was trained
    on and both can read.

    Args:
        best: the best champion of the current line, if it is not the champion.

    Raises:
        PipelineError: the task does not have the metric or a limit of the rules.
    """
    if challenger.predictions is not None:
        check_gate_settings(rules.promote, type(challenger.predictions.task))
    findings = [*_check_alone(challenger, rules, is_first=champion is None)]
    gain = gain_over_best = None
    if champion is not None:
        gain = _measure_gain(champion, challenger, rules)
        findings += _check_against(champion, challenger, gain, rules)
    if best is not None:
        gain_over_best = _measure_gain(best, challenger, rules)
        findings.append(_check_gain("gain_over_best", gain_over_best, rules))
    passed: Outcome = "first champion" if champion is None else "promoted"
    is_refused = any(finding.status == "fail" for finding in findings)
    return Decision(
        outcome="refused" if is_refused else passed,
        findings=tuple(findings),
        notes=tuple(_notes(champion, challenger, best)),
        gain=gain,
        gain_over_best=gain_over_best,
    )


def _measure_gain(champion: Contender, challenger: Contender, rules: GateRules) -> Gain | None:
    metric = rules.promote.metric
    if metric == PRIMARY and challenger.predictions is not None:
        metric = challenger.predictions.task.compared_metrics[0]
    return measure_gain(champion, challenger, metric=metric, section=rules.evaluate)


def _check_alone(challenger: Contender, rules: GateRules, *, is_first: bool) -> Iterator[Finding]:
    """Check the challenger by itself."""
    sentence = "The training videos of the challenger are known."
    if challenger.seen is None:
        sentence = (
            "The training videos of the challenger are unknown, because its run has no catalog. "
            "Log the catalog on disk with: dvc repro --force --single-item register"
        )
    yield _finding("lineage", challenger.seen is not None, sentence)

    unseen = challenger.unseen
    if unseen is None:
        yield _finding("videos", False, "No test video is left to judge the challenger.")
    else:
        resampling = rules.evaluate.resampling(unseen.resampling_groups)
        values = unseen.task.limited_values(unseen.targets, unseen.outputs, resampling)
        for name, limit in unseen.task.limits.items():
            own = limit._replace(default=rules.promote.limits.get(name, limit.default))
            yield from _check_limit(name, own, values[name], rules.promote)
        milliseconds, slowest = challenger.latency_ms, rules.promote.max_latency_ms
        sentence = (
            f"The median latency of a video is {milliseconds:.0f} ms. The highest allowed is "
            f"{slowest:g} ms (promote.max_latency_ms)."
        )
        yield _finding("latency", milliseconds <= slowest, sentence, milliseconds, slowest)

    if is_first:
        unreadable, total = challenger.unreadable, challenger.n_videos
        bad_fraction = rules.max_bad_fraction
        example = f" {challenger.first_unreadable(unreadable)}" if unreadable else ""
        sentence = (
            f"The challenger cannot read {len(unreadable)} of {total} test videos; the largest "
            f"fraction allowed is {bad_fraction:g} (decode.max_bad_fraction).{example}"
        )
        is_ok = len(unreadable) <= bad_fraction * total
        yield _finding("reading", is_ok, sentence, len(unreadable) / total, bad_fraction)
        if unseen is not None:
            yield _check_groups(len(set(unseen.resampling_groups)), rules)


def _check_limit(
    name: str, rule: Limit, values: Sequence[LimitedValue], section: PromoteSection
) -> Iterator[Finding]:
    """Compare values with a limit; only an interval that lies wholly beyond it is refused."""
    kind, limit = rule
    sign = 1 if kind == "min" else -1
    if kind == "min" and limit == 0:
        yield _finding(name, True, f"Every value is allowed (promote.limits.{name}: 0).")
        return
    few = [value for value in values if value.videos < MIN_VIDEOS]
    violated, uncertain, met = [], [], []
    for value in values:
        if value.videos < MIN_VIDEOS or value.value is None or value.interval is None:
            continue
        if max(sign * end for end in value.interval) < sign * limit:
            violated.append(value)
        elif sign * value.value < sign * limit:
            uncertain.append(value)
        else:
            met.append(value)
    if judged := [*violated, *uncertain, *met]:
        sentence = (
            f"Measured: {shorten_list([value.text for value in judged])}. The "
            f"{'lowest' if kind == 'min' else 'highest'} allowed is {limit:g} "
            f"(promote.limits.{name})."
        )
        if uncertain and not violated:
            sentence += (
                " The interval reaches the limit, so these test videos are too few to decide."
            )
        status: Status = "fail" if violated else "warn" if uncertain else "ok"
        yield Finding(name, status, sentence, judged[0].value, limit)
    if few:
        counts = shorten_list([f"{value.name} ({value.videos})" for value in few])
        sentence = (
            f"Too few test videos to judge: {counts}; at least {MIN_VIDEOS} "
            f"(promote.too_few_videos: {section.too_few_videos})."
        )
        status = "fail" if section.too_few_videos == "refuse" else "warn"
        yield Finding("too_few_videos", status, sentence, few[0].videos, MIN_VIDEOS)


def _check_against(
    champion: Contender, challenger: Contender, gain: Gain | None, rules: GateRules
) -> Iterator[Finding]:
    """Compare the challenger with the champion."""
    lost = challenger.unreadable.keys() - champion.unreadable.keys()
    sentence = "The challenger reads every test video that the champion reads."
    if lost:
        sentence = (
            f"The challenger cannot read {count_of(len(lost), 'test video')} that the champion "
            f"reads. {challenger.first_unreadable(lost)}"
        )
    yield _finding("reading", not lost, sentence, len(lost), 0)
    yield _check_gain("gain", gain, rules)
    if gain is not None:
        yield _check_groups(gain.groups, rules)


def _check_gain(name: str, gain: Gain | None, rules: GateRules) -> Finding:
    """Refuse a challenger that may be worse than a champion by more than allowed."""
    min_gain = rules.promote.min_gain * (1.0 if gain is None else gain.unit)
    if gain is None:
        sentence = (
            "No test video is left that neither version was trained on and both can read, so "
            "nothing shows that the challenger is better."
        )
        return Finding(name, "fail" if name == "gain" else "warn", sentence, None, min_gain)
    is_enough = gain.low >= min_gain - ROUNDING
    is_without_loss = min_gain <= 0 and gain.is_without_loss
    rule = f"its lower end must be {min_gain:+g} or more (promote.min_gain)."
    if is_without_loss and not is_enough:
        rule = (
            "the challenger is right on every test video on which the champion is right, and its "
            "score is no lower, which passes."
        )
    role = "champion" if name == "gain" else f"version {gain.version}, the best of its line"
    sentence = (
        f"{gain.metric}: {gain.champion:.3f} ({role}), {gain.challenger:.3f} (challenger) on "
        f"{count_of(gain.videos, 'video')}, a gain of {gain.gain:+.3f} [{gain.low:+.3f}, "
        f"{gain.high:+.3f}] at {rules.evaluate.confidence:.0%}; {rule}"
    )
    return _finding(name, is_enough or is_without_loss, sentence, gain.low, min_gain)


def _check_groups(groups: int, rules: GateRules) -> Finding:
    """Refuse a decision from few groups, because their interval is unreliable."""
    limit = rules.promote.min_groups
    sentence = (
        f"Number of groups of test videos: {groups}. The lowest allowed is {limit} "
        "(promote.min_groups; a video without a group counts as one)."
    )
    return _finding("groups", groups >= limit, sentence, groups, limit)


def _finding(
    name: str, is_ok: bool, sentence: str, value: float | None = None, limit: float | None = None
) -> Finding:
    return Finding(name, "ok" if is_ok else "fail", sentence, value, limit)


def _notes(
    champion: Contender | None, challenger: Contender, best: Contender | None
) -> Iterator[str]:
    """Yield notes on videos that are left out and on unknown training videos."""
    roles = {"champion": champion, "best champion": best, "challenger": challenger}
    for role, contender in roles.items():
        if contender is not None and contender.seen:
            yield (
                f"The {role} was trained on {len(contender.seen)} of {contender.n_videos} test "
                "videos, or on others of their group (training or validation set). They are left "
                "out."
            )
    if champion is not None and champion.seen is None:
        yield (
            "The training videos of the champion are unknown, because its run has no catalog. It "
            "is compared on all test videos, which can only favour it."
        )
    role, reader = ("challenger", challenger) if champion is None else ("champion", champion)
    if reader.unreadable:
        yield (
            f"The {role} cannot read {len(reader.unreadable)} of {reader.n_videos} test videos. "
            f"They are left out. {reader.first_unreadable(reader.unreadable)}"
        )
