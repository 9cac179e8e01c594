"""Runs that outlive an outage of their store: what cannot be sent is kept, and sent later."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pipeline.common.errors import PipelineError
from pipeline.retraining.repro import synchronise
from pipeline.tracking.buffer import upload_buffered
from pipeline.tracking.runs import find_run, training_run
from pipeline.tracking.store import StoreUnreachableError, connect
from tests.servers import hanging_server

REPOSITORY = Path(__file__).parents[2]
PARAMS = {"train": {"epochs": 3}}
UNUSABLE = f"sqlite:///{Path(__file__).resolve()}/mlflow.db"  # a folder that is a file


@pytest.fixture(autouse=True)
def folder(folder_with_store):
    return folder_with_store


@pytest.fixture
def outage(monkeypatch):
    """Start and end an outage of the store."""

    class Outage:
        def start(self):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", UNUSABLE)

        def end(self):
            monkeypatch.delenv("MLFLOW_TRACKING_URI")

    return Outage()


@pytest.fixture
def a_minute_later(monkeypatch):
    """A function that moves the clock of pauses."""
    monotonic, minutes = time.monotonic, []
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 60 * len(minutes))
    return lambda: minutes.append(1)


def the_run(run_id):
    return connect().get_run(run_id)


def history_of(run_id, metric):
    """(step, value) of everything logged."""
    return [(point.step, point.value) for point in connect().get_metric_history(run_id, metric)]


def kept_files():
    return sorted(Path("mlflow-buffer").glob("*.jsonl"))


def in_a_process(code, **environment):
    """Run code in a process, whose buffered runs this process may send."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# An outage during a training


def test_metrics_of_an_outage_arrive_with_those_of_a_minute_later(outage, a_minute_later, caplog):
    with training_run(params=PARAMS, dataset="d") as run:
        run.log_metrics({"loss": 4.0}, step=1)
        outage.start()
        run.log_metrics({"loss": 3.0}, step=2)
        (kept,) = kept_files()
        assert f"MLflow did not get metrics of step 2. Kept in {kept}: " in caplog.text
        assert "unable to open database file" in caplog.text
        outage.end()
        run.log_metrics({"loss": 2.0}, step=3)
        assert kept_files() == [kept]
        a_minute_later()
        run.log_metrics({"loss": 1.0}, step=4)
        assert kept_files() == []
    assert history_of(run.id, "loss") == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]


