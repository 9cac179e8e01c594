"""What several of these tests need: a registry, a small disk, training without graphs."""

import shutil

import pytest

from tests.disks import mounted_disk
from tests.registered import new_versions


@pytest.fixture(scope="module")
def registry(tmp_path_factory, empty_database):
    """A folder with a store, and a folder that passes for the files of a model."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "files").mkdir()
    (folder / "files/MLmodel").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        shutil.copy(empty_database, folder)
        yield folder


@pytest.fixture
def folder_with_store(tmp_path, monkeypatch, empty_database):
    """The current folder of the test, with an empty store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_database, "mlflow.db")
    return tmp_path


@pytest.fixture
def versions(registry, monkeypatch):
    """The client of a model of four versions that was never promoted."""
    monkeypatch.chdir(registry)
    return new_versions(registry / "files")


@pytest.fixture
def small_disk(tmp_path):
    """An empty folder on a file system of 1 MiB."""
    with mounted_disk(tmp_path / "disk", size="1m") as folder:
        yield folder


@pytest.fixture(scope="module")
def eager():
    """Run without graphs: building them takes longer than a few tiny steps."""
    import tensorflow as tf  # here, because most tests need none

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
