"""The stages and commands of a user on a Ray cluster that they start: outputs as without it."""

import json
import shutil

import pytest

pytest.importorskip("ray", reason="needs the packages of make install-cluster")


@pytest.mark.long
def test_stages_and_predictions_on_ray_equal_those_of_one_machine(built, workspace):
    before = workspace.snapshot()
    workspace.set_params(compute={"engine": "ray", "workers": 2})
    shutil.rmtree(workspace.root / "data/frames")
    done = workspace.run("vidpipe", "repro", "--force", "--single-item", "decode", "extract")
    assert "32 videos to decode, 0 kept from earlier runs" in done.stdout
    assert workspace.snapshot() == before
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{built.root / 'mlflow.db'}"}
    answers = {}
    for engine in ("local", "ray"):
        workspace.run(
            "vidpipe", "predict", "videos", "--engine", engine, "--json", f"{engine}.json",
            environment=store,
        )  # fmt: skip
        answers[engine] = json.loads((workspace.root / f"{engine}.json").read_text())
    assert len(answers["local"]) == 32
    assert answers["ray"] == answers["local"]
