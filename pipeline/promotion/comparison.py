"""Champion against challenger, on the test videos that are fair to both."""

import numpy as np

from pipeline.evaluation.paired import LOWER_IS_BETTER, Metric, on_same_videos, paired_difference
from pipeline.evaluation.predictions import Predictions
from pipeline.promotion.contender import Contender, without
from pipeline.promotion.decision import Check, Gain, Rules

_ROUNDING = 1e-9  # of sums of logarithms in another order


def measured_gain(champion: Contender, challenger: Contender, rules: Rules) -> Gain | None:
    """Compare on what neither has seen; None when no such video is left."""
    seen = (champion.seen or frozenset()) | (challenger.seen or frozenset())
    old, new = without(champion.predictions, seen), without(challenger.predictions, seen)
    if old is None or new is None or not set(old.videos) & set(new.videos):
        return None
    old, new = on_same_videos(old, new)
    found = paired_difference(
        old,
        new,
        metric=rules.metric,
        samples=rules.bootstrap_samples,
        confidence=rules.confidence,
        seed=rules.seed,
    )
    is_loss = rules.metric in LOWER_IS_BETTER
    low, high = (-found.high, -found.low) if is_loss else (found.low, found.high)
    fixed, broken = _changes(old, new)
    return Gain(
        metric=rules.metric,
        champion=found.value_a,
        challenger=found.value_b,
        gain=-found.difference if is_loss else found.difference,
        low=low,
        high=high,
        videos=found.videos,
        groups=len(set(new.units)),
        fixed=fixed,
        broken=broken,
    )


def gain_check(gain: Gain | None, rules: Rules) -> Check:
    """Say whether the gain is large enough for sure."""
    if gain is None:
        return Check(
            "gain",
            ok=False,
            sentence="No test video is left that neither has seen and both can read, so nothing "
            "shows that the challenger is better.",
            threshold=rules.min_gain,
        )
    return Check(
        "gain",
        ok=gain.low >= rules.min_gain - _ROUNDING,
        sentence=f"{_readable(gain.metric)}: {gain.champion:.3f} of the champion, "
        f"{gain.challenger:.3f} of the challenger on {gain.videos} videos, a gain of "
        f"{gain.gain:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] at {rules.confidence:.0%}; its "
        f"lower end must reach {rules.min_gain:+g}.",
        value=gain.low,
        threshold=rules.min_gain,
    )


def reading_check(champion: Contender, challenger: Contender) -> Check:
    """Say whether the challenger reads every test video that the champion reads."""
    lost = challenger.unreadable.keys() - champion.unreadable.keys()
    if not lost:
        return Check("reading", ok=True, sentence="It reads every video that the champion reads.")
    first = min(lost)
    return Check(
        "reading",
        ok=False,
        sentence=f"It cannot read {len(lost)} of the test videos that the champion reads, such as "
        f"{first}: {challenger.unreadable[first]}",
        value=len(lost),
        threshold=0,
    )


def _changes(old: Predictions, new: Predictions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    was, now = old.predicted == old.labels, new.predicted == new.labels
    videos = np.array(new.videos)
    return tuple(videos[now & ~was].tolist()), tuple(videos[was & ~now].tolist())


def _readable(metric: Metric) -> str:
    return metric.replace("_", " ").capitalize().replace("f1", "F1")
