"""Ctrl-C or SIGTERM: ends at once and without a traceback, loses nothing, and says how to go on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.pipeline.conftest import Workspace

PATIENCE_SECONDS = 120  # on a busy machine
MESSAGE = "Interrupted. To go on, run the command again."


def interrupted(
    workspace: Workspace,
    *command: str,
    at: str,
    wait_seconds: float = 0,
    end: signal.Signals = signal.SIGINT,
) -> str:
    """Run a command, end it when its output has the pattern ``at``; return the output.

    SIGINT goes to all processes, as Ctrl-C sends it; SIGTERM to the command alone, as ``kill`` and
    Docker send it.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(workspace.root)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    log = workspace.root.parent / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=workspace.root,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not re.search(at, log.read_text()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    time.sleep(wait_seconds)
    (os.killpg if end == signal.SIGINT else os.kill)(process.pid, end)
    assert process.wait(PATIENCE_SECONDS) == 130, log.read_text()
    output = log.read_text()
    assert "Traceback" not in output
    while has_members(process.pid):  # its child processes
        assert time.monotonic() < deadline, f"processes of the command are left: {output}"
        time.sleep(0.1)
    return output


def has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("at", "wait_seconds", "end"),
    [
        ("Epoch 1/", 0, signal.SIGINT),
        ("Epoch 1/", 0, signal.SIGTERM),
        pytest.param("Running stage 'train'", 1, signal.SIGINT, marks=pytest.mark.long),
    ],
    ids=["epoch", "SIGTERM", "import"],
)
def test_an_interrupted_training_keeps_the_last_model_and_can_run_again(
    workspace, at, wait_seconds, end
):
    workspace.set_params(train={"epochs": 5000})
    before = workspace.snapshot()
    output = interrupted(workspace, "vidpipe", "repro", at=at, wait_seconds=wait_seconds, end=end)
    assert "Checked out the last good outputs again: models/" in output
    assert MESSAGE in output
    assert workspace.snapshot() == before
    if at == "Epoch 1/":
        client = MlflowClient(tracking_uri=f"sqlite:///{workspace.root / 'mlflow.db'}")
        experiments = [one.experiment_id for one in client.search_experiments()]
        (run,) = client.search_runs(experiments)
        assert run.info.status == "KILLED"


def test_interrupted_processes_of_the_decoder_print_nothing(workspace):
    workspace.set_params(decode={"fps": 9}, compute={"workers": 4})
    for wait_seconds in (0.1, 0.3, 0.5):  # while they start
        interrupted(
            workspace, "vidpipe", "repro", "decode", at="to decode", wait_seconds=wait_seconds
        )


@pytest.mark.long
def test_an_interrupted_prediction_says_how_to_go_on(workspace):
    workspace.run("vidpipe", "repro")  # registers the model in this copy
    for number in range(20):  # enough for seconds of work
        shutil.copytree(workspace.root / "videos", workspace.root / f"many/{number}")
    for wait_seconds in (0.0, 1.0):  # before and during the import of TensorFlow
        output = interrupted(
            workspace,
            *("vidpipe", "predict", "many"),
            at="model video-classifier",
            wait_seconds=wait_seconds,
        )
        assert MESSAGE in output


def test_the_message_is_in_the_docs():
    assert MESSAGE in Path("docs/troubleshooting.md").read_text()
