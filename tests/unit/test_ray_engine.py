"""Decode, extract and predict on a Ray cluster of two nodes, which are processes here."""

import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.clips.sampling import Window
from pipeline.clips.settings import ExtractSection
from pipeline.clips.shards import write_clips
from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file, write_json
from pipeline.common.records import VideoRecord, write_decode_index
from pipeline.compute.isolated import Failure
from pipeline.compute.processes import process_tags
from pipeline.compute.ray_actors import run_in_actors
from pipeline.compute.ray_cluster import ray_cluster
from pipeline.compute.ray_tasks import run_on_ray
from pipeline.compute.settings import ComputeSection
from pipeline.compute.shared_folder import SharedFolder, sharing_working_directory
from pipeline.video.batch import decode_records
from pipeline.video.settings import DecodeSection
from pipeline.video.store import load_record
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames
from tests.deadly import DangerousFolder, behave
from tests.ray_nodes import add_node, running_nodes
from tests.servers import free_port

DECODE = DecodeSection(fps=10, width=16, height=16)
LOCAL = ComputeSection(workers=2)
LENGTHS = (3, 5, 8, 13, 21, 31)
FREE_BOX = struct.Struct(">I4sQ")  # players skip it: it makes the contents of copies different


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with running_nodes(2) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def on_ray(cluster) -> Iterator[ComputeSection]:
    """The cluster, with one connection for all tests: its workers start once."""
    with ray_cluster(cluster.address):
        yield ComputeSection(engine="ray", address=cluster.address)


@pytest.fixture
def videos(tmp_path) -> Path:
    """Intact videos and one file that is not a video."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for length in LENGTHS:
        (folder / f"{length}.mp4").write_bytes(encode_mp4(numbered_frames(length), fps=10))
    (folder / "damaged.mp4").write_text("not a video")
    return folder


def records_of(videos: Path) -> list[VideoRecord]:
    return [
        VideoRecord(path.name, "up", "train", path.name, sha256=sha256_of_file(path))
        for path in sorted(videos.iterdir())
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def decode(store: Path, videos: Path, compute: ComputeSection) -> list[VideoRecord]:
    """Decode all videos into ``store`` and write the decode index there."""
    records = decode_records(
        store, records_of(videos), videos=videos, decode=DECODE, compute=compute
    )
    write_decode_index(store / "index.csv", records)
    return records


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a user with this home, and without variables of Ray."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**plain, **variables, "HOME": str(home)}


@contextmanager
def started_head(home: Path) -> Iterator[str]:
    """Run ``ray start --head`` with the token in ``home``; yield the address."""
    port = free_port()
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=1"]
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # sockets need a short path
        head = subprocess.Popen(
            [*command, f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false"],
            env=environment(home, RAY_AUTH_MODE="token", RAY_agent_register_timeout_ms="120000"),
        )
        try:
            while not list(Path(folder).glob("session_latest/sockets/raylet*")):
                assert head.poll() is None
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            head.terminate()
            head.wait()


def connect(home: Path, address: str) -> str:
    """Connect with the token in ``home``; return the number of machines, or the error."""
    code = (
        "import sys\n"
        "from pipeline.compute.ray_cluster import ray_cluster\n"
        "try:\n"
        "    with ray_cluster(sys.argv[1]) as ray:\n"
        "        print(len(ray.nodes()), 'machine')\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, address]
    environment_of_user = environment(home, RAY_AUTH_MODE="token")
    return subprocess.check_output(command, env=environment_of_user, text=True)


ON_ANOTHER_MACHINE = """
import os, sys
from pathlib import Path
from pipeline.common.errors import PipelineError
from pipeline.compute.ray_actors import run_in_actors
from pipeline.compute.ray_cluster import ray_cluster
from pipeline.compute.ray_tasks import run_on_ray
from pipeline.compute.settings import ComputeSection
from pipeline.compute.training_workers import run_workers
compute = ComputeSection(address=sys.argv[1], train_workers=2)
with ray_cluster(compute.address):
    for run in (
        lambda: list(run_on_ray(abs, [[1]], compute=compute, timeout_seconds=None)),
        lambda: list(run_in_actors(list, [1], compute=compute)),
        lambda: run_workers(print, compute, on_row=print, checkpoint=Path("checkpoint.npz")),
    ):
        try:
            run()
        except Exception as error:
            print("error:", error)
