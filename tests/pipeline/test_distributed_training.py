"""Two workers of a Ray cluster train one model: the weights of one process, also after a death."""

import errno
import json
import os
import re
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from mlflow import MlflowClient

from data.demo.generate import write_demo_videos
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv, read_json
from pipeline.compute.settings import ComputeSection
from tests.pipeline.conftest import run_stages

pytest.importorskip("ray", reason="Ray is an extra: make install-cluster")

from pipeline.model.fitting import fit
from pipeline.model.replicated_fitting import Training, fit_replicas
from tests.architectures import TASK, build, small, tiny
from tests.replica_trainings import MODEL, clips_in, training
from tests.sgd import deadly_sgd, failing_sgd, sgd

TWO_WORKERS = ComputeSection(train_workers=2)
EPOCHS = 3


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Training:
    folder = tmp_path_factory.mktemp("clips")
    for split in ("train", "val"):
        clips_in(folder / split)
    section = training(epochs=EPOCHS, threads=1)
    return Training(MODEL, section, TASK, (), folder, optimizer_of=sgd)


class Epochs:
    """A callback that keeps the epochs and their metrics."""

    def __init__(self):
        self.seen = []
        self.n_earlier = None  # epochs before ``on_train_begin``

    def on_train_begin(self):
        self.n_earlier = len(self.seen)

    def on_epoch_end(self, epoch, logs):
        self.seen.append((epoch, logs))


def train_with_workers(job: Training, checkpoint: Path, callback: Epochs):
    model = build(MODEL)
    result = fit_replicas(model, job, TWO_WORKERS, callbacks=[callback], checkpoint=checkpoint)
    return model.get_weights(), result


@pytest.fixture(scope="module")
def two_workers(job, tmp_path_factory):
    checkpoint = tmp_path_factory.mktemp("checkpoint") / "checkpoint.npz"
    callback = Epochs()
    weights, result = train_with_workers(job, checkpoint, callback)
    assert not checkpoint.exists()
    assert callback.n_earlier == 0
    return weights, result, callback.seen


def largest_difference(one, other) -> float:
    return max(np.abs(a - b).max() for a, b in zip(one, other, strict=True))


def test_two_workers_give_the_weights_and_metrics_of_one_process(job, two_workers):
    weights, result, logged = two_workers
    model = build(MODEL)
    start = model.get_weights()
    clips = [clips_in(job.clips / split) for split in ("train", "val")]
    expected = fit(model, TASK, *clips, job.section, optimizer_of=sgd)
    assert largest_difference(model.get_weights(), start) > 1e-2
    assert largest_difference(model.get_weights(), weights) <= 1e-5
    assert result.kept_epoch == expected.kept_epoch == EPOCHS
    assert [list(row) for row in result.history] == [list(row) for row in expected.history]
    for row, expected_row in zip(result.history, expected.history, strict=True):
        assert row == pytest.approx(expected_row, abs=1e-4)
    assert [(epoch + 1, logs["loss"]) for epoch, logs in logged] == [
        (row["epoch"], row["loss"]) for row in result.history
    ]


def test_a_batch_that_two_workers_cannot_share_is_refused(job, tmp_path):
    odd = replace(job, section=job.section.model_copy(update={"batch_size": 5}))
    with pytest.raises(PipelineError, match=r"train\.batch_size .* multiple of 2.* Received: 5"):
        train_with_workers(odd, tmp_path / "checkpoint.npz", Epochs())


def deadly(job: Training, folder: Path, *steps: int, rank: int = 1) -> Training:
    """The training, one of whose workers dies in these steps; an epoch has two."""
    folder.mkdir()
    return replace(job, optimizer_of=partial(deadly_sgd, folder, rank, steps))


def steps_in(folder: Path) -> list[int]:
    return [int(step) for step in (folder / "steps").read_text().split()]


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_costs_at_most_its_epoch(job, two_workers, tmp_path, caplog, rank):
    weights, result, _ = two_workers
    caplog.set_level("INFO")
    callback, checkpoint = Epochs(), tmp_path / "checkpoint.npz"
    dying = deadly(job, tmp_path / "deaths", 3, rank=rank)
    after_death, result_after = train_with_workers(dying, checkpoint, callback)
    assert largest_difference(after_death, weights) <= 1e-6
    for row, expected in zip(result_after.history, result.history, strict=True):
        assert row == pytest.approx(expected, abs=1e-6)
    assert [epoch for epoch, _ in callback.seen] == [0, 1, 2]  # none twice
    starts_again = [text for text in caplog.messages if "Starting the workers again" in text]
    assert [text.split(".")[0] for text in starts_again] == [f"worker {rank + 1} of 2 died"]
    # Steps of this worker: the first epoch is not repeated, the second one is from its start.
    assert steps_in(tmp_path / "deaths") == [0, 1, 2, 3, 2, 3, 4, 5]


@pytest.mark.long
def test_workers_read_the_features_that_the_stage_has_computed(job, tmp_path):
    frozen = tiny(small(trainable="none"), recurrent="none", summary="mean")
    model = build(frozen)
    start = model.get_weights()
    features, others = tmp_path / "features", tmp_path / "others"
    expected = fit(
        model, TASK, *job.splits(), job.section, optimizer_of=sgd, features_folder=others
    )
    cached = replace(job, model=frozen, features=features)
    two = build(frozen)
    result = fit_replicas(two, cached, TWO_WORKERS, checkpoint=tmp_path / "checkpoint.npz")
    assert largest_difference(model.get_weights(), start) > 1e-2
    assert largest_difference(model.get_weights(), two.get_weights()) <= 1e-5
    assert result.kept_epoch == expected.kept_epoch
    assert len(list(features.rglob("*.npy"))) == 1  # both splits have the same clips


