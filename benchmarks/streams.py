"""Compare the training and the prediction of two streams with those of one.

Run ``vidpipe repro`` first, then ``python -m benchmarks.streams``. It trains the model of
params.yaml on the training clips of ``data/clips`` (at most 160) with each choice of
``model.streams``, the choices in turns, and predicts the same clips. An epoch contains
reading, augmentation and validation; the first epoch of each training, which builds the graph,
does not count. The last line is JSON: medians in seconds, and the ratios of two streams to the
slower single stream.
"""

import json
import statistics
from functools import partial
from typing import Any

from benchmarks.estimates import EpochClock
from benchmarks.timing import rounded, seconds_of
from pipeline.clips.arrays import ClipArrays
from pipeline.common.command import run_command
from pipeline.common.paths import CLIPS
from pipeline.model.fitting import fit, make_deterministic
from pipeline.model.network import build_model
from pipeline.model.prediction import predict_arrays
from pipeline.model.settings import Stream
from pipeline.params import load_params
from pipeline.tasks.task import task_class

_CHOICES: dict[str, list[Stream]] = {
    "frames": ["frames"],
    "differences": ["differences"],
    "two_streams": ["frames", "differences"],
}
_REPETITIONS = 3
_EPOCHS = 3  # of a training; the first does not count
_MOST_CLIPS = 160


def main() -> None:
    params = load_params()
    make_deterministic(params.train.seed, params.train.threads)
    train, val = ClipArrays(CLIPS / "train"), ClipArrays(CLIPS / "val")
    task = task_class(params.task.type).learn(train.video_targets(), params.task)
    train = train.chosen(range(min(_MOST_CLIPS, len(train))))  # may lack classes
    section = params.train.model_copy(update={"epochs": _EPOCHS})
    epochs: dict[str, list[float]] = {name: [] for name in _CHOICES}
    predictions: dict[str, list[float]] = {name: [] for name in _CHOICES}
    for repetition in range(_REPETITIONS):
        for name in _CHOICES if repetition % 2 == 0 else reversed(_CHOICES):
            model = build_model(
                params.model.model_copy(update={"streams": _CHOICES[name]}),
                task,
                frame_shape=train.frames(0).shape[1:],
                precision=params.train.precision,
                side_inputs=train.learn_side_inputs(),
            )
            clock = EpochClock()
            fit(model, task, train, val, section, callbacks=[clock])
            epochs[name] += clock.seconds[1:]
            predict_arrays(model, train)  # builds the graph
            predictions[name].append(seconds_of(partial(predict_arrays, model, train)))
    print(json.dumps(_summary(epochs, predictions)))


def _summary(*measured: dict[str, list[float]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for kind, by_choice in zip(("epoch", "prediction"), measured, strict=True):
        medians = {name: statistics.median(seconds) for name, seconds in by_choice.items()}
        slower = max(medians["frames"], medians["differences"])
        summary[f"{kind}_seconds"] = {name: rounded(value) for name, value in medians.items()}
        summary[f"{kind}_ratio"] = rounded(medians["two_streams"] / slower)
    return summary


if __name__ == "__main__":
    run_command(main)
