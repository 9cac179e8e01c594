"""A task that lives outside the project goes through every stage, from catalog to register."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from pipeline.clips.arrays import ClipArrays
from pipeline.video.writing import encode_mp4
from tests.pipeline.conftest import REPOSITORY, TINY, merge

RUN_STAGES = """
import logging
from importlib import import_module

from tests.other_task import register_brightness

register_brightness()

logging.basicConfig(level=logging.INFO, format="%(message)s")
for name in ("catalog", "decode", "report", "extract", "train", "evaluate", "review", "register"):
    import_module(f"pipeline.stages.{name}").main()

import mlflow
import pandas as pd
from pathlib import Path

mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model("models:/video-classifier/1")
rows = pd.DataFrame({"video": [Path("videos/00.mp4").read_bytes()]})
print("ANSWER", model.predict(rows).to_json(orient="records"))
"""

pytestmark = pytest.mark.long


DIE_IN_CALIBRATION = """
import os, signal

from pipeline.stages import train
from tests.other_task import Brightness, register_brightness

register_brightness()
Brightness.calibrate = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
train.main()
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder in which the task `brightness` was built: 24 videos, each with its brightness."""
    root = tmp_path_factory.mktemp("second_task")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    merge(params, TINY)
    merge(params, {"data": {"labels": ""}, "task": {"type": "brightness"}})
    merge(params, {"train": {"epochs": 3, "augmentation": {"brightness": 0, "contrast": 0}}})
    merge(params, {"model": {"streams": ["frames"]}})
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "videos").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(24):
        level = int(rng.integers(20, 230))
        noise = rng.integers(-10, 11, (6 + number % 5, 32, 32, 3))
        video = f"{number:02d}.mp4"
        frames = (level + noise).clip(0, 255).astype(np.uint8)
        (root / "videos" / video).write_bytes(encode_mp4(frames, fps=10))
        rows.append(f"{video},{level / 255:.4f},{('train', 'train', 'val', 'test')[number % 4]}\n")
    (root / "videos/labels.csv").write_text("video,value,split\n" + "".join(rows))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", RUN_STAGES],
        cwd=root,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return root, done.stdout


def test_targets_reach_the_clips_as_text(project):
    root, _ = project
    clips = list(csv.DictReader((root / "data/clips/test/clips.csv").open()))
    labels = {
        row["video"]: row["value"] for row in csv.DictReader((root / "videos/labels.csv").open())
    }
    assert len(clips) == 6
    assert all(float(row["target"]) == float(labels[row["name"]]) for row in clips)


def test_the_scores_of_the_task_are_written_with_intervals(project):
    root, _ = project
    metrics = json.loads((root / "eval/metrics.json").read_text())
    intervals = json.loads((root / "eval/intervals.json").read_text())
    assert metrics["videos"] == 6
    assert metrics["mean_squared_error"] >= 0
    assert intervals["mean_squared_error"][0] <= metrics["mean_squared_error"]
    assert "accuracy" not in metrics


def test_the_review_and_the_predictions_speak_of_the_task(project):
    root, _ = project
    assert (root / "eval/review/report.html").stat().st_size > 10_000
    predictions = list(csv.DictReader((root / "eval/tables/predictions.csv").open()))
    assert len(predictions) == 6


def test_the_registered_model_answers_in_the_terms_of_the_task(project):
    root, printed = project
    version = MlflowClient(f"sqlite:///{root}/mlflow.db").get_model_version_by_alias(
        "video-classifier", "challenger"
    )
    assert "test.mean_squared_error" in version.tags
    (line,) = [line for line in printed.splitlines() if line.startswith("ANSWER ")]
    (answer,) = json.loads(line.removeprefix("ANSWER "))
    predictions = csv.DictReader((root / "eval/tables/predictions.csv").open())
    assert "value" in answer
    assert {"probabilities", "label"}.isdisjoint(answer)
    assert next(predictions)


def test_the_trained_weights_stay_when_calibration_is_killed(project, tmp_path):
    from pipeline.model.prediction import predict_arrays
    from pipeline.model.saving import load_model

    root, _ = project
    shutil.copytree(root, tmp_path / "killed", ignore=shutil.ignore_patterns("m*", "eval"))
    done = subprocess.run(
        [sys.executable, "-c", DIE_IN_CALIBRATION],
        cwd=tmp_path / "killed",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    clips = ClipArrays(root / "data/clips/test")
    # This task has nothing to calibrate, so the weights are those of a whole training.
    kept, whole = (
        predict_arrays(load_model(path), clips)
        for path in (tmp_path / "killed/models/uncalibrated.keras", root / "models/model.keras")
    )
    np.testing.assert_array_equal(kept, whole)
    assert not (root / "models/uncalibrated.keras").exists()
