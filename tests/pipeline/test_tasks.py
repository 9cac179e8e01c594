"""Each demo set, tiny, goes through every stage, promotion, serving and retraining."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from mlflow import MlflowClient

from data.demo import side_inputs
from data.demo.generate import DRAWN, write_labelled_videos
from pipeline.tasks.task import Task, task_class
from tests.pipeline.conftest import REPOSITORY, TINY, Workspace, commit, merge, new_checkout

pytestmark = pytest.mark.long

VIDEOS = 48

RUN = """
import csv
import logging
from importlib import import_module
from pathlib import Path

logging.basicConfig(level=logging.INFO, format="%(message)s")
for name in ("catalog", "decode", "report", "extract", "train", "evaluate", "review", "register"):
    import_module(f"pipeline.stages.{name}").main()

import mlflow
import pandas as pd
import yaml

mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model("models:/video-classifier/1")
row = next(csv.DictReader(open("videos/labels.csv")))
content = Path("videos", row["video"]).read_bytes()
kinds = yaml.safe_load(open("params.yaml"))["data"]["side_inputs"]
side = {name: float(row[name]) if kind == "number" else row[name] for name, kind in kinds.items()}
rows = pd.DataFrame([{"video": content, **side}])
print("ANSWER", model.predict(rows, params={"timeline": True}).to_json(orient="records"))
for column in side:
    try:
        model.predict(rows.drop(columns=column))
    except mlflow.MlflowException as error:
        print("REFUSED", error.message)
"""


class Project(NamedTuple):
    """A pipeline that was run on tiny videos and promoted, and what it printed."""

    demo: str
    task: type[Task]
    root: Path
    printed: str


@pytest.fixture(scope="module", params=sorted(DRAWN))
def project(request, tmp_path_factory):
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    task_type, kinds = name, {}
    if name == "side_inputs":
        task_type, kinds = "classification", side_inputs.SIDE_INPUTS
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    merge(params, TINY)
    task = task_class(task_type)
    loosest = {"min": 0.0, "max": 1000.0}  # such models know little
    limits = {name: loosest[limit.kind] for name, limit in task.limits.items()}
    merge(params, {"data": {"labels": "", "side_inputs": kinds}})
    merge(params, {"task": {"type": task_type, "unit": "px"}})
    merge(params, {"promote": {"min_groups": 2, "min_gain": -1000, "limits": limits}})
    new_checkout(root)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    write_labelled_videos(root / "videos", DRAWN[name], videos=VIDEOS, seed=0)
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
        assert done.returncode == 0, done.stdout
    return Project(name, task, root, printed)


def test_every_split_has_videos(project):
    _, task, root, _ = project
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
    _, task, root, _ = project
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
    _, task, root, _ = project
    page = (root / "eval/review/report.html").read_text()
    assert (root / f"eval/plots/{task.headline_chart}.png").stat().st_size > 5_000
    for name in task.headline_metrics:
        assert task.metric_descriptions[name] in page


def test_the_registered_model_answers_in_the_terms_of_the_task(project):
    _, task, _, printed = project
    (line,) = [line for line in printed.splitlines() if line.startswith("ANSWER ")]
    (answer,) = json.loads(line.removeprefix("ANSWER "))
    assert task.answer_types.keys() <= answer.keys()
    (segment, *_) = answer["timeline"]
    assert set(task.segment_fields) <= segment.keys()


def test_the_gate_judges_by_the_primary_score(project):
    _, task, root, printed = project
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    version = client.get_model_version("video-classifier", "1")
    assert version.tags["gate.outcome"] == "first champion"
    for name in task.limits:
        assert f"promote.limits.{name}" in printed


def test_a_request_without_a_side_input_is_refused_with_its_name(project):
    _, _, root, printed = project
    kinds = yaml.safe_load((root / "params.yaml").read_text())["data"]["side_inputs"]
    refused = [line for line in printed.splitlines() if line.startswith("REFUSED ")]
    expected = [f"REFUSED Video 1: the side input {column} is missing" for column in kinds]
    assert [line.partition(".")[0] for line in refused] == expected


def test_the_gate_gets_an_answer_for_each_test_video(project):
    _, _, root, _ = project
    promotion = json.loads((root / "eval/promotion.json").read_text())
    assert promotion["left_out"]["1"]["unreadable"] == 0


def test_retraining_with_more_videos_makes_the_new_version_champion(project):
    name, task, root, _ = project
    write_labelled_videos(root / "videos", DRAWN[name], videos=VIDEOS + 6, seed=0)
    workspace = Workspace(root)
    (root / ".gitignore").open("a").write("/videos/\n")
    commit(workspace, "six more videos")
    printed = workspace.run("vidpipe", "retrain").stdout
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    version = client.get_model_version_by_alias("video-classifier", "champion")
    assert str(version.version) == "2", printed
    assert version.tags["gate.outcome"] == "promoted"
    report = (root / "eval/retrain.md").read_text()
    assert task.compared_metrics[0].replace("_", " ") in report.lower()
