"""From a version back to its commit, params and data, in a DVC repository made for the test."""

import json

import pytest
import yaml
from dvc.repo import Repo
from dvc_objects.fs.errors import RemoteMissingDepsError

from pipeline.base.errors import PipelineError
from pipeline.catalog.records import CatalogEntry, write_catalog
from pipeline.lineage.objects import DataObjects, open_objects
from pipeline.lineage.trace import find_version, trace
from pipeline.trace import _lines
from pipeline.tracking.lineage import log_catalog
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.scores import log_scores
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
        for what, names in (("catalog", ["catalog.csv"]), ("frames", "ab"), ("clips", "c")):
            data = root / "data" / what
            data.mkdir(parents=True)
            for name in names:
                (data / name).write_text(f"{what} {name}")
            target = data / "catalog.csv" if what == "catalog" else data
            (stage,) = repo.add(str(target))
            digests[what] = stage.outs[0].hash_info.value
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
    write_catalog(
        catalog, [CatalogEntry(v, label, split, v, None, None, v) for v, label, split in rows]
    )
    log_catalog(run_id, catalog)
    client = connect()
    client.create_registered_model(MODEL)
    tags = {"model.sha256": "m" * 64, "git.commit": "of the registration"}
    return client.create_model_version(MODEL, source=folder[0].as_uri(), run_id=run_id, tags=tags)


def test_a_trace_has_commit_params_scores_data_and_counts(folder, version):
    _, digests = folder
    found = trace(version)
    assert found.version == 1
    assert found.git_commit == "unknown"  # no git here: of the training, not of the registration
    assert found.recreated
    assert found.params == {"train.epochs": "3"}
    assert found.metrics == {"accuracy": 0.75}
    assert {what: data.digest for what, data in found.data.items()} == digests
    assert [file.path for file in found.data["catalog"].files] == ["catalog.csv"]
    assert [file.path for file in found.data["frames"].files] == ["a", "b"]
    assert [file.path for file in found.data["clips"].files] == ["c"]  # from the remote
    assert found.videos == {"test": {"left": 1, "right": 0}, "train": {"left": 1, "right": 1}}


def test_scores_and_settings_are_those_of_the_registration(folder, version):
    """The run's are of its last evaluation, which may have been by later code or other params."""
    tags = {"test.accuracy": "0.7", "evaluate.top_k": "2", "dvc.catalog": "x unknown"}
    again = connect().create_model_version(MODEL, source=folder[0].as_uri(), run_id=None, tags=tags)
    found = trace(again)
    assert found.metrics == {"accuracy": 0.7}
    assert found.params == {"evaluate.top_k": "2"}
    assert found.data["catalog"].why == "the stage was not run by DVC"
    assert found.data["frames"].why == "neither the run nor the version recorded them"
    client = connect()
    client.set_tag(version.run_id, "evaluate.top_k", "3")
    assert trace(version).params == {"evaluate.top_k": "3", "train.epochs": "3"}
    client.delete_tag(version.run_id, "evaluate.top_k")


def test_a_version_is_found_by_number_and_by_alias(version):
    connect().set_registered_model_alias(MODEL, "champion", version.version)
    try:
        for wanted in ("1", "champion", "@champion"):
            assert find_version(MODEL, wanted).version == version.version
    finally:
        connect().delete_registered_model_alias(MODEL, "champion")


def test_a_trace_is_printed_and_is_json(version):
    found = trace(version)
    assert json.loads(json.dumps(found.to_json()))["data"]["frames"]["files"][0]["path"] == "a"
    lines = "\n".join(_lines(found, all_files=False))
    assert "test-classifier version 1, registered 20" in lines
    assert "train.epochs  3" in lines
    assert "accuracy  0.75" in lines
    assert f"frames  data/frames {found.data['frames'].digest}, 2 files" in lines
    assert "train   2 videos: left 1, right 1" in lines


def test_a_list_that_nobody_has_is_said_to_be_unknown(folder):
    with open_objects() as objects:
        assert objects.files("0" * 32 + ".dir", folder[0]) is None
        assert objects.failures == ""


def test_a_remote_that_cannot_be_asked_is_named(folder):
    (folder[0] / ".dvc/config.local").write_text("[core]\n    remote = other\n")
    try:
        with open_objects() as objects:
            assert objects.content("0" * 32) is None
            assert "DVC remote: " in objects.failures
    finally:
        (folder[0] / ".dvc/config.local").unlink()


@pytest.mark.usefixtures("folder")
def test_a_remote_that_wants_another_package_is_named():
    def place():
        raise RemoteMissingDepsError(None, "s3", "s3://bucket/data", ["s3fs"])

    objects = DataObjects([("DVC remote", place)])
    assert objects.content("0" * 32) is None
    assert objects.failures == (
        "DVC remote: s3://bucket/data: expected the package dvc-s3, it is not installed"
    )


@pytest.mark.usefixtures("version")
def test_a_version_that_is_not_there():
    with pytest.raises(PipelineError, match=r"expected a version or an alias .* Received: 7"):
        find_version(MODEL, "7")
    with pytest.raises(PipelineError, match=r"such as 3 or champion\. Received: champion"):
        find_version(MODEL, "champion")
