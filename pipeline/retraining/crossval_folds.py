"""The folds of ``vidpipe crossval``: each is trained and tested in a process of its own.

Results are kept until all folds have ended, for a call that continues after an interruption.
"""

import logging
import pickle
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.clips.arrays import ClipArrays
from pipeline.common.files import replacing_file, sha256_of_file, sha256_of_json
from pipeline.evaluation.baselines import predict_baselines
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.scores import score_predictions
from pipeline.params import Params
from pipeline.retraining.fold_training import ClipFiles, run_in_process, train_fold
from pipeline.retraining.folds import Fold, clips_identity, weights_identity
from pipeline.tracking.buffer import BufferedRun
from pipeline.tracking.results import log_scores
from pipeline.tracking.runs import training_run, warned

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoldTask:
    """The work of the process of one fold."""

    title: str
    fold: Fold
    settings: Mapping[str, int]  # folds, official, seed, and fold, which counts from 1
    params: Params
    clips: ClipFiles  # of which the fold has indices
    parent_run: str


@dataclass(frozen=True, eq=False)
class FoldResult:
    """The result of one fold.

    Attributes:
        predictions: of the test videos.
        baselines: predictions of each baseline for the test videos.
        scores: headline metrics of the task on the test videos, and ``val_<training metric>``
            of the kept epoch, whose weights were tested.
        seconds: of training.
    """

    number: int
    predictions: Predictions
    baselines: Mapping[str, Predictions]
    scores: Mapping[str, float]
    epochs: int
    kept_epoch: int
    seconds: float

    def cells(self) -> dict[str, str]:
        """Return the row of the table."""
        return {
            "fold": str(self.number),
            "videos": str(len(self.predictions.videos)),
            **{name: f"{value:.6f}" for name, value in self.scores.items()},
            "epochs": str(self.epochs),
            "kept_epoch": str(self.kept_epoch),
            "seconds": f"{self.seconds:.1f}",
        }


def folds_digest(params: Params, clips: ClipArrays, folds: Sequence[Fold]) -> str:
    """Return a digest of what the result of a fold depends on: settings, data and code."""
    code = sorted(Path(__file__).parents[1].rglob("*.py"))
    content = [
        params.training_params(),
        params.evaluate.model_dump(),
        clips_identity(clips),
        [[fold.train, fold.val, fold.test] for fold in folds],
        [sha256_of_file(path) for path in code],
        weights_identity(params.model.cnn),
        [version(package) for package in ("keras", "tensorflow")],
    ]
    return sha256_of_json(content)[:16]


def fold_result(fold_task: FoldTask, finished: Path) -> FoldResult:
    """Train and test a fold, unless its result is in the folder ``finished``; keep it there."""
    path = finished / f"fold{fold_task.settings['fold']}.pickle"
    if not path.exists():
        result = run_in_process(run_fold, fold_task, title=fold_task.title)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as temporary:
            temporary.write_bytes(pickle.dumps(result))
        return result
    logger.info("%s: finished by an earlier call", fold_task.title)
    earlier: FoldResult = pickle.loads(path.read_bytes())
    with _run_of(fold_task) as run, warned(f"The run of {fold_task.title} lacks its scores"):
        assert run.id is not None  # without a store, training_run raises
        log_scores(run.id, earlier.scores)
    return earlier


def _run_of(fold_task: FoldTask) -> AbstractContextManager[BufferedRun]:
    """Return the nested run of a fold."""
    return training_run(
        params=run_params(fold_task.params, fold_task.settings),
        dataset=fold_task.params.data.videos,
        name=fold_task.title,
        parent=fold_task.parent_run,
    )


def run_fold(fold_task: FoldTask) -> FoldResult:
    """Train and test one fold as a nested MLflow run. Call it once a process."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # Here, because the process that starts the folds needs no TensorFlow.
    from pipeline.tracking.epochs import EpochMetrics

    params, fold, clips = fold_task.params, fold_task.fold, fold_task.clips.read()
    with _run_of(fold_task) as run:
        assert run.id is not None  # without a store, training_run raises
        trained = train_fold(params, clips, fold, callbacks=[EpochMetrics(run)])
        task, fitted = trained.task, trained.fitted
        train, test = clips.chosen(fold.train), clips.chosen(fold.test)
        baselines = predict_baselines(trained.model, task, train, test)
        scored = score_predictions(trained.predictions, params.evaluate)
        scores = {name: score.value for name, score in scored.items()}
        with warned(f"The run of {fold_task.title} lacks its scores"):
            log_scores(run.id, scores)
    validation = f"val_{task.training_metric}"
    return FoldResult(
        number=fold_task.settings["fold"],
        predictions=trained.predictions,
        baselines=baselines,
        scores={
            **{name: scores[name] for name in task.headline_metrics},
            validation: fitted.history[fitted.kept_epoch - 1][validation],
        },
        epochs=len(fitted.history),
        kept_epoch=fitted.kept_epoch,
        seconds=trained.seconds,
    )


def run_params(params: Params, settings: Mapping[str, int]) -> dict[str, Any]:
    """Return what a run logs: params.yaml and how the folds were drawn."""
    return {**params.model_dump(by_alias=True), "crossval": settings}
