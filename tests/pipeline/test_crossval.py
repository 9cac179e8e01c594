"""Cross-validation of tiny clips, each fold in its process, with a real MLflow store."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from data.demo.scenes import render_clip
from pipeline.clips.settings import ExtractSection
from pipeline.clips.shards import write_clips
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv
from pipeline.common.records import DecodeFacts, VideoRecord, write_catalog
from pipeline.evaluation.predictions import Predictions
from pipeline.params import Params, load_params
from pipeline.retraining.crossval import cross_validate
from pipeline.retraining.fold_training import ClipFiles, only_one_training_of_folds
from pipeline.tracking.store import EXPERIMENT
from tests.pipeline.conftest import REPOSITORY, TINY, merge

CLASSES = ("left", "right")
SPLITS = {"train": 16, "val": 4, "test": 4}  # clips


def small_scene(target: str, rng: np.random.Generator) -> np.ndarray:
    return render_clip(target, frames=6, rng=rng)[:, ::4, ::4]


def write_split(folder: Path, count: int, rng: np.random.Generator, draw=small_scene) -> None:
    """Write clips of 16 x 16 pixels, two to a group, as the extract stage does."""
    videos = {}
    for row in range(count):
        target = CLASSES[row % 2]
        record = VideoRecord(
            f"{target}/{folder.name}-{row:02d}.mp4", target, group=f"{folder.name}-{row // 2}"
        )
        frames = draw(target, rng)
        # Two hexadecimal digits of the key choose the shard.
        facts = DecodeFacts(key=f"{row:02x}{'0' * 62}", frames=len(frames))
        videos[record.name] = (replace(record, facts=facts, sha256=facts.key), frames)
    write_clips(
        folder,
        [record for record, _ in videos.values()],
        load=lambda record, indices: videos[record.name][1][indices],
        extract=ExtractSection(frames=8),
        frame_size=(16, 16),
    )


def write_workspace(root: Path, **changes: object) -> Params:
    """Write clips and a params.yaml, as the extract stage leaves them."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    merge(params, TINY)
    merge(params, changes)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    rng = np.random.default_rng(0)
    for split, count in SPLITS.items():
        write_split(root / "data/clips" / split, count, rng)
    return load_params(root / "params.yaml")


def read_predictions(root: Path) -> Predictions:
    path = root / "eval/crossval/predictions.csv"
    return Predictions.read_csv(path, task_type="classification")


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")


def runs_of(root: Path):
    client = client_of(root)
    return client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])


