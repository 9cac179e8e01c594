"""The gate: may the challenger replace the champion?

Pure functions of the outputs of both for the test videos; nothing here opens a file or a store.
To add a rule: yield one more check from ``_check_alone`` or ``_check_against``.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_json
from pipeline.common.findings import Finding
from pipeline.common.tables import count_of, shorten_list
from pipeline.evaluation.predictions import Predictions, on_same_videos, without
from pipeline.evaluation.scores import paired_differences
from pipeline.evaluation.settings import EvaluateSection
from pipeline.registry.settings import PromoteSection
from pipeline.tasks.task import Task

REFUSED_EXIT_CODE = 3

# Tags of a version that was judged.
OUTCOME = "gate.outcome"
RULES = "gate.rules"  # digest; written last

Outcome = Literal["promoted", "refused", "first champion", "already champion", "passed"]

# Increase it when a rule is added or judges differently: versions are then judged again.
GATE_VERSION = 1

# Name, whether it passed, sentence, measured value, limit: see Finding.
Check = tuple[str, bool, str, float | None, float | None]

_ROUNDING = 1e-9  # of sums of logarithms in another order


@dataclass(frozen=True)
class GateRules:
    """The rules of the gate.

    Attributes:
        promote, evaluate: sections of params.yaml.
        max_bad_fraction: of the test videos that a first champion cannot read
            (``decode.max_bad_fraction``).
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


@dataclass(frozen=True, eq=False)
class Contender:
    """A version and its outputs for the test videos.

    Attributes:
        predictions: of the videos that it can read; None when it can read none.
        milliseconds: float64 [N], of each prediction.
        unreadable: video -> reason.
        seen: test videos of its training or validation set; None when unknown.
    """

    version: int
    predictions: Predictions | None
    milliseconds: NDArray[np.float64]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    seen: frozenset[str] | None = frozenset()

    @property
    def n_videos(self) -> int:
        """Number of test videos that it was given."""
        read = len(self.predictions.videos) if self.predictions else 0
        return read + len(self.unreadable)

    @property
    def latency_ms(self) -> float:
        """Median over the videos, from the bytes of the file to the answer."""
        return float(np.median(self.milliseconds))

    @property
    def unseen(self) -> Predictions | None:
        """The predictions of videos that it was not trained on, as far as known."""
        return without(self.predictions, self.seen or ())

    def first_unreadable(self, videos: Collection[str]) -> str:
        """Return the first of these unreadable videos with its reason."""
        return f"The first is {min(videos)}: {self.unreadable[min(videos)]}"


