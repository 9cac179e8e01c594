"""From a version back to its commit, params and data, in a DVC repository made for the test."""

import json
from dataclasses import replace

import pytest
import yaml
from dvc.repo import Repo
from dvc_objects.fs.errors import RemoteMissingDepsError

from pipeline.common.records import VideoRecord, write_catalog
from pipeline.registry.dvc_objects import DvcObjects, open_objects
from pipeline.registry.show import trace, trace_lines
from pipeline.tracking.results import CATALOG, log_data, log_scores
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.store import connect

MODEL = "test-classifier"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository with a remote; its cache lacks the list of the clips, which the remote has."""
    root = tmp_path_factory.mktemp("traced") / "repo"
    with pytest.MonkeyPatch.context() as patch:
        root.mkdir()
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        repo = Repo.init(no_scm=True)
        with repo.config.edit() as config:
            config["remote"]["storage"] = {"url": str(root.parent / "storage")}
            config["core"]["remote"] = "storage"
        digests = {}
        for output, names in (("catalog", ["catalog.csv"]), ("frames", "ab"), ("clips", "c")):
            data = root / "data" / output
            data.mkdir(parents=True)
            for name in names:
                (data / name).write_text(f"{output} {name}")
            target = data / "catalog.csv" if output == "catalog" else data
            (stage,) = repo.add(str(target))
            digests[output] = stage.outs[0].hash_info.value
        repo.push()
        (root / repo.cache.local.oid_to_path(digests["clips"])).unlink()
        repo.close()
        lock(root, digests)
        yield root, digests


def lock(root, digests):
    stages = {
        "catalog": ("data/catalog/catalog.csv", digests["catalog"]),
        "decode": ("data/frames", digests["frames"]),
        "extract": ("data/clips", digests["clips"]),
    }
    outs = {name: {"outs": [{"path": path, "md5": md5}]} for name, (path, md5) in stages.items()}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": outs}))


@pytest.fixture(scope="module")
def version(folder):
    run_id = ensure_run("m" * 64, params={"train": {"epochs": 3}}, dataset="data", history=[])
    log_scores(run_id, {"accuracy": 0.75}, {"accuracy": (0.5, 1.0)})
    catalog = folder[0] / "catalog.csv"
    rows = [("a.mp4", "left", "train"), ("b.mp4", "right", "train"), ("c.mp4", "left", "test")]
    write_catalog(catalog, [VideoRecord(*row, group=row[0], sha256=row[0]) for row in rows])
    log_data(run_id, catalog, name=CATALOG)
    client = connect()
    client.create_registered_model(MODEL)
    tags = {"model.sha256": "m" * 64, "git.commit": "of the registration"}
    return client.create_model_version(MODEL, source=folder[0].as_uri(), run_id=run_id, tags=tags)


def test_a_trace_has_commit_params_scores_data_and_counts(folder, version):
    _, digests = folder
    origin = trace(version)
    assert origin.version == 1
    assert origin.git_commit == "unknown"  # no git here: of the training, not of the registration
    assert origin.is_recreated
    assert origin.params == {"train.epochs": "3"}
    assert origin.metrics == {"accuracy": 0.75}
    assert {name: data.digest for name, data in origin.data.items()} == digests
    assert [file.path for file in origin.data["catalog"].files] == ["catalog.csv"]
    assert [file.path for file in origin.data["frames"].files] == ["a", "b"]
    assert [file.path for file in origin.data["clips"].files] == ["c"]  # from the remote
    assert origin.videos == {
        "train": {"left": 1, "right": 1},
        "val": {"left": 0, "right": 0},
        "test": {"left": 1, "right": 0},
    }


def test_scores_and_settings_are_those_of_the_registration(folder, version):
    """Those of the run are of its last evaluation, perhaps by later code or other params."""
    tags = {"test.accuracy": "0.7", "evaluate.confidence": "0.9", "dvc.catalog": "x unknown"}
    again = connect().create_model_version(MODEL, source=folder[0].as_uri(), run_id=None, tags=tags)
    origin = trace(again)
    assert origin.metrics == {"accuracy": 0.7}
    assert origin.params == {"evaluate.confidence": "0.9"}
    assert origin.data["catalog"].reason == "DVC did not run the stage"
    assert origin.data["frames"].reason == "neither the run nor the version recorded them"
    client = connect()
    client.set_tag(version.run_id, "evaluate.confidence", "0.8")
    assert trace(version).params == {"evaluate.confidence": "0.8", "train.epochs": "3"}
    client.delete_tag(version.run_id, "evaluate.confidence")


def test_a_trace_is_text_and_json(version):
    origin = trace(version)
    assert json.loads(json.dumps(origin.to_json()))["data"]["frames"]["files"][0]["path"] == "a"
    lines = "\n".join(trace_lines(origin))
    assert "test-classifier version 1, registered 20" in lines
    assert "train.epochs  3" in lines
    assert "accuracy  0.75" in lines
    assert f"frames  data/frames {origin.data['frames'].digest}, 2 files" in lines
    assert "train   2 videos: left 1, right 1" in lines


def test_of_many_classes_a_trace_shows_the_first(version):
    videos = {"train": {f"class {number:03d}": 2 for number in range(400)}}
    lines = trace_lines(replace(trace(version), videos=videos))
    assert lines[-1].startswith("  train   800 videos: class 000 2, class 001 2, ")
    assert lines[-1].endswith(", class 019 2 and 380 more")


def test_a_list_that_no_place_has_is_unavailable(folder):
    with open_objects() as objects:
        assert objects.files("0" * 32 + ".dir", folder[0]) is None
        assert objects.failures == []


def test_a_remote_that_cannot_be_read_is_named(folder):
    (folder[0] / ".dvc/config.local").write_text("[core]\n    remote = other\n")
    try:
        with open_objects() as objects:
            assert objects.content("0" * 32) is None
            assert objects.failures[0].startswith("DVC remote: ")
    finally:
        (folder[0] / ".dvc/config.local").unlink()


@pytest.mark.usefixtures("folder")
def test_a_remote_that_needs_another_package_is_named():
    def open_place():
        raise RemoteMissingDepsError(None, "s3", "s3://bucket/data", ["s3fs"])

    objects = DvcObjects([("DVC remote", open_place)])
    assert objects.content("0" * 32) is None
    assert objects.failures == ["DVC remote: s3://bucket/data: the package dvc-s3 is not installed"]
