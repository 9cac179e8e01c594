"""What a version was trained on, read back from the store of a test."""

from pathlib import Path

import pytest

from pipeline.catalog.records import CatalogEntry, Split, write_catalog
from pipeline.tracking.lineage import log_catalog, trained_on
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.store import connect

MODEL = "test-classifier"


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("store"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect().create_registered_model(MODEL)
        yield


def entry(video: str, split: Split, sha256: str) -> CatalogEntry:
    return CatalogEntry(video, "left", split, video, None, None, sha256)


def new_run(model_sha256: str) -> str:
    return ensure_run(model_sha256, params={}, dataset="data", history=[])


def version_of(run_id: str | None):
    return connect().create_model_version(MODEL, source=Path.cwd().as_uri(), run_id=run_id)


@pytest.fixture
def catalog(tmp_path) -> Path:
    path = tmp_path / "today.csv"
    entries = [
        entry("a.mp4", "train", "aaaa"),
        entry("b.mp4", "val", "bbbb"),
        entry("c.mp4", "test", "cccc"),
        entry("fifo.mp4", "train", ""),
    ]
    write_catalog(path, entries)
    return path


def test_a_version_knows_the_videos_it_was_trained_on(catalog):
    run_id = new_run("one")
    log_catalog(run_id, catalog)
    assert [file.path for file in connect().list_artifacts(run_id, "data")] == ["data/catalog.csv"]
    assert trained_on(version_of(run_id)) == {"aaaa"}
    assert trained_on(version_of(run_id), splits=("train", "val")) == {"aaaa", "bbbb"}


def test_the_first_catalog_of_a_run_stays(catalog):
    run_id = new_run("two")
    log_catalog(run_id, catalog)
    write_catalog(catalog, [entry("d.mp4", "train", "dddd")])
    log_catalog(run_id, catalog)
    assert trained_on(version_of(run_id)) == {"aaaa"}


def test_what_was_not_recorded_is_not_known(tmp_path, caplog):
    run_id = new_run("three")
    log_catalog(run_id, tmp_path / "none.csv")
    assert f"{tmp_path}/none.csv: no such file" in caplog.text
    assert trained_on(version_of(run_id)) is None
    assert trained_on(version_of(None)) is None
    assert trained_on(version_of("0" * 32)) is None
