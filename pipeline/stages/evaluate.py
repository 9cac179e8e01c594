"""evaluate: score the model on the test videos, with intervals, tables and pictures."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from pipeline.base.command import run_command
from pipeline.base.files import read_json, replacing_folder, write_json
from pipeline.base.paths import (
    CATALOG,
    CLIPS,
    FRAMES_INDEX,
    INTERVALS,
    METRICS,
    MODEL,
    MODEL_METADATA,
    PER_CLASS,
    PLOTS,
    PREDICTIONS,
    SLICES,
    TRAINING,
)
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.shards import ClipArrays
from pipeline.evaluation.classes import per_class, write_per_class_csv
from pipeline.evaluation.intervals import Resampling, intervals, mean_interval
from pipeline.evaluation.lengths import (
    LabelledLengths,
    accuracy_length_only,
    warn_if_length_tells,
)
from pipeline.evaluation.metrics import confusion, score
from pipeline.evaluation.plots import confusion_picture, save_png, training_curves_picture
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.slices import slices, write_slices_csv
from pipeline.model import task
from pipeline.model.prediction import predict_arrays, shuffled_order
from pipeline.model.saving import load_classifier
from pipeline.params import EvaluateParams, load_params
from pipeline.stages.described import read_described
from pipeline.stages.facts import named, video_facts
from pipeline.stages.results import log_results, read_history

if TYPE_CHECKING:  # pipeline.model sets up TensorFlow before it is imported
    import keras

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    model = load_classifier(MODEL)
    class_names = ClipsMetadata.read(MODEL_METADATA).class_names
    test = ClipArrays(CLIPS / "test")
    predictions = predict(model, test, class_names)
    _write_scores(predictions, params.evaluate, model, test)
    _write_slices(predictions, test, params.evaluate)
    _write_pictures(predictions)
    log_results(params)


def predict(model: "keras.Model", clips: ClipArrays, class_names: tuple[str, ...]) -> Predictions:
    """Return what ``model`` says of every clip."""
    return Predictions(
        videos=tuple(clips.names),
        groups=tuple(clips.groups),
        labels=task.encode_labels(clips.labels, class_names),
        probabilities=predict_arrays(model, clips),
        class_names=class_names,
    )


def _write_scores(
    predictions: Predictions, params: EvaluateParams, model: "keras.Model", test: ClipArrays
) -> None:
    options = {"top_k": params.top_k, "calibration_bins": params.calibration_bins}
    resampling = _resampling(params)
    scores = score(predictions.labels, predictions.probabilities, **options)
    by_class = per_class(predictions, resampling)
    shuffled = predict_arrays(model, test, frame_order=shuffled_order(params.seed))
    shuffled_hits = shuffled.argmax(1) == predictions.labels
    of_train = _lengths(ClipArrays(CLIPS / "train"), predictions.class_names)
    of_test = _lengths(test, predictions.class_names)
    metrics = {
        **asdict(scores),
        "mean_average_precision": by_class.mean_average_precision,
        "accuracy_frames_shuffled": float(np.mean(shuffled_hits)),
        "accuracy_length_only": accuracy_length_only(of_train, of_test),
        "videos": len(predictions.videos),
    }
    write_json(METRICS, metrics)
    of_scores = intervals(
        predictions.labels,
        predictions.probabilities,
        units=predictions.units,
        **asdict(resampling),
        **options,
    )
    of_others = {
        "mean_average_precision": by_class.mean_average_precision_interval,
        "accuracy_frames_shuffled": mean_interval(
            shuffled_hits, units=predictions.units, resampling=resampling
        ),
    }
    write_json(INTERVALS, of_scores | of_others)
    predictions.write_csv(PREDICTIONS)
    write_per_class_csv(PER_CLASS, by_class.rows)
    logger.info(
        "%d test videos: accuracy %.3f, macro F1 %.3f, accuracy with frames shuffled %.3f",
        len(predictions.videos),
        scores.accuracy,
        scores.macro_f1,
        metrics["accuracy_frames_shuffled"],
    )
    warn_if_length_tells(of_train, of_test, accuracy=scores.accuracy, margin=params.length_margin)


def _lengths(clips: ClipArrays, class_names: Sequence[str]) -> LabelledLengths:
    return LabelledLengths(
        frames=clips.masks().sum(axis=1), labels=task.encode_labels(clips.labels, class_names)
    )


def _write_slices(predictions: Predictions, test: ClipArrays, params: EvaluateParams) -> None:
    videos = named(read_described(CATALOG, FRAMES_INDEX), predictions.videos)
    found = slices(
        predictions.predicted == predictions.labels,
        video_facts(videos, test.masks()),
        units=predictions.units,
        min_videos=params.slice_videos,
        resampling=_resampling(params),
    )
    write_slices_csv(SLICES, found)
    if found:
        worst = found[0]
        logger.info(
            "worst slice: %s %s, %d videos, accuracy %.3f [%.3f, %.3f]",
            worst.slice_by,
            worst.slice,
            worst.videos,
            worst.accuracy,
            worst.low,
            worst.high,
        )


def _resampling(params: EvaluateParams) -> Resampling:
    return Resampling(params.bootstrap_samples, params.confidence, params.seed)


def _write_pictures(predictions: Predictions) -> None:
    names = predictions.class_names
    matrix = confusion(predictions.labels, predictions.predicted, len(names))
    best_epoch = read_json(TRAINING)["best_epoch"]
    with replacing_folder(PLOTS) as folder:
        save_png(confusion_picture(matrix, names), folder / "confusion.png")
        save_png(
            training_curves_picture(read_history(), restored_epoch=best_epoch),
            folder / "training.png",
        )


if __name__ == "__main__":
    run_command(main)
