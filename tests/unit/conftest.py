"""What several of these tests need: a registry, a small disk."""

import os
import subprocess

import pytest

from pipeline.tracking.store import connect
from tests.registered import new_versions


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A folder with a store, and a folder that passes for the files of a model."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "files").mkdir()
    (folder / "files/MLmodel").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        connect().search_experiments()
        yield folder


@pytest.fixture
def versions(registry, monkeypatch):
    """The client of a model of four versions that was never promoted."""
    monkeypatch.chdir(registry)
    return new_versions(registry / "files")


@pytest.fixture
def small_disk(tmp_path):
    """An empty folder on a file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
