"""Processes that train together: errors, deaths and placement, most without TensorFlow."""

import json
import os
import re
import signal
import socket
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import PipelineError
from pipeline.compute.ray_cluster import ray_cluster
from pipeline.compute.settings import ComputeSection
from pipeline.compute.training_workers import Report, run_workers
from tests.ray_nodes import add_node, running_nodes

pytest.importorskip("ray", reason="Ray is an extra: make install-cluster")

TWO = ComputeSection(train_workers=2)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One connection for all tests, which the fixture of another cluster may close."""
    with ExitStack() as connection:
        connection.enter_context(ray_cluster("", cpus=3))
        yield connection


def run(train, folder: Path, compute: ComputeSection = TWO, **options) -> tuple[Any, list[Any]]:
    """Return the result of the chief, and the rows."""
    rows: list[Any] = []
    checkpoint = folder / "checkpoint.npz"
    result = run_workers(train, compute, on_row=rows.append, checkpoint=checkpoint, **options)
    return result, rows


def note_start(folder: Path, is_chief: bool) -> int:
    """Return which start of this worker it is, from 1."""
    with (folder / f"starts {is_chief}").open("a+") as file:
        file.write("x")
        return file.tell()


def fail_second(folder: Path, is_chief: bool, report: Report) -> None:
    """The second worker fails, and the chief notices only that its connection is broken."""
    note_start(folder, is_chief)
    report([])
    if is_chief:
        raise ConnectionError("Collective ops is aborted")
    time.sleep(2)
    raise ValueError("a batch has no clips")


def test_the_error_behind_a_broken_connection_is_raised(tmp_path):
    with pytest.raises(ValueError, match="a batch has no clips"):
        run(partial(fail_second, tmp_path), tmp_path)
    assert note_start(tmp_path, True) == 2  # none was started again


def break_twice(is_chief: bool, report: Report) -> None:
    report([])
    raise ConnectionError(f"{is_chief}: no route to host")


def test_a_connection_that_breaks_twice_is_named_with_all_its_ends(tmp_path):
    match = r"worker 1: True: no route .* worker 2: False: no route .* second time .* network"
    with pytest.raises(PipelineError, match=match):
        run(break_twice, tmp_path)


def die_after_the_result(folder: Path, is_chief: bool, report: Report) -> str:
    """The second worker dies when the chief returns its result."""
    start = note_start(folder, is_chief)
    if not is_chief:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    report(["first"])
    time.sleep(1.5)
    report(["first", "last"])
    return f"result of start {start}"


def test_a_worker_that_dies_at_the_end_costs_nothing(tmp_path):
    result, rows = run(partial(die_after_the_result, tmp_path), tmp_path)
    assert result == "result of start 1"
    assert rows == ["first", "last"]


def wait_after_the_chief(is_chief: bool, report: Report) -> str:
    report(["only"])
    time.sleep(0 if is_chief else 600)
    return "result"


def test_the_others_end_with_the_chief(tmp_path):
    assert run(wait_after_the_chief, tmp_path) == ("result", ["only"])


def die_in_pairs(is_chief: bool, report: Report) -> None:
    report([])
    time.sleep(1)
    if not is_chief:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


@pytest.mark.long
def test_all_dead_workers_are_named(tmp_path):
    (tmp_path / "checkpoint.npz").touch()
    match = r"workers 2, 3 of 3 died, for the second time .* continues .*checkpoint\.npz"
    with pytest.raises(PipelineError, match=match):
        run(die_in_pairs, tmp_path, ComputeSection(train_workers=3))


def connect_alone(is_chief: bool, report: Report) -> None:
    """TensorFlow waits for the second worker, and blocks the process while it does."""
    from pipeline.model.strategy import worker_replicas

    if not is_chief:
        time.sleep(600)
    worker_replicas()
    report([])


@pytest.mark.long
def test_workers_that_do_not_connect_are_named_by_address(tmp_path, caplog):
    caplog.set_level("INFO")
    match = r"2 workers did not connect within 30 seconds\. They listen at \S+:\d+, \S+:\d+\."
    with pytest.raises(PipelineError, match=match):
        run(connect_alone, tmp_path, start_seconds=30)
    assert len([text for text in caplog.messages if "Waiting for 2 workers at" in text]) == 1


def take_own_port(folder: Path, is_chief: bool, report: Report) -> str:
    """At the first start, another program has taken the port of the chief."""
    from pipeline.model.strategy import worker_replicas

    start = note_start(folder, is_chief)
    address = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"][0]
    with ExitStack() as other_program:
        if is_chief and start == 1:
            port = int(address.rpartition(":")[2])
            other_program.enter_context(socket.create_server(("", port)))
        worker_replicas()
    report([])
    return f"result of start {start}"


@pytest.mark.long
def test_workers_whose_port_is_taken_start_again_with_other_ports(tmp_path, caplog):
    assert run(partial(take_own_port, tmp_path), tmp_path)[0] == "result of start 2"
    assert re.search(r"another program uses its port.*Starting the workers again", caplog.text)


def gpus_of_all(folder: Path, is_chief: bool, report: Report) -> str:
    """The chief returns the GPUs that TensorFlow sees in each worker, as Ray sets them."""
    (folder / f"gpus {is_chief}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    report([])
    while len(texts := [path.read_text() for path in sorted(folder.glob("gpus *"))]) < 2:
        time.sleep(0.1)
    return " ".join(texts)


@pytest.fixture(scope="module")
def machines_with_gpus(cluster):
    """Two machines that declare three CPUs and two GPUs each. They replace ``cluster``."""
    cluster.close()
    with running_nodes(2, num_cpus=3, num_gpus=2) as nodes:
        yield nodes


def visible_gpus(_is_chief: bool, report: Report) -> str | None:
    report([])
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_a_worker_without_gpus_of_its_own_sees_none(tmp_path, caplog):
    import ray

    if any("GPU" in node["Resources"] for node in ray.nodes()):
        pytest.skip("this machine has a GPU, which the worker reserves")
    assert run(visible_gpus, tmp_path, ComputeSection(train_workers=2, gpus="all"))[0] == ""
    assert "compute.gpus is all, but no machine of the Ray cluster has a GPU" in caplog.text


def connect(_is_chief: bool, report: Report) -> None:
    from pipeline.model.strategy import worker_replicas

    worker_replicas()
    report([])


def note_and_wait(folder: Path, is_chief: bool, report: Report) -> None:
    report([])
    note_start(folder, is_chief)
    time.sleep(600)


class TestPlacement:
    """Runs last: a process has one connection to a cluster."""

    @pytest.mark.parametrize(("gpus", "expected"), [("one", "0 0"), ("all", "0,1 0,1")])
    def test_a_worker_gets_a_machine_and_one_or_all_of_its_gpus(
        self, machines_with_gpus, tmp_path, gpus, expected
    ):
        compute = ComputeSection(train_workers=2, gpus=gpus, address=machines_with_gpus.address)
        assert run(partial(gpus_of_all, tmp_path), tmp_path, compute)[0] == expected

    @pytest.mark.long
    def test_gpus_that_tensorflow_does_not_see_are_an_error(
        self, machines_with_gpus, tmp_path, caplog
    ):
        """The machines declare GPUs that they do not have."""
        caplog.set_level("INFO")
        compute = ComputeSection(train_workers=2, gpus="all", address=machines_with_gpus.address)
        match = r"GPUs 0,1 of the machine .* TensorFlow sees none\. .*'tensorflow\[and-cuda\]==2\."
        with pytest.raises(PipelineError, match=match):
            run(connect, tmp_path, compute)
        assert "Training with 2 workers, each on 2 GPUs" in caplog.text

    @pytest.mark.parametrize(("count", "expected"), [(5, "4, the GPUs"), (7, "6, the CPUs")])
    def test_too_few_cpus_or_gpus_are_an_error(self, machines_with_gpus, tmp_path, count, expected):
        compute = ComputeSection(train_workers=count, address=machines_with_gpus.address)
        match = rf"train_workers: expected at most {expected} .* Received: {count}"
        with pytest.raises(PipelineError, match=match):
            run(break_twice, tmp_path, compute)

    def test_a_cluster_whose_cpus_are_in_use_has_no_room(
        self, machines_with_gpus, tmp_path, caplog
    ):
        caplog.set_level("INFO")
        compute = ComputeSection(train_workers=2, address=machines_with_gpus.address)
        no_room = pytest.raises(PipelineError, match=r"has no room for 2 workers with .*GPU")
        with ray_cluster(compute.address) as ray:
            ray.get(ray.util.placement_group([{"CPU": 3}] * 2).ready())
            with no_room:
                run(break_twice, tmp_path, compute, start_seconds=3)
        assert "Waiting until the cluster has room for 2 workers" in caplog.text

    @pytest.mark.long
    def test_workers_that_cannot_start_again_name_the_checkpoint(
        self, machines_with_gpus, tmp_path
    ):
        compute = ComputeSection(train_workers=3, gpus="all", address=machines_with_gpus.address)

        def remove_machine() -> None:
            while not (tmp_path / "starts True").exists():
                time.sleep(0.1)
            (tmp_path / "checkpoint.npz").touch()
            machines_with_gpus.remove_node(machine, allow_graceful=False)

        killer = threading.Thread(target=remove_machine, daemon=True)
        match = r"3 workers did not start within 60 seconds\. .* continues .*checkpoint\.npz"
        with ray_cluster(compute.address):  # not through the machine that is removed
            machine = add_node(machines_with_gpus, num_cpus=3, num_gpus=2)
            killer.start()
            with pytest.raises(PipelineError, match=match):
                run(partial(note_and_wait, tmp_path), tmp_path, compute, start_seconds=60)
        assert not killer.is_alive()
