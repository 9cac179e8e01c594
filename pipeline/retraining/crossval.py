"""Cross-validation of the recipe of params.yaml, and doubtful labels among all videos.

Every test video of a fold is predicted by a model that was not trained on it or on its group. The
pooled predictions score the recipe more precisely than one test split, and show doubtful labels in
all splits. Computed folds test every video once; the official folds of a data set may leave videos
out and test some several times.

The result of each fold is kept until all have ended, so a call that was interrupted continues with
its first missing fold.
"""

import logging
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.clips.arrays import ClipArrays
from pipeline.common.bootstrap import Score
from pipeline.common.files import write_json
from pipeline.common.paths import CATALOG, CLIPS, CROSSVAL, UNUSED_CLIPS
from pipeline.common.records import SPLITS, FoldPart, read_catalog
from pipeline.common.tables import align_columns, write_table_csv
from pipeline.evaluation.baselines import score_baselines
from pipeline.evaluation.doubtful_labels import (
    find_doubtful_labels,
    labels_audit,
    write_doubtful_labels_csv,
)
from pipeline.evaluation.predictions import Predictions, pool
from pipeline.evaluation.scores import score_predictions
from pipeline.params import Params
from pipeline.retraining.crossval_folds import (
    FoldResult,
    FoldTask,
    fold_result,
    folds_digest,
    run_params,
)
from pipeline.retraining.fold_training import ClipFiles
from pipeline.retraining.folds import folds_of_clips, official_folds
from pipeline.tasks.task import Task
from pipeline.tracking.results import log_files, log_scores
from pipeline.tracking.runs import training_run, warned

logger = logging.getLogger(__name__)

_DOUBTFUL_LABELS = CROSSVAL / "label_issues.csv"
_FINISHED = Path(".dvc/tmp/crossval")  # results of the folds of a call that is not complete
_SHOWN_DOUBTFUL = 20
_COMPUTED_FOLDS = 5


def cross_validate(params: Params, *, n_folds: int | None, seed: int) -> list[str]:
    """Train and test each fold; write eval/crossval/; log one MLflow run with a run each fold.

    Args:
        n_folds: of computed folds. None: the official folds of the labels table, or five computed
            ones if it has none.
        seed: of computed folds, or of the validation clips of official ones.

    Returns:
        Lines for a terminal.

    Raises:
        PipelineError: there are too few groups, the clips changed, or the process of a fold died.
    """
    clip_files = ClipFiles.now(*_folders())
    clips = clip_files.read()
    val_share = params.catalog.val_share
    official = {} if n_folds else _official_parts()
    if official:
        folds = official_folds(clips, official, params.task.type, val_share=val_share, seed=seed)
        logger.info("%d official folds of the labels table (fold_1, ...)", len(folds))
    else:
        folds = folds_of_clips(
            clips,
            params.task.type,
            n_folds=n_folds or _COMPUTED_FOLDS,
            val_share=val_share,
            seed=seed,
        )
    n_folds = len(folds)
    settings = {"folds": n_folds, "official": int(bool(official)), "seed": seed}
    with training_run(
        params=run_params(params, settings),
        dataset=params.data.videos,
        name=f"crossval of {n_folds} {'official ' if official else ''}folds, seed {seed}",
    ) as run:
        assert run.id is not None  # without a store, training_run raises
        tasks = [
            FoldTask(
                f"fold {number} of {n_folds}",
                fold,
                {**settings, "fold": number},
                params,
                clip_files,
                run.id,
            )
            for number, fold in enumerate(folds, start=1)
        ]
        finished = _FINISHED / folds_digest(params, clips, folds)
        results = [fold_result(task, finished) for task in tqdm(tasks, unit="fold", disable=None)]
        pooled = _each_once(pool([result.predictions for result in results]))
        baselines = {
            name: _each_once(pool([result.baselines[name] for result in results]))
            for name in results[0].baselines
        }
        scores = score_predictions(pooled, params.evaluate)
        scores |= score_baselines(baselines, params.evaluate)
        summary = summarise(results, pooled, scores, confidence=params.evaluate.confidence)
        summary["is_official"] = bool(official)
        rows = [result.cells() for result in results]
        files = [CROSSVAL / name for name in ("folds.csv", "predictions.csv", "summary.json")]
        write_table_csv(files[0], list(rows[0]), rows)
        pooled.write_csv(files[1])
        write_json(files[2], summary)
        audit_lines, audit_files = _audit_labels(pooled, clips)
        with warned(f"MLflow lacks results that are in {CROSSVAL}"):
            over_folds = {
                f"{name}_{kind}": summary[kind][name]
                for kind in ("mean", "spread")
                for name in pooled.task.headline_metrics
            }
            log_scores(run.id, {**summary["pooled"], **over_folds}, summary["interval"])
            log_files(run.id, [*files, *audit_files])
    shutil.rmtree(finished)
    table = align_columns(
        [list(rows[0]), *(list(row.values()) for row in rows)], ">" * len(rows[0])
    )
    return [*table, *_score_lines(summary, pooled.task, params.model.streams), *audit_lines]


