"""evaluate: score the model on the test videos, with intervals, audits, tables and charts."""

import logging
from dataclasses import asdict

from pipeline.clips.arrays import ClipArrays
from pipeline.common import paths
from pipeline.common.bootstrap import Score
from pipeline.common.charts import save_png
from pipeline.common.command import run_command
from pipeline.common.files import read_json, replacing_folder, write_json
from pipeline.common.records import read_decoded
from pipeline.common.tables import write_table_csv
from pipeline.evaluation.audits import run_audits
from pipeline.evaluation.baselines import predict_baselines, score_baselines
from pipeline.evaluation.doubtful_labels import write_doubtful_labels_csv
from pipeline.evaluation.near_duplicates import write_near_duplicates_csv
from pipeline.evaluation.plots import read_history, training_chart
from pipeline.evaluation.predictions import predict_videos
from pipeline.evaluation.scores import score_predictions, uncalibrated_scores, write_scores
from pipeline.evaluation.slices import find_slices, write_slices_csv
from pipeline.model.saving import ModelMetadata, load_model
from pipeline.params import load_params

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    section = params.evaluate
    decoded = read_decoded(paths.CATALOG, paths.DECODE_INDEX)
    records = [record for record in decoded if record.split]
    model, task = load_model(paths.MODEL), ModelMetadata.read(paths.MODEL_METADATA).task
    test = ClipArrays(paths.CLIPS / "test")

    predictions = predict_videos(model, test, task)
    is_recurrent = params.model.temporal.recurrent != "none"
    audits = run_audits(model, predictions, records, section, is_recurrent=is_recurrent)
    baselines = predict_baselines(model, task, ClipArrays(paths.CLIPS / "train"), test)
    scores = {**score_predictions(predictions, section), **audits.scores}
    scores |= score_baselines(baselines, section)
    scores |= {name: Score(value) for name, value in task.calibration(model).items()}
    if task.calibrated_metrics:
        with task.uncalibrated(model):
            scores |= uncalibrated_scores(predict_videos(model, test, task), section)
    scores["videos"] = Score(len(predictions.videos))
    masks = test.chosen(test.first_of_videos()).masks()

    write_scores(paths.METRICS, paths.INTERVALS, scores)
    write_json(paths.AUDITS, [asdict(finding) for finding in audits.findings])
    with replacing_folder(paths.TABLES) as folder:
        predictions.write_csv(folder / paths.PREDICTIONS.name)
        write_slices_csv(
            folder / paths.SLICES.name, find_slices(predictions, records, masks, section)
        )
        write_near_duplicates_csv(
            folder / paths.NEAR_DUPLICATES.name, audits.near_duplicates.closest
        )
        write_doubtful_labels_csv(folder / paths.LABEL_ISSUES.name, audits.doubtful_labels)
        resampling = section.resampling(predictions.resampling_groups)
        for table in predictions.tables(resampling):
            write_table_csv(folder / f"{table.name}.csv", table.columns, table.rows)
    training = training_chart(
        read_history(paths.HISTORY),
        kept_epoch=read_json(paths.TRAINING)["kept_epoch"],
        metric=task.training_metric,
    )
    with replacing_folder(paths.PLOTS) as folder:
        for chart in (
            training,
            *task.charts(predictions.targets, predictions.outputs, predictions.videos),
        ):
            save_png(chart.draw(), folder / f"{chart.name}.png")

    shown = [name for name in task.headline_metrics if name in scores]
    headline = ", ".join(f"{name} {scores[name].value:.3f}" for name in shown)
    logger.info("%d test videos: %s", len(predictions.videos), headline)
    for finding in audits.findings:
        level = logging.INFO if finding.is_ok else logging.WARNING
        logger.log(level, "%s audit: %s", finding.name, finding.sentence)


if __name__ == "__main__":
    run_command(main)
