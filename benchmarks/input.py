"""How much of a training step of the small CNN is reading clips?

`python -m benchmarks.input` makes clips of noise (T=16, 112x112, 0.7 real frames on average) in
a temporary folder, reads them in batches as train does, and trains the committed small CNN on
batches that are in memory already. The two take turns. Reading goes on beside the steps, so
what it costs is processor time, and that is what is measured. The last line is JSON:
`input_share_of_step` is reading over training, `augmented_input_share_of_step` reading and
changing the clips as the committed `train.augmentation` says, `clips_per_second` the rate of
reading alone, and `trimmed_speedup` a step over one with train.trim_batches, reading included in
both.
"""

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.made_clips import made_clips
from benchmarks.timing import cpu_seconds_of, interleaved
from pipeline.base.command import run_command
from pipeline.clips.dataset import training_dataset
from pipeline.clips.shards import ClipArrays
from pipeline.model import task
from pipeline.model.architecture import Architecture
from pipeline.model.augmentation import clip_augmenter
from pipeline.model.classifier import build_classifier
from pipeline.model.training import make_deterministic
from pipeline.params import load_params
from pipeline.stages.train import fit_options

_CLIPS, _N_FRAMES, _SIDE, _SHARE, _BATCH_SIZE = 128, 16, 112, 0.7, 8
_REPETITIONS = 5


def main() -> None:
    make_deterministic(0, threads=2)
    with tempfile.TemporaryDirectory(prefix="input-") as folder:
        clips = made_clips(
            Path(folder) / "clips", clips=_CLIPS, n_frames=_N_FRAMES, side=_SIDE, share=_SHARE
        )
        print(json.dumps(_report(clips)))


def _report(clips: ClipArrays) -> dict[str, float]:
    class_names = sorted(set(clips.labels))
    labels = task.encode_labels(clips.labels, class_names)
    dataset = partial(training_dataset, clips, labels, batch_size=_BATCH_SIZE, seed=0)
    whole, trimmed = dataset(), dataset(trim=True)
    augmentation = fit_options(load_params()).augmentation
    augmented = dataset(augment=clip_augmenter(augmentation, class_names))
    model = _model(len(class_names))
    medians = interleaved(
        {
            "read": _cpu(partial(_read, whole)),
            "augment": _cpu(partial(_read, augmented)),
            "step": _cpu(partial(_train, model, whole.cache())),
            "whole": _cpu(partial(_train, model, whole)),
            "trimmed": _cpu(partial(_train, model, trimmed)),
        },
        repetitions=_REPETITIONS,
    ).medians
    started = time.perf_counter()
    _read(whole)
    return {
        "input_share_of_step": round(medians["read"] / medians["step"], 4),
        "augmented_input_share_of_step": round(medians["augment"] / medians["step"], 4),
        "clips_per_second": round(_CLIPS / (time.perf_counter() - started)),
        "trimmed_speedup": round(medians["whole"] / medians["trimmed"], 3),
    }


def _cpu(work: Callable[[], object]) -> Callable[[], float]:
    return partial(cpu_seconds_of, work)


def _model(n_classes: int) -> keras.Model:
    model = build_classifier(Architecture(), n_classes=n_classes, frame_shape=(_SIDE, _SIDE, 3))
    model.compile(keras.optimizers.Adam(1e-3), task.loss())
    return model


def _read(dataset: tf.data.Dataset) -> None:
    for _ in dataset:
        pass


def _train(model: keras.Model, dataset: tf.data.Dataset) -> None:
    model.fit(dataset, verbose=0, shuffle=False)


if __name__ == "__main__":
    run_command(main)
