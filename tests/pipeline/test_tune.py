"""``vidpipe tune`` on tiny clips, each fold in its process, with a real MLflow store."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.clips.arrays import ClipArrays
from pipeline.common.params_text import set_values
from pipeline.common.settings import flatten
from pipeline.params import load_params
from pipeline.retraining.search_space import search_space
from pipeline.retraining.tune import SEARCHED, Budget, study_name, tune_settings
from tests.pipeline.conftest import REPOSITORY, TINY
from tests.pipeline.test_crossval import runs_of, write_split

TUNE = """
from pipeline.common.command import run_command
from pipeline.params import load_params
from pipeline.retraining.tune import Budget, tune_settings

run_command(
    lambda: tune_settings(load_params(), Budget(60, {trials}), n_folds=2, seed=0, apply=False)
)
"""


def moving_bar(target: str, rng: np.random.Generator) -> np.ndarray:
    """A bar that leaves the picture on one side and returns on the other.

    One frame shows nothing of its direction.
    """
    frames = rng.integers(80, 120, (8, 16, 16, 3)).astype(np.uint8)
    start, step = rng.integers(16), {"left": -2, "right": 2}[target]
    for number, frame in enumerate(frames):
        frame[:, (start + step * number + np.arange(3)) % 16] = 230
    return frames


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder with clips and a params.yaml with comments; the test clips are missing."""
    path = tmp_path / "params.yaml"
    shutil.copy(REPOSITORY / "params.yaml", path)
    tiny = flatten({key: value for key, value in TINY.items() if key not in ("model", "train")})
    set_values(path, {**tiny, "model.frame_features": 16, "train.batch_size": 8})
    rng = np.random.default_rng(0)
    for split, count in {"train": 44, "val": 8}.items():
        write_split(tmp_path / "data/clips" / split, count, rng, moving_bar)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def name_of_study(*, seed: int = 0) -> str:
    params, clips = load_params(), ClipArrays(*SEARCHED)
    return study_name(params, search_space(params, n_clips=30), clips, n_folds=2, seed=seed)


def test_a_study_belongs_to_its_clips_folds_and_other_settings_but_not_to_test_clips(root):
    first = name_of_study()
    write_split(root / "data/clips/test", 4, np.random.default_rng(1))
    assert name_of_study() == first
    set_values(root / "params.yaml", {"train.learning_rate": 0.000001})  # is searched
    assert name_of_study() == first
    others = [name_of_study(seed=1)]
    set_values(root / "params.yaml", {"train.batch_size": 4})
    others.append(name_of_study())
    shutil.rmtree(root / "data/clips/val")
    write_split(root / "data/clips/val", 8, np.random.default_rng(2))
    others.append(name_of_study())
    set_values(root / "params.yaml", {"model.cnn.weights": "data/weights/cnn.keras"})
    (root / "data/weights").mkdir()
    for content in (b"one CNN", b"another CNN"):
        (root / "data/weights/cnn.keras").write_bytes(content)
        others.append(name_of_study())
    assert len({first, *others}) == 6


@pytest.mark.long
def test_wrong_settings_are_replaced_without_the_test_clips(root):
    path = root / "params.yaml"
    wrong = {"model.streams": ["frames"], "train.learning_rate": 0.000001}
    # Hundreds of steps would take minutes: the warm-up excludes auto, which may be 24 epochs.
    set_values(path, {**wrong, "train.epochs": 26, "train.warmup_epochs": 24})
    before = path.read_text()
    lines = tune_settings(load_params(), Budget(60, 2), n_folds=2, seed=0, apply=True)
    (decision,) = [line for line in lines if line.startswith("Chosen: ")]
    assert "against the present settings: better" in decision
    after = load_params()
    assert after.train.learning_rate >= 0.0005
    pairs = list(zip(before.splitlines(), path.read_text().splitlines(), strict=True))
    assert all(old.partition("#")[2] == new.partition("#")[2] for old, new in pairs)
    assert not (root / "data/clips/test").exists()

    runs = {run.info.run_name: run for run in runs_of(root)}
    (parent,) = [run for name, run in runs.items() if name.startswith("tune, study ")]
    assert set(runs) == {parent.info.run_name, "trial 0", "trial 1"}
    for number in range(2):
        trial = runs[f"trial {number}"]
        assert trial.info.status == "FINISHED"
        assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert "crossval/macro_f1" in trial.data.metrics
    assert runs["trial 0"].data.params["train.learning_rate"] == "1e-06"
    assert (root / "eval/tune/search.png").stat().st_size > 1000

    # The settings that were chosen are now the present ones, and are complete already.
    lines = tune_settings(load_params(), Budget(0), n_folds=2, seed=0, apply=False)
    assert any(line.startswith("Chosen: the present settings.") for line in lines)


@pytest.mark.long
def test_a_killed_search_continues_at_the_fold_that_it_was_training(root):
    set_values(root / "params.yaml", {"train.epochs": 12})
    process = subprocess.Popen(
        [sys.executable, "-c", TUNE.format(trials=1)],
        env={"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(root.glob("eval/tune/predictions/*/*.csv")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (first_fold,) = root.glob("eval/tune/predictions/*/*.csv")
    written = first_fold.stat().st_mtime_ns

    lines = tune_settings(load_params(), Budget(60, 1), n_folds=2, seed=0, apply=False)
    assert any(line.startswith("1 complete trial, 0 pruned") for line in lines)
    assert first_fold.stat().st_mtime_ns == written
    assert len(list(first_fold.parent.iterdir())) == 2
    by_status = {(run.info.run_name[:5], run.info.status) for run in runs_of(root)}
    assert by_status == {
        ("tune,", "KILLED"), ("trial", "KILLED"), ("tune,", "FINISHED"), ("trial", "FINISHED"),
    }  # fmt: skip
