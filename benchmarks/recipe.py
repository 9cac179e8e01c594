"""Compare changes of params.yaml by cross-validation, without the test split.

Run ``vidpipe repro extract`` first, then, for one change an argument::

    python -m benchmarks.recipe train.augmentation.flip=true extract.clips_per_video=3

Keys of ``model``, ``train`` and ``extract`` can change. The training and validation clips are
divided into folds by group; every fold is trained with params.yaml and with each change, on the
same videos. Each line has the primary score of the held-out videos with params.yaml and with the
change, and the interval of the difference over resampled groups. The last line is JSON: change ->
``present`` and ``changed`` (scores), ``low`` and ``high`` (of the difference).
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from benchmarks.learning_tasks import run_python
from benchmarks.timing import rounded
from pipeline.clips.arrays import ClipArrays
from pipeline.common.command import run_command
from pipeline.common.errors import PipelineError
from pipeline.common.params_text import with_values
from pipeline.common.paths import CATALOG, FRAMES, PARAMS
from pipeline.common.settings import value_from_text
from pipeline.evaluation.predictions import Predictions, pool
from pipeline.evaluation.scores import paired_differences
from pipeline.params import Params, parse_params
from pipeline.retraining.fold_training import ClipFiles
from pipeline.retraining.folds import Fold, folds_of_clips
from pipeline.retraining.held_out import FoldTask, predict_in_process
from pipeline.retraining.tune import SEARCHED


def main() -> None:
    arguments = _arguments()
    present = PARAMS.read_text(encoding="utf-8")
    params = parse_params(yaml.safe_load(present))
    parts = _part_of_group(params, n_folds=arguments.folds, seed=arguments.seed)
    base = _held_out(params, SEARCHED, parts)
    metric = base.task.compared_metrics[0]
    results = {}
    for change in arguments.changes:
        key, _, value = change.partition("=")
        if not key.startswith(("model.", "train.", "extract.")):
            raise PipelineError(f"expected a key of model, train or extract. Received: {change}")
        text = with_values(present, {key: value_from_text(value)}, where=PARAMS)
        changed = parse_params(yaml.safe_load(text))
        with tempfile.TemporaryDirectory() as root:
            is_cut_again = changed.extract != params.extract
            folders = _cut_clips(text, Path(root)) if is_cut_again else SEARCHED
            held_out = _held_out(changed, folders, parts)
        difference = paired_differences(base, held_out, params.evaluate, metrics=[metric])[metric]
        results[change] = {
            "present": rounded(difference.value_a),
            "changed": rounded(difference.value_b),
            "low": rounded(difference.low),  # of the difference
            "high": rounded(difference.high),
        }
        print(f"{change}: {metric} {results[change]}", flush=True)
    print(json.dumps(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe")
    parser.add_argument("changes", nargs="+", metavar="KEY=VALUE")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    return parser.parse_args()


def _part_of_group(params: Params, *, n_folds: int, seed: int) -> list[dict[str, str]]:
    """Return for each fold the part of each group: train, val or test."""
    clips = ClipArrays(*SEARCHED)
    folds = folds_of_clips(
        clips, params.task.type, n_folds=n_folds, val_share=params.catalog.val_share, seed=seed
    )
    return [
        {
            clips.groups[index]: part
            for part in ("train", "val", "test")
            for index in getattr(fold, part)
        }
        for fold in folds
    ]


def _cut_clips(params_text: str, root: Path) -> tuple[Path, ...]:
    """Run the extract stage in ``root`` on the frames of this project; return the folders."""
    for folder in (CATALOG.parent, FRAMES):
        (root / folder).parent.mkdir(parents=True, exist_ok=True)
        (root / folder).symlink_to(folder.absolute())
    (root / PARAMS).write_text(params_text, encoding="utf-8")
    run_python(root, "-m", "pipeline.stages.extract")
    return tuple(root / folder for folder in SEARCHED)


def _held_out(
    params: Params, folders: tuple[Path, ...], parts: Sequence[Mapping[str, str]]
) -> Predictions:
    """Train on each fold and return the predictions of its held-out videos, pooled."""
    files = ClipFiles.now(*folders)
    groups = files.read().groups
    predictions = []
    for part_of_group in parts:
        indices: dict[str, list[int]] = {"train": [], "val": [], "test": []}
        for index, group in enumerate(groups):
            indices[part_of_group[group]].append(index)
        fold = Fold(**{part: tuple(own) for part, own in indices.items()})
        predictions.append(predict_in_process(FoldTask(params, files, fold)))
    return pool(predictions)


if __name__ == "__main__":
    run_command(main)
