"""Answer videos with one registered version, in a process that imports nothing of the checkout.

evidence.py starts this file by its path, and MLflow imports the code that travels with the
version. In one process with the checkout or another version, the modules named ``pipeline`` would
be those that were imported first. One JSON line comes in for each video, one goes out.
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

# Names of a video in the messages of a model: its number in the request, its size.
_PREFIX = re.compile(r"^(Video 1: )?(<\d+ bytes>: )?")


def main() -> None:
    uri, timeout_seconds = sys.argv[1], float(sys.argv[2])
    # Libraries print to stdout; their lines must not mix with the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    model = mlflow.pyfunc.load_model(uri, model_config={"timeout_seconds": timeout_seconds})
    if model.input_example is not None:
        model.predict(model.input_example)  # the first prediction builds a graph
    _send(answers, {"is_ready": True})
    for line in sys.stdin:
        _send(answers, _answer(model, json.loads(line)))


def _answer(model: PyFuncModel, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer ``row`` of a video and its ``milliseconds``, or an ``error``.

    Args:
        request: ``path`` of the file, ``start_seconds`` and ``end_seconds`` (or None).
    """
    video = Path(request.pop("path")).read_bytes()
    segment = {name: seconds for name, seconds in request.items() if seconds is not None}
    if not segment.keys() <= set(model.metadata.signature.inputs.input_names()):
        return {"error": "this version reads whole videos only, no segments"}
    # An answer with segments has all probabilities in its timeline only.
    has_segments = "segments" in model.metadata.signature.outputs.input_names()
    params = {"timeline": True} if has_segments else None
    started = time.perf_counter()
    try:
        table: Any = model.predict(pd.DataFrame([{"video": video, **segment}]), params=params)
    except MlflowException as error:
        return {"error": _PREFIX.sub("", str(error.message))}
    seconds = time.perf_counter() - started
    return {"row": table.to_dict("records")[0], "milliseconds": 1000 * seconds}


def _send(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
