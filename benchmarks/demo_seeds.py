"""Train the committed recipe on the demo clips with several seeds; score whole and shuffled.

Run `make repro` first, then `python -m benchmarks.demo_seeds [SEED ...]` (default: 0 1 2).
The last line of the output is JSON: seed -> accuracy, accuracy with the frames of each test
clip shuffled, and seconds of training.
"""

import json
import subprocess
import sys
import time

import numpy as np

from pipeline.base.paths import CLIPS
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.shards import ClipArrays
from pipeline.model import task
from pipeline.model.classifier import build_classifier
from pipeline.model.prediction import predict_arrays, shuffled_order
from pipeline.model.training import fit, make_deterministic
from pipeline.params import load_params
from pipeline.stages.train import architecture, fit_options


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(_train_and_score(int(sys.argv[2]))))
        return
    seeds = sys.argv[1:] or ["0", "1", "2"]
    print(json.dumps({seed: _in_new_process(seed) for seed in seeds}))


def _in_new_process(seed: str) -> dict[str, float]:
    """Determinism is set up once a process, so every seed gets its own."""
    command = [sys.executable, "-m", "benchmarks.demo_seeds", "--one", seed]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: dict[str, float] = json.loads(printed.splitlines()[-1])
    print(f"seed {seed}: {result}", flush=True)
    return result


def _train_and_score(seed: int) -> dict[str, float]:
    params = load_params()
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
        "accuracy": float(np.mean(predict_arrays(model, test).argmax(1) == labels)),
        "shuffled": float(np.mean(shuffled.argmax(1) == labels)),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
