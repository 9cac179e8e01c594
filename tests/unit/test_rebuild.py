"""The steps of a rebuild; tests/pipeline/test_retrain.py rebuilds a real version."""

import io
import math
import shutil
import subprocess
import zipfile
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from dvc.repo import Repo

from pipeline.common.errors import PipelineError
from pipeline.common.settings import flatten_as_text
from pipeline.params import load_params
from pipeline.registry.rebuild import (
    Rebuilt,
    WeightsComparison,
    compare_weights,
    restore_params,
    worktree_at,
)


def saved(path, **arrays):
    """A .keras file with these weights only."""
    content = io.BytesIO()
    with h5py.File(content, "w") as weights:
        for name, values in arrays.items():
            weights[name.replace("__", "/")] = np.array(values, np.float32)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", content.getvalue())
    return path


def test_equal_arrays_are_equal_whatever_the_state_of_the_optimizer(tmp_path):
    a = saved(tmp_path / "a", dense__0=[1, 2], optimizer__vars__0=[1])
    b = saved(tmp_path / "b", dense__0=[1, 2], optimizer__vars__0=[7])
    assert compare_weights(a, b) == WeightsComparison(1, 1, 0.0)


def test_arrays_that_differ_are_counted(tmp_path):
    a = saved(tmp_path / "a", dense__0=[1, 2], dense__1=[0.5], lstm__0=[[1, 2]])
    b = saved(tmp_path / "b", dense__0=[1, 2], dense__1=[0.75], lstm__0=[[1, 2]])
    assert compare_weights(a, b) == WeightsComparison(3, 2, 0.25)


def test_an_array_without_a_counterpart_of_its_shape_differs_infinitely(tmp_path):
    a = saved(tmp_path / "a", dense__0=[1, 2], lstm__0=[[1, 2]])
    b = saved(tmp_path / "b", dense__0=[1, 2], lstm__0=[1, 2], other=[1])
    assert compare_weights(a, b) == WeightsComparison(3, 1, math.inf)


SAME = WeightsComparison(3, 3, 0.0)
CLOSE = WeightsComparison(3, 1, 1e-7)


@pytest.mark.parametrize(
    ("rebuilt", "weights", "is_same_machine", "is_same"),
    [
        (0.75, SAME, True, True),
        (0.7500001, SAME, True, True),
        (0.751, SAME, True, False),
        (0.75, CLOSE, True, False),
        (0.75, CLOSE, False, True),
    ],
)
def test_metrics_must_be_equal_and_on_the_same_machine_the_weights(
    rebuilt, weights, is_same_machine, is_same
):
    result = Rebuilt("m", {"accuracy": (0.75, rebuilt)}, weights, is_same_machine)
    assert result.is_same == is_same


def test_without_a_common_metric_the_weights_must_be_equal():
    assert Rebuilt("m", {}, SAME, is_same_machine=False).is_same
    assert not Rebuilt("m", {}, CLOSE, is_same_machine=False).is_same


def test_differences_are_printed():
    metrics = {"accuracy": (0.75, 0.5), "macro_f1": (0.75, 0.75)}
    result = Rebuilt("m version 3", metrics, CLOSE, is_same_machine=False, remarks=("A remark.",))
    assert result.lines() == [
        "m version 3: DIFFERENT when rebuilt.",
        "  A remark.",
        "  Metrics: 1 of 2 equal.",
        "    accuracy: 0.75 recorded, 0.5 rebuilt",
        "  Weights: 1 of 3 arrays equal to the last bit (largest difference 1e-07). Another "
        "machine trained the version.",
    ]


def test_params_are_those_that_the_run_recorded(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("train:\n  epochs: 3\n  schedule: cosine\n  augmentation:\n    flip: false\n")
    recorded = {
        "train.epochs": "5",
        "train.schedule": "constant",
        "train.augmentation.flip": "false",
        "model.of_today": "1",
    }
    assert restore_params(tmp_path, recorded) == ["train.epochs", "train.schedule"]
    assert yaml.safe_load(path.read_text()) == {
        "train": {"epochs": 5, "schedule": "constant", "augmentation": {"flip": False}}
    }


@pytest.mark.parametrize(
    ("committed", "recorded", "expected"),
    [
        ({}, {"data.side_inputs.age": "number"}, {"age": "number"}),
        (
            {"age": "number", "site": "category"},
            {"data.side_inputs.age": "number"},
            {"age": "number"},
        ),
        ({"age": "number"}, {"data.side_inputs": "{}"}, {}),
        ({"age": "number"}, {"train.epochs": "3"}, {"age": "number"}),
    ],
)
def test_side_inputs_are_those_that_the_run_recorded(tmp_path, committed, recorded, expected):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"data": {"side_inputs": committed}, "train": {"epochs": 3}}))
    changed = restore_params(tmp_path, recorded)
    assert yaml.safe_load(path.read_text())["data"]["side_inputs"] == expected
    assert changed == ([] if committed == expected else ["data.side_inputs"])


def test_params_as_committed_are_not_changed(tmp_path):
    """The run has them as the pipeline read them: 10.0 for 10."""
    shutil.copy("params.yaml", tmp_path)
    params = load_params()
    recorded = flatten_as_text(
        {**params.training_params(), "evaluate": params.evaluate.model_dump()}
    )
    assert recorded["decode.fps"] == "10.0"
    assert restore_params(tmp_path, recorded) == []
    assert (tmp_path / "params.yaml").read_text() == Path("params.yaml").read_text()


@pytest.mark.parametrize(
    ("committed", "recorded", "restored"),
    [("all", "2", 2), (2, "all", "all"), ("2e-3", "0.002", "2e-3"), ([1, 2], "[3]", [3])],
)
def test_a_param_may_have_had_another_type(tmp_path, committed, recorded, restored):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"model": {"cnn": {"trainable": committed}}}))
    restore_params(tmp_path, {"model.cnn.trainable": recorded})
    assert yaml.safe_load(path.read_text()) == {"model": {"cnn": {"trainable": restored}}}


def git(*arguments):
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    return subprocess.run(
        ["git", *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def commit(tmp_path, monkeypatch):
    """The first of two commits of a repository with a DVC remote beside it."""
    root = tmp_path / "repo"
    (root / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(root)
    (root / ".dvc/config").write_text(
        "[core]\n    remote = storage\n['remote \"storage\"']\n    url = ../../storage\n"
    )
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "file").write_text("old")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")
    first = git("rev-parse", "HEAD")
    (root / "file").write_text("new")
    git("commit", "--quiet", "--all", "--message", "two")
    return first


def test_a_worktree_shares_cache_and_remote_and_is_removed(commit, tmp_path):
    with worktree_at(commit) as folder:
        assert (folder / "file").read_text() == "old"
        with closing(Repo(str(folder))) as repo:
            assert repo.cache.local_cache_dir == str(tmp_path / "repo/.dvc/cache")
            assert repo.config["remote"]["storage"]["url"] == str(tmp_path / "storage")
            assert repo.config["core"]["remote"] == "storage"
    assert not folder.exists()
    assert len(git("worktree", "list").splitlines()) == 1


def test_a_worktree_is_kept_on_request(commit, tmp_path):
    with worktree_at(commit, keep=tmp_path / "kept"):
        pass
    assert (tmp_path / "kept/file").read_text() == "old"


@pytest.mark.usefixtures("commit")
def test_a_commit_that_this_clone_does_not_have_is_an_error():
    with (
        pytest.raises(PipelineError, match=r"does not have the commit 1234567\. Get it with"),
        worktree_at("1234567"),
    ):
        pass
