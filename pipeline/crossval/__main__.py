"""Cross-validate the recipe of params.yaml on every clip that extract made.

``python -m pipeline.crossval [--folds 5] [--seed 0]`` prints a table of the folds and writes
eval/crossval/. MLflow gets one run, with a nested run for each fold.
"""

import argparse
import multiprocessing
from collections.abc import Iterator, Sequence

from pebble import ProcessExpired, ProcessPool
from tqdm import tqdm

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.base.paths import CROSSVAL
from pipeline.crossval.folds import make_folds
from pipeline.crossval.results import logged_scores, summarise, table, write_results
from pipeline.crossval.tasks import FoldResult, FoldTask, all_clips, run_fold_task, run_params
from pipeline.evaluation.predictions import pool
from pipeline.params import load_params
from pipeline.tracking.runs import training_run, warned
from pipeline.tracking.scores import log_files, log_scores


def main() -> None:
    asked = _arguments()
    params = load_params()
    clips = all_clips()
    folds = make_folds(
        clips.labels,
        clips.groups,
        n_folds=asked.folds,
        val_share=params.catalog.val_share,
        seed=asked.seed,
    )
    run = training_run(
        params=run_params(params, n_folds=asked.folds, seed=asked.seed),
        dataset=params.data.videos,
        name=f"crossval of {asked.folds} folds, seed {asked.seed}",
    )
    with run as run_id:
        tasks = [
            FoldTask(number, asked.folds, asked.seed, fold, params, parent_run=run_id)
            for number, fold in enumerate(folds, start=1)
        ]
        results = list(
            tqdm(_each_in_its_process(tasks), total=len(tasks), unit="fold", disable=None)
        )
        rows = [result.row for result in results]
        pooled = pool([result.predictions for result in results])
        summary = summarise(rows, pooled, params.evaluate)
        files = write_results(CROSSVAL, rows, pooled, summary)
        with warned(f"MLflow lacks results that are in {CROSSVAL}"):
            log_scores(run_id, logged_scores(summary), summary["interval"])
            log_files(run_id, files)
    print(table(rows, summary))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.crossval", description=__doc__)
    parser.add_argument("--folds", type=_at_least_2, default=5, help="how many (default: 5)")
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, other folds (default: 0)"
    )
    return parser.parse_args()


def _at_least_2(text: str) -> int:
    if (folds := int(text)) < 2:
        raise argparse.ArgumentTypeError(f"expected 2 or more. Received: {text}")
    return folds


def _each_in_its_process(tasks: Sequence[FoldTask]) -> Iterator[FoldResult]:
    """Run the folds one by one: determinism is set up once a process, and memory comes back."""
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    processes = ProcessPool(max_workers=1, max_tasks=1, context=context)
    try:
        for task in tasks:
            yield processes.schedule(run_fold_task, args=(task,)).result()
    except ProcessExpired as error:
        raise PipelineError(
            f"The process of fold {task.number} died (exit code {error.exitcode}). Mostly that is "
            "memory: lower train.batch_size or extract.frames."
        ) from None
    finally:
        processes.stop()  # type: ignore[no-untyped-call]
        processes.join()


if __name__ == "__main__":
    run_command(main)