@dataclass(frozen=True)
class Gain:
    """How much better the challenger is than the champion; positive is better for every metric.

    Attributes:
        low, high: interval of ``gain``.
        videos, groups: number that both are scored on.
        fixed, broken: videos that only the challenger, and only the champion, has right.
    """

    metric: str
    champion: float
    challenger: float
    gain: float
    low: float
    high: float
    videos: int
    groups: int
    fixed: tuple[str, ...]
    broken: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """The decision of the gate and its evidence."""

    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    gain: Gain | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every reason for a refusal."""
        return tuple(finding.sentence for finding in self.findings if not finding.is_ok)


def check_gate_settings(promote: PromoteSection, task: type[Task]) -> None:
    """Refuse a metric or a limit that the task does not have.

    Raises:
        PipelineError: names the dotted key and what the task has.
    """
    if promote.metric not in task.compared_metrics:
        raise PipelineError(
            f"params.yaml: promote.metric must be one of {', '.join(task.compared_metrics)}, the "
            f"scores of the task {task.type}. Received: {promote.metric}"
        )
    for name in sorted(promote.limits.keys() - task.limits.keys()):
        raise PipelineError(
            f"params.yaml: promote.limits.{name}: the task {task.type} has no such limit. "
            f"Expected: {', '.join(task.limits) or 'none'}"
        )


def decide(champion: Contender | None, challenger: Contender, rules: GateRules) -> Decision:
    """Judge the challenger, against the champion if there is one.

    Absolute checks hold for a first champion too, because it will be served. They use all test
    videos that the challenger was not trained on. The gain uses those that neither was trained
    on and both can read.

    Raises:
        PipelineError: the task does not have the metric or a limit of the rules.
    """
    if challenger.predictions is not None:
        check_gate_settings(rules.promote, type(challenger.predictions.task))
    checks = [*_check_alone(challenger, rules, is_first=champion is None)]
    gain = None
    if champion is not None:
        gain = _measure_gain(champion, challenger, rules)
        checks += _check_against(champion, challenger, gain, rules)
    findings = tuple(
        Finding(name, "ok" if is_ok else "fail", sentence, value, limit)
        for name, is_ok, sentence, value, limit in checks
    )
    passed: Outcome = "first champion" if champion is None else "promoted"
    return Decision(
        outcome=passed if all(finding.is_ok for finding in findings) else "refused",
        findings=findings,
        notes=tuple(_notes(champion, challenger)),
        gain=gain,
    )


def _check_alone(challenger: Contender, rules: GateRules, *, is_first: bool) -> Iterator[Check]:
    """Check the challenger without a comparison."""
    sentence = "The training videos of the challenger are known."
    if challenger.seen is None:
        sentence = (
            "The training videos of the challenger are unknown, because its run has no catalog. "
            "Log the catalog on disk with: dvc repro --force --single-item register"
        )
    yield ("lineage", challenger.seen is not None, sentence, None, None)

    unseen = challenger.unseen
    if unseen is None:
        yield ("videos", False, "No test video is left to judge the challenger.", None, None)
    else:
        resampling = rules.evaluate.resampling(unseen.resampling_groups)
        values = unseen.task.limited_values(unseen.targets, unseen.outputs, resampling)
        for name, kind in unseen.task.limits.items():
            if (limit := rules.promote.limits.get(name)) is None:
                continue
            value = values[name][0].value  # None fails any limit but a lowest of 0
            is_ok = value is not None and (value >= limit if kind == "min" else value <= limit)
            measured = shorten_list([value.text for value in values[name]])
            sentence = (
                f"Measured: {measured}. The {'lowest' if kind == 'min' else 'highest'} allowed "
                f"is {limit:g} (promote.limits.{name})."
            )
            yield (name, is_ok or (kind == "min" and limit == 0), sentence, value, limit)
        milliseconds, limit = challenger.latency_ms, rules.promote.max_latency_ms
        sentence = (
            f"The median latency of a video is {milliseconds:.0f} ms. The highest allowed is "
            f"{limit:g} ms (promote.max_latency_ms)."
        )
        yield ("latency", milliseconds <= limit, sentence, milliseconds, limit)

    if is_first:
        unreadable, total = challenger.unreadable, challenger.n_videos
        limit = rules.max_bad_fraction
        example = f" {challenger.first_unreadable(unreadable)}" if unreadable else ""
        sentence = (
            f"The challenger cannot read {len(unreadable)} of {total} test videos; the largest "
            f"fraction allowed is {limit:g} (decode.max_bad_fraction).{example}"
        )
        is_ok = len(unreadable) <= limit * total
        yield ("reading", is_ok, sentence, len(unreadable) / total, limit)
        if unseen is not None:
            yield _check_groups(len(set(unseen.resampling_groups)), rules)


def _check_against(
    champion: Contender, challenger: Contender, gain: Gain | None, rules: GateRules
) -> Iterator[Check]:
    """Compare the challenger with the champion."""
    lost = challenger.unreadable.keys() - champion.unreadable.keys()
    sentence = "The challenger reads every test video that the champion reads."
    if lost:
        sentence = (
            f"The challenger cannot read {count_of(len(lost), 'test video')} that the champion "
            f"reads. {challenger.first_unreadable(lost)}"
        )
    yield ("reading", not lost, sentence, len(lost), 0)

    min_gain = rules.promote.min_gain
    if gain is None:
        sentence = (
            "No test video is left that neither version was trained on and both can read, so "
            "nothing shows that the challenger is better."
        )
        yield ("gain", False, sentence, None, min_gain)
        return
    sentence = (
        f"{gain.metric}: {gain.champion:.3f} (champion), {gain.challenger:.3f} (challenger) on "
        f"{count_of(gain.videos, 'video')}, a gain of {gain.gain:+.3f} [{gain.low:+.3f}, "
        f"{gain.high:+.3f}] at {rules.evaluate.confidence:.0%}; its lower end must be "
        f"{min_gain:+g} or more (promote.min_gain)."
    )
    yield ("gain", gain.low >= min_gain - _ROUNDING, sentence, gain.low, min_gain)
    yield _check_groups(gain.groups, rules)


def _check_groups(groups: int, rules: GateRules) -> Check:
    """Refuse a decision from few groups, because their interval is unreliable."""
    limit = rules.promote.min_groups
    sentence = (
        f"Number of groups of test videos: {groups}. The lowest allowed is {limit} "
        "(promote.min_groups; a video without a group counts as one)."
    )
    return "groups", groups >= limit, sentence, groups, limit


def _measure_gain(champion: Contender, challenger: Contender, rules: GateRules) -> Gain | None:
    """Compare on videos that neither was trained on; None when none is left."""
    seen = (champion.seen or frozenset()) | (challenger.seen or frozenset())
    old, new = without(champion.predictions, seen), without(challenger.predictions, seen)
    if old is None or new is None or not set(old.videos) & set(new.videos):
        return None
    metric = rules.promote.metric
    difference = paired_differences(old, new, rules.evaluate, metrics=[metric])[metric]
    sign, ends = 1, (difference.low, difference.high)
    if metric in new.task.lower_is_better:
        sign, ends = -1, (-difference.high, -difference.low)
    old, new = on_same_videos(old, new)
    was_right, is_right = old.is_right, new.is_right
    videos = np.array(new.videos)
    return Gain(
        metric=metric,
        champion=difference.value_a,
        challenger=difference.value_b,
        gain=sign * difference.difference,
        low=ends[0],
        high=ends[1],
        videos=len(new.videos),
        groups=len(set(new.resampling_groups)),
        fixed=tuple(videos[is_right & ~was_right].tolist()),
        broken=tuple(videos[was_right & ~is_right].tolist()),
    )


def _notes(champion: Contender | None, challenger: Contender) -> Iterator[str]:
    """Yield what is left out and what is unknown."""
    for role, contender in (("champion", champion), ("challenger", challenger)):
        if contender is not None and contender.seen:
            yield (
                f"The {role} was trained on {len(contender.seen)} of {contender.n_videos} test "
                "videos (training or validation set, by content). They are left out."
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
