"""Find labels that a model contradicts, and audit their proportion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pipeline.common.findings import Finding
from pipeline.common.paths import LABEL_ISSUES
from pipeline.common.tables import count_of, write_table_csv
from pipeline.evaluation.predictions import Predictions

MAX_LABEL_ISSUES = 0.05  # as a proportion of the videos

_WEAK_SCORE = 0.7


@dataclass(frozen=True)
class DoubtfulLabel:
    """A video whose target a model contradicts.

    Attributes:
        suggested: the predicted target.
        quality: of the label, from 0 (certainly wrong) to 1.
    """

    video: str
    split: str
    target: str
    suggested: str
    quality: float


def find_doubtful_labels(
    predictions: Predictions, splits: Mapping[str, str]
) -> list[DoubtfulLabel] | None:
    """Return the videos with doubtful labels, most doubtful first; None without such a check.

    Args:
        predictions: for videos that the model was not trained on.
        splits: name -> split of these videos.
    """
    issues = predictions.task.label_issues(predictions.targets, predictions.outputs)
    if issues is None:
        return None
    doubtful = []
    for issue in issues:
        video, target = predictions.videos[issue.index], predictions.targets[issue.index]
        doubtful.append(DoubtfulLabel(video, splits[video], target, issue.suggested, issue.quality))
    return doubtful


def labels_audit(
    doubtful: Sequence[DoubtfulLabel],
    predictions: Predictions,
    *,
    source: str,
    table: Path = LABEL_ISSUES,
) -> Finding:
    """Check that at most 5 % of the labels are doubtful.

    Args:
        predictions: as for ``find_doubtful_labels``.
        source: description of the predictions, in plural.
        table: csv file of the doubtful labels.
    """
    videos = len(predictions.videos)
    share = len(doubtful) / videos
    score = float(predictions.video_scores.mean())
    metric = predictions.task.video_score
    sentence = (
        f"{len(doubtful):,} of {count_of(videos, 'label')} ({share:.1%}) are contradicted by "
        f"{source}, whose {metric.replace('_', ' ')} is {score:.3f}."
    )
    if doubtful:
        sentence += f" Look at them ({table})."
    if score < _WEAK_SCORE:
        sentence += " With such a weak model, these may be errors of the model."
    return Finding(
        name="labels",
        status="ok" if share <= MAX_LABEL_ISSUES else "warn",
        sentence=sentence,
        value=share,
        threshold=MAX_LABEL_ISSUES,
        details={"videos": videos, "issues": len(doubtful), metric: score, "source": source},
    )


def write_doubtful_labels_csv(path: Path, doubtful: Sequence[DoubtfulLabel]) -> None:
    """Write one row a doubtful label, most doubtful first."""
    write_table_csv(
        path,
        [column.name for column in fields(DoubtfulLabel)],
        [{**vars(row), "quality": f"{row.quality:.6f}"} for row in doubtful],
    )
