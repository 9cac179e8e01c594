"""Measure the cost of reading clips, and the speedup by cached frame features.

`python -m benchmarks.input` writes clips of noise (112x112, T=16, 0.7 real frames on average)
into a temporary folder. Sides take turns; values are medians. The last line is JSON:

- `input_share_of_step`: processor time of reading batches as the train stage does, over that of
  training the small CNN of params.yaml on batches in memory. Reading runs in parallel to the
  steps, so its cost is processor time.
- `worker_input_share_of_step`: the same for one of two workers: it reads half of each batch, and
  its steps take half as long.
- `augmented_input_share_of_step`: the same with `train.augmentation` of params.yaml.
- `clips_per_second`: the rate of reading alone.
- `cached_epoch_speedup`: the time of an epoch of a frozen MobileNetV2 with an LSTM on frames,
  over that of an epoch on features that are computed once.
- `cache_epochs`: the time of computing the features, in epochs on frames.
"""

import json
import math
import tempfile
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.lib.format import open_memmap

from benchmarks.estimates import EpochClock
from benchmarks.timing import cpu_seconds_of, interleaved, seconds_of
from pipeline.clips.arrays import ClipArrays
from pipeline.clips.batches import Shares, training_batches
from pipeline.common.command import run_command
from pipeline.common.files import write_csv
from pipeline.model.augmentation import clip_augmenter
from pipeline.model.features import cached_features
from pipeline.model.fitting import fit, make_deterministic
from pipeline.model.network import build_model
from pipeline.model.settings import AugmentationSection, CnnSection, ModelSection, TrainSection
from pipeline.params import load_params
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.task import Task, task_class

_N_FRAMES, _SIDE_PIXELS, _REAL_FRACTION = 16, 112, 0.7
_SHARDS, _CLASSES = 4, 4
_BATCH_SIZE = 8
_REPETITIONS = 5
_FROZEN = ModelSection(
    cnn=CnnSection(backbone="MobileNetV2", trainable="none", pooling="average"), frame_features=0
)


def main() -> None:
    make_deterministic(0, threads=2)
    with tempfile.TemporaryDirectory(prefix="input-") as folder:
        reading = _reading(noise_clips(Path(folder) / "many", count=128))
        few = noise_clips(Path(folder) / "few", count=48)
        features = _features(few, Path(folder) / "features")
    print(json.dumps({**reading, **features}))


def noise_clips(folder: Path, *, count: int) -> ClipArrays:
    """Store ``count`` clips of noise, a multiple of the number of shards."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    in_shard = count // _SHARDS
    shortest = max(1, round((2 * _REAL_FRACTION - 1) * _N_FRAMES))
    longest = round(2 * _REAL_FRACTION * _N_FRAMES) - shortest
    for shard in range(_SHARDS):
        lengths = rng.integers(shortest, longest + 1, in_shard)
        mask = np.arange(_N_FRAMES) < lengths[:, None]
        shape = (*mask.shape, _SIDE_PIXELS, _SIDE_PIXELS, 3)
        frames = open_memmap(folder / f"{shard:02d}.frames.npy", "w+", np.dtype(np.uint8), shape)
        for row, length in enumerate(lengths):
            frames[row, :length] = rng.integers(0, 256, (int(length), *shape[2:]), np.uint8)
            rows.append(
                {
                    "name": f"{shard}-{row}",
                    "target": f"class {len(rows) % _CLASSES}",
                    "group": "",
                    "frames": int(length),
                    "shard": shard,
                    "row": row,
                }
            )
        frames.flush()
        np.save(folder / f"{shard:02d}.mask.npy", mask)
    write_csv(folder / "clips.csv", list(rows[0]), rows)
    return ClipArrays(folder)


def _reading(clips: ClipArrays) -> dict[str, float]:
    params, task = load_params(), _task(clips)
    batches = partial(
        training_batches, clips, task.encode(clips.targets), batch_size=_BATCH_SIZE, seed=0
    )
    plain = batches()
    augmented = batches(augment=clip_augmenter(params.train.augmentation, task))
    steps = math.ceil(len(clips) / _BATCH_SIZE)
    # Batches of a worker have no end; an element is its share of one.
    share = batches(shares=Shares(first=0, n=1, total=2)).take(steps)
    model = build_model(params.model, task, frame_shape=(_SIDE_PIXELS, _SIDE_PIXELS, 3))
    model.compile(keras.optimizers.Adam(1e-3), task.loss(label_smoothing=0))
    medians = interleaved(
        {
            "read": partial(cpu_seconds_of, partial(_read, plain)),
            "share": partial(cpu_seconds_of, partial(_read, share)),
            "augment": partial(cpu_seconds_of, partial(_read, augmented)),
            "step": partial(cpu_seconds_of, partial(_train, model, plain.cache())),
        },
        repetitions=_REPETITIONS,
    ).medians
    reading = seconds_of(partial(_read, plain))
    return {
        "input_share_of_step": round(medians["read"] / medians["step"], 4),
        "worker_input_share_of_step": round(2 * medians["share"] / medians["step"], 4),
        "augmented_input_share_of_step": round(medians["augment"] / medians["step"], 4),
        "clips_per_second": round(len(clips) / reading),
    }


def _read(batches: tf.data.Dataset) -> None:
    for _ in batches:
        pass


def _train(model: keras.Model, batches: tf.data.Dataset) -> None:
    model.fit(batches, verbose=0, shuffle=False)


def _features(clips: ClipArrays, folder: Path) -> dict[str, float]:
    model = _frozen_model(clips)
    computing = seconds_of(lambda: cached_features(model, clips, folder))
    medians = interleaved(
        {
            "frames": partial(_epoch_seconds, clips, None),
            "features": partial(_epoch_seconds, clips, folder),
        },
        repetitions=_REPETITIONS,
    ).medians
    on_frames, on_features = medians["frames"], medians["features"]
    print(f"epoch on frames: {1000 * on_frames:.0f} ms; on features: {1000 * on_features:.0f} ms")
    return {
        "cached_epoch_speedup": round(on_frames / on_features, 2),
        "cache_epochs": round(computing / on_frames, 2),
    }


def _epoch_seconds(clips: ClipArrays, features: Path | None) -> float:
    """Return the time of the second epoch of a training; the first one builds the graph."""
    training = TrainSection(
        epochs=2,
        batch_size=_BATCH_SIZE,
        learning_rate=1e-3,
        schedule="constant",
        weight_decay=0,
        augmentation=AugmentationSection(shift=0, brightness=0, contrast=0),
    )
    timer = EpochClock()
    result = fit(
        _frozen_model(clips),
        _task(clips),
        clips,
        clips,
        training,
        callbacks=[timer],
        features_folder=features,
    )
    if not np.isfinite(result.history[-1]["loss"]):
        raise SystemExit(f"Expected a finite loss. Received: {result.history[-1]}")
    return timer.seconds[-1]


def _frozen_model(clips: ClipArrays) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_model(_FROZEN, _task(clips), frame_shape=(_SIDE_PIXELS, _SIDE_PIXELS, 3))


def _task(clips: ClipArrays) -> Task:
    return task_class("classification").learn(clips.targets, TaskSection())


if __name__ == "__main__":
    run_command(main)
