"""What the audits of the evaluate stage are fed with: clips, frames, predictions, the registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.base.paths import CATALOG, CLIPS, CROSSVAL, FRAMES, LABEL_ISSUES, LEAKS
from pipeline.catalog.records import SPLITS, read_catalog
from pipeline.clips.shards import ClipArrays
from pipeline.evaluation.audits import Audit
from pipeline.evaluation.intervals import Resampling
from pipeline.evaluation.label_issues import label_issues, labels_audit, write_label_issues_csv
from pipeline.evaluation.leaks import (
    HashedVideo,
    champion_audit,
    check_groups_apart,
    find_leaks,
    hash_video,
    leaks_audit,
    write_leaks_csv,
)
from pipeline.evaluation.lengths import LabelledLengths, length_audit
from pipeline.evaluation.predictions import Predictions, pool
from pipeline.evaluation.time_order import OrderAccuracies, time_audit
from pipeline.model import task
from pipeline.model.prediction import one_frame_order, reversed_order, shuffled_order
from pipeline.params import EvaluateParams
from pipeline.promotion.champions import version_with
from pipeline.stages.predicting import predict
from pipeline.tracking.aliases import CHAMPION
from pipeline.tracking.lineage import trained_on
from pipeline.tracking.runs import warned
from pipeline.video.ledger import Ledger
from pipeline.video.store import load_frames, stored_path

if TYPE_CHECKING:  # pipeline.model sets up TensorFlow before it is imported
    import keras


@dataclass(frozen=True, eq=False)
class Hits:
    """bool [N]: who was right about each test video; ``length_only``: about each clip of all."""

    model: NDArray[np.bool_]
    frames_shuffled: NDArray[np.bool_]
    frames_reversed: NDArray[np.bool_]
    one_frame: NDArray[np.bool_]
    length_only: NDArray[np.bool_]


def resampling_of(params: EvaluateParams) -> Resampling:
    return Resampling(params.bootstrap_samples, params.confidence, params.seed)


def in_other_orders(
    model: "keras.Model", test: ClipArrays, class_names: tuple[str, ...], *, seed: int
) -> dict[str, NDArray[np.bool_]]:
    """Return the hits of the model when the frames of the clips come in another order."""
    orders = {
        "frames_shuffled": shuffled_order(seed),
        "frames_reversed": reversed_order,
        "one_frame": one_frame_order,
    }
    predicted = {
        name: predict(model, test, class_names, frame_order=order) for name, order in orders.items()
    }
    return {name: found.predicted == found.labels for name, found in predicted.items()}


def all_lengths(class_names: Sequence[str]) -> LabelledLengths:
    """Return the lengths of the clips of all splits."""
    clips = _all_clips()
    return LabelledLengths(
        frames=clips.masks().sum(axis=1),
        labels=task.encode_labels(clips.labels, class_names),
        groups=clips.groups,
    )


def audit_time(hits: Hits, predictions: Predictions, params: EvaluateParams) -> Audit:
    accuracies = OrderAccuracies(
        accuracy=float(hits.model.mean()),
        frames_shuffled=float(hits.frames_shuffled.mean()),
        frames_reversed=float(hits.frames_reversed.mean()),
        one_frame=float(hits.one_frame.mean()),
    )
    return time_audit(
        hits.model,
        hits.frames_shuffled,
        accuracies=accuracies,
        margin=params.time_margin,
        units=predictions.units,
        resampling=resampling_of(params),
    )


def audit_length(hits: Hits, clips: LabelledLengths, params: EvaluateParams) -> Audit:
    return length_audit(
        hits.length_only,
        clips,
        accuracy=float(hits.model.mean()),
        margin=params.length_margin,
        resampling=resampling_of(params),
    )


def audit_leaks(params: EvaluateParams) -> Audit:
    """Compare the videos of different splits; write eval/leaks.csv.

    Raises:
        PipelineError: a group lies in two splits.
    """
    entries = read_catalog(CATALOG)
    check_groups_apart(
        [entry.name for entry in entries],
        [entry.group for entry in entries],
        [entry.split for entry in entries],
    )
    videos = _hashed_videos()
    leaks = find_leaks(videos, max_distance=params.leak_distance)
    write_leaks_csv(LEAKS, leaks)
    return leaks_audit(leaks, videos=len(videos), max_distance=params.leak_distance)


def audit_labels(model: "keras.Model", tested: Predictions, params: EvaluateParams) -> Audit:
    """Ask held-out predictions for doubtful labels; write eval/label_issues.csv.

    Those of a cross-validation are of every video. Without one of these very videos, there are
    the predictions of the model for val and test, of which val helped to choose its epoch.
    """
    splits = {entry.name: entry.split for entry in read_catalog(CATALOG)}
    held_out = cross_validated(_all_clips(), tested.class_names)
    source = "cross-validated predictions (eval/crossval)"
    if held_out is None:
        of_val = predict(model, ClipArrays(CLIPS / "val"), tested.class_names)
        held_out = pool([of_val, tested])
        source = (
            "the model's predictions of val and test videos (make crossval asks about the "
            "training videos too)"
        )
    issues = label_issues(held_out, splits)
    write_label_issues_csv(LABEL_ISSUES, issues)
    return labels_audit(issues, held_out, source=source, max_share=params.max_label_issues)


def audit_champion(name: str) -> list[Audit]:
    """Ask whether the champion has seen test videos in training; [] where nobody knows."""
    tested = {entry.name: entry.sha256 for entry in read_catalog(CATALOG) if entry.split == "test"}
    with warned("It is not known whether the champion was trained on test videos"):
        champion = version_with(name, CHAMPION)
        seen = None if champion is None else trained_on(champion)
        if champion is not None and seen is not None:
            met = [video for video, sha256 in tested.items() if sha256 in seen]
            return [champion_audit(met, videos=len(tested), version=int(champion.version))]
    return []


def _all_clips() -> ClipArrays:
    return ClipArrays(*(CLIPS / split for split in SPLITS))


def cross_validated(clips: ClipArrays, class_names: tuple[str, ...]) -> Predictions | None:
    """Return what a cross-validation said, if it was of these clips, labels and classes."""
    path = CROSSVAL / "predictions.csv"
    if not path.exists():
        return None
    found = Predictions.read_csv(path)
    labels = dict(zip(clips.names, clips.labels, strict=True))
    found_labels = (found.class_names[label] for label in found.labels)
    is_of_these = dict(zip(found.videos, found_labels, strict=True)) == labels
    return found if is_of_these and found.class_names == class_names else None


def _hashed_videos() -> list[HashedVideo]:
    """Hash some frames of every video that is used."""
    ledger = Ledger.read(FRAMES)
    keys = {row.name: row.stored.key for row in ledger.rows if row.is_usable}
    entries = [entry for entry in read_catalog(CATALOG) if entry.name in keys]
    hashed = (
        hash_video(
            load_frames(stored_path(FRAMES, keys[entry.name]), ledger.spec),
            name=entry.name,
            split=entry.split,
            fps=ledger.spec.fps,
            start_seconds=entry.start_seconds or 0.0,
        )
        for entry in tqdm(entries, desc="hashes", unit="video", disable=None)
    )
    return [video for video in hashed if video is not None]
