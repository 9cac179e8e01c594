"""What several of these tests need of a registry."""

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
