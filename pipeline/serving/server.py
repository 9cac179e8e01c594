"""The command, environment and configuration of MLflow's scoring server."""

import json
import os
import socket
import sys
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.compute.settings import ComputeSection
from pipeline.serving.request import ServingConfig
from pipeline.serving.settings import ServeSection
from pipeline.video.settings import DecodeSection

# MLflow aborts a request after this; the decoder's own timeout comes first.
_ANSWER_SECONDS = 60


def serve_command(uri: str, *, host: str, port: int, config: ServingConfig) -> list[str]:
    """Return the command that serves the model at ``uri`` with MLflow.

    Args:
        uri: such as ``models:/video-classifier/3``.
        host: address to listen on; 127.0.0.1 is reachable from this machine only.
        port: to listen on.
        config: as for ``server_environment``.
    """
    return [
        sys.executable, "-m", "mlflow", "models", "serve",
        "--model-uri", uri,
        "--env-manager", "local",
        "--host", host,
        "--port", str(port),
        "--timeout", str(round(config.timeout_seconds) + _ANSWER_SECONDS),
    ]  # fmt: skip


def _cause(error: OSError) -> str:
    """Return the reason without the address, which ``socket.create_server`` adds from 3.11 on."""
    return (error.strerror or str(error)).partition(" (while ")[0]


def check_port(host: str, port: int) -> None:
    """Refuse a port that another program listens on.

    Raises:
        PipelineError: it is in use, or ``host`` is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        raise PipelineError(
            f"--host {host} --port {port}: cannot listen there ({_cause(error)}). "
            "Stop the program that uses the port, or choose another one, such as "
            f"--port {port + 1}."
        ) from None


def server_environment(config: ServingConfig) -> dict[str, str]:
    """Return the environment of ``serve_command``: store, configuration, and uvicorn on PATH.

    The server reads the model from the store that MLflow is set to in this process.
    """
    import mlflow

    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "SERVING_MODEL_CONFIG": json.dumps(config.to_json()),
    }


def serving_config(
    serve: ServeSection, decode: DecodeSection, compute: ComputeSection
) -> ServingConfig:
    """Return the configuration of a server from sections of params.yaml.

    Raises:
        PipelineError: serve.path_root is not a folder.
    """
    import joblib

    root = serve.path_root
    if root and not Path(root).is_dir():
        raise PipelineError(
            "params.yaml: serve.path_root must be a folder, or empty to read no files. "
            f"Received: {root}"
        )
    return ServingConfig(
        path_root=str(Path(root).resolve()) if root else "",
        timeout_seconds=decode.timeout_seconds,
        decoders=compute.workers or joblib.cpu_count(),
    )
