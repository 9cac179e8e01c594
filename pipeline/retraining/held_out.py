"""Predictions of the held-out clips of each fold, trained once for each recipe and kept on disk."""

import logging
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.files import sha256_of_json
from pipeline.evaluation.predictions import Predictions, pool
from pipeline.params import Params
from pipeline.retraining.fold_training import ClipFiles, run_in_process, train_fold
from pipeline.retraining.folds import Fold
from pipeline.retraining.search_space import Settings, with_settings


@dataclass(frozen=True)
class FoldTask:
    """The work of the process of one fold."""

    params: Params
    clips: ClipFiles  # of which the fold has indices
    fold: Fold


def predict_held_out(task: FoldTask) -> Predictions:
    """Train on a fold and predict its test clips, without a log. Call it once a process."""
    logging.basicConfig(level=logging.ERROR)  # the same warnings would follow for every fold
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # Keras prints epochs
        return train_fold(task.params, task.clips.read(), task.fold).predictions


def predict_in_process(task: FoldTask) -> Predictions:
    """Return ``predict_held_out`` from a process of its own."""
    return run_in_process(predict_held_out, task, title="a fold")


@dataclass(frozen=True)
class HeldOut:
    """The held-out predictions of each recipe.

    Attributes:
        params: with the settings that are the same for all recipes.
        clips: of which the folds have indices.
        cache: folder of the predictions.
        predict: trains on a fold and predicts its held-out clips.
    """

    params: Params
    clips: ClipFiles
    folds: tuple[Fold, ...]
    cache: Path
    predict: Callable[[FoldTask], Predictions] = predict_in_process

    def of_fold(self, settings: Settings, index: int) -> Predictions:
        """Return the predictions of a fold, counted from 0; train if they are not on disk.

        Raises:
            PipelineError: the recipe cannot be trained.
        """
        path = self.cache / f"{sha256_of_json(settings)[:16]}-fold{index + 1}.csv"
        if not path.exists():
            task = FoldTask(with_settings(self.params, settings), self.clips, self.folds[index])
            predictions = self.predict(task)
            path.parent.mkdir(parents=True, exist_ok=True)
            predictions.write_csv(path)
        return Predictions.read_csv(path, task_type=self.params.task.type)

    def pooled(self, settings: Settings, n_folds: int | None = None) -> Predictions:
        """Return the predictions of the first folds, by default of all, as those of one model."""
        numbers = range(len(self.folds) if n_folds is None else n_folds)
        return pool([self.of_fold(settings, index) for index in numbers])

    def score(self, settings: Settings, metric: str, n_folds: int | None = None) -> float:
        """Return a key of ``Task.resampled_scores`` of ``pooled``; NaN: undefined."""
        pooled = self.pooled(settings, n_folds)
        resampling = self.params.evaluate.resampling(pooled.resampling_groups)
        scores = pooled.task.resampled_scores(pooled.targets, pooled.outputs, resampling)
        return scores[metric].value
