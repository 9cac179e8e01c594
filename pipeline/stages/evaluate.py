"""evaluate: score the model on the test videos, with intervals, audits, tables and charts."""

import logging
from dataclasses import asdict

from pipeline.clips.arrays import ClipArrays
from pipeline.common import paths
from pipeline.common.bootstrap import Score
from pipeline.common.charts import save_png
from pipeline.common.command import run_command
from pipeline.common.files import read_json, replacing_folder, write_csv, write_json
from pipeline.common.records import SPLITS, read_decoded
from pipeline.evaluation import audits, near_duplicates
from pipeline.evaluation.plots import read_history, training_chart
from pipeline.evaluation.predictions import pool, predict_videos
from pipeline.evaluation.scores import score_predictions, uncalibrated_scores, write_scores
from pipeline.evaluation.slices import find_slices, write_slices_csv
from pipeline.model.prediction import one_frame_order, reversed_order, shuffled_order
from pipeline.model.saving import ModelMetadata, load_model
from pipeline.params import load_params

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    section = params.evaluate
    records = read_decoded(paths.CATALOG, paths.DECODE_INDEX)
    audits.check_groups_apart(records)
    model, task = load_model(paths.MODEL), ModelMetadata.read(paths.MODEL_METADATA).task
    test, val = ClipArrays(paths.CLIPS / "test"), ClipArrays(paths.CLIPS / "val")
    clips = ClipArrays(*(paths.CLIPS / split for split in SPLITS))

    predictions = predict_videos(model, test, task)
    shuffled, reversed_, one_frame = (
        predict_videos(model, test, task, frame_order=order)
        for order in (shuffled_order(seed=0), reversed_order, one_frame_order)
    )
    resampling = section.resampling(predictions.resampling_groups)
    scores = score_predictions(predictions, section)
    scores[f"{task.video_score}_frames_shuffled"] = resampling.mean_score(shuffled.video_scores)
    orders = {"shuffled": shuffled, "reversed_": reversed_, "one_frame": one_frame}
    findings = [audits.time_audit(predictions, **orders, section=section)]

    lengths = clips.masks().sum(axis=1)
    length_scores = task.length_baseline(lengths, clips.targets, clips.groups)
    if length_scores is not None:
        baseline = section.resampling(clips.groups).mean_score(length_scores)
        scores[f"{task.video_score}_length_only"] = baseline
        constant = task.constant_baseline(clips.targets)
        audit = audits.length_audit(predictions, baseline, constant=constant, clips=len(clips))
        findings.append(audit)

    hashed = near_duplicates.hash_stored_videos(paths.FRAMES, records)
    pairs = near_duplicates.find_near_duplicates(hashed)
    findings.append(audits.leaks_audit(pairs, videos=len(hashed)))

    held_out = pool([predict_videos(model, val, task), predictions])
    splits = {record.name: record.split or "" for record in records}
    doubtful = audits.find_doubtful_labels(held_out, splits)
    if doubtful is not None:
        source = "the model's predictions of validation and test videos"
        findings.append(audits.labels_audit(doubtful, held_out, source=source))

    scores |= {name: Score(value) for name, value in task.calibration(model).items()}
    if task.calibrated_metrics:
        with task.uncalibrated(model):
            scores |= uncalibrated_scores(predict_videos(model, test, task), section)
    scores["videos"] = Score(len(predictions.videos))
    masks = test.chosen(test.first_of_videos()).masks()

    write_scores(paths.METRICS, paths.INTERVALS, scores)
    write_json(paths.AUDITS, [asdict(finding) for finding in findings])
    with replacing_folder(paths.TABLES) as folder:
        predictions.write_csv(folder / paths.PREDICTIONS.name)
        write_slices_csv(
            folder / paths.SLICES.name, find_slices(predictions, records, masks, section)
        )
        near_duplicates.write_near_duplicates_csv(folder / paths.NEAR_DUPLICATES.name, pairs)
        audits.write_doubtful_labels_csv(folder / paths.LABEL_ISSUES.name, doubtful or [])
        for table in task.tables(predictions.targets, predictions.outputs, resampling):
            write_csv(folder / f"{table.name}.csv", table.columns, table.rows)
    training = training_chart(
        read_history(paths.HISTORY),
        best_epoch=read_json(paths.TRAINING)["best_epoch"],
        metric=task.training_metric,
    )
    with replacing_folder(paths.PLOTS) as folder:
        for chart in (training, *task.charts(predictions.targets, predictions.outputs)):
            save_png(chart.draw(), folder / f"{chart.name}.png")

    headline = ", ".join(f"{name} {scores[name].value:.3f}" for name in task.headline_metrics)
    logger.info("%d test videos: %s", len(predictions.videos), headline)
    for finding in findings:
        level = logging.INFO if finding.is_ok else logging.WARNING
        logger.log(level, "%s audit: %s", finding.name, finding.sentence)


if __name__ == "__main__":
    run_command(main)
