"""Each task goes through every stage, promotion and serving on a tiny demo set of its own."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from data.demo.generate import DRAWN, write_labelled_videos
from pipeline.tasks.task import task_class
from tests.pipeline.conftest import REPOSITORY, TINY, merge

pytestmark = pytest.mark.long

RUN = """
import logging
from importlib import import_module
from pathlib import Path

logging.basicConfig(level=logging.INFO, format="%(message)s")
for name in ("catalog", "decode", "report", "extract", "train", "evaluate", "review", "register"):
    import_module(f"pipeline.stages.{name}").main()

import mlflow
import pandas as pd

mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model("models:/video-classifier/1")
rows = pd.DataFrame({"video": [Path("videos/0000.mp4").read_bytes()]})
print("ANSWER", model.predict(rows, params={"timeline": True}).to_json(orient="records"))
"""


@pytest.fixture(scope="module", params=sorted(DRAWN))
def project(request, tmp_path_factory):
    """Task, folder and output of a pipeline that was run on 48 tiny videos and promoted."""
    root = tmp_path_factory.mktemp(request.param)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    merge(params, TINY)
    merge(params, {"data": {"labels": ""}, "task": {"type": request.param, "unit": "px"}})
    merge(params, {"promote": {"min_groups": 2, "limits": {}, "too_few_videos": "warn"}})
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    write_labelled_videos(root / "videos", DRAWN[request.param], videos=48, seed=0)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": path}
    environment.pop("MLFLOW_TRACKING_URI", None)
    printed = ""
    for command in (
        [sys.executable, "-c", RUN],
        [sys.executable, "-m", "pipeline.cli", "promote"],
    ):
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        printed += done.stdout
        assert done.returncode in (0, 3), done.stdout  # 3: such a model may be refused
    return task_class(request.param), root, printed


def test_every_split_has_videos(project):
    task, root, _ = project
    rows = list(csv.DictReader((root / "data/catalog/catalog.csv").open()))
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    if task.type == "multilabel":
        for split in ("train", "val", "test"):
            labels = {
                label
                for row in rows
                if row["split"] == split
                for label in row["target"].split("|")
                if label
            }
            assert len(labels) == 3


def test_the_scores_of_the_task_have_intervals(project):
    task, root, _ = project
    metrics = json.loads((root / "eval/metrics.json").read_text())
    intervals = json.loads((root / "eval/intervals.json").read_text())
    assert {*task.headline_metrics, *task.compared_metrics, task.video_score} <= metrics.keys()
    for name in (*task.headline_metrics, task.video_score):
        assert intervals[name][0] <= metrics[name] <= intervals[name][1]
    of_baselines = {f"{name}_{baseline}" for name in metrics for baseline in task.baselines}
    assert {f"{task.headline_metrics[0]}_{name}" for name in task.baselines} <= set(metrics)
    described = {*task.metric_descriptions, *of_baselines, "videos", "interval_margin"}
    assert set(metrics) <= described


def test_the_review_shows_the_tables_and_charts_of_the_task(project):
    task, root, _ = project
    page = (root / "eval/review/report.html").read_text()
    assert (root / f"eval/plots/{task.headline_chart}.png").stat().st_size > 5_000
    for name in task.headline_metrics:
        assert task.metric_descriptions[name] in page


def test_the_registered_model_answers_in_the_terms_of_the_task(project):
    task, _, printed = project
    (line,) = [line for line in printed.splitlines() if line.startswith("ANSWER ")]
    (answer,) = json.loads(line.removeprefix("ANSWER "))
    assert task.answer_types.keys() <= answer.keys()
    (segment, *_) = answer["timeline"]
    assert set(task.segment_fields) <= segment.keys()


def test_the_gate_judges_by_the_primary_score(project):
    task, root, printed = project
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    version = client.get_model_version("video-classifier", "1")
    assert version.tags["gate.outcome"] in ("first champion", "refused")
    for name in task.limits:
        assert f"promote.limits.{name}" in printed
