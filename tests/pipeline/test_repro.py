"""`dvc repro` as users know it: builds everything once, and then only what changed."""

import csv
import json
import re

import numpy as np
import pytest
import yaml

from data.demo.generate import write_demo_videos


def test_every_output_is_there(built):
    produced = built.snapshot()
    for path in (
        "data/catalog/catalog.csv",
        "data/frames/index.csv",
        "data/report/report.html",
        "data/report/summary.csv",
        "data/report/videos.png",
        "data/clips/preprocessing.json",
        "models/model.keras",
        "models/history.csv",
        "eval/metrics.json",
        "eval/intervals.json",
        "eval/tables/predictions.csv",
        "eval/tables/per_class.csv",
        "eval/plots/confusion.png",
        "eval/plots/training.png",
        "eval/registration.json",
    ):
        assert produced[path], path


def test_a_second_run_runs_no_stage(built):
    done = built.run("dvc", "repro")
    assert "Running stage" not in done.stdout
    assert "Data and pipelines are up to date." in done.stdout


def test_repro_of_the_report_ends_with_its_page(built):
    lines = built.run("vidpipe", "repro", "report").stdout.splitlines()
    assert lines[-1] == "Open data/report/report.html in a browser: the data before training."


def test_git_sees_no_output_but_those_meant_for_git(built):
    """Big outputs are DVC's, small results are git's, and the tree is clean after a commit."""
    tracked = built.run("git", "ls-files").stdout.split()
    assert {"dvc.lock", "eval/metrics.json", "models/training.json"} <= set(tracked)
    assert not [path for path in tracked if path.startswith(("data/frames", "data/clips"))]
    assert "models/model.keras" not in tracked
    assert built.run("git", "status", "--porcelain").stdout == ""


def test_clips_are_padded_and_masked_as_documented(built):
    masks, lengths = [], []
    for split in ("train", "val", "test"):
        folder = built.root / "data/clips" / split
        for path in sorted(folder.glob("*.mask.npy")):
            mask = np.load(path)
            frames = np.load(path.with_name(path.name.replace("mask", "frames")))
            assert frames.shape == (*mask.shape, 16, 16, 3)
            assert frames.dtype == np.uint8
            assert (frames[~mask] == 0).all()
            masks.append(mask)
        lengths += [int(row["frames"]) for row in csv.DictReader((folder / "clips.csv").open())]
    mask = np.concatenate(masks)
    assert mask.shape == (32, 8)
    assert mask[:, 0].all()
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()  # right-padded
    assert sorted(mask.sum(axis=1)) == sorted(lengths)
    assert min(lengths) < 8 == max(lengths)


def test_repro_ends_with_a_summary(built):
    printed = built.run("vidpipe", "repro").stdout
    for words in (
        "videos                 32",
        "quarantined            0",
        "test accuracy",
        "test macro f1",
        "registered             video-classifier version 1, @challenger",
        "make ui",
        "vidpipe predict videos/",
    ):
        assert words in printed
    metrics = json.loads((built.root / "eval/metrics.json").read_text())
    assert f"{metrics['accuracy']:.3f}" in printed


@pytest.fixture
def one_more(tmp_path) -> bytes:
    """A video that is not in the data set."""
    write_demo_videos(tmp_path / "more", motions=("left",), videos_per_class=1, seed=99)
    (video,) = (tmp_path / "more").rglob("*.mp4")
    return video.read_bytes()


def test_one_more_video_decodes_one_and_the_store_stays_linked_with_the_cache(workspace, one_more):
    frames = workspace.root / "data/frames"
    before = {path.name: path.stat().st_mtime_ns for path in frames.glob("*.zip")}
    workspace.add_video("left", one_more)
    done = workspace.run("dvc", "repro", "decode")
    assert "1 video to decode, 32 kept from earlier runs" in done.stdout
    after = {path.name: path.stat().st_mtime_ns for path in frames.glob("*.zip")}
    assert len(after) == 33
    assert before.items() <= after.items()
    # Two names: in the frame store and in the cache. A copy would need the disk twice.
    assert {path.stat().st_nlink for path in frames.glob("*.zip")} == {2}


def test_metrics_are_declared(built):
    assert "macro_f1" in built.run("dvc", "metrics", "show").stdout


