"""A decode stage that is killed, or loses a worker, continues with the same result."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.common.files import read_csv
from pipeline.common.paths import FRAMES
from pipeline.video.store import SUFFIX
from pipeline.video.writing import encode_mp4
from tests.robustness.intact import FPS, moving_noise

REPOSITORY = Path(__file__).parents[2]
VIDEOS = 30
SETTINGS = {
    "data": {"videos": "videos", "labels": ""},
    "catalog": {"val_share": 0.3, "test_share": 0.3},
    "decode": {"fps": FPS, "width": 96, "height": 64},
    "compute": {"workers": 2},
}
PATIENCE_SECONDS = 120  # on a busy machine
ATTEMPTS = 5


@dataclass(frozen=True)
class Project:
    """A folder in which the stages catalog and decode run as commands."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / FRAMES

    def start(self, stage: str) -> subprocess.Popen[str]:
        """Start a stage in its own process group."""
        return subprocess.Popen(
            [sys.executable, "-m", f"pipeline.stages.{stage}"],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, stage: str) -> str:
        """Run a stage that must succeed; return its log."""
        process = self.start(stage)
        _, log = process.communicate()
        assert process.returncode == 0, log
        return log

    @contextmanager
    def halfway(self) -> Iterator[subprocess.Popen[str]]:
        """Start the decode stage and pause it when some, but not all, videos are stored.

        On a busy machine the pause may come too late; then the stage is started again.
        ``resume`` ends the pause. At the end of the block, all of its processes must end.
        """
        for _ in range(ATTEMPTS):
            process = self.start("decode")
            wait_until(lambda: len(self.stored()) >= 3)
            os.killpg(process.pid, signal.SIGSTOP)
            if len(self.stored()) < VIDEOS:
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            shutil.rmtree(self.store)
        with process:
            yield process
        wait_until(lambda: not members(process.pid))

    def stored(self) -> dict[str, tuple[int, int]]:
        """Return when each stored video was written, as its inode and time in nanoseconds."""
        stats = {path.name: path.stat() for path in self.store.glob(f"*{SUFFIX}")}
        return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.store.iterdir()}


def resume(stage: subprocess.Popen[str]) -> None:
    os.killpg(stage.pid, signal.SIGCONT)


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited for {PATIENCE_SECONDS} s"
        time.sleep(0.01)


def members(group: int) -> list[psutil.Process]:
    """Return the living processes of a process group."""
    living = []
    for process in psutil.process_iter(["status"]):
        try:
            is_member = os.getpgid(process.pid) == group
        except ProcessLookupError:
            continue
        if is_member and process.info["status"] != psutil.STATUS_ZOMBIE:
            living.append(process)
    return living


def workers(stage: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(stage.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def catalogued(tmp_path_factory) -> Path:
    """A project with thirty different videos that take seconds to decode."""
    root = tmp_path_factory.mktemp("catalogued")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text("utf-8"))
    for section, values in SETTINGS.items():
        params[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
    large = moving_noise().repeat(5, axis=1).repeat(5, axis=2)
    content = encode_mp4(large, fps=FPS)
    for number in range(VIDEOS):
        # They differ in a box of type "free", which players skip (ISO/IEC 14496-12, 8.1.2).
        path = root / "videos" / ("one", "two")[number % 2] / f"{number:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + struct.pack(">I4sQ", 16, b"free", number))
    Project(root).run("catalog")
    return root


@pytest.fixture(scope="module")
def uninterrupted(catalogued, tmp_path_factory) -> dict[str, bytes]:
    """The frame store of an uninterrupted run."""
    project = Project(tmp_path_factory.mktemp("uninterrupted") / "project")
    shutil.copytree(catalogued, project.root)
    project.run("decode")
    assert len(project.stored()) == VIDEOS
    return project.contents()


@pytest.fixture
def project(catalogued, tmp_path) -> Project:
    shutil.copytree(catalogued, tmp_path / "project")
    return Project(tmp_path / "project")


def test_a_killed_stage_continues_where_it_stopped(project, uninterrupted):
    with project.halfway() as stage:
        os.killpg(stage.pid, signal.SIGKILL)
    assert stage.returncode == -signal.SIGKILL
    before = project.stored()
    assert 3 <= len(before) < VIDEOS
    log = project.run("decode")
    assert f" to decode, {len(before)} kept from earlier runs" in log
    assert before.items() <= project.stored().items()
    assert project.contents() == uninterrupted


@pytest.mark.long
def test_the_videos_of_a_killed_worker_are_decoded_again(project, uninterrupted):
    with project.halfway() as stage:
        victim, *_ = workers(stage)
        victim.kill()
        resume(stage)
        _, log = stage.communicate()
    assert stage.returncode == 0, log
    assert {row["status"] for row in read_csv(project.store / "index.csv")} == {"ok"}
    assert project.contents() == uninterrupted


@pytest.mark.long
def test_workers_end_when_only_the_stage_is_killed(project):
    with project.halfway() as stage:  # waits for all processes
        assert len(workers(stage)) == 2
        stage.kill()
        resume(stage)
