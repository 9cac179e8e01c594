"""Scores of simple models on the same test videos, to compare the scores of the model with."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.clips.arrays import ClipArrays
from pipeline.common.bootstrap import Score
from pipeline.evaluation.predictions import Predictions, predictions_of_clips
from pipeline.evaluation.settings import EvaluateSection
from pipeline.tasks.task import BaselineClips, Task

if TYPE_CHECKING:
    import keras

_MAX_TRAINING_CLIPS = 2000  # whose frame features a baseline reads


def predict_baselines(
    model: "keras.Model", task: Task, train: ClipArrays, test: ClipArrays
) -> dict[str, Predictions]:
    """Return the predictions of each baseline of the task for the videos of ``test``.

    Args:
        model: its CNN computes the frame features that a baseline may read.
        train: of more than 2,000 clips, 2,000 evenly spaced ones are used.
    """
    if len(train) > _MAX_TRAINING_CLIPS:
        train = train.chosen(np.linspace(0, len(train) - 1, _MAX_TRAINING_CLIPS).astype(int))
    outputs = task.baseline_outputs(*(_baseline_clips(model, clips) for clips in (train, test)))
    return {name: predictions_of_clips(test, task, part) for name, part in outputs.items()}


def score_baselines(
    baselines: Mapping[str, Predictions], section: EvaluateSection
) -> dict[str, Score]:
    """Return the main scores of each baseline as ``<score>_<baseline>``, with intervals."""
    scores = {}
    for baseline, predictions in baselines.items():
        task = predictions.task
        metrics = {*task.headline_metrics, *task.compared_metrics}
        resampling = section.resampling(predictions.resampling_groups)
        for name, score in task.scores_with_intervals(
            predictions.targets, predictions.outputs, resampling
        ).items():
            if name in metrics and not np.isnan(score.value):
                scores[f"{name}_{baseline}"] = score
    return scores


def _baseline_clips(model: "keras.Model", clips: ClipArrays) -> BaselineClips:
    from pipeline.model.network import step_encoder
    from pipeline.model.prediction import predict_arrays

    @cache
    def features() -> NDArray[np.float32]:
        return predict_arrays(step_encoder(model), clips).astype(np.float32)

    return BaselineClips(clips.targets, clips.masks(), features, clips.video_targets())