@pytest.fixture(scope="module")
def crossval(tmp_path_factory):
    """A folder of clips that was cross-validated, and the printed lines."""
    root = tmp_path_factory.mktemp("crossval")
    params = write_workspace(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        lines = cross_validate(params, n_folds=2, seed=3)
    return root, lines


def test_every_clip_of_every_split_is_predicted_once(crossval):
    root, _ = crossval
    predictions = read_predictions(root)
    clips = [row for split in SPLITS for row in read_csv(root / f"data/clips/{split}/clips.csv")]
    assert list(predictions.videos) == sorted(row["name"] for row in clips)
    assert predictions.targets == tuple(video.split("/")[0] for video in predictions.videos)


def test_table_files_and_summary_agree(crossval):
    root, printed = crossval
    folds = read_csv(root / "eval/crossval/folds.csv")
    summary = json.loads((root / "eval/crossval/summary.json").read_text())
    predictions = read_predictions(root)
    hits = predictions.video_scores
    assert sum(int(row["videos"]) for row in folds) == summary["videos"] == 24
    weighed = sum(int(row["videos"]) * float(row["accuracy"]) for row in folds)
    assert weighed / 24 == pytest.approx(hits.mean(), abs=1e-6)
    assert summary["pooled"]["accuracy"] == pytest.approx(hits.mean())
    assert [int(row["epochs"]) for row in folds] == [2, 2]
    assert printed[0].split() == list(folds[0])
    assert printed[1].split() == list(folds[0].values())
    assert printed[3].startswith("accuracy: mean ")
    assert f"pooled {hits.mean():.3f}" in printed[3]
    assert printed[3].endswith("at 95%, 24 videos in 12 groups")
    baseline = summary["pooled"]["accuracy_most_frequent"]
    assert printed[4] == f"  baseline most frequent: {baseline:.3f}"
    assert printed[7].startswith(
        "validation accuracy with equal weights of the streams, to choose settings by: mean "
    )


def test_doubtful_labels_of_all_splits_are_listed_and_drawn(crossval):
    root, printed = crossval
    rows = read_csv(root / "eval/crossval/label_issues.csv")
    assert rows  # a model of two epochs contradicts some of 24 labels
    (line,) = [line for line in printed if line.startswith("labels: ")]
    assert line.startswith(f"labels: {len(rows)} of 24 labels")
    assert {row["split"] for row in rows} <= {*SPLITS}
    for row in rows:
        assert row["target"] == row["video"].split("/")[0] != row["suggested"]
    with Image.open(root / "eval/crossval/label_issues.png") as picture:
        assert picture.height > 50 * len(rows)


def test_mlflow_has_a_run_and_its_folds_below_it(crossval):
    root, _ = crossval
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
    assert files == {
        "folds.csv", "predictions.csv", "summary.json", "label_issues.csv", "label_issues.png",
    }  # fmt: skip
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
        of_best = {point.step: point.value for point in points}[int(row["kept_epoch"])]
        assert float(row["val_accuracy"]) == pytest.approx(of_best, abs=1e-6)


@pytest.mark.long
def test_official_folds_may_test_a_video_twice_or_never(tmp_path, monkeypatch):
    """A video without a split is used, too; one that is tested twice counts once in the pool."""
    params = write_workspace(tmp_path)
    write_split(tmp_path / "data/clips/unused", 4, np.random.default_rng(1))
    parts = {"test": ("test", "test"), "unused": ("", "test")}
    records = [
        VideoRecord(row["name"], row["target"], None if split == "unused" else split, row["group"],
                    folds=parts.get(split, ("train", "train")))
        for split in (*SPLITS, "unused")
        for row in read_csv(tmp_path / f"data/clips/{split}/clips.csv")
    ]  # fmt: skip
    write_catalog(tmp_path / "data/catalog/catalog.csv", records)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    printed = cross_validate(params, n_folds=None, seed=3)
    folds = read_csv(tmp_path / "eval/crossval/folds.csv")
    assert [row["videos"] for row in folds] == ["4", "8"]
    tested = [name.split("/")[1].split("-")[0] for name in read_predictions(tmp_path).videos]
    assert sorted(tested) == ["test"] * 4 + ["unused"] * 4
    summary = json.loads((tmp_path / "eval/crossval/summary.json").read_text())
    assert (summary["is_official"], summary["folds"], summary["videos"]) == (True, 2, 8)
    assert any("8 videos in 4 groups" in line for line in printed)
    names = {run.info.run_name for run in runs_of(tmp_path)}
    assert "crossval of 2 official folds, seed 3" in names
    assert "unused" in {
        row["split"] for row in read_csv(tmp_path / "eval/crossval/label_issues.csv")
    }


@pytest.mark.long
def test_folds_share_the_features_of_a_frozen_cnn(tmp_path, monkeypatch, capfd):
    """As in the train stage, the CNN of each stream runs once on each shard."""
    params = write_workspace(tmp_path, model={"cnn": {"trainable": "none"}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cross_validate(params, n_folds=2, seed=3)
    shards = len(list((tmp_path / "data/clips").rglob("*.frames.npy")))
    n_features = len(list((tmp_path / "data/features").rglob("*.npy")))
    assert n_features == len(params.model.streams) * shards
    log = capfd.readouterr().err
    assert f"computing {shards} of {shards} shards" in log
    assert f"computing 0 of {shards} shards" in log


CROSSVAL = """
import logging

from pipeline.params import load_params
from pipeline.retraining.crossval import cross_validate

logging.basicConfig(level=logging.INFO)
if __name__ == "__main__":
    cross_validate(load_params(), n_folds=2, seed=3)
"""


@pytest.mark.long
def test_a_killed_call_continues_with_its_first_missing_fold(crossval, tmp_path):
    write_workspace(tmp_path)
    (tmp_path / "crossval.py").write_text(CROSSVAL)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = partial(
        subprocess.Popen, [sys.executable, "crossval.py"], cwd=tmp_path, env=environment
    )
    with command(start_new_session=True) as killed:
        while not list(tmp_path.glob(".dvc/tmp/crossval/*/fold1.pickle")):
            assert killed.poll() is None
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
    assert not (tmp_path / "eval/crossval").exists()
    with command(stderr=subprocess.PIPE, text=True) as continued:
        _, log = continued.communicate()
    assert continued.returncode == 0, log
    assert "fold 1 of 2: finished by an earlier call" in log
    assert "fold 2 of 2: finished by an earlier call" not in log
    uninterrupted, _ = crossval
    for name in ("predictions.csv", "label_issues.csv"):
        file = f"eval/crossval/{name}"
        assert (tmp_path / file).read_bytes() == (uninterrupted / file).read_bytes()
    assert not list(tmp_path.glob(".dvc/tmp/crossval/*"))
    names = [run.info.run_name for run in runs_of(tmp_path) if run.info.status == "FINISHED"]
    assert sorted(names) == [
        "crossval of 2 folds, seed 3", "fold 1 of 2", "fold 1 of 2", "fold 2 of 2",
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["crossval", "tune"])
def test_a_second_call_in_the_same_folder_is_refused_before_it_changes_clips(
    verb, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with only_one_training_of_folds():
        done = subprocess.run(
            [Path(sys.executable).parent / "vidpipe", verb],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Another vidpipe crossval or tune is running")


def test_clips_that_another_command_replaced_are_refused(tmp_path, monkeypatch):
    write_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    folders = [Path("data/clips") / split for split in SPLITS]
    files = ClipFiles.now(*folders)
    assert len(files.read()) == 24
    shutil.rmtree(folders[0])
    write_split(folders[0], 16, np.random.default_rng(1))
    with pytest.raises(PipelineError, match="data/clips: another command replaced the clips"):
        files.read()


def test_more_folds_than_groups_are_refused_before_a_run(crossval, monkeypatch):
    root, _ = crossval
    monkeypatch.chdir(root)
    with pytest.raises(PipelineError, match="'left': expected clips of at least 13 groups"):
        cross_validate(load_params(), n_folds=13, seed=0)
    assert len(runs_of(root)) == 3
