"""The registered model: an untrained classifier in a real registry, loaded as servers load it."""

import ast
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.models.cli import commands as models_commands
from mlflow.pyfunc.scoring_server import invocations
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from pipeline.base.errors import PipelineError
from pipeline.base.files import sha256_of_file
from pipeline.clips.preprocessing import Preprocessing, clips_from_video
from pipeline.clips.sampling import ClipSpec
from pipeline.model.architecture import Architecture, Cnn, Temporal
from pipeline.model.classifier import build_classifier
from pipeline.model.metadata import ClassifierMetadata
from pipeline.model.prediction import predict_clips
from pipeline.model.saving import load_classifier, save_classifier
from pipeline.serving.contract import RequestOptions, ServingConfig
from pipeline.tracking.loading import Prediction, RegisteredClassifier, load_model, model_uri
from pipeline.tracking.registry import INFERENCE_MODULES, inference_requirements, register_model
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.store import connect
from pipeline.video.reading import FrameSpec, Segment
from pipeline.video.source import Limits
from pipeline.video.writing import encode_mp4

NAME = "test-classifier"
CLASSES = ("left", "right", "up")
PREPROCESSING = Preprocessing(
    frames=FrameSpec(fps=5, width=16, height=12, fit="crop"),
    clip=ClipSpec(frames=4, sampling="uniform"),
    limits=Limits(max_seconds=60, max_pixels=10**6),
)