def test_a_server_that_hangs_is_tried_once_a_minute_and_at_the_end(
    outage, a_minute_later, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with hanging_server() as (url, connections):
        with training_run(params=PARAMS, dataset="d") as run:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
            for step in (1, 2, 3):
                run.log_metrics({"loss": 3.0}, step=step)
            assert len(connections) == 1
            a_minute_later()
            run.log_metrics({"loss": 3.0}, step=4)
            run.set_tag("key", "value")
            assert len(connections) == 2
        assert len(connections) == 3
    outage.end()
    assert upload_buffered() == 1
    assert history_of(run.id, "loss") == [(1, 3.0), (2, 3.0), (3, 3.0), (4, 3.0)]
    assert the_run(run.id).info.status == "FINISHED"


def test_an_outage_until_the_end_of_the_training_loses_nothing():
    done = in_a_process(
        f"""
        import os
        from pipeline.tracking.runs import tag_model, training_run
        with training_run(params={{}}, dataset="d") as run:
            os.environ["MLFLOW_TRACKING_URI"] = "{UNUSABLE}"
            run.log_metrics({{"loss": 3.0}}, step=1)
            tag_model(run, "abc")
        print(run.id)
        """
    )
    run_id = done.stdout.strip()
    assert the_run(run_id).info.status == "RUNNING"
    assert upload_buffered() == 1
    assert the_run(run_id).info.status == "FINISHED"
    assert history_of(run_id, "loss") == [(1, 3.0)]
    assert find_run("abc") == run_id
    assert kept_files() == []


# A store that is unreachable from the start


UNREACHABLE = """
    import os, signal
    from pathlib import Path
    from pipeline.tracking.runs import tag_model, training_run
    with training_run(params={"train": {"epochs": 3}}, dataset="d", on_error="buffer") as run:
        assert run.id is None
        run.log_metrics({"loss": 3.0}, step=1)
        tag_model(run, "abc")
"""


def test_by_default_an_unreachable_store_is_an_error_before_the_training(outage):
    outage.start()
    with pytest.raises(PipelineError, match="unable to open"):  # noqa: SIM117
        with training_run(params=PARAMS, dataset="d"):
            pytest.fail("the training began")
    assert kept_files() == []


def test_a_run_without_a_store_is_created_later_with_everything():
    """Sending it again, as after a kill during the upload, creates no second run."""
    code = (
        UNREACHABLE
        + """
        import time
        for _ in range(200):
            time.sleep(0.1)
            if "system/cpu" in next(Path("mlflow-buffer").iterdir()).read_text():
                break
    """
    )
    interval = {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.1"}
    done = in_a_process(code, MLFLOW_TRACKING_URI=UNUSABLE, **interval)
    assert "tracking.on_error is buffer" in done.stderr
    assert "vidpipe sync" in done.stderr
    (kept,) = kept_files()
    content = kept.read_text()
    started = json.loads(content.splitlines()[0])["description"]["start_time"]
    assert upload_buffered() == 1
    kept.write_text(content)
    assert upload_buffered() == 1
    run = the_run(find_run("abc"))
    assert run.info.status == "FINISHED"
    assert run.info.start_time == started
    assert run.data.params == {"train.epochs": "3"}
    assert history_of(run.info.run_id, "loss") == [(1, 3.0)]
    assert run.data.tags["git.branch"]
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert kept_files() == []
    client = connect()
    assert len(client.search_runs([run.info.experiment_id])) == 1


def test_a_killed_training_ends_as_killed_and_keeps_its_epochs():
    code = (
        UNREACHABLE
        + """
        os.kill(os.getpid(), signal.SIGKILL)
    """
    )
    assert in_a_process(code, MLFLOW_TRACKING_URI=UNUSABLE).returncode == -signal.SIGKILL
    (kept,) = kept_files()
    with kept.open("a") as file:
        file.write('{"metrics": {"lo')  # cut off by the kill
    upload_buffered()
    run = the_run(find_run("abc"))
    assert run.info.status == "KILLED"
    assert history_of(run.info.run_id, "loss") == [(1, 3.0)]


def test_the_run_of_a_living_process_is_left_to_it(outage):
    with training_run(params=PARAMS, dataset="d") as run:
        outage.start()
        run.log_metrics({"loss": 3.0}, step=1)
        outage.end()
        assert upload_buffered() == 0
        assert len(kept_files()) == 1
    assert history_of(run.id, "loss") == [(1, 3.0)]
    assert kept_files() == []


@pytest.mark.parametrize("has_end", [False, True])
def test_the_file_of_another_machine_is_sent_at_once_if_its_run_has_ended(has_end):
    code = UNREACHABLE if has_end else UNREACHABLE + "        os.kill(os.getpid(), signal.SIGKILL)"
    in_a_process(code, MLFLOW_TRACKING_URI=UNUSABLE)
    (kept,) = kept_files()
    header, *operations = kept.read_text().splitlines(keepends=True)
    process = json.loads(header)["process"]["process.space"]
    kept.write_text(header.replace(process, "another boot") + "".join(operations))
    assert upload_buffered() == has_end
    assert (find_run("abc") is not None) == has_end


def test_a_file_that_cannot_be_sent_does_not_stop_the_others():
    done = in_a_process(
        f"""
        import os
        from pipeline.tracking.runs import training_run
        for number in range(2):
            with training_run(params={{}}, dataset="d") as run:
                os.environ["MLFLOW_TRACKING_URI"] = "{UNUSABLE}"
                run.log_metrics({{"loss": 3.0}}, step=1)
            del os.environ["MLFLOW_TRACKING_URI"]
        """
    )
    assert done.returncode == 0, done.stderr
    bad, good = kept_files()
    deleted, run_id = (json.loads(path.read_text().splitlines()[0])["run"] for path in (bad, good))
    connect().delete_run(deleted)
    Path("mlflow-buffer/1.jsonl").write_text("junk\n")
    Path("mlflow-buffer/2.jsonl").mkdir()
    with pytest.raises(PipelineError, match="3 files are not sent") as caught:
        upload_buffered()
    for path in (bad, Path("mlflow-buffer/1.jsonl"), Path("mlflow-buffer/2.jsonl")):
        assert str(path) in str(caught.value)
        assert path.exists()
    assert not good.exists()
    assert the_run(run_id).info.status == "FINISHED"


def test_an_unreachable_store_is_one_error_whatever_the_number_of_files(outage):
    for _ in range(2):
        in_a_process(UNREACHABLE, MLFLOW_TRACKING_URI=UNUSABLE)
    outage.start()
    with pytest.raises(StoreUnreachableError) as caught:
        upload_buffered()
    assert str(caught.value).count("unable to open") == 1


def test_a_damaged_file_is_named():
    Path("mlflow-buffer").mkdir()
    Path("mlflow-buffer/20260101-000000-1.jsonl").write_text("junk\n")
    with pytest.raises(PipelineError, match=r"mlflow-buffer/20260101-000000-1\.jsonl: .*Delete"):
        upload_buffered()


def test_metrics_of_an_interrupted_try_are_kept(outage, a_minute_later, monkeypatch):
    """As by Ctrl-C or SIGTERM while the store does not answer."""
    with pytest.raises(KeyboardInterrupt), training_run(params=PARAMS, dataset="d") as run:
        outage.start()
        run.log_metrics({"loss": 4.0}, step=1)

        def interrupted():
            assert '"step": 2' in kept_files()[0].read_text()  # SIGKILL here would lose nothing
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("pipeline.tracking.buffer.connect", interrupted)
            a_minute_later()
            run.log_metrics({"loss": 3.0}, step=2)
    (kept,) = kept_files()
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [row["step"] for row in rows if "step" in row] == [1, 2]
    assert rows[-1]["end"] == "KILLED"


def test_a_disk_that_is_full_for_a_while_costs_no_metric():
    """It cuts off the header first, and a later line the second time."""
    done = in_a_process(
        f"""
        import os, resource
        from pathlib import Path
        from pipeline.tracking.runs import training_run
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        with training_run(params={{}}, dataset="d") as run:
            os.environ["MLFLOW_TRACKING_URI"] = "{UNUSABLE}"
            for step, is_full in enumerate([True, False, True, False], start=1):
                size = sum(path.stat().st_size for path in Path("mlflow-buffer").glob("*.jsonl"))
                if is_full:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, limits[1]))
                run.log_metrics({{"loss": step / 2}}, step=step)
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        print(run.id)
        """
    )
    assert "mlflow-buffer cannot be written" in done.stderr
    assert upload_buffered() == 1
    run_id = done.stdout.strip()
    assert history_of(run_id, "loss") == [(step, step / 2) for step in (1, 2, 3, 4)]
    assert the_run(run_id).info.status == "FINISHED"


def test_a_run_of_another_store_is_kept(folder, monkeypatch, empty_database, caplog):
    in_a_process(
        f"""
        import os
        from pipeline.tracking.runs import training_run
        with training_run(params={{}}, dataset="d") as run:
            os.environ["MLFLOW_TRACKING_URI"] = "{UNUSABLE}"
            run.log_metrics({{"loss": 3.0}}, step=1)
        """
    )
    (kept,) = kept_files()
    shutil.copy(empty_database, "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/other.db")
    assert upload_buffered() == 0
    assert f"{kept}: kept, because its run is in another store" in caplog.text
    assert kept.exists()


@pytest.mark.parametrize("has_model", [False, True])
def test_sync_names_the_command_after_a_registration_that_failed(has_model, caplog):
    """A stage that fails leaves no output, so eval/registration.json is missing."""
    if has_model:
        Path("models").mkdir()
        Path("models/model.keras").touch()
    assert synchronise() == has_model
    assert ("Run: vidpipe repro" in caplog.text) == has_model


# Several trainings at once


def test_two_trainings_at_once_on_one_sqlite_file_lose_no_metric():
    code = """
        import sys
        from pipeline.tracking.runs import tag_model, training_run
        with training_run(params={}, dataset="d") as run:
            tag_model(run, sys.argv[1])
            for step in range(1, 41):
                run.log_metrics({"loss": step / 2, "val_loss": step / 4}, step=step)
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), name],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        for name in ("one", "two")
    ]
    assert [child.wait() for child in children] == [0, 0]
    upload_buffered()
    for name in ("one", "two"):
        run_id = find_run(name)
        assert the_run(run_id).info.status == "FINISHED"
        assert history_of(run_id, "loss") == [(step, step / 2) for step in range(1, 41)]
        assert history_of(run_id, "val_loss") == [(step, step / 4) for step in range(1, 41)]
