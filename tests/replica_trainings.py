"""Trainings on one and on two logical devices, in a process of their own.

``python -m tests.replica_trainings FOLDER KIND`` writes ``<name>/<name>_<devices>.npz`` for each
training of a kind: the weights at the start and at the end, and the rows of the history as JSON.
``gathered.json`` has the values that two devices gather, ``refused.txt`` an error, ``log.txt`` the
log.
"""

import json
import logging
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipeline.clips.arrays import ClipArrays
from pipeline.common.errors import PipelineError
from pipeline.compute.settings import ComputeSection
from pipeline.model.fitting import FitResult, fit, make_deterministic
from pipeline.model.replicated_fitting import Training, fit_replicas
from pipeline.model.settings import AugmentationSection, FineTuningSection, TrainSection
from pipeline.model.strategy import OneReplica, Replicas, machine_replicas
from pipeline.tasks.classification import Classification
from pipeline.tasks.frames import Frames
from pipeline.tasks.intervals import ClipFrames, clip_text
from pipeline.tasks.task import Task
from tests.architectures import CLASSES, MOBILENET, TASK, build, noise_clips, stored_clips, tiny
from tests.sgd import sgd

DEVICES = ("CPU:0", "CPU:1")
LENGTHS = [1, 2, 3, 4, 4, 4, 2]  # a last batch of 3 of 4 clips, which two replicas share as 1 and 2
PLAIN = {
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 0.05,
    "schedule": "constant",
    "augmentation": AugmentationSection(shift=0, brightness=0.2, contrast=0.2),
}
MODEL = tiny(recurrent="none", summary="mean")


def training(**changes) -> TrainSection:
    return TrainSection(**{**PLAIN, **changes})


def clips_in(folder: Path, side: int = 8) -> ClipArrays:
    frames, mask = noise_clips(LENGTHS, 4, 0, (side, side, 3))
    return stored_clips(folder, frames, mask, [CLASSES[number % 3] for number in range(7)])


def labelled_frames(folder: Path) -> ClipArrays:
    """Clips whose frames have labels; the numbers of labels differ between clips."""
    frames, mask = noise_clips(LENGTHS, 4, 0, (8, 8, 3))
    targets = [
        clip_text("0 to 0.1 a|0.1 to 0.3 b", ClipFrames(range(length), 4, 10.0))
        for length in LENGTHS
    ]
    return stored_clips(folder, frames, mask, targets)


@cache
def two_devices() -> Replicas:
    """One strategy: the collective operations of two would have the same keys in a process."""
    return machine_replicas(DEVICES)


def compare(folder: Path, name: str, clips: ClipArrays, section, model=MODEL, **options) -> None:
    """Train on one device and on two, and write both."""
    task: Task = options.pop("task", Classification(CLASSES, target_accuracy=0.95))
    for devices, replicas in ((1, OneReplica()), (2, two_devices())):
        with replicas.scope():
            network = build(model, task=task, precision=section.precision)
        start = network.get_weights()
        result = fit(network, task, clips, clips, section, replicas=replicas, **options)
        write(folder / f"{name}_{devices}.npz", start, network, result)


def write(path: Path, start: list[np.ndarray], network: keras.Model, result: FitResult) -> None:
    np.savez(
        path,
        history=json.dumps(result.history),
        **{f"start_{number:03d}": array for number, array in enumerate(start)},
        **{f"end_{number:03d}": array for number, array in enumerate(network.get_weights())},
    )


def sgd_of_two_streams(folder: Path) -> None:
    two_streams = tiny(recurrent="none", summary="mean", streams=["frames", "differences"])
    weighted = training(class_weights="balanced", label_smoothing=0.1)
    compare(folder, "sgd", clips_in(folder), weighted, two_streams, optimizer_of=sgd)


def adam_w(folder: Path) -> None:
    compare(folder, "adam_w", clips_in(folder), training(learning_rate=0.01))


def half(folder: Path) -> None:
    section = training(precision="mixed_bfloat16", epochs=1)
    compare(folder, "half", clips_in(folder), section, optimizer_of=sgd)


def phases(folder: Path) -> None:
    tuning = FineTuningSection(head_epochs=1, learning_rate=0.01)
    section = training(batch_size=6, fine_tuning=tuning)
    options = {"optimizer_of": sgd, "features_folder": folder / "features"}
    compare(folder, "phases", clips_in(folder), section, **options)


def frames(folder: Path) -> None:
    task = Frames(("a", "b"), 10.0)
    compare(folder, "frames", labelled_frames(folder), training(), optimizer_of=sgd, task=task)


def mobilenet(folder: Path) -> None:
    model = tiny(MOBILENET, frame_features=0, recurrent="none", summary="mean")
    section = training(epochs=1, learning_rate=0.001, batch_size=8)  # one step
    compare(folder, "mobilenet", clips_in(folder, side=32), section, model, optimizer_of=sgd)


def all_gpus(folder: Path) -> None:
    """Train with ``compute.gpus: all``; logical devices take the place of GPUs."""
    for split in ("train", "val"):
        clips_in(folder / split)
    job = Training(MODEL, training(), TASK, (), folder, optimizer_of=sgd)
    one, two = build(MODEL), build(MODEL)
    start = one.get_weights()
    result = fit(one, TASK, *job.splits(), job.section, optimizer_of=sgd)
    write(folder / "all_gpus_1.npz", start, one, result)
    result = fit_replicas(two, job, ComputeSection(gpus="all"))
    write(folder / "all_gpus_2.npz", start, two, result)
    try:
        fit_replicas(two, replace(job, section=training(batch_size=5)), ComputeSection(gpus="all"))
    except PipelineError as error:
        (folder / "refused.txt").write_text(str(error))


QUICK = (sgd_of_two_streams, adam_w)
LONG = (half, phases, frames, mobilenet)
KINDS = {"quick": QUICK, "long": LONG, "all_gpus": (all_gpus,)}


def main(folder: Path, kind: str) -> None:
    logging.basicConfig(filename=folder / "log.txt", level=logging.INFO)
    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration() for _ in DEVICES]
    tf.config.set_logical_device_configuration(cpu, devices)
    make_deterministic(0, 1)
    if kind == "quick":
        (folder / "gathered.json").write_text(json.dumps(two_devices().gathered([2, 1 << 55])))
    for train in KINDS[kind]:
        (folder / train.__name__).mkdir()
        train(folder / train.__name__)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
