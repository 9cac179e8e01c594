"""What the serve command hands on to MLflow's server."""

import json
import shutil

from pipeline.serve import server_environment
from pipeline.serving.contract import ServingConfig


def test_the_server_finds_uvicorn_without_an_activated_environment(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert shutil.which("uvicorn") is None
    environment = server_environment(ServingConfig())
    assert shutil.which("uvicorn", path=environment["PATH"]) is not None
    assert environment["PATH"].endswith(":/nowhere")


def test_the_config_goes_to_the_model_as_json():
    config = ServingConfig("/videos", 5, 2)
    given = json.loads(server_environment(config)["SERVING_MODEL_CONFIG"])
    assert ServingConfig.from_json(given) == config
