"""Runs in a real store: each test has a new sqlite file in its own folder."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.compute.processes import process_tags
from pipeline.tracking.epochs import EpochMetrics, TimeLeft
from pipeline.tracking.runs import (
    ensure_run,
    find_run,
    tag_cnn_weights,
    tag_model,
    training_run,
)
from pipeline.tracking.store import StoreUnreachableError, connect, experiment_id
from tests.mlflow_ui import mlflow_ui
from tests.servers import hanging_server, refusing_server

REPOSITORY = Path(__file__).parents[2]
PARAMS = {"train": {"epochs": 3, "augmentation": {"flip": False, "flip_swaps": [["l", "r"]]}}}
MODEL = {"params": PARAMS, "dataset": "data/demo/videos"}
UNUSABLE = f"sqlite:///{Path(__file__).resolve()}/mlflow.db"  # a folder that is a file
CLIPS_MD5 = "0123456789abcdef0123456789abcdef.dir"

LOCK = f"""
stages:
  catalog:
    outs:
    - {{path: data/catalog/catalog.csv, hash: md5, md5: aaaa}}
  decode:
    outs:
    - {{path: data/frames, hash: md5, md5: bbbb.dir}}
  extract:
    outs:
    - {{path: elsewhere, hash: md5, md5: zzzz}}
    - {{path: data/clips, hash: md5, md5: {CLIPS_MD5}}}
