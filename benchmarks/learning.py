"""Train every head on the demo clips with several seeds; score whole and shuffled clips.

Run ``make repro`` on the demo data set first, then::

    python -m benchmarks.learning [--heads NAME ...] [--seeds 0 1 2]

All heads see the frames themselves (``model.motion: none``), so what they know of time they
learned from the order of the frames; ``recipe`` is params.yaml as it stands. Training is that of
params.yaml. Writes docs/learning_demo.md; with fewer than all heads, the rows of the others stay.
The last line of the output is JSON: head -> ``accuracy`` and ``shuffled`` (with the frames of
each test clip in random order), lists by seed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.base.files import read_json, write_json
from pipeline.base.paths import CLIPS
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.shards import ClipArrays
from pipeline.model import task
from pipeline.model.classifier import build_classifier
from pipeline.model.prediction import predict_arrays, shuffled_order
from pipeline.model.training import fit, make_deterministic
from pipeline.params import PARAMS_FILE, Params, parse_params
from pipeline.stages.train import architecture, fit_options

_ONE_LSTM = {"recurrent": "lstm", "units": [64], "bidirectional": False, "summary": "last"}
_MAPS = {"cnn": {"pooling": "none"}, "frame_features": 0}

# What each head changes in the section model of params.yaml.
HEADS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "lstm": {"motion": "none", "temporal": _ONE_LSTM},
    "gru": {"motion": "none", "temporal": {**_ONE_LSTM, "recurrent": "gru"}},
    "bilstm": {"motion": "none", "temporal": {**_ONE_LSTM, "bidirectional": True}},
    "attention": {"motion": "none", "temporal": {**_ONE_LSTM, "summary": "attention"}},
    "lstm_conv1d": {"motion": "none", "temporal": {**_ONE_LSTM, "summary": "conv1d"}},
    "convlstm2d": {
        "motion": "none",
        "temporal": {
            **_ONE_LSTM,
            "recurrent": "convlstm2d",
            "units": [32],
            "map_pooling": "flatten",
        },
        **_MAPS,
    },
    "mean": {"motion": "none", "temporal": {**_ONE_LSTM, "recurrent": "none", "summary": "mean"}},
}

_RESULTS = Path("docs/learning_demo.json")  # head -> one result a seed
_TABLE = Path("docs/learning_demo.md")
_HEADER = """# What each head learns of the demo data set

Written by `python -m benchmarks.learning`, which says what is measured: accuracy on the test
videos, as they are and with their frames in random order, one number a seed. `recipe` is
params.yaml as it stands; the others see single frames. `mean` is the control: it averages what it
sees of the frames, so it knows nothing of their order.

| head | seeds | accuracy | with frames shuffled | seconds of training |
|---|---|---|---|---|
"""

Result = dict[str, float]  # seed, accuracy, shuffled, seconds


def main() -> None:
    asked = _arguments()
    if asked.in_this_process:
        print(json.dumps(_train_and_score(asked.heads[0], asked.seeds[0])))
        return
    results: dict[str, list[Result]] = read_json(_RESULTS) if _RESULTS.exists() else {}
    for head in asked.heads:
        results[head] = [_in_new_process(head, seed) for seed in asked.seeds]
        write_json(_RESULTS, results)
        _TABLE.write_text(_HEADER + "".join(_rows(results)), encoding="utf-8")
    print(json.dumps({head: _lists(found) for head, found in results.items()}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_new_process(head: str, seed: int) -> Result:
    """Determinism is set up once a process, so every training gets its own."""
    command = [sys.executable, "-m", "benchmarks.learning", "--in-this-process"]
    command += ["--heads", head, "--seeds", str(seed)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: Result = json.loads(printed.splitlines()[-1])
    print(f"{head}: {result}", flush=True)
    return result


def _train_and_score(head: str, seed: int) -> Result:
    params = _params_of(head)
    make_deterministic(seed, params.train.threads)
    names = ClipsMetadata.read(CLIPS / "metadata.json").class_names
    train, val, test = (ClipArrays(CLIPS / split) for split in ("train", "val", "test"))
    model = build_classifier(
        architecture(params),
        n_classes=len(names),
        frame_shape=train.frames(0).shape[1:],
        precision=params.train.precision,
    )
    started = time.perf_counter()
    fit(model, train, val, names, fit_options(params, seed=seed))
    seconds = time.perf_counter() - started
    labels = task.encode_labels(test.labels, names)
    shuffled = predict_arrays(model, test, frame_order=shuffled_order(params.evaluate.seed))
    return {
        "seed": seed,
        "accuracy": float(np.mean(predict_arrays(model, test).argmax(1) == labels)),
        "shuffled": float(np.mean(shuffled.argmax(1) == labels)),
        "seconds": round(seconds, 1),
    }


def _params_of(head: str) -> Params:
    content = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
    _change(content["model"], HEADS[head])
    return parse_params(content)


def _change(section: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change the keys that ``changes`` has, at every depth, and leave the others."""
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
                    ("seconds", ".0f"),
                )
            ]
            yield f"| {head} | {' | '.join(columns)} |\n"


def _lists(results: Sequence[Result]) -> dict[str, list[float]]:
    return {name: [result[name] for result in results] for name in ("accuracy", "shuffled")}


if __name__ == "__main__":
    main()
