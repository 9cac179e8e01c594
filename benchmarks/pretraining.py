"""Train few clips from scratch, and with a CNN that was trained on other clips.

``python -m benchmarks.pretraining [--seeds 0 1 2]`` runs the stages in temporary folders:

1. a model of two streams learns the demo set for captions: objects of four colours and three
   shapes move in two straight lines;
2. its ``models/model.keras`` is copied to ``data/weights/``, as a user copies it;
3. each of ``SIDES`` learns the demo set for classification from few clips. It has another task,
   other objects, and motions on a circle, which the captions lack.

Each seed draws other training, validation and test clips. The results are written to
docs/pretraining.md; the last line of the output is JSON: side -> one result a seed.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.learning_tasks import demo_project, run_python
from pipeline.clips.arrays import ClipArrays
from pipeline.common.files import write_json
from pipeline.common.params_text import set_values
from pipeline.common.paths import CLIPS, FEATURES, MODEL, MODEL_METADATA, PARAMS, WEIGHTS
from pipeline.evaluation.predictions import predict_videos
from pipeline.evaluation.scores import score_predictions
from pipeline.model.saving import ModelMetadata, load_model
from pipeline.params import load_params

_CAPTION_EPOCHS = 15
_EPOCHS = 150  # 300 steps
_HEAD_EPOCHS = 75
_DECODE = {"decode.width": 32, "decode.height": 32}  # so that a training takes minutes
_SPLITS = {"catalog.val_share": 0.03, "catalog.test_share": 0.94}
_FILE = WEIGHTS / "captions.keras"

# Name of a side -> model.cnn.weights, model.cnn.trainable, train.fine_tuning.head_epochs.
SIDES: dict[str, tuple[str, str, int]] = {
    "from scratch": ("none", "all", 0),
    "random CNN, frozen": ("none", "none", 0),
    "pretrained CNN, frozen": (str(_FILE), "none", 0),
    "pretrained CNN, fine-tuned": (str(_FILE), "all", _HEAD_EPOCHS),
}

_RESULTS = Path("docs/pretraining.json")  # side -> one result a seed
_TABLE = Path("docs/pretraining.md")
_HEADER = f"""# What a pretrained CNN adds for few clips

Written by `python -m benchmarks.pretraining`. Two streams learn the demo set for captions in
{_CAPTION_EPOCHS} epochs, and their `models/model.keras` is copied to `data/weights/`. Then each
side learns another task, the demo set for classification, from about 3 training and 3 validation
clips for each of six classes. The settings are those of `params.yaml`, with frames of 32 x 32
pixels, {_EPOCHS} epochs (about 300 steps; `train.epochs: auto` is 800) and `model.cnn` as below.
`fine-tuned` freezes the CNN for the first {_HEAD_EPOCHS} epochs (`train.fine_tuning.head_epochs`).
`random CNN, frozen` is the control.

Each seed draws other clips. The accuracy is that of about 620 test clips. The minutes are those of
the stage `train` on two cores. The features are the files that the stage added to `data/features/`:
one for each stream and shard of clips. `fine-tuned` uses those of `pretrained CNN, frozen`.

Three clips of a class decide much: compare the sides within a seed. The gain holds for few steps:
[models.md](models.md#pretrained-cnns) has an accuracy from scratch after 800.

| side | `weights` | `trainable` | seeds | accuracy | median | minutes | features |
|---|---|---|---|---|---|---|---|
"""

Result = dict[str, float]  # seed, accuracy, val_accuracy, minutes, features


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretraining")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    results: dict[str, list[Result]] = {side: [] for side in SIDES}
    with demo_project("caption") as captions, demo_project("classification") as target:
        set_values(captions / PARAMS, {**_DECODE, "train.epochs": _CAPTION_EPOCHS})
        _run_stages(captions, "catalog", "decode", "extract", "train")
        (target / WEIGHTS).mkdir(parents=True)
        shutil.copy(captions / MODEL, target / _FILE)
        for seed in seeds:
            for side, result in _results_of_seed(target, seed):
                results[side].append(result)
                print(f"{side}: {result}", flush=True)
    write_json(_RESULTS, results)
    _TABLE.write_text(_HEADER + "".join(_rows(results)), encoding="utf-8")
    print(json.dumps(results))


def _results_of_seed(root: Path, seed: int) -> Iterator[tuple[str, Result]]:
    set_values(root / PARAMS, {**_DECODE, **_SPLITS, "catalog.seed": seed, "train.seed": seed})
    _run_stages(root, "catalog", "decode", "extract")
    for side, (weights, trainable, head_epochs) in SIDES.items():
        set_values(
            root / PARAMS,
            {
                "model.cnn.weights": weights,
                "model.cnn.trainable": trainable,
                "train.epochs": _EPOCHS,
                "train.fine_tuning.head_epochs": head_epochs,
            },
        )
        features_before = _count_features(root)
        started = time.perf_counter()
        _run_stages(root, "train")
        minutes = (time.perf_counter() - started) / 60
        code = "from benchmarks.pretraining import print_scores; print_scores()"
        scores = json.loads(run_python(root, "-c", code).splitlines()[-1])
        features = _count_features(root) - features_before
        yield side, {"seed": seed, **scores, "minutes": round(minutes, 2), "features": features}


def _run_stages(root: Path, *stages: str) -> None:
    for stage in stages:
        run_python(root, "-m", f"pipeline.stages.{stage}")


def _count_features(root: Path) -> int:
    return len(list((root / FEATURES).rglob("*.npy")))


def print_scores() -> None:
    """Print the accuracies of the model in the working directory as JSON."""
    model, task = load_model(MODEL), ModelMetadata.read(MODEL_METADATA).task
    scores = {}
    for name, split in (("accuracy", "test"), ("val_accuracy", "val")):
        predictions = predict_videos(model, ClipArrays(CLIPS / split), task)
        score = score_predictions(predictions, load_params().evaluate)["accuracy"]
        scores[name] = float(score.value)
    print(json.dumps(scores))


def _rows(results: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    for side, (weights, trainable, _) in SIDES.items():
        columns = [
            ", ".join(format(result[name], form) for result in results[side])
            for name, form in (
                ("seed", "d"),
                ("accuracy", ".3f"),
                ("minutes", ".1f"),
                ("features", "d"),
            )
        ]
        columns.insert(2, f"{median(result['accuracy'] for result in results[side]):.3f}")
        yield f"| {side} | `{weights}` | `{trainable}` | {' | '.join(columns)} |\n"


if __name__ == "__main__":
    main()
