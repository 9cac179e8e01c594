"""evaluate: score the model on the test videos, with intervals, tables and pictures."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.base.command import run_command
from pipeline.base.files import read_json, replacing_folder
from pipeline.base.paths import (
    AUDITS,
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
from pipeline.clips.shards import ClipArrays
from pipeline.evaluation.audits import Audit, write_audits
from pipeline.evaluation.classes import per_class, write_per_class_csv
from pipeline.evaluation.lengths import LabelledLengths, length_hits
from pipeline.evaluation.measures import (
    Measured,
    measured_abstention,
    measured_mean,
    measured_scores,
    write_measures,
)
from pipeline.evaluation.metrics import confusion
from pipeline.evaluation.plots import confusion_picture, save_png, training_curves_picture
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.slices import slices, write_slices_csv
from pipeline.model.metadata import ClassifierMetadata
from pipeline.model.saving import load_classifier
from pipeline.model.temperature import temperature_of, uncalibrated
from pipeline.params import EvaluateParams, load_params
from pipeline.stages.auditing import (
    Hits,
    all_lengths,
    audit_champion,
    audit_labels,
    audit_leaks,
    audit_length,
    audit_time,
    in_other_orders,
    resampling_of,
)
from pipeline.stages.described import read_described
from pipeline.stages.facts import named, video_facts
from pipeline.stages.predicting import predict
from pipeline.stages.results import log_frames, log_results, read_history

if TYPE_CHECKING:  # pipeline.model sets up TensorFlow before it is imported
    import keras

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    model = load_classifier(MODEL)
    metadata = ClassifierMetadata.read(MODEL_METADATA)
    class_names = metadata.class_names
    test = ClipArrays(CLIPS / "test")
    predictions = predict(model, test, class_names)
    clips = all_lengths(class_names)
    hits = Hits(
        model=predictions.predicted == predictions.labels,
        **in_other_orders(model, test, class_names, seed=params.evaluate.seed),
        length_only=length_hits(clips),
    )
    _write_scores(
        predictions,
        {
            **_of_hits(hits, predictions, clips, params.evaluate),
            **measured_abstention(
                predictions, metadata.abstain_below, resampling_of(params.evaluate)
            ),
            **_of_temperature(model, test, class_names, params.evaluate),
        },
        params.evaluate,
    )
    _write_slices(predictions, test, params.evaluate)
    _write_audits(
        [
            audit_time(hits, predictions, params.evaluate),
            audit_length(hits, clips, params.evaluate),
            audit_leaks(params.evaluate),
            audit_labels(model, predictions, params.evaluate),
            *audit_champion(params.register_.name),
        ]
    )
    _write_pictures(predictions)
    log_frames(log_results(params))


def _write_scores(
    predictions: Predictions, more: Mapping[str, Measured], params: EvaluateParams
) -> None:
    resampling = resampling_of(params)
    by_class = per_class(predictions, resampling)
    scores = measured_scores(
        predictions,
        top_k=params.top_k,
        calibration_bins=params.calibration_bins,
        resampling=resampling,
    )
    of_ranking = Measured(by_class.mean_average_precision, by_class.mean_average_precision_interval)
    measures = {
        **scores,
        "mean_average_precision": of_ranking,
        **more,
        "videos": Measured(len(predictions.videos)),
    }
    write_measures(METRICS, INTERVALS, measures)
    predictions.write_csv(PREDICTIONS)
    write_per_class_csv(PER_CLASS, by_class.rows)
    logger.info(
        "%d test videos: accuracy %.3f, macro F1 %.3f",
        len(predictions.videos),
        scores["accuracy"].value,
        scores["macro_f1"].value,
    )


def _of_hits(
    hits: Hits, predictions: Predictions, clips: LabelledLengths, params: EvaluateParams
) -> dict[str, Measured]:
    resampling = resampling_of(params)
    return {
        "accuracy_frames_shuffled": measured_mean(
            hits.frames_shuffled, units=predictions.units, resampling=resampling
        ),
        "accuracy_length_only": measured_mean(
            hits.length_only, units=clips.groups, resampling=resampling
        ),
    }


def _of_temperature(
    model: "keras.Model", test: ClipArrays, class_names: tuple[str, ...], params: EvaluateParams
) -> dict[str, Measured]:
    """Return the temperature, and the scores that it was fitted for as they would be without."""
    with uncalibrated(model):
        before = predict(model, test, class_names)
    found = measured_scores(
        before,
        top_k=params.top_k,
        calibration_bins=params.calibration_bins,
        resampling=resampling_of(params),
    )
    return {
        "temperature": Measured(temperature_of(model)),
        "log_loss_uncalibrated": found["log_loss"],
        "calibration_error_uncalibrated": found["calibration_error"],
    }


def _write_slices(predictions: Predictions, test: ClipArrays, params: EvaluateParams) -> None:
    videos = named(read_described(CATALOG, FRAMES_INDEX), predictions.videos)
    found = slices(
        predictions.predicted == predictions.labels,
        video_facts(videos, test.chosen(test.first_of_videos()).masks()),
        units=predictions.units,
        min_videos=params.slice_videos,
        resampling=resampling_of(params),
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


def _write_audits(audits: Sequence[Audit]) -> None:
    write_audits(AUDITS, audits)
    for audit in audits:
        logger.log(logging.INFO if audit.ok else logging.WARNING, "%s", audit.sentence)


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
