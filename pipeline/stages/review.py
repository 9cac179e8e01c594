"""review: write one HTML page with scores, tables, charts, audits and film strips."""

import logging
from dataclasses import replace

from pipeline.clips.arrays import ClipArrays
from pipeline.common import paths
from pipeline.common.command import run_command
from pipeline.common.files import read_json, replacing_folder
from pipeline.common.records import read_decoded
from pipeline.common.tables import size_text
from pipeline.evaluation.doubtful_labels import DoubtfulLabel
from pipeline.evaluation.near_duplicates import NearDuplicate
from pipeline.evaluation.plots import read_history, training_chart
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.slices import Slice
from pipeline.model.saving import ModelMetadata, load_model, model_digest
from pipeline.params import load_params
from pipeline.review import inputs
from pipeline.review.charts import slices_chart, splits_chart
from pipeline.review.report import Review, show_doubtful_labels, show_near_duplicates, write_review
from pipeline.review.selection import draw_selections, see_clips, select_videos
from pipeline.tasks.targets import targets_of

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    task = ModelMetadata.read(paths.MODEL_METADATA).task
    predictions = Predictions.read_csv(paths.PREDICTIONS, task_type=params.task.type)
    outputs = predictions.task.convert(predictions.outputs, task)
    predictions = replace(predictions, outputs=outputs, task=task)
    decoded = read_decoded(paths.CATALOG, paths.DECODE_INDEX)
    records = [record for record in decoded if record.split and record.is_usable]
    frames = inputs.StoredFrames(paths.FRAMES, records)
    scores = inputs.read_scores(paths.METRICS, paths.INTERVALS)
    slices = inputs.read_rows(paths.SLICES, Slice)
    near_duplicates = inputs.read_rows(paths.NEAR_DUPLICATES, NearDuplicate)
    doubtful_labels = inputs.read_rows(paths.LABEL_ISSUES, DoubtfulLabel)
    model, clips = load_model(paths.MODEL), ClipArrays(paths.CLIPS / "test")
    review = Review(
        task=task,
        facts=[
            ("Data", params.data.videos),
            ("Task", task.summary()),
            ("Model", model_digest(paths.MODEL, paths.MODEL_METADATA)[:12]),
        ],
        scores=scores,
        confidence=params.evaluate.confidence,
        tables=inputs.read_tables(paths.TABLES, predictions),
        charts=task.charts(predictions.targets, predictions.outputs, predictions.videos),
        slices=slices,
        slices_chart=slices_chart(
            slices, overall=scores[task.video_score], score_name=task.video_score
        ),
        audits=inputs.read_audits(paths.AUDITS),
        near_duplicates=show_near_duplicates(near_duplicates, frames),
        doubtful_labels=show_doubtful_labels(doubtful_labels, frames),
        n_doubtful_labels=len(doubtful_labels),
        selections=draw_selections(
            predictions,
            select_videos(predictions),
            lambda rows: see_clips(model, clips, predictions, rows),
            fps=frames.fps,
        ),
        training_chart=training_chart(
            read_history(paths.HISTORY),
            kept_epoch=read_json(paths.TRAINING)["kept_epoch"],
            metric=task.training_metric,
        ),
        splits_chart=splits_chart(
            records, targets_of(task.type).strata([record.target for record in records])
        ),
    )
    with replacing_folder(paths.REVIEW) as folder:
        write_review(review, folder)
    logger.info("Wrote %s (%s)", paths.REVIEW_REPORT, size_text(paths.REVIEW_REPORT.stat().st_size))


if __name__ == "__main__":
    run_command(main)