"""


class TestConnection:
    """Before the cluster starts: a process has one connection."""

    def test_an_address_without_a_cluster_is_one_sentence(self):
        pytest.importorskip("ray", reason="Ray is not installed: make install-cluster")
        for address, problem in (
            ("127.0.0.1:9", "no Ray cluster answers. Received: '127.0.0.1:9'"),
            ("10.0.0.5", "expected host:port, such as 10.0.0.5:6379. Received: '10.0.0.5'"),
        ):
            with pytest.raises(PipelineError, match=f"^compute.address: {problem}"):
                ray_cluster(address).__enter__()

    @pytest.mark.long
    def test_a_cluster_with_a_token_is_joined_by_those_who_have_it(self, tmp_path):
        """As docs/scale.md starts it."""
        pytest.importorskip("ray", reason="Ray is not installed: make install-cluster")
        with_token, without = tmp_path / "with", tmp_path / "without"
        (with_token / ".ray").mkdir(parents=True)
        (with_token / ".ray/auth_token").write_text("a" * 64)
        with started_head(with_token) as address:
            assert connect(with_token, address) == "1 machine\n"
            assert "copy its ~/.ray/auth_token to this machine" in connect(without, address)

    @pytest.mark.long
    def test_a_machine_that_cannot_import_the_pipeline_is_named(self, tmp_path, monkeypatch):
        """Tasks, actors and training workers meet another module with its name there."""
        (tmp_path / "pipeline.py").touch()
        (tmp_path / "command").mkdir()
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with running_nodes(1, num_cpus=2) as nodes:
            monkeypatch.delenv("PYTHONPATH")
            done = subprocess.run(
                [sys.executable, "-c", ON_ANOTHER_MACHINE, nodes.address],
                cwd=tmp_path / "command",
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            machine = nodes.address.partition(":")[0]
        errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
        assert len(errors) == 3
        for error in errors:
            assert f"{tmp_path}/command on the machine {machine}: expected the folder" in error
            assert "No module named 'pipeline.compute'" in error
            assert "must share it" in error

    def test_without_ray_the_message_names_the_command(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(PipelineError, match=r"not installed\. Run: make install-cluster"):
            list(run_on_ray(behave, [["a"]], compute=ComputeSection(), timeout_seconds=1))


class TestDecode:
    def test_the_store_and_the_index_are_those_of_local(self, on_ray, videos, tmp_path):
        decode(tmp_path / "local", videos, LOCAL)
        decode(tmp_path / "ray", videos, on_ray)
        assert contents(tmp_path / "ray") == contents(tmp_path / "local")
        assert "not a video that can be opened" in (tmp_path / "ray/index.csv").read_text()

    def test_a_second_run_decodes_nothing(self, on_ray, videos, tmp_path):
        records = decode(tmp_path / "store", videos, LOCAL)
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.zip")}
        assert decode(tmp_path / "store", videos, on_ray) == records
        assert {path: path.stat().st_mtime_ns for path in times} == times

    def test_a_video_that_blocks_kills_its_process_or_needs_too_much_memory_is_not_stored(
        self, on_ray, tmp_path
    ):
        records = [
            VideoRecord(video=name, target="", sha256=name)
            for name in ("deadly.mp4", "blocking.mp4", "greedy.mp4")
        ]
        decoded = decode_records(
            tmp_path / "store",
            records,
            videos=DangerousFolder(),
            decode=DecodeSection(timeout_seconds=1),
            compute=on_ray,
        )
        assert [record.facts.reason for record in decoded] == [
            "decoding failed: the process died (exit code -9)",
            "decoding failed: not finished after 1 s",
            "decoding it needs too much memory (the limit of a decoder process is 3.3 GB, from "
            "decode.max_pixels)",
        ]
        assert not list((tmp_path / "store").iterdir())

    def test_a_node_that_dies_loses_nothing(self, cluster, on_ray, tmp_path):
        """Its chunk runs again on another node, and its decoder processes end."""
        (tmp_path / "videos").mkdir()
        mp4 = encode_mp4(numbered_frames(30, height=240, width=320).repeat(10, axis=0), fps=30)
        for number in range(40):
            content = mp4 + FREE_BOX.pack(FREE_BOX.size, b"free", number)
            (tmp_path / "videos" / f"{number}.mp4").write_bytes(content)
        node = add_node(cluster)
        (raylet,) = node.all_processes["raylet"]
        decoders: list[psutil.Process] = []

        def kill_node() -> None:
            """Kill the node when it decodes and a video is stored."""
            while not decoders or not list((tmp_path / "ray").glob("*.zip")):
                workers = psutil.Process(raylet.process.pid).children()
                decoders[:] = [child for worker in workers for child in decoders_of(worker)]
                time.sleep(0.02)
            cluster.remove_node(node, allow_graceful=False)

        killer = threading.Thread(target=kill_node, daemon=True)
        killer.start()
        decode(tmp_path / "ray", tmp_path / "videos", on_ray)
        assert not killer.is_alive()
        psutil.wait_procs(decoders, timeout=10)
        assert not [decoder for decoder in decoders if decoder.is_running()]
        decode(tmp_path / "local", tmp_path / "videos", LOCAL)
        assert contents(tmp_path / "ray") == contents(tmp_path / "local")
        assert len(contents(tmp_path / "ray")) == 41


def decoders_of(worker: psutil.Process) -> list[psutil.Process]:
    """Return the child processes of a Ray worker that run tasks."""
    try:
        return [child for child in worker.children() if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def test_other_versions_than_those_of_the_cluster_are_named_with_the_remedy(cluster):
    code = (
        "import sys, ray\n"
        "from pipeline.compute.ray_cluster import ray_cluster\n"
        "ray.__version__ = '0.8'\n"
        "ray_cluster(sys.argv[1]).__enter__()\n"
    )
    command = [sys.executable, "-c", code, cluster.address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (sentence,) = [line for line in done.stderr.splitlines() if "PipelineError: " in line]
    assert "Ray: 0.8 " in sentence
    assert "Stop Ray on all machines" in sentence
    assert "no Ray cluster answers" not in sentence


def kill_ray_worker(task: str) -> None:  # noqa: ARG001
    """A task runs in a child process of its Ray worker."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def kill_own_process(task: str = "") -> None:  # noqa: ARG001
    os.kill(os.getpid(), signal.SIGKILL)


