"""What a model must be to be served at all, whoever was champion before it."""

from collections.abc import Iterator, Sequence

from pipeline.evaluation.classes import class_scores
from pipeline.evaluation.metrics import score
from pipeline.evaluation.predictions import Predictions
from pipeline.promotion.contender import Contender
from pipeline.promotion.decision import Check, Rules

_SHOWN = 5  # classes named in a sentence


def floor_checks(challenger: Contender, rules: Rules) -> Iterator[Check]:
    """Yield lineage, recall of each class, calibration and latency, on videos it has not seen."""
    yield _lineage_check(challenger)
    unseen = challenger.unseen
    if unseen is None:
        yield Check("videos", ok=False, sentence="No test video is left to judge the challenger.")
        return
    yield _class_check(unseen, rules)
    yield _calibration_check(unseen, rules)
    yield _latency_check(challenger.latency_ms, rules)


def first_champion_checks(challenger: Contender, rules: Rules) -> Iterator[Check]:
    """Yield what a comparison would show otherwise: how much it was judged by."""
    yield _reading_check(challenger, rules)
    if challenger.unseen is not None:
        yield groups_check(len(set(challenger.unseen.units)), rules)


def groups_check(groups: int, rules: Rules) -> Check:
    """Say whether there is enough to judge by: of a handful, any interval is too narrow."""
    return Check(
        "groups",
        ok=groups >= rules.min_groups,
        sentence=f"Groups of test videos to judge by: {groups}, the fewest allowed are "
        f"{rules.min_groups} (a video without a group is one).",
        value=groups,
        threshold=rules.min_groups,
    )


def _lineage_check(challenger: Contender) -> Check:
    if challenger.seen is not None:
        return Check("lineage", ok=True, sentence="It is known what the challenger has seen.")
    return Check(
        "lineage",
        ok=False,
        sentence="It is not known what the challenger has seen: its run has no catalog. "
        "dvc repro --force --single-item evaluate register logs the one on disk.",
    )


def _reading_check(challenger: Contender, rules: Rules) -> Check:
    unreadable = challenger.unreadable
    total = len(unreadable) + (len(challenger.predictions.videos) if challenger.predictions else 0)
    such = "."
    if unreadable:
        first = min(unreadable)
        such = f", such as {first}: {unreadable[first]}"
    return Check(
        "reading",
        ok=len(unreadable) <= rules.max_unreadable * total,
        sentence=f"It cannot read {len(unreadable)} of {total} test videos, the most allowed is a "
        f"share of {rules.max_unreadable:g} (decode.max_bad_fraction){such}",
        value=len(unreadable) / total,
        threshold=rules.max_unreadable,
    )


def _class_check(unseen: Predictions, rules: Rules) -> Check:
    """Compare each class with the floor; what is not known reaches no floor above 0."""
    rows = class_scores(unseen)
    untested = [row.class_name for row in rows if not row.support]
    scored = sorted((row for row in rows if row.support), key=lambda row: row.recall)
    lowest = scored[0]
    below = [row for row in scored if row.recall < rules.class_floor]
    if below:
        named = _listed([f"{row.class_name} {row.recall:.3f}" for row in below])
        sentence = f"Recall is below {rules.class_floor:g} for {named}."
    else:
        sentence = (
            f"The lowest recall is {lowest.recall:.3f} ({lowest.class_name}), "
            f"the least allowed is {rules.class_floor:g}."
        )
    if untested:
        sentence += f" No test video shows the recall of {_listed(untested)}."
    return Check(
        "class floor",
        ok=not below and not (untested and rules.class_floor > 0),
        sentence=sentence,
        value=lowest.recall,
        threshold=rules.class_floor,
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _calibration_check(unseen: Predictions, rules: Rules) -> Check:
    bins = rules.calibration_bins
    scores = score(unseen.labels, unseen.probabilities, top_k=1, calibration_bins=bins)
    error = scores.calibration_error
    return Check(
        "calibration error",
        ok=error <= rules.max_calibration_error,
        sentence=f"The calibration error is {error:.3f}, the most allowed is "
        f"{rules.max_calibration_error:g}.",
        value=error,
        threshold=rules.max_calibration_error,
    )


def _latency_check(milliseconds: float, rules: Rules) -> Check:
    return Check(
        "latency",
        ok=milliseconds <= rules.max_latency_ms,
        sentence=f"A video takes {milliseconds:.0f} ms (median), the most allowed is "
        f"{rules.max_latency_ms:g} ms.",
        value=milliseconds,
        threshold=rules.max_latency_ms,
    )