@pytest.fixture(scope="module")
def video() -> bytes:
    """Eight frames of noise at 10 fps."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), dtype=np.uint8)
    return encode_mp4(noise, fps=10)


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
    """A function that makes, logs and registers the untrained model of a seed."""

    def register(seed: int, tags: dict[str, str]) -> int:
        keras.utils.set_random_seed(seed)
        model = build_classifier(
            # With layers of ours that Keras must find again.
            Architecture(
                Cnn(filters=(4,), wrap="per_layer"),
                frame_features=8,
                temporal=Temporal("gru", units=(8,), bidirectional=True, summary="attention"),
            ),
            n_classes=len(CLASSES),
            frame_shape=(12, 16, 3),
        )
        save_classifier(model, store / "classifier.keras")
        metadata = ClassifierMetadata(CLASSES, PREPROCESSING, abstain_below=1.0)
        metadata.write(store / "classifier.json")
        sha256 = sha256_of_file(store / "classifier.keras")
        return register_model(
            ensure_run(sha256, params={"train": {"seed": seed}}, dataset="data", history=[]),
            name=NAME,
            model_sha256=sha256,
            model_path=store / "classifier.keras",
            metadata_path=store / "classifier.json",
            example_video=video,
            tags=tags,
            config=ServingConfig(timeout_seconds=30),
        )

    return register


@pytest.fixture(scope="module")
def version(register) -> int:
    return register(1, {"git.commit": "c0ffee"})


@pytest.fixture(scope="module")
def expected(version, store, video):  # noqa: ARG001
    """What evaluation makes of the video."""
    model = load_classifier(store / "classifier.keras")
    (probabilities,) = predict_clips(model, clips_from_video(video, PREPROCESSING))
    best = int(probabilities.argmax())
    by_name = {name: float(value) for name, value in zip(CLASSES, probabilities, strict=True)}
    return Prediction(CLASSES[best], float(probabilities[best]), by_name, confident=False)


@pytest.fixture(scope="module")
def classifier(version):  # noqa: ARG001
    return load_model(NAME)


def versions():
    return {version.version: version for version in connect().search_model_versions()}


def test_the_version_says_what_it_is(version):
    registered = connect().get_model_version_by_alias(NAME, "challenger")
    sha256 = sha256_of_file(Path("classifier.keras"))
    assert registered.version == version == 1
    code = registered.tags.pop("code.sha256")
    assert len(code) == 64
    assert registered.tags == {"git.commit": "c0ffee", "model.sha256": sha256}
    run = connect().get_run(registered.run_id)
    assert run.data.tags["model.sha256"] == sha256
    assert run.info.status == "FINISHED"
    assert len(run.outputs.model_outputs) == 1


def test_the_files_of_the_version_are_clean_and_in_the_store(store, version):  # noqa: ARG001
    (model_file,) = store.rglob("MLmodel")
    assert model_file.is_relative_to(store / "mlartifacts")
    assert (model_file.parent / "code/pipeline/clips/preprocessing.py").is_file()
    assert not list(model_file.parent.rglob("__pycache__"))
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
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}/{version}")
    assert loaded.input_example.to_dict("records") == [{"video": video}]
    requirements = mlflow.artifacts.download_artifacts(f"models:/{NAME}/{version}/requirements.txt")
    assert Path(requirements).read_text().splitlines() == inference_requirements()


def assert_about_equal(found: list[Prediction], expected: list[Prediction]) -> None:
    """Up to the last bits, which depend on the process and on how many clips go at once."""
    for one, other in zip(found, expected, strict=True):
        assert (one.label, one.confident) == (other.label, other.confident)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_bytes_and_paths_are_classified_as_in_evaluation(classifier, expected, video, tmp_path):
    path = tmp_path / "ein Fußweg.mp4"
    path.write_bytes(video)
    assert classifier.uri == model_uri(f"{NAME}@challenger", alias="") == f"models:/{NAME}/1"
    assert classifier.predict([video]) == [expected]
    assert_about_equal(classifier.predict([path, video, path]), [expected] * 3)


def test_many_videos_are_classified_in_their_order(classifier, expected, video):
    still = encode_mp4(np.zeros((4, 32, 48, 3), np.uint8), fps=10)
    found = classifier.predict([video] * 33 + [still])
    assert_about_equal(found[:33], [expected] * 33)
    assert_about_equal(found[33:], classifier.predict([still]))
    assert found[33] != expected


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"junk", "Video 2: <4 bytes>: not a video"),
        (
            Path("/nowhere/none.mp4"),
            "Video 2: /nowhere/none.mp4: cannot be read (No such file or directory)",
        ),
        (
            b"",
            "Video 2: expected either the bytes of a video file in the column video (base64 in "
            "JSON) or its path in the column path. Received: neither",
        ),
    ],
)
def test_a_bad_video_is_named(classifier, video, bad, message):
    with pytest.raises(PipelineError) as caught:
        classifier.predict([video, bad])
    assert str(caught.value).startswith(message)


def test_a_single_bad_video_needs_no_number(classifier):
    with pytest.raises(PipelineError, match=r"^/nowhere/none\.mp4: cannot be read"):
        classifier.predict([Path("/nowhere/none.mp4")])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"video": b"abc", "path": "x.mp4"}, "Received: video of type bytes, path of type str"),
        ({"video": "abc"}, "Received: video of type str"),
        ({"film": b"abc"}, "Expected one row a video, with the column video or path"),
    ],
)
def test_rows_that_are_not_one_video_are_refused_as_bad_input(version, row, message):
    servable = mlflow.pyfunc.load_model(f"models:/{NAME}/{version}")
    with pytest.raises(mlflow.exceptions.MlflowException, match=message) as caught:
        servable.predict(pd.DataFrame([row]))
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"  # a server answers 400


def test_each_video_is_tried_and_its_error_needs_no_name(classifier, expected, video, tmp_path):
    good, bad = tmp_path / "good.mp4", tmp_path / "bad.mp4"
    good.write_bytes(video)
    bad.write_bytes(b"junk")
    first, second, third = classifier.try_each([good, bad, good])
    assert_about_equal([first, third], [expected] * 2)
    assert isinstance(second, PipelineError)
    assert str(second).startswith("not a video that can be opened")


class OlderModel:
    """A registered model whose only param is top_k; it refuses ``bad.mp4``."""

    class metadata:  # noqa: N801
        signature = ModelSignature(
            inputs=Schema([ColSpec("string", "path")]),
            params=ParamSchema([ParamSpec("top_k", "long", 0)]),
        )

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def predict(self, rows, params):
        assert params == {}
        self.asked.append([Path(path).name for path in rows["path"]])
        if "bad.mp4" in self.asked[-1]:
            raise MlflowException(f"Video 1: {rows['path'][0]}: is bad")
        answer = {"label": "up", "probability": 1.0, "probabilities": {"up": 1.0}}
        return pd.DataFrame([answer] * len(rows))


def test_an_older_version_is_asked_for_each_video_alone():
    model = OlderModel()
    first, second = RegisteredClassifier("models:/m/1", model).try_each(
        [Path("bad.mp4"), Path("good.mp4")]
    )
    assert isinstance(first, PipelineError)
    assert str(first) == "is bad"
    assert second == Prediction("up", 1.0, {"up": 1.0}, confident=None, timeline=())
    assert model.asked == [["bad.mp4"], ["good.mp4"]]


@pytest.mark.parametrize("ask", [RegisteredClassifier.predict, RegisteredClassifier.try_each])
def test_an_option_that_an_older_version_does_not_know_is_refused(ask):
    model = OlderModel()
    with pytest.raises(PipelineError) as caught:
        ask(
            RegisteredClassifier("models:/m/1", model),
            [Path("a.mp4")],
            RequestOptions(timeline=True, clips=2, top_k=1),
        )
    assert str(caught.value) == (
        "models:/m/1: this version was registered before there was the option clips, timeline. "
        "Register a new one with: make repro"
    )
    assert model.asked == []


@pytest.fixture(scope="module")
def post(version):
    """Ask as MLflow's server does; return the status and the content of its answer."""
    model = mlflow.pyfunc.load_model(f"models:/{NAME}/{version}")
    schema = model.metadata.get_input_schema()

    def post(**content: object) -> tuple[int, dict[str, object]]:
        try:
            found = invocations(json.dumps(content), "application/json", model, schema)
        except MlflowException as error:
            return error.get_http_status_code(), json.loads(error.serialize_as_json())
        return found.status, json.loads(found.response)

    return post


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("form", ["dataframe_records", "inputs", "instances"])
def test_a_client_is_told_what_is_wrong_and_nothing_else(post, video, form):
    """MLflow would put the request before the sentence, with the bytes of all videos."""
    rows = [{"video": as_base64(content)} for content in (video, b"no video!")]
    status, answer = post(**{form: rows})
    size = 9 if form == "dataframe_records" else 12  # MLflow leaves base64 as it is elsewhere
    assert status == 400
    assert answer["message"] == (
        f"Video 2: <{size} bytes>: not a video that can be opened "
        "(Invalid data found when processing input)"
    )
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"


