"""The run of a training in MLflow, and its review."""

import json
import shutil
import urllib.request

import pytest
import yaml
from mlflow import MlflowClient

from pipeline.common.pages import percent
from tests.browser import visit
from tests.mlflow_ui import mlflow_ui

NAME = "video-classifier"


def client_of(workspace) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{workspace.root / 'mlflow.db'}")


def runs_of(workspace):
    client = client_of(workspace)
    return client.search_runs([client.get_experiment_by_name(NAME).experiment_id])


def test_one_run_a_training_with_everything_in_it(built):
    (run,) = runs_of(built)
    client = client_of(built)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "2"
    assert run.data.params["data.videos"] == "videos"
    history = client.get_metric_history(run.info.run_id, "val_loss")
    assert [metric.step for metric in history] == [1, 2]
    metrics = json.loads((built.root / "eval/metrics.json").read_text())
    assert run.data.metrics["test/accuracy"] == pytest.approx(metrics["accuracy"])
    assert run.data.metrics["test_interval/accuracy_low"] <= metrics["accuracy"]
    assert not any(key.startswith("evaluate") for key in run.data.params)
    assert run.data.tags["evaluate.bootstrap_samples"] == "50"
    assert run.info.run_name == "start"  # the commit, because nothing differs from it
    note = run.data.tags["mlflow.note.content"]
    assert f"| accuracy | {metrics['accuracy']:.4g} |" in note
    assert "2 classes: left, right" in note
    assert "All params are those of the commit." in note
    folder = run.data.tags["evaluation"]
    found = {file.path for file in client.list_artifacts(run.info.run_id, f"{folder}/tables")}
    assert {f"{folder}/tables/predictions.csv", f"{folder}/tables/per_class.csv"} <= found
    plots = {file.path for file in client.list_artifacts(run.info.run_id, f"{folder}/plots")}
    assert {f"{folder}/plots/confusion.png", f"{folder}/plots/training.png"} <= plots


def test_the_review_tells_what_the_run_tells_and_is_in_it(built, browser):
    (run,) = runs_of(built)
    report = built.root / "eval/review/report.html"
    with visit(browser, report.as_uri()) as seen:
        text = seen.page.locator("main").inner_text()
        pictures = seen.page.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert seen.errors == []
    assert percent(run.data.metrics["test/accuracy"]) in text
    for audit in json.loads((built.root / "eval/audits.json").read_text()):
        assert audit["sentence"] in text
    assert all(pictures)
    found = {
        str(path.relative_to(report.parent)) for path in report.parent.rglob("*") if path.is_file()
    }
    assert {"charts/reliability.png", "strips/least_sure.png"} <= found
    client, logged = client_of(built), set()
    review = f"{run.data.tags['evaluation']}/review"
    for folder in ("", "/charts", "/strips"):
        files = client.list_artifacts(run.info.run_id, f"{review}{folder}")
        logged |= {file.path.removeprefix(f"{review}/") for file in files if not file.is_dir}
    assert logged == found


def test_the_run_and_the_version_name_commit_and_data(built):
    (run,) = runs_of(built)
    lock = yaml.safe_load((built.root / "dvc.lock").read_text())["stages"]
    clips_md5 = lock["extract"]["outs"][0]["md5"]
    first_commit = built.run("git", "rev-parse", "HEAD~1").stdout.strip()
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == clips_md5[:36]
    version = client_of(built).get_model_version_by_alias(NAME, "challenger")
    for tags in (run.data.tags, version.tags):
        assert tags["git.commit"] == first_commit
        assert tags["dvc.extract"].endswith(clips_md5)
        assert (
            tags["model.sha256"]
            == json.loads((built.root / "eval/registration.json").read_text())["model_sha256"]
        )
    assert float(version.tags["test.accuracy"]) == pytest.approx(
        run.data.metrics["test/accuracy"], abs=1e-5
    )


@pytest.mark.long
def test_an_empty_store_is_filled_again_from_what_lies_on_disk(workspace, empty_database):
    shutil.copy(empty_database, workspace.root / "mlflow.db")
    workspace.run("dvc", "repro", "--force", "--single-item", "register")
    (run,) = runs_of(workspace)
    assert run.data.tags["recreated"] == "true"
    assert run.data.params["train.epochs"] == "2"
    assert "test/accuracy" in run.data.metrics
    assert len(client_of(workspace).get_metric_history(run.info.run_id, "loss")) == 2
    workspace.run("dvc", "repro", "--force", "--single-item", "register")
    assert len(runs_of(workspace)) == 1
    assert [version.version for version in client_of(workspace).search_model_versions()] == [1]


@pytest.mark.long
def test_the_ui_serves_the_runs_and_the_registered_model(built):
    with mlflow_ui(built.root) as url:
        models = f"{url}/api/2.0/mlflow/registered-models/search"
        (model,) = json.load(urllib.request.urlopen(models))["registered_models"]
        assert model["name"] == NAME
        assert model["aliases"] == [{"alias": "challenger", "version": "1"}]
        page = urllib.request.urlopen(url).read().decode()
        assert "<title>MLflow</title>" in page
