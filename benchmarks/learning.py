"""Train every head on the demo clips with several seeds; test ordered and shuffled clips.

Run ``vidpipe repro`` on the demo data set first, then::

    python -m benchmarks.learning [--heads NAME ...] [--seeds 0 1 2]

The head ``recipe`` is params.yaml as it is. The others have one stream, frames, and flattened
feature maps, so they can learn motion from the order of the frames only. The section ``train`` of
params.yaml applies to all. The results are written to docs/learning_demo.md;
those of other heads and seeds are kept. The last line of the output is JSON: head -> ``accuracy``
and ``shuffled`` (with the frames of each test clip in random order), lists by seed.

With ``--task all``, or the name of a demo data set, it measures params.yaml on the demo data set of
each task instead (``benchmarks.learning_tasks``); that needs no earlier run of the pipeline.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.learning_tasks import MEASURES, by_seed, measure_tasks
from pipeline.clips.arrays import ClipArrays
from pipeline.common.files import read_json, write_json
from pipeline.common.paths import CLIPS, PARAMS
from pipeline.model.fitting import calibrate, fit, make_deterministic
from pipeline.model.network import build_model
from pipeline.model.prediction import predict_arrays, shuffled_order
from pipeline.params import Params, parse_params
from pipeline.tasks.task import task_class

_ONE_LSTM = {"recurrent": "lstm", "units": [64], "bidirectional": False, "summary": "last"}
_FRAMES = {"streams": ["frames"], "cnn": {"pooling": "flatten"}}  # positions show motion
_MAPS = {"cnn": {"pooling": "none"}, "frame_features": 0}

# Changes of the section model of params.yaml.
HEADS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "lstm": {**_FRAMES, "temporal": _ONE_LSTM},
    "gru": {**_FRAMES, "temporal": {**_ONE_LSTM, "recurrent": "gru"}},
    "bilstm": {**_FRAMES, "temporal": {**_ONE_LSTM, "bidirectional": True}},
    "attention": {**_FRAMES, "temporal": {**_ONE_LSTM, "summary": "attention"}},
    "lstm_conv1d": {**_FRAMES, "temporal": {**_ONE_LSTM, "summary": "conv1d"}},
    "convlstm2d": {
        **_FRAMES,
        "temporal": {**_ONE_LSTM, "recurrent": "convlstm2d", "units": [32]},
        **_MAPS,
    },
    "mean": {
        **_FRAMES,
        "temporal": {**_ONE_LSTM, "recurrent": "none", "summary": "mean"},
    },
}

_RESULTS = Path("docs/learning_demo.json")  # head -> one result a seed
_TABLE = Path("docs/learning_demo.md")
_HEADER = """# What each head learns of the demo data set

Written by `python -m benchmarks.learning`: accuracy on the test videos, with their frames in order
and in random order, one number a seed. `recipe` is params.yaml as it is; the others see frames, not
differences. `mean` is the control: it averages the frame features, so it cannot use their order.

| head | seeds | accuracy | with frames shuffled |
|---|---|---|---|
"""

Result = dict[str, float]  # seed, accuracy, shuffled


def main() -> None:
    arguments = _arguments()
    if arguments.in_this_process:
        print(json.dumps(_train_and_score(arguments.heads[0], arguments.seeds[0])))
        return
    if arguments.task is not None:
        demos = list(MEASURES) if arguments.task == "all" else [arguments.task]
        print(json.dumps(measure_tasks(demos, arguments.seeds)))
        return
    results: dict[str, list[Result]] = read_json(_RESULTS) if _RESULTS.exists() else {}
    for head in arguments.heads:
        trained = [_in_new_process(head, seed) for seed in arguments.seeds]
        results[head] = by_seed([*results.get(head, []), *trained])
        write_json(_RESULTS, results)
        _TABLE.write_text(_HEADER + "".join(_rows(results)), encoding="utf-8")
    lists = {
        head: {name: [row[name] for row in rows] for name in ("accuracy", "shuffled")}
        for head, rows in results.items()
    }
    print(json.dumps(lists))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--task", choices=["all", *MEASURES])
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_new_process(head: str, seed: int) -> Result:
    """Train in a new process, because make_deterministic is called once in a process."""
    command = [sys.executable, "-m", "benchmarks.learning", "--in-this-process"]
    command += ["--heads", head, "--seeds", str(seed)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: Result = json.loads(printed.splitlines()[-1])
    print(f"{head}: {result}", flush=True)
    return result


def _train_and_score(head: str, seed: int) -> Result:
    params = _params_of(head)
    make_deterministic(seed, params.train.threads)
    train, val, test = (ClipArrays(CLIPS / split) for split in ("train", "val", "test"))
    task = task_class("classification").learn(train.video_targets(), params.task)
    model = build_model(
        params.model,
        task,
        frame_shape=train.frames(0).shape[1:],
        precision=params.train.precision,
        side_inputs=train.learn_side_inputs(),
    )
    fit(model, task, train, val, params.train.model_copy(update={"seed": seed}))
    task = calibrate(model, task, val)  # weights the streams
    outputs = predict_arrays(model, test)
    shuffled = predict_arrays(model, test, frame_order=shuffled_order(0))
    return {
        "seed": seed,
        "accuracy": float(np.mean(task.video_scores(test.targets, outputs))),
        "shuffled": float(np.mean(task.video_scores(test.targets, shuffled))),
    }


def _params_of(head: str) -> Params:
    content = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    _change(content["model"], HEADS[head])
    return parse_params(content)


def _change(section: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Apply ``changes`` to a nested section in place."""
    for key, value in changes.items():
        if isinstance(value, Mapping):
            _change(section[key], value)
        else:
            section[key] = value


def _rows(results: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    for head in HEADS:
        if head in results:
            columns = [
                ", ".join(format(result[name], form) for result in results[head])
                for name, form in (
                    ("seed", "d"),
                    ("accuracy", ".3f"),
                    ("shuffled", ".3f"),
                )
            ]
            yield f"| {head} | {' | '.join(columns)} |\n"


if __name__ == "__main__":
    main()
