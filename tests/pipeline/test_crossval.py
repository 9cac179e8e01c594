"""`python -m pipeline.crossval` on tiny clips, with a real MLflow store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from data.demo.scenes import render_clip
from pipeline.base.errors import PipelineError
from pipeline.base.files import read_csv, write_csv
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.sampling import ClipSpec, make_clip
from pipeline.crossval.__main__ import main
from pipeline.evaluation.predictions import Predictions
from pipeline.tracking.store import EXPERIMENT
from pipeline.video.reading import FrameSpec
from pipeline.video.source import Limits
from tests.pipeline.conftest import REPOSITORY, TINY, merge

CLASSES = ("left", "right")
SPLITS = {"train": 16, "val": 4, "test": 4}  # clips


def write_split(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Clips of 16 x 16 pixels, two to a group, as extract writes them."""
    folder.mkdir(parents=True)
    rows, clips = [], []
    for row in range(count):
        label = CLASSES[row % 2]
        name, group = f"{label}/{folder.name}-{row:02d}.mp4", f"{folder.name}-{row // 2}"
        rows.append({"name": name, "label": label, "group": group, "shard": 0, "row": row})
        frames = render_clip(label, frames=6, rng=rng)[:, ::4, ::4]
        clips.append(make_clip(frames, ClipSpec(8, "uniform")))
    np.save(folder / "00.frames.npy", np.stack([clip.frames for clip in clips]))
    np.save(folder / "00.mask.npy", np.stack([clip.mask for clip in clips]))
    write_csv(folder / "clips.csv", list(rows[0]), rows)


def crossval(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(
        [sys.executable, "-m", "pipeline.crossval", *arguments],
        cwd=root,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")


def runs_of(root: Path):
    client = client_of(root)
    return client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])


def write_workspace(root: Path, **changes: object) -> None:
    """Clips and a params.yaml, as extract leaves them."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    merge(params, TINY)
    merge(params, changes)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    rng = np.random.default_rng(0)
    for split, count in SPLITS.items():
        write_split(root / "data/clips" / split, count, rng)
    limits = Limits(max_seconds=60, max_pixels=10**6)
    spec = FrameSpec(fps=10, width=16, height=16, fit="crop")
    preprocessing = Preprocessing(spec, ClipSpec(8, "uniform"), limits)
    ClipsMetadata(CLASSES, preprocessing).write(root / "data/clips/metadata.json")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder of clips, and what the command printed there."""
    root = tmp_path_factory.mktemp("crossval")
    write_workspace(root)
    result = crossval(root, "--folds", "2", "--seed", "3")
    assert result.returncode == 0, result.stderr
    return root, result.stdout


def test_every_clip_of_every_split_is_predicted_once(done):
    root, _ = done
    predictions = Predictions.read_csv(root / "eval/crossval/predictions.csv")
    clips = [row for split in SPLITS for row in read_csv(root / f"data/clips/{split}/clips.csv")]
    assert list(predictions.videos) == sorted(row["name"] for row in clips)
    assert predictions.class_names == CLASSES
    labels = [CLASSES[label] for label in predictions.labels]
    assert labels == [video.split("/")[0] for video in predictions.videos]


def test_table_files_and_summary_agree(done):
    root, printed = done
    folds = read_csv(root / "eval/crossval/folds.csv")
    summary = json.loads((root / "eval/crossval/summary.json").read_text())
    predictions = Predictions.read_csv(root / "eval/crossval/predictions.csv")
    hits = predictions.predicted == predictions.labels
    assert sum(int(row["videos"]) for row in folds) == summary["videos"] == 24
    weighed = sum(int(row["videos"]) * float(row["accuracy"]) for row in folds)
    assert weighed / 24 == pytest.approx(hits.mean(), abs=1e-6)
    assert summary["pooled"]["accuracy"] == pytest.approx(hits.mean())
    assert [int(row["epochs"]) for row in folds] == [2, 2]
    lines = printed.splitlines()[-6:]
    assert lines[0].split() == list(folds[0])
    assert lines[1].split() == list(folds[0].values())
    assert f"pooled {hits.mean():.3f}" in lines[3]


def test_mlflow_has_a_run_and_its_folds_below_it(done):
    root, _ = done
    client = client_of(root)
    by_name = {run.info.run_name: run for run in runs_of(root)}
    assert set(by_name) == {"crossval of 2 folds, seed 3", "fold 1 of 2", "fold 2 of 2"}
    parent = by_name["crossval of 2 folds, seed 3"]
    summary = json.loads((root / "eval/crossval/summary.json").read_text())
    assert parent.data.metrics["test/accuracy"] == pytest.approx(summary["pooled"]["accuracy"])
    spread = summary["spread"]["macro_f1"]
    assert parent.data.metrics["test/macro_f1_spread"] == pytest.approx(spread)
    low = summary["interval"]["accuracy"][0]
    assert parent.data.metrics["test_interval/accuracy_low"] == pytest.approx(low)
    assert parent.data.params["crossval.folds"] == "2"
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {"folds.csv", "predictions.csv", "summary.json"}
    folds = read_csv(root / "eval/crossval/folds.csv")
    for number, row in enumerate(folds, start=1):
        run = by_name[f"fold {number} of 2"]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["crossval.fold"] == str(number)
        assert run.data.params["train.epochs"] == "2"
        assert run.data.metrics["test/accuracy"] == pytest.approx(float(row["accuracy"]), abs=1e-6)
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "val_loss")]
        assert steps == [1, 2]
        points = client.get_metric_history(run.info.run_id, "val_accuracy")
        of_best = {point.step: point.value for point in points}[int(row["best_epoch"])]
        assert float(row["val_accuracy"]) == pytest.approx(of_best, abs=1e-6)


def test_folds_share_the_features_of_a_frozen_cnn(tmp_path):
    """The same recipe as in train: the CNN is run once, on the shard of each split."""
    write_workspace(tmp_path, model={"cnn": {"trainable": "none"}})
    result = crossval(tmp_path, "--folds", "2", "--seed", "3")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "data/features").rglob("*.npy"))) == 3
    assert "3 of 3 shards computed" in result.stderr
    assert "0 of 3 shards computed" in result.stderr


def test_more_folds_than_groups_are_refused_before_a_run(done, monkeypatch):
    root, _ = done
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["crossval", "--folds", "13"])
    with pytest.raises(PipelineError, match="Class 'left': expected clips of at least 13 groups"):
        main()
    assert len(runs_of(root)) == 3


def test_one_fold_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["crossval", "--folds", "1"])
    with pytest.raises(SystemExit):
        main()
    assert "argument --folds: expected 2 or more. Received: 1" in capsys.readouterr().err
