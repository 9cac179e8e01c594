"""Predicts videos with one registered model, in a process that imports nothing of the checkout.

model_process.py starts this file by its path. MLflow puts the code that travels with the model
on the import path, so every version runs its own: in one process with another version, or with
the checkout, the modules named ``pipeline`` would be those of whoever came first.

One JSON line comes in for each video, one goes out: see ``_answer``.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import IO, Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

# What a model calls a video that has neither a number of use nor a name.
_UNNAMED = re.compile(r"^(Video 1: )?(<\d+ bytes>: )?")
_PARTS = ("start_seconds", "end_seconds")


def main() -> None:
    uri, timeout_seconds = sys.argv[1], float(sys.argv[2])
    # Whatever a library prints must not get among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    model = mlflow.pyfunc.load_model(uri, model_config={"timeout_seconds": timeout_seconds})
    _warm_up(model)
    _send(answers, {"ready": True})
    for line in sys.stdin:
        _send(answers, _answer(model, json.loads(line)))


def _warm_up(model: PyFuncModel) -> None:
    """Predict the model's own example: the first prediction builds a graph and tells no latency."""
    if model.input_example is not None:
        model.predict(model.input_example)


def _answer(model: PyFuncModel, question: dict[str, Any]) -> dict[str, Any]:
    """Return the probabilities of a video by class and its milliseconds, or an error.

    Args:
        question: ``path`` of the file, ``start_seconds`` and ``end_seconds`` (or None).
    """
    row: dict[str, Any] = {"video": Path(question["path"]).read_bytes()}
    part = {name: question[name] for name in _PARTS if question[name] is not None}
    signature = model.metadata.signature
    if part and not part.keys() <= set(signature.inputs.input_names()):
        return {"error": "this version knows whole videos only, no parts of them"}
    started = time.perf_counter()
    try:
        found: Any = model.predict(pd.DataFrame([row | part]))
    except MlflowException as error:
        return {"error": _UNNAMED.sub("", str(error.message))}
    seconds = time.perf_counter() - started
    return {"probabilities": found["probabilities"].iloc[0], "milliseconds": 1000 * seconds}


def _send(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
