"""What a model must be to be served at all, whoever was champion before it."""

from collections.abc import Iterator

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


def _lineage_check(challenger: Contender) -> Check:
    if challenger.seen is not None:
        return Check("lineage", ok=True, sentence="It is known what the challenger has seen.")
    return Check(
        "lineage",
        ok=False,
        sentence="It is not known what the challenger has seen: its run has no catalog. "
        "dvc repro --force --single-item evaluate register logs the one on disk.",
    )


def _class_check(unseen: Predictions, rules: Rules) -> Check:
    rows = class_scores(unseen)
    scored = sorted((row for row in rows if row.support), key=lambda row: row.recall)
    below = [row for row in scored if row.recall < rules.class_floor]
    if below:
        shown = ", ".join(f"{row.class_name} {row.recall:.3f}" for row in below[:_SHOWN])
        more = f" and {len(below) - _SHOWN} more" if len(below) > _SHOWN else ""
        sentence = f"Recall is below {rules.class_floor:g} for {shown}{more}."
    else:
        lowest = scored[0]
        sentence = (
            f"The lowest recall is {lowest.recall:.3f} ({lowest.class_name}), "
            f"the least allowed is {rules.class_floor:g}."
        )
    return Check(
        "class floor",
        ok=not below,
        sentence=sentence,
        value=scored[0].recall,
        threshold=rules.class_floor,
    )


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
