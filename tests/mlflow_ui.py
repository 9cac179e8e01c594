"""The MLflow UI as `make ui` starts it, over the store of a folder."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import free_port, running_server


@contextmanager
def mlflow_ui(folder: Path, *options: str) -> Iterator[str]:
    """Serve ``folder``/mlflow.db; yield the address of the UI once it answers.

    Args:
        options: more options of ``mlflow ui``.
    """
    url = f"http://127.0.0.1:{(port := free_port())}"
    mlflow = Path(sys.executable).with_name("mlflow")
    store = ("--backend-store-uri", "sqlite:///mlflow.db", "--workers", "1")
    command = [mlflow, "ui", *store, "--host", "127.0.0.1", "--port", str(port), *options]
    with running_server(command, cwd=folder, health=f"{url}/health"):
        yield url
