"""Does the length of a clip tell its class? Where it does, a model can do without the pictures."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from pipeline.evaluation.audits import Audit
from pipeline.evaluation.intervals import Resampling, mean_interval

_CLIPS_OF_A_LEAF = 3  # at least: one odd clip makes no rule
_MOST_FOLDS = 5


@dataclass(frozen=True)
class LabelledLengths:
    """What the audit sees of the clips of all splits.

    frames: int64 [N], real frames of each clip.
    labels: int64 [N], index of its class.
    groups: N names; clips of one group stay in one fold.
    """

    frames: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: Sequence[str]


def length_hits(clips: LabelledLengths) -> NDArray[np.bool_]:
    """Return bool [N]: whether the number of real frames alone tells the class of each clip.

    Cross-validated over all clips, because a test split alone says little: a decision tree,
    fitted on the other folds, whose rules are ranges of lengths with at least three clips
    each. Of classes that are equally frequent in a range it takes the first. With nothing to
    learn it names the most frequent class.
    """
    groups_of: dict[int, set[str]] = defaultdict(set)
    for label, group in zip(clips.labels.tolist(), clips.groups, strict=True):
        groups_of[label].add(group)
    n_folds = max(2, min(_MOST_FOLDS, *(len(groups) for groups in groups_of.values())))
    tree = DecisionTreeClassifier(min_samples_leaf=_CLIPS_OF_A_LEAF, random_state=0)
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    predicted = cross_val_predict(
        tree, clips.frames[:, None], clips.labels, groups=clips.groups, cv=folds
    )
    hits: NDArray[np.bool_] = predicted == clips.labels
    return hits


def length_audit(
    hits: NDArray[np.bool_],
    clips: LabelledLengths,
    *,
    accuracy: float,
    margin: float,
    resampling: Resampling,
) -> Audit:
    """Hold the ``accuracy`` of the model on the test videos against that of lengths alone.

    Its lead must be more than ``margin``. It need not where lengths are not surely better than
    always naming the most frequent class: then the model is weak, and the lengths are not to
    blame.

    Args:
        hits: what ``length_hits`` says of ``clips``.
    """
    of_lengths = float(hits.mean())
    low, high = mean_interval(hits, units=clips.groups, resampling=resampling)
    most_frequent = float(np.bincount(clips.labels).max() / len(clips.labels))
    lead = accuracy - of_lengths
    ok = lead > margin or low <= most_frequent
    verdict = (
        "Length is no shortcut here."
        if ok
        else "Length tells the class, so the model may look at nothing else. Give all clips the "
        "same length: a smaller extract.frames, or videos of like length."
    )
    return Audit(
        name="length",
        value=lead,
        threshold=margin,
        ok=ok,
        sentence=(
            f"The number of real frames alone is right for {of_lengths:.1%} of all clips "
            f"(cross-validated; the most frequent class: {most_frequent:.1%}), the model for "
            f"{accuracy:.1%} of the test videos. {verdict}"
        ),
        details={
            "accuracy": accuracy,
            "accuracy_length_only": of_lengths,
            "low": low,
            "high": high,
            "most_frequent_class": most_frequent,
            "clips": len(hits),
        },
    )