"""


@pytest.fixture(autouse=True)
def folder(folder_with_store):
    return folder_with_store


def the_run(run_id):
    return connect().get_run(run_id)


def status_of(run_id):
    return the_run(run_id).info.status


def history_of(run_id, metric):
    """(step, value) of everything logged."""
    return [(point.step, point.value) for point in connect().get_metric_history(run_id, metric)]


def git(*arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


# Content of a run


def test_a_run_carries_params_data_and_the_process(folder):
    Path("dvc.lock").write_text(LOCK)
    with training_run(**MODEL) as run:
        assert status_of(run.id) == "RUNNING"
    run = the_run(run.id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("train 20")
    assert run.info.artifact_uri.startswith(f"file://{folder}/mlartifacts/")
    assert run.data.params == {
        "train.epochs": "3",
        "train.augmentation.flip": "false",
        "train.augmentation.flip_swaps": '[["l", "r"]]',
    }
    assert run.data.tags["dvc.catalog"] == "data/catalog/catalog.csv aaaa"
    assert run.data.tags["dvc.decode"] == "data/frames bbbb.dir"
    assert run.data.tags["dvc.extract"] == f"data/clips {CLIPS_MD5}"
    assert run.data.tags["process.pid"] == str(os.getpid())
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("data/demo/videos", CLIPS_MD5)
    assert data.dataset.source == '{"uri": "data/clips"}'
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]


def test_a_run_records_the_content_of_the_file_of_weights():
    Path("cnn.weights.h5").write_bytes(b"abc")
    with training_run(**MODEL) as run:
        tag_cnn_weights(run, Path("cnn.weights.h5"))
    # SHA-256 of "abc", from FIPS 180-2.
    assert the_run(run.id).data.tags["cnn_weights.sha256"] == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_without_a_lock_file_the_data_is_unknown():
    with training_run(**MODEL) as run:
        pass
    run = the_run(run.id)
    assert run.data.tags["dvc.extract"] == "data/clips unknown"
    assert run.inputs.dataset_inputs == []


def test_git_tags_see_changed_code_but_not_outputs_of_a_run():
    git("init", "--initial-branch", "trunk")
    for name in ("params.yaml", "dvc.lock", "data/demo/dvc.lock", "eval/metrics.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("old: 1")
        git("add", name)
    git("commit", "--message", "first")
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()

    def tags():
        with training_run(**MODEL) as run:
            pass
        return {key: value for key, value in the_run(run.id).data.tags.items() if "git." in key}

    for name in ("dvc.lock", "data/demo/dvc.lock", "eval/metrics.json", "untracked.txt"):
        Path(name).write_text("new: 1")
    clean = {"git.commit": commit, "git.branch": "trunk", "git.dirty": "false"}
    assert clean.items() <= tags().items()
    Path("params.yaml").write_text("new: 1")
    assert tags()["git.dirty"] == "true"


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with training_run(**MODEL) as run:
        pass
    tags = the_run(run.id).data.tags
    assert [tags[f"git.{name}"] for name in ("commit", "branch", "dirty")] == ["unknown"] * 3


def test_system_metrics_are_sampled(monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with training_run(**MODEL) as run:
        deadline = time.monotonic() + 20
        while not (named := the_run(run.id).data.metrics) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert "system/cpu_utilization_percentage" in named


def test_keras_metrics_are_logged_by_epoch_from_1():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    x = np.ones((4, 1), np.float32)
    with training_run(**MODEL) as run:
        fitted = model.fit(
            x, x, validation_data=(x, x), epochs=2, verbose=0, callbacks=[EpochMetrics(run)]
        )
    for name in ("loss", "val_loss"):
        first, second = fitted.history[name]
        assert history_of(run.id, name) == [(1, first), (2, second)]


# How a run ends


def test_an_exception_fails_the_run():
    with pytest.raises(ZeroDivisionError), training_run(**MODEL) as run:
        _ = 1 / 0
    assert status_of(run.id) == "FAILED"


def test_ctrl_c_kills_the_run():
    with pytest.raises(KeyboardInterrupt), training_run(**MODEL) as run:
        raise KeyboardInterrupt
    assert status_of(run.id) == "KILLED"


def test_the_handler_of_sigterm_is_restored():
    before = signal.getsignal(signal.SIGTERM)
    with training_run(**MODEL):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def start_training(*prefix: str):
    """Start a training in a child process; return the process and the id of its run."""
    code = """
        import time
        from pipeline.tracking.runs import training_run
        with training_run(params={}, dataset="data") as run:
            print(run.id, flush=True)
            time.sleep(60)
    """
    child = subprocess.Popen(
        [*prefix, sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return child, child.stdout.readline().strip()


def test_sigterm_kills_the_run_without_a_traceback():
    child, run_id = start_training()
    child.terminate()
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    assert status_of(run_id) == "KILLED"


def test_the_next_training_closes_a_run_whose_process_is_gone():
    child, run_id = start_training()
    with training_run(**MODEL):
        assert status_of(run_id) == "RUNNING"
    child.kill()  # not reaped yet, so its process id is still taken
    deadline = time.monotonic() + 10
    while status_of(run_id) == "RUNNING" and time.monotonic() < deadline:
        with training_run(**MODEL):
            pass
    assert status_of(run_id) == "KILLED"
    child.communicate()


def test_a_training_in_another_container_with_the_same_host_name_stays_open():
    """Its process id is that of another process here, or of none."""
    options = ["--user", "--map-root-user", "--pid", "--mount-proc", "--fork", "--kill-child"]
    container = ["unshare", *options]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*container, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no user and process namespaces here")
    child, run_id = start_training(*container)
    assert the_run(run_id).data.tags["process.host"] == process_tags()["process.host"]
    with training_run(**MODEL):
        assert status_of(run_id) == "RUNNING"
    child.kill()
    child.communicate()


@pytest.mark.parametrize(("hours", "status"), [(0.9, "RUNNING"), (1.1, "KILLED")])
def test_a_run_of_another_host_ends_after_an_hour_without_a_metric(hours, status):
    client = connect()
    then = round(1000 * (time.time() - 3600 * hours))
    tags = {**process_tags(), "process.space": "another boot"}
    number = experiment_id(client, "video-classifier")
    run_id = client.create_run(number, tags=tags, start_time=then - 10**7).info.run_id
    by_hand = client.create_run(number, start_time=then).info.run_id
    client.log_metric(run_id, "system/cpu_utilization_percentage", 5, timestamp=then)
    with training_run(**MODEL):
        pass
    assert (status_of(run_id), status_of(by_hand)) == (status, "RUNNING")


def test_a_new_process_with_the_id_of_a_dead_one_does_not_keep_its_run_open():
    client = connect()
    tags = {**process_tags(), "process.started": "1.00"}
    run = client.create_run(experiment_id(client, "video-classifier"), tags=tags)
    with training_run(**MODEL):
        pass
    assert status_of(run.info.run_id) == "KILLED"


# Finding a run by its model


def test_the_newest_run_of_a_model_is_found():
    found = []
    for model in ("aaa", "bbb", "aaa"):
        with training_run(**MODEL) as run:
            tag_model(run, model)
        found.append(run.id)
        time.sleep(0.002)  # start times are in milliseconds
    assert find_run("aaa") == found[2]
    assert find_run("bbb") == found[1]
    assert find_run("ccc") is None
    assert ensure_run("bbb", **MODEL, history=[]) == found[1]


def test_a_run_is_recreated_after_the_store_was_deleted(folder, monkeypatch, empty_database):
    with training_run(**MODEL) as first:
        tag_model(first, "aaa")
    Path("dvc.lock").write_text(LOCK)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/other.db")
    shutil.copy(empty_database, "other.db")
    assert find_run("aaa") is None
    history = [{"epoch": 1.0, "loss": 3.0, "val_loss": 4.0}, {"epoch": 2.0, "loss": 1.0}]
    again = ensure_run("aaa", **MODEL, history=history)
    run = the_run(again)
    assert again != first.id
    assert find_run("aaa") == again
    assert run.info.status == "FINISHED"
    assert run.data.tags["recreated"] == "true"
    assert run.data.params["train.epochs"] == "3"
    assert run.inputs.dataset_inputs[0].dataset.digest == CLIPS_MD5
    assert history_of(again, "loss") == [(1, 3.0), (2, 1.0)]
    assert history_of(again, "val_loss") == [(1, 4.0)]


@pytest.mark.long
def test_deleting_the_default_store_starts_a_new_one():
    """In fresh processes: an open database file lives on after it was deleted."""
    code = """
        from pipeline.tracking.runs import ensure_run
        for _ in range(2):
            print(ensure_run("aaa", params={}, dataset="data", history=[{"epoch": 1, "loss": 2}]))
    """

    def printed():
        return subprocess.check_output(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            text=True,
        ).split()

    first, again = printed()
    Path("mlflow.db").unlink()
    other, other_again = printed()
    assert first == again != other == other_again


# Stores that cannot be used


def failure():
    with pytest.raises(PipelineError) as caught, training_run(**MODEL):
        pass
    return str(caught.value)


def test_an_unreachable_server_is_one_sentence_soon(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    started = time.monotonic()
    assert failure() == (
        "MLflow at http://user:***@127.0.0.1:9: Failed to establish a new connection: "
        "[Errno 111] Connection refused. Start the server, or correct or unset "
        "MLFLOW_TRACKING_URI."
    )
    assert time.monotonic() - started < 20


@pytest.fixture
def quick_requests(monkeypatch):
    """One retry, at once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")