@pytest.mark.long
def test_the_error_of_a_worker_ends_the_training(job, tmp_path):
    """Not the broken connection of the other worker, which is seen earlier."""
    failing = partial(failing_sgd, tmp_path, 1, 3)
    with pytest.raises(Exception, match="no such picture"):
        train_with_workers(
            replace(job, optimizer_of=failing), tmp_path / "checkpoint.npz", Epochs()
        )
    assert steps_in(tmp_path) == [0, 1, 2, 3]  # no second start


class SeenLater(type(Path())):  # type: ignore[misc]
    """A file that the second worker does not see at first, as with an old directory of NFS."""

    n_reads = 0

    def read_bytes(self) -> bytes:
        rank = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
        SeenLater.n_reads += 1
        if rank == 1 and SeenLater.n_reads == 1:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return super().read_bytes()


@pytest.mark.long
def test_a_second_death_is_an_error_and_the_next_run_continues(job, two_workers, tmp_path, caplog):
    caplog.set_level("INFO")
    checkpoint, dying = tmp_path / "checkpoint.npz", deadly(job, tmp_path / "deaths", 3, 5)
    with pytest.raises(PipelineError, match=r"train_workers: .*, for the second time"):
        train_with_workers(dying, checkpoint, Epochs())
    with np.load(checkpoint) as file:
        assert file["state"].tobytes().count(b'"epoch"') == 2  # complete ones
    callback = Epochs()
    weights, _ = train_with_workers(dying, SeenLater(checkpoint), callback)
    assert largest_difference(weights, two_workers[0]) <= 1e-6
    assert [epoch for epoch, _ in callback.seen] == [0, 1, 2]
    assert callback.n_earlier == 2
    assert "Epoch 2, of the checkpoint: " in caplog.text
    assert "Epoch 3: " in caplog.text
    assert not checkpoint.exists()


@pytest.mark.long
def test_all_stages_run_as_usual_with_two_workers(tmp_path):
    write_demo_videos(tmp_path / "videos", motions=("left", "right"), videos_per_class=16, seed=0)
    log = run_stages(tmp_path, compute={"train_workers": 2})
    assert "Training with 2 workers" in log
    assert [row["epoch"] for row in read_csv(tmp_path / "models/history.csv")] == ["1", "2"]
    assert not (tmp_path / "models/checkpoint.npz").exists()
    assert (tmp_path / "eval/registration.json").exists()
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val_loss")]
    assert steps == [1, 2]
    assert "test/accuracy" in run.data.metrics


def kill_two_workers(root: Path, ended: threading.Event) -> None:
    """Kill a worker of the training in ``root`` after an epoch, and one after the restart."""
    checkpoint, seen = root / "models/checkpoint.npz", set()

    def last_epoch() -> int:
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

    for _ in range(2):
        while len(workers := workers_in(root) - seen) < 2 and not ended.is_set():
            time.sleep(0.1)
        seen |= workers
        epoch = last_epoch()
        while last_epoch() == epoch and not ended.is_set():
            time.sleep(0.02)
        if not ended.is_set():
            os.kill(max(workers), signal.SIGKILL)


def workers_in(root: Path) -> set[int]:
    """Return the processes of Ray that train in ``root``."""
    return {
        process.pid
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(root)
        and "ray::_Worker" in " ".join(process.info["cmdline"] or ())
    }


@pytest.mark.long
def test_a_failed_train_stage_continues_in_the_next_repro(workspace):
    """With a run of its own, which has every epoch once."""
    epochs = 12
    workspace.set_params(compute={"train_workers": 2}, train={"epochs": epochs})
    ended = threading.Event()
    killer = threading.Thread(target=kill_two_workers, args=(workspace.root, ended), daemon=True)
    killer.start()
    failed = workspace.run("vidpipe", "repro", check=False)
    ended.set()
    killer.join()
    assert failed.returncode != 0, failed.stdout
    assert failed.stdout.count("Starting the workers again") == 1
    assert re.search(r"died, for the second time .* continues after the last", failed.stdout)

    log = workspace.run("vidpipe", "repro").stdout
    assert "Epoch 2, of the checkpoint: " in log
    assert not (workspace.root / "models/checkpoint.npz").exists()
    rows = read_csv(workspace.root / "models/history.csv")
    assert [int(row["epoch"]) for row in rows] == list(range(1, epochs + 1))
    assert "temperature" in read_json(workspace.root / "models/training.json")
    client = MlflowClient(tracking_uri=f"sqlite:///{workspace.root / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    run, earlier = client.search_runs([experiment.experiment_id])  # the newest first
    assert [run.info.status, earlier.info.status] == ["FINISHED", "FAILED"]
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val_loss")]
    assert steps == list(range(1, epochs + 1))
    assert "test/accuracy" in run.data.metrics
    registration = read_json(workspace.root / "eval/registration.json")
    version = client.get_model_version(registration["name"], registration["version"])
    assert version.run_id == run.info.run_id
