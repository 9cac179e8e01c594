"""What goes to the process of a fold and comes back; no TensorFlow, so the command starts fast."""

from dataclasses import dataclass
from typing import Any

from pipeline.base.paths import CLIPS
from pipeline.catalog.records import SPLITS
from pipeline.clips.shards import ClipArrays
from pipeline.crossval.folds import Fold
from pipeline.crossval.results import FoldRow
from pipeline.evaluation.predictions import Predictions
from pipeline.params import Params


@dataclass(frozen=True)
class FoldTask:
    """What the process of a fold is told."""

    number: int  # from 1
    n_folds: int
    seed: int  # of the folds, not of the training
    fold: Fold
    params: Params
    parent_run: str


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What came out of a fold."""

    row: FoldRow
    predictions: Predictions  # of the test clips


def all_clips() -> ClipArrays:
    """Open everything that extract made, whatever its split."""
    return ClipArrays(*(CLIPS / split for split in SPLITS))


def run_params(params: Params, *, n_folds: int, seed: int, **more: int) -> dict[str, Any]:
    """Return what a run logs: params.yaml and how the folds were drawn."""
    return params.model_dump(by_alias=True) | {"crossval": {"folds": n_folds, "seed": seed, **more}}


def run_fold_task(task: FoldTask) -> FoldResult:
    """Train and test one fold, in a process of its own."""
    # Here, because the process that starts the folds needs no Keras, which takes seconds to import.
    from pipeline.crossval.fitting import run_fold

    return run_fold(task)