def test_a_request_that_goes_on_has_null_where_a_video_is_bad(post, expected, video):
    rows = [{"video": as_base64(content)} for content in (b"junk", video)]
    status, answer = post(dataframe_records=rows, params={"keep_going": True})
    bad, good = answer["predictions"]
    assert status == 200
    assert bad.pop("error").startswith("not a video that can be opened")
    assert set(bad.values()) == {None}
    assert good.pop("error") is None
    assert_about_equal([Prediction(**good)], [expected])
    assert bad.keys() == good.keys()


def test_a_machine_that_fails_says_so_and_does_not_name_its_folders(post, video, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/secret")
    for params in ({}, {"keep_going": True}):
        status, answer = post(dataframe_records=[{"video": as_base64(video)}], params=params)
        assert status == 500
        assert answer["error_code"] == "INTERNAL_ERROR"
        assert answer["message"] == (
            "The machine failed, not the request: Not a directory. Its log says more; frames are "
            "kept in TMPDIR while they are scored."
        )
        assert "secret" not in json.dumps(answer)


def test_mlflow_writes_a_dockerfile_for_the_model(version, tmp_path):
    image = tmp_path / "image"
    arguments = ["--model-uri", f"models:/{NAME}/{version}", "--output-directory", str(image)]
    done = CliRunner().invoke(models_commands, ["generate-dockerfile", *arguments])
    assert done.exit_code == 0, done.output
    assert "FROM python:3.11" in (image / "Dockerfile").read_text()
    (model,) = image.rglob("MLmodel")
    assert (model.parent / "code/pipeline/serving/scoring.py").is_file()
    assert (model.parent / "requirements.txt").read_text().splitlines() == inference_requirements()


def test_a_part_of_a_video_is_classified_as_a_row_of_the_labels(version, store, video):
    servable = mlflow.pyfunc.load_model(f"models:/{NAME}/{version}")
    parts = [(None, None), (0.4, None), (0.2, 0.6), (0, 0.3)]
    rows = [{"video": video, "start_seconds": start, "end_seconds": end} for start, end in parts]
    found = servable.predict(pd.DataFrame(rows))
    clips = [
        clip
        for part in parts
        for clip in clips_from_video(video, PREPROCESSING, segment=Segment(*part))
    ]
    expected = predict_clips(load_classifier(store / "classifier.keras"), clips)
    probabilities = [[row[name] for name in CLASSES] for row in found.probabilities]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert len(np.unique(np.round(expected, 6), axis=0)) == len(parts)  # the parts do differ


@pytest.mark.parametrize(("start", "end"), [(-1.0, None), (0.5, 0.5), (None, 0.0)])
def test_a_part_that_is_none_is_bad_input(version, video, start, end):
    servable = mlflow.pyfunc.load_model(f"models:/{NAME}/{version}")
    row = {"video": video, "start_seconds": start, "end_seconds": end}
    message = f"Received: start_seconds = {start}, end_seconds = {end}"
    with pytest.raises(mlflow.exceptions.MlflowException, match=message):
        servable.predict(pd.DataFrame([row]))


def test_a_model_that_has_a_version_keeps_it(register, version):
    before = list(versions())
    assert register(1, {"git.commit": "decade"}) == version
    assert list(versions()) == before
    assert versions()[version].tags["git.commit"] == "decade"
    register(1, {"git.commit": "c0ffee"})


def test_another_model_takes_the_alias_and_the_first_takes_it_back(register, version):
    other = register(2, {})
    assert other > version
    assert load_model(NAME).uri == f"models:/{NAME}/{other}"
    assert register(1, {"git.commit": "c0ffee"}) == version
    assert load_model(NAME).uri == f"models:/{NAME}/{version}"
    assert {version, other} <= versions().keys()


def test_a_version_whose_files_were_deleted_is_registered_again(register, store, version):
    third = register(3, {})
    source = versions()[third].source.removeprefix("models:/")
    shutil.rmtree(store / "mlartifacts" / "models" / source)
    again = register(3, {})
    assert again > third > version
    assert load_model(NAME).uri == f"models:/{NAME}/{again}"
    register(1, {"git.commit": "c0ffee"})


def test_an_unknown_model_or_alias_says_how_to_get_one(store, version):  # noqa: ARG001
    repro = (
        "make repro. After the store was deleted, the last model comes back with: "
        "dvc repro --force --single-item evaluate register"
    )
    for arguments, wanted, remedy in (
        ({"name_or_uri": "other"}, "other@challenger", repro),
        ({"name_or_uri": NAME, "alias": "champion"}, f"{NAME}@champion", "make promote"),
        ({"name_or_uri": f"{NAME}@champion"}, f"{NAME}@champion", "make promote"),
        ({"name_or_uri": f"models:/{NAME}/99"}, f"models:/{NAME}/99", repro),
    ):
        with pytest.raises(PipelineError) as caught:
            load_model(**arguments)
        assert str(caught.value) == (
            f"MLflow at sqlite:///{store}/mlflow.db has no model {wanted}. Get one with: {remedy}"
        )


@pytest.fixture(scope="module")
def elsewhere(version, store, video, tmp_path_factory):
    """What a process sees that has nothing but the store and the installed packages."""
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
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db"},
        text=True,
    )
    return json.loads(printed.splitlines()[-1])


def test_a_fresh_process_elsewhere_predicts_the_same_with_the_code_in_the_model(
    elsewhere, expected, store
):
    assert_about_equal([Prediction(**row) for row in elsewhere["rows"]], [expected] * 2)
    assert {Path(file).is_relative_to(store / "mlartifacts") for file in elsewhere["files"]} == {
        True
    }


def test_the_requirements_are_what_inference_imports(elsewhere):
    imported = set()
    for file in elsewhere["files"]:
        for node in ast.walk(ast.parse(Path(file).read_text())):
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