def summarise(
    results: Sequence[FoldResult],
    pooled: Predictions,
    scores: Mapping[str, Score],
    *,
    confidence: float,
) -> dict[str, Any]:
    """Return the content of eval/crossval/summary.json.

    ``mean`` and ``spread`` (the sample standard deviation) weight every fold equally. ``pooled``
    scores the predictions of all folds as if one model had made them, so every tested video has
    the same weight: of a video in several official test folds, the first prediction counts.
    ``interval`` is its interval over groups: the effect of other videos, not of other seeds.
    Settings may be chosen by the mean of the validation metric, which does not depend on the
    test folds.
    """
    by_name = {name: [result.scores[name] for result in results] for name in results[0].scores}
    return {
        "folds": len(results),
        "videos": len(pooled.videos),
        "groups": len(set(pooled.resampling_groups)),
        "mean": {name: statistics.fmean(values) for name, values in by_name.items()},
        "spread": {name: statistics.stdev(values) for name, values in by_name.items()},
        "pooled": {name: score.value for name, score in scores.items()},
        "interval": {name: score.interval for name, score in scores.items() if score.interval},
        "confidence": confidence,
        "seconds": sum(result.seconds for result in results),
    }


def _folders() -> list[Path]:
    """Return the folders of all clips: of the splits, and of videos that have none."""
    folders = [CLIPS / split for split in SPLITS]
    return [*folders, UNUSED_CLIPS] if UNUSED_CLIPS.exists() else folders


def _official_parts() -> dict[str, tuple[FoldPart, ...]]:
    """Return the parts of each video in the official folds; empty if the labels have none."""
    return {record.name: record.folds for record in read_catalog(CATALOG) if record.folds}


def _each_once(predictions: Predictions) -> Predictions:
    """Return the first prediction of each video; the videos are sorted."""
    videos = predictions.videos
    return predictions.rows(
        [row for row, video in enumerate(videos) if not row or video != videos[row - 1]]
    )


def _audit_labels(pooled: Predictions, clips: ClipArrays) -> tuple[list[str], list[Path]]:
    """Look for doubtful targets in all splits; return lines for a terminal and written files."""
    splits = {name: folder.name for folder in _folders() for name in ClipArrays(folder).names}
    doubtful = find_doubtful_labels(pooled, splits)
    if doubtful is None:
        return [], []
    write_doubtful_labels_csv(_DOUBTFUL_LABELS, doubtful)
    source = "predictions of models that were not trained on these videos"
    audit = labels_audit(doubtful, pooled, source=source, table=_DOUBTFUL_LABELS)
    lines = ["", f"labels: {audit.sentence}"]
    picture = _DOUBTFUL_LABELS.with_suffix(".png")
    picture.unlink(missing_ok=True)
    if not doubtful:
        return lines, [_DOUBTFUL_LABELS]
    from pipeline.review.film_strips import write_preview

    first = {clips.names[index]: index for index in clips.first_of_videos()}
    rows, strips = [("video", "split", "target", "suggested", "quality")], []
    for label in doubtful[:_SHOWN_DOUBTFUL]:
        quality = f"{label.quality:.3f}"
        rows.append((label.video, label.split, label.target, label.suggested, quality))
        index = first[label.video]
        heading = f"{label.video}: {label.target}, or {label.suggested}? Quality {quality}"
        strips.append((heading, [clips.clip(index)]))
    write_preview(picture, strips)
    lines += [*align_columns(rows, "<<<<>"), f"Film strips: {picture}"]
    return lines, [_DOUBTFUL_LABELS, picture]


def _score_lines(summary: Mapping[str, Any], task: Task, streams: Sequence[str]) -> Iterator[str]:
    """Yield mean, spread and the pooled score with its interval, for each headline metric."""
    for name in task.headline_metrics:
        interval = ""
        if name in summary["interval"]:
            low, high = summary["interval"][name]
            interval = f" [{low:.3f}, {high:.3f}] at {summary['confidence']:.0%}"
        yield (
            f"{name.replace('_', ' ')}: mean {summary['mean'][name]:.3f}, "
            f"spread {summary['spread'][name]:.3f}; pooled {summary['pooled'][name]:.3f}"
            f"{interval}, {summary['videos']} videos in {summary['groups']} groups"
        )
        for baseline in task.baselines:
            if (score := summary["pooled"].get(f"{name}_{baseline}")) is not None:
                yield f"  baseline {baseline.replace('_', ' ')}: {score:.3f}"
    validation = f"val_{task.training_metric}"
    fused = " with equal weights of the streams" if len(streams) > 1 else ""  # of an epoch
    yield (
        f"validation {task.training_metric.replace('_', ' ')}{fused}, to choose settings by: "
        f"mean {summary['mean'][validation]:.3f}, spread {summary['spread'][validation]:.3f}"
    )
