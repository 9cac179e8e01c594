"""Audits of an evaluation: does the model use time, and can its scores be trusted?

To add an audit, write a function that returns a ``Finding`` and call it in ``run_audits``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.clips.arrays import ClipArrays
from pipeline.common.bootstrap import MIN_GROUPS, Score
from pipeline.common.errors import PipelineError
from pipeline.common.findings import Finding
from pipeline.common.paths import CATALOG, CLIPS, FRAMES, NEAR_DUPLICATES
from pipeline.common.records import SPLITS, VideoRecord
from pipeline.common.tables import count_of
from pipeline.evaluation.doubtful_labels import DoubtfulLabel, find_doubtful_labels, labels_audit
from pipeline.evaluation.near_duplicates import (
    ALIKE_RULE,
    MAX_DISTANCE,
    NearDuplicates,
    find_near_duplicates,
    hash_stored_videos,
)
from pipeline.evaluation.predictions import Predictions, pool, predict_videos
from pipeline.evaluation.scores import paired_differences
from pipeline.evaluation.settings import EvaluateSection

if TYPE_CHECKING:
    import keras

MIN_TIME_LOSS = 0.05  # of the mean video score, when frames are shuffled
# Without a loss in n groups, it is below 3 / n with 95 % confidence (rule of three).
_MIN_GROUPS_WITHOUT_LOSS = round(3 / MIN_TIME_LOSS)
MIN_LENGTH_LEAD = 0.1  # of the mean video score over the length baseline


@dataclass(frozen=True)
class Audits:
    """The findings, and what they rest on.

    Attributes:
        scores: of the model without frame order, and of clip lengths alone.
        near_duplicates: pairs of videos in different splits that look alike.
        doubtful_labels: of validation and test videos.
    """

    findings: Sequence[Finding]
    scores: Mapping[str, Score]
    near_duplicates: NearDuplicates
    doubtful_labels: Sequence[DoubtfulLabel]


def run_audits(
    model: "keras.Model",
    predictions: Predictions,
    records: Sequence[VideoRecord],
    section: EvaluateSection,
    *,
    is_recurrent: bool,
) -> Audits:
    """Audit an evaluation with the clips and frames on disk.

    Args:
        predictions: of ``model`` for the test videos.
        records: of all videos, decoded.
        is_recurrent: whether the model has recurrent layers over the frames.

    Raises:
        PipelineError: a group has videos in two splits.
    """
    # Here, because it imports TensorFlow, and cross-validation uses this module without it.
    from pipeline.model.prediction import one_frame_order, reversed_order, shuffled_order

    check_groups_apart(records)
    task, test = predictions.task, ClipArrays(CLIPS / "test")
    shuffled, reversed_, one_frame = (
        predict_videos(model, test, task, frame_order=order)
        for order in (shuffled_order(seed=0), reversed_order, one_frame_order)
    )
    resampling = section.resampling(predictions.resampling_groups)
    score = task.video_score
    scores = {f"{score}_frames_shuffled": resampling.mean_score(shuffled.video_scores)}
    findings = [
        time_audit(
            predictions,
            shuffled=shuffled,
            reversed_=reversed_,
            one_frame=one_frame,
            section=section,
            is_recurrent=is_recurrent,
        )
    ]

    clips = ClipArrays(*(CLIPS / split for split in SPLITS))
    lengths = clips.masks().sum(axis=1)
    length_scores = task.length_baseline(lengths, clips.targets, clips.groups)
    if length_scores is not None:
        is_scored = ~np.isnan(length_scores)
        baseline = section.resampling(clips.groups).mean_score(
            np.nan_to_num(length_scores), where=is_scored
        )
        scores[f"{score}_length_only"] = baseline
        constant = task.constant_baseline(clips.targets)
        findings.append(
            length_audit(predictions, baseline, constant=constant, clips=int(is_scored.sum()))
        )

    hashed = hash_stored_videos(FRAMES, records)
    pairs = find_near_duplicates(hashed)
    findings.append(leaks_audit(pairs, videos=len(hashed)))

    held_out = pool([predict_videos(model, ClipArrays(CLIPS / "val"), task), predictions])
    splits = {record.name: record.split or "" for record in records}
    doubtful = find_doubtful_labels(held_out, splits)
    if doubtful is not None:
        source = "the model's predictions of validation and test videos"
        findings.append(labels_audit(doubtful, held_out, source=source))
    return Audits(findings, scores, pairs, doubtful or [])


def time_audit(
    predictions: Predictions,
    *,
    shuffled: Predictions,
    reversed_: Predictions,
    one_frame: Predictions,
    section: EvaluateSection,
    is_recurrent: bool,
) -> Finding:
    """Check that the model loses more than 0.05 when the frames of each clip are shuffled.

    The sentence says whether the test videos are too few to be certain: too few groups, or an
    interval of the loss that reaches the other conclusion.

    Args:
        predictions: for the clips as they are.
        shuffled, reversed_, one_frame: for clips with shuffled frames, with reversed frames, and
            with the middle frame repeated.
    """
    as_is, without_order, backwards, still = (
        float(part.video_scores.mean()) for part in (predictions, shuffled, reversed_, one_frame)
    )
    name = predictions.task.video_score
    loss = paired_differences(shuffled, predictions, section, metrics=[name])[name]
    metric = name.replace("_", " ")
    numbers = (
        f"{metric} is {as_is:.3f}, with the frames of each clip shuffled {without_order:.3f}, "
        f"reversed {backwards:.3f}, with one frame repeated {still:.3f}."
    )
    is_ok = as_is - without_order > MIN_TIME_LOSS
    n_groups = section.resampling(predictions.resampling_groups).n_groups
    if is_ok:
        is_certain = n_groups >= MIN_GROUPS and loss.low > 0
    else:
        is_certain = n_groups >= _MIN_GROUPS_WITHOUT_LOSS and loss.high <= MIN_TIME_LOSS
    if is_ok:
        sentence = f"The model {'uses' if is_certain else 'seems to use'} frame order: {numbers}"
    else:
        sentence = f"Frame order {'hardly matters' if is_certain else 'may not matter'}: {numbers}"
    if not is_certain:
        videos = count_of(len(predictions.videos), "test video")
        verb = "is" if len(predictions.videos) == 1 else "are"
        sentence += f" {videos} {verb} too few to be certain."
    if not is_ok and is_certain and is_recurrent:
        sentence += (
            " A model without recurrent layers (model.temporal.recurrent: none) may do as well."
        )
    return Finding(
        name="time",
        status="ok" if is_ok else "warn",
        sentence=sentence,
        value=as_is - without_order,
        threshold=MIN_TIME_LOSS,
        details={
            predictions.task.video_score: as_is,
            "frames_shuffled": without_order,
            "frames_reversed": backwards,
            "one_frame": still,
            "low": loss.low,
            "high": loss.high,
        },
    )


def length_audit(
    predictions: Predictions, baseline: Score, *, constant: float, clips: int
) -> Finding:
    """Check that the model scores more than 0.1 above a baseline that sees only clip lengths.

    The audit also passes when the interval of that baseline includes the constant answer: then
    lengths are not informative, and the model is poor for another reason.

    Args:
        predictions: for the test videos.
        baseline: mean video score of ``Task.length_baseline``, with its interval.
        constant: ``Task.constant_baseline``.
        clips: number of clips of the two baselines.
    """
    score = float(predictions.video_scores.mean())
    low, high = baseline.interval or (0.0, 1.0)
    lead = score - baseline.value
    is_ok = lead > MIN_LENGTH_LEAD or low <= constant
    metric = predictions.task.video_score
    numbers = (
        f"a model that sees only the number of frames has {metric.replace('_', ' ')} "
        f"{baseline.value:.3f} on all {clips:,} clips (cross-validated; a constant answer "
        f"{constant:.3f}), this model {score:.3f} on the test videos."
    )
    return Finding(
        name="length",
        status="ok" if is_ok else "warn",
        sentence=f"Clip length is not a shortcut: {numbers}"
        if is_ok
        else f"Clip length may be a shortcut: {numbers} Give all clips the same length: lower "
        "extract.frames, or use videos of similar length.",
        value=lead,
        threshold=MIN_LENGTH_LEAD,
        details={
            metric: score,
            f"{metric}_length_only": baseline.value,
            "low": low,
            "high": high,
            "constant_answer": constant,
            "clips": clips,
        },
    )


def leaks_audit(duplicates: NearDuplicates, *, videos: int) -> Finding:
    """Check that no two of the ``videos`` hashed videos are near-duplicates across splits."""
    sentence = f"No two of {videos:,} videos in different splits look alike."
    if duplicates.n_pairs:
        at_least, listed = ("" if duplicates.is_complete else "at least "), len(duplicates.closest)
        pairs = f"{at_least}{count_of(duplicates.n_pairs, 'pair')} of videos in different splits"
        sentence = (
            f"{pairs[0].upper()}{pairs[1:]} look alike, "
            f"{at_least}{count_of(duplicates.n_test_videos, 'test video')} among them. Look at "
            f"{'them' if listed == duplicates.n_pairs else f'the closest {listed:,}'} "
            f"({NEAR_DUPLICATES}). If they show one scene, give them one group in the labels "
            "table, so that they stay in one split: vidpipe labels writes a table with proposed "
            "groups."
        )
        if duplicates.n_pairs > duplicates.n_compared / 2:
            sentence = (
                "Most pairs of videos in different splits look alike: they may share one "
                f"background. {sentence}"
            )
    return Finding(
        name="leaks",
        status="warn" if duplicates.n_pairs else "ok",
        sentence=f"{sentence} {ALIKE_RULE}",
        value=duplicates.n_pairs,
        threshold=0,
        details={
            "distance": MAX_DISTANCE,
            "videos": videos,
            "test_videos": duplicates.n_test_videos,
            "listed": len(duplicates.closest),
            "is_complete": duplicates.is_complete,
        },
    )


def check_groups_apart(records: Sequence[VideoRecord]) -> None:
    """Raise a PipelineError if videos of one group are in two splits."""
    first: dict[str, VideoRecord] = {}
    for record in records:
        other = first.setdefault(record.group, record)
        if record.group and other.split != record.split:
            raise PipelineError(
                f"{CATALOG}: {other.name} ({other.split}) and {record.name} ({record.split}) are "
                f"in different splits, expected one split for their group, {record.group}. Build "
                "the catalog again with: dvc repro --force catalog"
            )