class TestTasks:
    def test_the_other_tasks_of_a_chunk_get_their_results(self, on_ray, tmp_path):
        once = f"die-once {tmp_path / 'seen'}"
        chunks = [["a", "block", "b"], ["c", once], ["die"], ["d"]]
        results = dict(run_on_ray(behave, chunks, compute=on_ray, timeout_seconds=2))
        assert results == {
            "block": Failure("not finished after 2 s"),
            "die": Failure("the process died (exit code -9)"),
            **{task: task.upper() for task in ("a", "b", "c", "d", once)},
        }

    def test_an_error_of_a_task_is_raised(self, on_ray):
        with pytest.raises(RuntimeError, match="raise"):
            list(run_on_ray(behave, [["raise"], ["a"]], compute=on_ray, timeout_seconds=60))

    def test_a_chunk_that_loses_its_worker_again_and_again_is_an_error(self, on_ray, monkeypatch):
        monkeypatch.setattr("pipeline.compute.ray_tasks.MAX_LOSSES", 1)
        match = r"a chunk of 2 tasks, the first a, lost its Ray worker 2 times .* lack memory"
        with pytest.raises(PipelineError, match=match):
            list(run_on_ray(kill_ray_worker, [["a", "b"]], compute=on_ray, timeout_seconds=None))

    def test_the_log_says_that_no_chunk_has_finished_for_a_while(self, on_ray, monkeypatch, caplog):
        monkeypatch.setattr("pipeline.compute.ray_cluster.QUIET_SECONDS", 1.0)
        caplog.set_level("INFO")
        one_at_once = on_ray.model_copy(update={"workers": 1})
        results = run_on_ray(time.sleep, [[0], [3]], compute=one_at_once, timeout_seconds=None)
        next(results)
        caplog.clear()
        next(results)
        assert "No chunk has finished for 1 seconds. ray status lists" in caplog.text

    def test_relative_paths_are_those_of_the_command(self, on_ray, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        ((_, found),) = run_on_ray(os.path.abspath, [["a/b"]], compute=on_ray, timeout_seconds=None)
        assert found == str(tmp_path / "a/b")
        assert list(tmp_path.iterdir()) == []

    def test_a_machine_without_the_folder_is_an_error(self, tmp_path):
        with pytest.raises(PipelineError, match=f"{tmp_path} on the machine .*must share it"):
            SharedFolder(str(tmp_path), "absent").enter()

    def test_markers_of_killed_commands_are_removed(self, tmp_path, monkeypatch):
        code = (
            "import os\nfrom pipeline.compute.shared_folder import sharing_working_directory\n"
            "with sharing_working_directory():\n    os.kill(os.getpid(), 9)"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False, timeout=60
        )
        monkeypatch.chdir(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        elsewhere = tmp_path / ".in-progress-cluster-elsewhere"
        write_json(elsewhere, {**process_tags(), "process.space": "another machine"})
        with sharing_working_directory() as one, sharing_working_directory() as other:
            names = {path.name for path in tmp_path.iterdir()}
            assert names == {one.marker, other.marker, elsewhere.name}


def target_of(record: VideoRecord, window: Window) -> str:
    return f"{record.name} {window.start}"


def test_extract_writes_the_shards_of_local(on_ray, videos, tmp_path):
    decoded = decode(tmp_path / "store", videos, LOCAL)
    usable = [record for record in decoded if record.is_usable]
    for name, compute in (("local", LOCAL), ("ray", on_ray)):
        n_clips = write_clips(
            tmp_path / name,
            usable,
            load=partial(load_record, folder=tmp_path / "store", decode=DECODE),
            extract=ExtractSection(frames=4, clips_per_video=3),
            frame_size=(16, 16),
            target_of=target_of,
            compute=compute,
        )
        assert n_clips > len(usable)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert len(contents(tmp_path / "ray")) > 3


class Preparation:
    """Notes each preparation in a folder; the first actor that runs task 2 dies of it.

    The tasks after it wait for the preparation of another actor.
    """

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def __call__(self):
        (self.notes / f"prepared {os.getpid()}").touch()
        return self.run

    def run(self, task: int) -> int:
        died = self.notes / "died"
        if task == 2 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while task > 3 and self.n_prepared() < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        return task * task

    def n_prepared(self) -> int:
        return len(list(self.notes.glob("prepared *")))


class GpuVariable:
    """The variable with the visible GPUs: in the preparation of an actor, and in a task."""

    def __init__(self) -> None:
        self.prepared = os.environ.get("CUDA_VISIBLE_DEVICES")

    def __call__(self, name: str) -> tuple[str | None, str | None]:
        return self.prepared, os.environ.get(name)


class TestActors:
    def test_results_have_the_order_of_the_tasks_and_a_dead_actor_is_replaced(
        self, on_ray, tmp_path
    ):
        preparation = Preparation(tmp_path)
        results = list(run_in_actors(preparation, range(12), compute=on_ray))
        assert results == [task * task for task in range(12)]
        assert preparation.n_prepared() == 3

    def test_an_actor_prepares_and_runs_without_the_gpus_of_its_machine(self, on_ray):
        results = list(run_in_actors(GpuVariable, ["CUDA_VISIBLE_DEVICES"], compute=on_ray))
        assert results == [("", "")]

    def test_an_error_of_the_preparation_is_raised(self, on_ray):
        with pytest.raises(RuntimeError, match="raise"):
            list(run_in_actors(partial(behave, "raise"), ["a"], compute=on_ray))

    def test_actors_that_die_again_and_again_are_an_error(self, on_ray, monkeypatch):
        monkeypatch.setattr("pipeline.compute.ray_actors.MAX_LOSSES", 1)
        with pytest.raises(PipelineError, match=r"2 Ray actors died in chunk 1 .* lack memory"):
            list(run_in_actors(partial(partial, kill_own_process), ["a"], compute=on_ray))

    def test_actors_that_die_again_and_again_at_their_start_are_an_error(self, on_ray, monkeypatch):
        """A machine that dies takes all of its actors with it."""
        monkeypatch.setattr("pipeline.compute.ray_actors.MAX_LOSSES", 1)
        two = on_ray.model_copy(update={"workers": 2})
        with pytest.raises(PipelineError, match="3 Ray actors died before their first chunk"):
            list(run_in_actors(kill_own_process, ["a", "b"], compute=two))

    def test_the_log_says_that_no_actor_has_answered_for_a_while(self, on_ray, monkeypatch, caplog):
        monkeypatch.setattr("pipeline.compute.ray_cluster.QUIET_SECONDS", 1.0)
        caplog.set_level("INFO")
        one_actor = on_ray.model_copy(update={"workers": 1})
        results = run_in_actors(partial(partial, time.sleep), [0, 3], compute=one_actor)
        next(results)
        caplog.clear()
        next(results)
        assert "No actor has answered for 1 seconds. ray status lists" in caplog.text


def test_predict_gives_the_answers_of_local(on_ray, videos, tmp_path):
    from pipeline.serving.predict import LocalModel
    from pipeline.serving.ray_model import RayModel
    from pipeline.serving.request import RequestOptions, ServingConfig
    from tests.brightness_model import write_model

    write_model(tmp_path, abstain_below=0.9)
    files = [*sorted(videos.iterdir()), tmp_path / "absent.mp4"] * 5  # three chunks
    options = RequestOptions(timeline=True)
    expected = list(LocalModel(tmp_path, ServingConfig()).predict(files, options))
    model = RayModel(tmp_path, ServingConfig(), on_ray)
    assert list(model.predict(files, options)) == expected
    assert [number for number, answer in enumerate(expected[:8]) if "error" in answer] == [6, 7]
    assert model.seen_clips(files[0])[0].mask.all()
