"""One fold: train on its training clips, predict its test clips."""

import logging
import sys
import time
from dataclasses import asdict

from pipeline.base.paths import CLIPS, FEATURES
from pipeline.clips.metadata import ClipsMetadata
from pipeline.crossval.results import FoldRow, scores_of
from pipeline.crossval.tasks import FoldResult, FoldTask, all_clips, run_params
from pipeline.model.calibration import calibrate
from pipeline.model.classifier import build_classifier
from pipeline.model.training import fit, make_deterministic
from pipeline.stages.predicting import predict
from pipeline.stages.train import architecture, fit_options
from pipeline.tracking.epochs import EpochMetrics
from pipeline.tracking.runs import training_run, warned
from pipeline.tracking.scores import log_scores


def run_fold(fold_task: FoldTask) -> FoldResult:
    """Train with the recipe of params.yaml, as a nested run. Call it once a process."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    params = fold_task.params
    make_deterministic(params.train.seed, params.train.threads)
    run = training_run(
        params=run_params(
            params, n_folds=fold_task.n_folds, seed=fold_task.seed, fold=fold_task.number
        ),
        dataset=params.data.videos,
        name=f"fold {fold_task.number} of {fold_task.n_folds}",
        parent=fold_task.parent_run,
    )
    with run as run_id:
        result = _train_and_test(fold_task, run_id)
        with warned(f"The run of fold {fold_task.number} lacks its scores"):
            log_scores(run_id, asdict(scores_of(result.predictions, params.evaluate)))
    return result


def _train_and_test(fold_task: FoldTask, run_id: str) -> FoldResult:
    params, fold, clips = fold_task.params, fold_task.fold, all_clips()
    class_names = ClipsMetadata.read(CLIPS / "metadata.json").class_names
    model = build_classifier(
        architecture(params),
        n_classes=len(class_names),
        frame_shape=clips.frames(0).shape[1:],
        precision=params.train.precision,
    )
    started = time.perf_counter()
    fitted = fit(
        model,
        clips.chosen(fold.train),
        clips.chosen(fold.val),
        class_names,
        fit_options(params),
        callbacks=[EpochMetrics(run_id)],
        features_folder=FEATURES,
    )
    calibrate(
        model,
        clips.chosen(fold.val),
        class_names,
        target_accuracy=params.evaluate.target_accuracy,
    )
    seconds = time.perf_counter() - started
    predictions = predict(model, clips.chosen(fold.test), class_names)
    scores = scores_of(predictions, params.evaluate)
    row = FoldRow(
        fold=fold_task.number,
        videos=len(predictions.videos),
        accuracy=scores.accuracy,
        macro_f1=scores.macro_f1,
        val_accuracy=fitted.history[fitted.best_epoch - 1]["val_accuracy"],
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        seconds=seconds,
    )
    return FoldResult(row, predictions)
