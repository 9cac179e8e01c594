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
from mlflow.types import DataType

# Names of a video in the messages of a model: its number in the request, its size.
_PREFIX = re.compile(r"^(Video 1: )?(<\d+ bytes>: )?")

# Columns of a request that are no side inputs.
_VIDEO_COLUMNS = ("video", "path", "start_seconds", "end_seconds")


def main() -> None:
    uri, timeout_seconds = sys.argv[1], float(sys.argv[2])
    # Libraries print to stdout; their lines must not mix with the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    config = {"timeout_seconds": timeout_seconds, "path_root": "/"}
    model = mlflow.pyfunc.load_model(uri, model_config=config)
    if model.input_example is not None:
        model.predict(model.input_example)  # the first prediction builds a graph
    _send(answers, {"is_ready": True})
    for line in sys.stdin:
        _send(answers, _answer(model, json.loads(line)))


def _answer(model: PyFuncModel, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer ``row`` of a video and its ``milliseconds``, or an ``error``.

    Args:
        request: ``path`` of the file or of a folder of pictures, ``start_seconds`` and
            ``end_seconds`` (or None), ``extra`` columns of the labels, of which the model gets its
            side inputs.
    """
    path, extra = Path(request.pop("path")), request.pop("extra")
    # Bytes, which the oldest versions can read, too. Not of a folder.
    video = {"path": str(path.resolve())} if path.is_dir() else {"video": path.read_bytes()}
    segment = {name: seconds for name, seconds in request.items() if seconds is not None}
    if not segment.keys() <= set(model.metadata.signature.inputs.input_names()):
        return {"error": "this version reads whole videos only, no segments"}
    try:
        side_inputs = _side_inputs(model, extra)
    except ValueError as error:
        return {"error": str(error)}
    # The answers for single frames are in the timeline only. The oldest versions have no metadata.
    answers_frames = (model.metadata.metadata or {}).get("answers_frames", False)
    params = {"timeline": True} if answers_frames else None
    row = pd.DataFrame([{**video, **segment, **side_inputs}])
    started = time.perf_counter()
    try:
        table: Any = model.predict(row, params=params)
    except MlflowException as error:
        message = _PREFIX.sub("", str(error.message))
        return {"error": message.removeprefix(f"{path.resolve()}: ")}
    seconds = time.perf_counter() - started
    return {"row": table.to_dict("records")[0], "milliseconds": 1000 * seconds}


def _side_inputs(model: PyFuncModel, extra: dict[str, str]) -> dict[str, float | str]:
    values: dict[str, float | str] = {}
    for column in model.metadata.signature.inputs:
        cell = extra.get(column.name)
        if not cell or column.name in _VIDEO_COLUMNS:
            continue
        values[column.name] = cell
        if column.type == DataType.double:
            try:
                values[column.name] = float(cell)
            except ValueError:
                raise ValueError(
                    f"catalog, column {column.name}: this version expects a number. Received: "
                    f"{cell!r}. Correct the labels table."
                ) from None
    return values


def _send(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
