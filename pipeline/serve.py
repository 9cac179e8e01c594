"""Serve a registered model over HTTP with MLflow's scoring server: make serve."""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

import joblib

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.params import Params, load_params
from pipeline.serving.contract import ServingConfig
from pipeline.tracking.aliases import CHAMPION
from pipeline.tracking.loading import model_uri
from pipeline.tracking.store import store_uri

logger = logging.getLogger(__name__)

# MLflow gives up a request after this; the decoder should be heard first.
_ANSWER_SECONDS = 60


def main() -> None:
    arguments = _parse_arguments()
    params = load_params()
    config = serving_config(params)
    uri = model_uri(arguments.model or params.register_.name, alias=CHAMPION)
    logger.info("%s at http://%s:%d/invocations", uri, arguments.host, arguments.port)
    command = [
        sys.executable, "-m", "mlflow", "models", "serve",
        "--model-uri", uri,
        "--env-manager", "local",
        "--host", arguments.host,
        "--port", str(arguments.port),
        "--timeout", str(round(config.timeout_seconds) + _ANSWER_SECONDS),
    ]  # fmt: skip
    os.execve(sys.executable, command, server_environment(config))


def server_environment(config: ServingConfig) -> dict[str, str]:
    """Return the environment of MLflow's server, which finds uvicorn beside this Python."""
    beside = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]),
        "MLFLOW_TRACKING_URI": store_uri(),
        "SERVING_MODEL_CONFIG": json.dumps(config.to_json()),
    }


def serving_config(params: Params) -> ServingConfig:
    """Return what params.yaml says of serving.

    Raises:
        PipelineError: serve.path_root is no folder.
    """
    root = params.serve.path_root
    if root and not Path(root).is_dir():
        raise PipelineError(
            f"serve.path_root: expected a folder, or nothing to read no files. Received: {root}"
        )
    return ServingConfig(
        path_root=str(Path(root).resolve()) if root else "",
        timeout_seconds=params.decode.timeout_seconds,
        decoders=params.compute.workers or joblib.cpu_count(),
    )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.serve", description=__doc__)
    parser.add_argument(
        "--model",
        help="name of a registered model (its champion is served), name@alias, or a URI such as "
        "models:/video-classifier/3; default: register.name",
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: reachable from elsewhere")
    parser.add_argument("--port", type=int, default=5001)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
