"""Train a fold and predict its held-out clips, in a process of its own."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock, Timeout
from pebble import ProcessExpired, ProcessPool

from pipeline.clips.arrays import ClipArrays
from pipeline.common.errors import PipelineError
from pipeline.common.paths import FEATURES
from pipeline.evaluation.predictions import Predictions, predict_videos
from pipeline.params import Params
from pipeline.retraining.folds import Fold
from pipeline.tasks.task import Task, task_class

if TYPE_CHECKING:  # the process that starts the folds needs no TensorFlow
    import keras

    from pipeline.model.fitting import FitResult

_LOCK = Path(".dvc/tmp/folds.lock")

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


class ClipsReplacedError(PipelineError):
    """The clips are no longer those of which the folds have indices."""


class ProcessDiedError(PipelineError):
    """The process of a fold died. The usual reason is too little memory."""


@dataclass(frozen=True)
class ClipFiles:
    """The files of clips, to notice that another process replaced them.

    Attributes:
        folders: of the splits.
        states: size in bytes and time of modification, in nanoseconds, of each file.
    """

    folders: tuple[Path, ...]
    states: tuple[tuple[int, int], ...]

    @classmethod
    def now(cls, *folders: Path) -> "ClipFiles":
        files = sorted(path for folder in folders for path in folder.iterdir())
        stats = [path.stat() for path in files]
        return cls(folders, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))

    def read(self) -> ClipArrays:
        """Return the clips.

        Raises:
            ClipsReplacedError: a file was replaced.
        """
        if ClipFiles.now(*self.folders) != self:
            raise ClipsReplacedError(
                f"{self.folders[0].parent}: another command replaced the clips, such as vidpipe "
                "repro in this folder. Run this command again; finished folds of the same clips "
                "are kept."
            )
        return ClipArrays(*self.folders)


@dataclass(frozen=True, eq=False)
class TrainedFold:
    """A model that was trained on a fold.

    Attributes:
        task: calibrated on the validation clips of the fold.
        predictions: of its test videos.
        seconds: of training and calibration.
    """

    model: "keras.Model"
    task: Task
    fitted: "FitResult"
    predictions: Predictions
    seconds: float


@contextmanager
def only_one_training_of_folds() -> Iterator[None]:
    """Refuse a second crossval or tune in this folder: it could change the clips of the first.

    Raises:
        PipelineError: another process is inside.
    """
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PipelineError(
            "Another vidpipe crossval or tune is running in this folder. Wait until it ends."
        ) from None
    try:
        yield
    finally:
        lock.release()


def train_fold(
    params: Params,
    clips: ClipArrays,
    fold: Fold,
    *,
    callbacks: "Sequence[keras.callbacks.Callback]" = (),
) -> TrainedFold:
    """Train on ``fold.train`` as the train stage with ``val``, and predict ``fold.test``.

    Call it once a process: determinism is set up for the whole process.
    """
    from pipeline.model.fitting import calibrate, fit, make_deterministic
    from pipeline.model.network import build_model

    make_deterministic(params.train.seed, params.train.threads)
    train, val, test = (clips.chosen(part) for part in (fold.train, fold.val, fold.test))
    task = task_class(params.task.type).learn(train.video_targets(), params.task)
    task.check_mirror(params.train.augmentation.flip_swaps)
    model = build_model(
        params.model,
        task,
        frame_shape=clips.frames(0).shape[1:],
        precision=params.train.precision,
        side_inputs=train.learn_side_inputs(),
    )
    started = time.perf_counter()
    fitted = fit(
        model, task, train, val, params.train, callbacks=callbacks, features_folder=FEATURES
    )
    task = calibrate(model, task, val)
    seconds = time.perf_counter() - started
    return TrainedFold(model, task, fitted, predict_videos(model, test, task), seconds)


def run_in_process(
    function: Callable[[_Argument], _Result], argument: _Argument, *, title: str
) -> _Result:
    """Return ``function(argument)``, computed in a process of its own.

    Determinism is set up once a process, and only the end of a process frees all memory.

    Args:
        title: of the work, for messages, such as ``fold 1 of 5``.

    Raises:
        ProcessDiedError: the process died.
        PipelineError: the function raised one.
    """
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    processes = ProcessPool(max_workers=1, max_tasks=1, context=context)
    try:
        result: _Result = processes.schedule(function, args=(argument,)).result()
        return result
    except ProcessExpired as error:
        raise ProcessDiedError(
            f"The process of {title} died with exit code {error.exitcode}. The usual "
            "reason is too little memory: lower train.batch_size or extract.frames."
        ) from None
    finally:
        processes.stop()  # type: ignore[no-untyped-call]
        processes.join()