@pytest.mark.long
def test_metrics_of_two_trainings_are_compared(workspace):
    workspace.set_params(train={"seed": 1})
    workspace.run("dvc", "repro", "evaluate")
    changed = workspace.run("dvc", "metrics", "diff").stdout
    assert "log_loss" in changed
    assert "intervals" not in changed  # pairs of numbers, which dvc cannot subtract


def test_plots_show_what_dvc_yaml_asks_for_and_nothing_else(workspace):
    workspace.run("dvc", "repro", "evaluate")
    for command, revisions in (
        (["show"], ["workspace"]),
        (["diff", "HEAD"], ["workspace", "HEAD"]),
    ):
        done = workspace.run("dvc", "plots", *command)
        assert "failed" not in done.stdout
        assert done.stdout.strip().endswith("dvc_plots/index.html")
        html = (workspace.root / "dvc_plots/index.html").read_text()
        drawn = yaml.safe_load((workspace.root / "dvc.yaml").read_text())["plots"]
        titles = [title for plot in drawn for title in plot]
        assert re.findall(r'<div id = "([^"]+)"', html) == [re.sub(r"\W", "_", t) for t in titles]
        assert "Training loss" in titles
        pictures = set(re.findall(r'src="static/([^"]+)"', html))
        for revision in revisions:
            assert f"{revision}_data_report_videos.png" in pictures
            assert f"{revision}_eval_plots_confusion.png" in pictures


@pytest.mark.long
def test_an_experiment_with_other_params(workspace):
    done = workspace.run("dvc", "exp", "run", "-S", "train.epochs=1", "--name", "short")
    assert "Running stage 'train'" in done.stdout
    assert "Running stage 'decode'" not in done.stdout
    history = (workspace.root / "models/history.csv").read_text().splitlines()
    assert len(history) == 2  # the header and one epoch
    assert "short" in workspace.run("dvc", "exp", "show", "--csv").stdout


@pytest.mark.long
def test_the_same_seed_gives_the_same_weights_and_an_old_checkpoint_is_removed(workspace):
    model = workspace.root / "models/model.keras"
    before = model.read_bytes()
    model.unlink()
    checkpoint = workspace.root / "models/checkpoint.npz"
    checkpoint.write_bytes(b"of workers that failed twice")  # a training in one process removes it
    workspace.run("python", "-m", "pipeline.stages.train")
    assert model.read_bytes() == before
    assert not checkpoint.exists()
    workspace.set_params(train={"seed": 1})
    workspace.run("python", "-m", "pipeline.stages.train")
    assert model.read_bytes() != before


def test_a_table_with_given_splits_and_segments(workspace):
    rows = ["video,label,split,group,start_seconds,end_seconds"]
    for label in ("left", "right"):
        for number, video in enumerate(sorted((workspace.root / "videos" / label).iterdir())):
            split = ("train", "train", "val", "test")[number % 4]
            rows.append(f"{label}/{video.name},{label},{split},{label}{number},,")
    video = rows[1].split(",")[0]
    rows[1] = f"{video},left,train,left0,0,0.3"
    rows.append(f"{video},right,train,left0,0.3,")
    (workspace.root / "labels.csv").write_text("\n".join(rows) + "\n")
    workspace.run("dvc", "repro", "extract")
    catalog = list(csv.DictReader((workspace.root / "data/catalog/catalog.csv").open()))
    assert len(catalog) == 33
    assert [row["split"] for row in catalog].count("test") == 8
    clips = list(csv.DictReader((workspace.root / "data/clips/train/clips.csv").open()))
    frames = {row["name"]: int(row["frames"]) for row in clips}
    assert frames[f"{video}#t=0,0.3"] == 3
    assert f"{video}#t=0.3" in frames


@pytest.mark.long
def test_the_demo_set_of_class_folders_is_built_only_while_the_params_point_at_it(workspace):
    videos = workspace.root / "data/demo/videos"
    workspace.run("dvc", "repro", "catalog")
    assert not videos.exists()
    demo = {"videos": "data/demo/videos", "labels": ""}
    workspace.set_params(data=demo)
    ran = workspace.stages_run("dvc", "repro", "catalog")
    assert ran == ["data/demo/dvc.yaml:demo", "catalog"]
    catalog = list(csv.DictReader((workspace.root / "data/catalog/catalog.csv").open()))
    assert {row["target"] for row in catalog} == {path.name for path in videos.iterdir()}
