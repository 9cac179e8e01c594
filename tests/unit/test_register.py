"""A model in a real registry: registered, found again, exported, loaded without the checkout."""

import ast
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow.models.cli import commands as models_commands

from pipeline.common.records import VideoRecord
from pipeline.common.side_inputs import SideInput
from pipeline.model.saving import load_model, model_digest, save_model
from pipeline.registry.evidence import ModelProcess
from pipeline.registry.register import (
    INFERENCE_MODULES,
    TEST_DATA,
    TRAVELLING_PACKAGES,
    inference_requirements,
    register_model,
)
from pipeline.registry.versions import export_version, find_version, version_file
from pipeline.serving.request import ServingConfig
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.store import connect
from pipeline.video.writing import encode_mp4
from tests.brightness_model import CLASSES, brightness, brightness_model, metadata, write_model
from tests.conftest import numbered_frames

NAME = "test-classifier"


@pytest.fixture(scope="module")
def video() -> bytes:
    """Four numbered frames at 10 fps: one clip."""
    return encode_mp4(numbered_frames(4), fps=10)


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    """A store for all tests of this file, in their current folder."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


@pytest.fixture(scope="module")
def register(store, video):
    """A function that logs and registers a model, which differs by its confidence threshold."""
    save_model(brightness_model(), store / "model.keras")

    def register(abstain_below: float, **tags: str) -> int:
        metadata(abstain_below=abstain_below).write(store / "model.json")
        sha256 = model_digest(store / "model.keras", store / "model.json")
        return register_model(
            ensure_run(sha256, params={"train": {"seed": 0}}, dataset="data", history=[]),
            name=NAME,
            model_sha256=sha256,
            model_path=store / "model.keras",
            metadata_path=store / "model.json",
            example_video=video,
            tags=tags,
            config=ServingConfig(timeout_seconds=30),
        )

    return register


@pytest.fixture(scope="module")
def version(register) -> int:
    return register(0.5, **{"git.commit": "c0ffee"})


def tags_of(version: int) -> dict[str, str]:
    return connect().get_model_version(NAME, str(version)).tags


def versions() -> set[int]:
    return {int(version.version) for version in connect().search_model_versions()}


def challenger() -> int:
    return int(find_version("@challenger", name=NAME).version)


def test_the_version_has_its_commit_and_its_identity(store, version):
    registered = connect().get_model_version_by_alias(NAME, "challenger")
    sha256 = model_digest(store / "model.keras", store / "model.json")
    assert int(registered.version) == version == 1
    tags = dict(registered.tags)
    assert len(tags.pop("code.sha256")) == 64
    assert tags == {"git.commit": "c0ffee", "model.sha256": sha256}
    run = connect().get_run(registered.run_id)
    assert run.data.tags["model.sha256"] == sha256
    assert run.info.status == "FINISHED"
    assert len(run.outputs.model_outputs) == 1


def test_the_code_that_serves_travels_and_no_other(store, version):  # noqa: ARG001
    (model_file,) = store.rglob("MLmodel")
    assert model_file.is_relative_to(store / "mlartifacts")
    code = model_file.parent / "code/pipeline"
    assert {path.name for path in code.iterdir()} == {"__init__.py", *TRAVELLING_PACKAGES}
    assert {path.suffix for path in code.rglob("*") if path.is_file()} == {".py"}
    assert not (store / "mlruns").exists()


def test_signature_example_and_requirements(version, video):
    model = mlflow.models.get_model_info(f"models:/{NAME}/{version}")
    assert model.signature.inputs.to_dict() == [
        {"type": "binary", "name": "video", "required": False},
        {"type": "string", "name": "path", "required": False},
        {"type": "double", "name": "start_seconds", "required": False},
        {"type": "double", "name": "end_seconds", "required": False},
    ]
    assert model.signature.outputs.input_names() == [
        "label", "probability", "probabilities", "confident", "timeline", "error",
    ]  # fmt: skip
    assert {param.name: param.default for param in model.signature.params} == {
        "top_k": 0,
        "timeline": False,
        "clips": 0,
        "keep_going": False,
    }
    assert model.metadata == {"answers_frames": False}
    requirements = mlflow.artifacts.download_artifacts(f"models:/{NAME}/{version}/requirements.txt")
    assert Path(requirements).read_text().splitlines() == inference_requirements()
    example = next(Path(requirements).parent.glob("*input_example*.json"))
    assert "video" in example.read_text()
    assert len(video) > 0


# Registered again


def test_a_model_that_has_a_version_keeps_it(register, version):
    before = versions()
    assert register(0.5, **{"git.commit": "decade"}) == version
    assert versions() == before
    assert tags_of(version)["git.commit"] == "decade"
    register(0.5, **{"git.commit": "c0ffee"})


def test_scores_on_other_test_data_do_not_replace_those_of_the_registration(register, caplog):
    first = {TEST_DATA: "1111", "test.accuracy": "0.9"}
    number = register(0.6, **first)
    with caplog.at_level("INFO"):
        assert register(0.6, **{TEST_DATA: "2222", "test.accuracy": "0.1"}) == number
    assert f"{NAME} version {number} keeps the scores that it was registered with" in caplog.text
    assert challenger() == number
    assert tags_of(number)["test.accuracy"] == "0.9"
    assert tags_of(number)[TEST_DATA] == "1111"
    register(0.6, **first | {"test.accuracy": "0.8"})  # evaluated again on the same test data
    assert tags_of(number)["test.accuracy"] == "0.8"


def test_another_model_takes_the_alias_and_the_first_takes_it_back(register, version):
    other = register(0.7)
    assert other > version
    assert challenger() == other
    assert register(0.5, **{"git.commit": "c0ffee"}) == version
    assert challenger() == version
    assert {version, other} <= versions()


def test_a_version_whose_files_were_deleted_is_registered_again(register, store):
    first = register(0.8)
    source = connect().get_model_version(NAME, str(first)).source.removeprefix("models:/")
    shutil.rmtree(store / "mlartifacts" / "models" / source)
    again = register(0.8)
    assert again > first
    assert challenger() == again


# Used without the checkout


def test_an_export_has_the_files_and_replaces_an_earlier_one(version, tmp_path):
    registered = find_version(str(version), name=NAME)
    folder = tmp_path / "exported"
    for _ in range(2):
        export_version(registered, folder)
        assert sorted(path.name for path in folder.iterdir()) == [
            "model.json",
            "model.keras",
            "saved_model",
        ]
        assert not (folder / "saved_model/old").exists()
        (folder / "saved_model/old").touch()
    assert load_model(folder / "model.keras").output_shape == (None, len(CLASSES))
    assert (folder / "model.json").read_bytes() == version_file(
        registered, "model.json"
    ).read_bytes()


@pytest.mark.long
def test_mlflow_writes_a_dockerfile_for_the_model(version, tmp_path):
    image = tmp_path / "image"
    arguments = ["--model-uri", f"models:/{NAME}/{version}", "--output-directory", str(image)]
    done = CliRunner().invoke(models_commands, ["generate-dockerfile", *arguments])
    assert done.exit_code == 0, done.output
    assert "FROM python:3.11" in (image / "Dockerfile").read_text()
    (model,) = image.rglob("MLmodel")
    assert (model.parent / "code/pipeline/serving/scorer.py").is_file()
    assert (model.parent / "requirements.txt").read_text().splitlines() == inference_requirements()


@pytest.fixture(scope="module")
def elsewhere(version, store, video, tmp_path_factory):
    """The answers and modules of a process that has the store and the installed packages only."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "video.mp4").write_bytes(video)
    code = f"""
        import json, sys
        import mlflow, pandas as pd
        here = {{"path_root": "."}}
        model = mlflow.pyfunc.load_model("models:/{NAME}/{version}", model_config=here)
        video = open("video.mp4", "rb").read()
        rows = [model.predict(pd.DataFrame([row])).to_dict("records")[0]
                for row in ({{"video": video}}, {{"path": "video.mp4"}})]
        files = [module.__file__ for name, module in sys.modules.items()
                 if name.split(".")[0] == "pipeline" or name.startswith("code_model_")]
        print(json.dumps({{"rows": rows, "files": files}}))
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    printed = subprocess.check_output(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db"},
        text=True,
    )
    return json.loads(printed.splitlines()[-1])


def test_a_process_elsewhere_answers_with_the_code_in_the_model(elsewhere, store):
    light = brightness([0, 1, 2, 3])
    for row in elsewhere["rows"]:
        assert row["label"] == "dark"
        assert row["confident"] is True
        assert row["probabilities"]["light"] == pytest.approx(light, abs=0.01)
    assert {Path(file).is_relative_to(store / "mlartifacts") for file in elsewhere["files"]} == {
        True
    }


def test_the_requirements_are_the_packages_that_serving_imports(elsewhere):
    """Imports within functions are of steps that a server does not run, such as charts."""
    imported = set()
    for file in elsewhere["files"]:
        for node in ast.parse(Path(file).read_text()).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names - {"pipeline"} == set(INFERENCE_MODULES)


def test_requirements_are_pinned():
    pinned = dict(line.split("==") for line in inference_requirements())
    assert pinned["keras"] == keras.__version__
    assert pinned["numpy"] == np.__version__
    assert "opencv-python-headless" in pinned


@pytest.mark.long
def test_the_gate_gives_a_version_its_side_inputs_and_no_other_column(store, video):
    """The answer is brightness x gain / 10."""
    write_model(store, side_inputs=(SideInput("gain", "number", deviation=10.0),))
    sha256 = model_digest(store / "model.keras", store / "model.json")
    register_model(
        ensure_run(sha256, params={"train": {"seed": 0}}, dataset="data", history=[]),
        name="with-gain",
        model_sha256=sha256,
        model_path=store / "model.keras",
        metadata_path=store / "model.json",
        example_video=video,
        tags={},
        config=ServingConfig(),
    )
    (store / "a.mp4").write_bytes(video)

    def record(**extra: str) -> VideoRecord:
        return VideoRecord("a.mp4", "dark", extra={"path": "b.mp4", "note": "x", **extra})

    with ModelProcess("models:/with-gain/1", folder=store, timeout_seconds=60) as process:
        full, half, missing, text = map(
            process.answer, (record(gain="10"), record(gain="5"), record(), record(gain="much"))
        )
    assert half.row["probabilities"]["light"] == pytest.approx(
        full.row["probabilities"]["light"] / 2
    )
    assert "the side input gain is missing" in missing.error
    assert text.error.startswith("catalog, column gain: this version expects a number")