def error_of_a_training_that_may_be_buffered():
    with pytest.raises(PipelineError) as caught, training_run(**MODEL, on_error="buffer"):
        pytest.fail("the training began")
    return str(caught.value)


@pytest.mark.usefixtures("quick_requests")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, "You are not authenticated."),
        (403, "Permission denied"),
        (404, "<html>Not Found</html>"),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "no such field"}'),
        (200, "<html>Sign in</html>"),
    ],
)
def test_a_request_that_the_server_refuses_is_no_outage(monkeypatch, status, body):
    with refusing_server(status, body) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        assert error_of_a_training_that_may_be_buffered().startswith(f"MLflow at {url}: ")
    assert not Path("mlflow-buffer").exists()


@pytest.mark.usefixtures("quick_requests")
@pytest.mark.parametrize(("status", "retries"), [(500, "0"), (500, "1"), (501, "1"), (503, "1")])
def test_a_failure_of_the_server_is_an_outage(monkeypatch, status, retries):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", retries)
    body = '{"error_code": "INTERNAL_ERROR", "message": "x"}' if status == 500 else "Bad Gateway"
    with refusing_server(status, body) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        with pytest.raises(StoreUnreachableError):
            experiment_id(connect(), "video-classifier")


@pytest.mark.usefixtures("quick_requests")
def test_a_server_that_does_not_answer_is_an_outage(monkeypatch):
    with hanging_server() as (url, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        with pytest.raises(StoreUnreachableError, match="timed out"):
            experiment_id(connect(), "video-classifier")


def test_a_store_that_must_be_repaired_is_no_outage():
    client = connect()
    client.delete_experiment(experiment_id(client, "video-classifier"))
    assert "was deleted" in error_of_a_training_that_may_be_buffered()


@pytest.mark.long
def test_the_error_of_a_host_that_the_server_does_not_serve_names_the_remedy(folder, monkeypatch):
    with mlflow_ui(folder, "--allowed-hosts", "mlflow.example.org") as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        message = error_of_a_training_that_may_be_buffered()
    assert "Invalid Host header" in message
    assert f"Add {url.removeprefix('http://')} to --allowed-hosts of mlflow server" in message
    assert "PASSWORD" not in message


def test_an_unusable_database_is_one_sentence_soon(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", UNUSABLE)
    started = time.monotonic()
    assert failure() == (
        f"MLflow at {UNUSABLE}: (sqlite3.OperationalError) unable to open "
        "database file. Correct or unset MLFLOW_TRACKING_URI."
    )
    assert time.monotonic() - started < 2


def test_the_error_of_a_damaged_store_names_the_remedy(folder):
    Path("mlflow.db").write_bytes(b"junk" * 1000)
    assert failure() == (
        f"MLflow at sqlite:///{folder}/mlflow.db: (sqlite3.DatabaseError) file is not a database. "
        "If its files are damaged, delete mlflow.db and mlartifacts. After the store was deleted, "
        "log and register the last model again with: dvc repro --force --single-item register"
    )


def test_a_file_store_is_refused(monkeypatch, folder):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(folder / "mlruns"))
    message = failure()
    assert message.startswith(f"MLflow at {folder}/mlruns: The filesystem tracking backend")
    assert message.endswith("Correct or unset MLFLOW_TRACKING_URI.")


def test_a_store_that_was_moved_is_refused(folder, monkeypatch):
    with training_run(**MODEL):
        pass
    moved = folder / "moved"
    moved.mkdir()
    shutil.copy("mlflow.db", moved)
    monkeypatch.chdir(moved)
    assert failure().startswith(
        "mlflow.db: this folder was moved or copied. Expected files in "
        f"file://{moved}/mlartifacts. "
        f"Received: file://{folder}/mlartifacts. Move the folder back, or delete"
    )


def test_the_error_of_a_deleted_experiment_names_the_remedy():
    client = connect()
    number = experiment_id(client, "video-classifier")
    client.delete_experiment(number)
    assert "the experiment video-classifier was deleted" in failure()
    assert f"mlflow experiments restore --experiment-id {number}" in failure()


def test_the_default_store_is_not_inherited_by_child_processes():
    with training_run(**MODEL):
        assert "MLFLOW_TRACKING_URI" not in os.environ


def test_no_usage_statistics_are_sent():
    code = "import os, pipeline.tracking; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    environment = {
        key: value for key, value in os.environ.items() if key != "MLFLOW_DISABLE_TELEMETRY"
    }
    printed = subprocess.check_output(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, text=True
    )
    assert printed == "true\n"


def test_the_time_left_is_logged_once_a_minute_without_the_first_epoch(monkeypatch, caplog):
    caplog.set_level("INFO")
    clock = iter([0, 100, 120, 140, 150, 180, 200, 230])  # start, then the end of each epoch
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    time_left = TimeLeft(epochs=7)
    for epoch in range(7):
        time_left.on_epoch_end(epoch)
    assert caplog.messages == [
        "epoch 2 of 7, 20 s each: 1.7 min left",
        "epoch 5 of 7, 20 s each: 40 s left",
    ]


def test_epochs_of_a_checkpoint_do_not_count_for_the_time_left(monkeypatch, caplog):
    """They arrive at once, before ``on_train_begin``."""
    caplog.set_level("INFO")
    clock = iter([0, 1, 1, 1, 2, 150, 250])  # constructor, three epochs, on_train_begin, two
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    time_left = TimeLeft(epochs=7)
    for epoch in range(3):
        time_left.on_epoch_end(epoch)
    time_left.on_train_begin()
    for epoch in (3, 4):
        time_left.on_epoch_end(epoch)
    assert caplog.messages == ["epoch 5 of 7, 1.7 min each: 3.3 min left"]
