"""evaluate: score the model on the test videos, with intervals, tables and pictures."""

import logging
from collections.abc import Sequence
from dataclasses import asdict

from pipeline.base.command import run_command
from pipeline.base.files import read_json, replacing_folder, write_json
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
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.shards import ClipArrays
from pipeline.evaluation.audits import Audit, write_audits
from pipeline.evaluation.classes import per_class, write_per_class_csv
from pipeline.evaluation.intervals import intervals, mean_interval
from pipeline.evaluation.lengths import LabelledLengths, length_hits
from pipeline.evaluation.metrics import confusion, score
from pipeline.evaluation.plots import confusion_picture, save_png, training_curves_picture
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.slices import slices, write_slices_csv
from pipeline.model.saving import load_classifier
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

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    model = load_classifier(MODEL)
    class_names = ClipsMetadata.read(MODEL_METADATA).class_names
    test = ClipArrays(CLIPS / "test")
    predictions = predict(model, test, class_names)
    clips = all_lengths(class_names)
    hits = Hits(
        model=predictions.predicted == predictions.labels,
        **in_other_orders(model, test, class_names, seed=params.evaluate.seed),
        length_only=length_hits(clips),
    )
    _write_scores(predictions, hits, clips, params.evaluate)
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
    predictions: Predictions, hits: Hits, clips: LabelledLengths, params: EvaluateParams
) -> None:
    options = {"top_k": params.top_k, "calibration_bins": params.calibration_bins}
    resampling = resampling_of(params)
    scores = score(predictions.labels, predictions.probabilities, **options)
    by_class = per_class(predictions, resampling)
    metrics = {
        **asdict(scores),
        "mean_average_precision": by_class.mean_average_precision,
        "accuracy_frames_shuffled": float(hits.frames_shuffled.mean()),
        "accuracy_length_only": float(hits.length_only.mean()),
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
            hits.frames_shuffled, units=predictions.units, resampling=resampling
        ),
        "accuracy_length_only": mean_interval(
            hits.length_only, units=clips.groups, resampling=resampling
        ),
    }
    write_json(INTERVALS, of_scores | of_others)
    predictions.write_csv(PREDICTIONS)
    write_per_class_csv(PER_CLASS, by_class.rows)
    logger.info(
        "%d test videos: accuracy %.3f, macro F1 %.3f",
        len(predictions.videos),
        scores.accuracy,
        scores.macro_f1,
    )


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
