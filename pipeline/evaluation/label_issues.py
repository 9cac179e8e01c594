"""Videos whose label a model contradicts so surely that the label may be wrong.

By confident learning, with cleanlab: Northcutt et al., Confident Learning: Estimating Uncertainty
in Dataset Labels, 2021, arXiv 1911.00068.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from pipeline.base import files
from pipeline.evaluation.audits import Audit
from pipeline.evaluation.predictions import Predictions

_WEAK = 0.7  # accuracy


@dataclass(frozen=True)
class LabelIssue:
    """A video with a doubtful label."""

    video: str
    split: str
    label: str
    suggested: str  # the class that the model finds most probable
    quality: float  # the probability that the model gives the label; 0: surely wrong


def label_issues(held_out: Predictions, splits: Mapping[str, str]) -> list[LabelIssue]:
    """Return the videos whose label is doubtful, the most doubtful first.

    A video is one where another class is surer than that class is on average where it is the
    label, and not where the model is merely unsure; so the classes that a model knows badly
    give fewer.

    Args:
        held_out: what models said of videos that they were not trained on.
        splits: of each video, by name.
    """
    found = find_label_issues(
        held_out.labels,
        held_out.probabilities,
        filter_by="confident_learning",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    quality = get_label_quality_scores(
        held_out.labels, held_out.probabilities, method="self_confidence"
    )
    names, predicted = held_out.class_names, held_out.predicted
    return [
        LabelIssue(
            video=held_out.videos[index],
            split=splits[held_out.videos[index]],
            label=names[held_out.labels[index]],
            suggested=names[predicted[index]],
            quality=float(quality[index]),
        )
        for index in found
        if predicted[index] != held_out.labels[index]
    ]


def labels_audit(
    issues: Sequence[LabelIssue], held_out: Predictions, *, source: str, max_share: float
) -> Audit:
    """Report how many labels are doubtful.

    Args:
        source: where ``held_out`` comes from, for the sentence.
        max_share: of the videos; more is not ok.
    """
    videos = len(held_out.videos)
    share = len(issues) / videos
    accuracy = float(np.mean(held_out.predicted == held_out.labels))
    advice = " Look at them (eval/label_issues.csv)." if issues else ""
    if accuracy < _WEAK:
        advice += " A model so weak says more about itself than about labels."
    return Audit(
        name="labels",
        value=share,
        threshold=max_share,
        ok=share <= max_share,
        sentence=(
            f"{len(issues):,} of {videos:,} labels ({share:.1%}) are surely contradicted by "
            f"{source}, which are right for {accuracy:.1%} of these videos.{advice}"
        ),
        details={"videos": videos, "issues": len(issues), "accuracy": accuracy, "source": source},
    )


def write_label_issues_csv(path: Path, issues: Sequence[LabelIssue]) -> None:
    """Write one line a doubtful label, the most doubtful first."""
    files.write_csv(
        path,
        ["video", "split", "label", "suggested", "quality"],
        [{**vars(issue), "quality": f"{issue.quality:.6f}"} for issue in issues],
    )
