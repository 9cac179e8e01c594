"""From the first champion to a rollback, in a real store, with models of brightness."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import yaml

from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.settings import ExtractSection
from pipeline.common.files import read_json, sha256_of_file
from pipeline.common.paths import CATALOG as CATALOG_PATH
from pipeline.common.paths import PROMOTION, PROMOTION_REPORT
from pipeline.common.records import VideoRecord, write_catalog
from pipeline.dataset.catalog import content_hashes
from pipeline.model.saving import ModelMetadata, model_digest, save_model
from pipeline.params import load_params
from pipeline.registry.champions import champion_number, read_records
from pipeline.registry.promotion import promote, roll_back
from pipeline.registry.register import register_model
from pipeline.serving.request import ServingConfig
from pipeline.tasks.classification import Classification
from pipeline.tracking.results import CATALOG, log_data
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.store import connect
from pipeline.video.settings import DecodeSection
from pipeline.video.writing import encode_mp4
from tests.pipeline.conftest import REPOSITORY, merge

NAME = "test-classifier"
CLASSES = ("bright", "dark")
LEVELS = {"bright": 180, "dark": 70}
TEST_VIDEOS = 12
PICTURES = 7  # the number of a test video that is a folder of pictures
METADATA = ModelMetadata(
    Classification(CLASSES, target_accuracy=0.9),
    Preprocessing(DecodeSection(fps=5, width=16, height=16), ExtractSection(frames=4)),
)
RULES = {
    "register": {"name": NAME},
    "data": {"videos": "videos", "labels": "labels.csv"},
    "evaluate": {"bootstrap_samples": 100},
    "promote": {
        "metric": "accuracy",
        "limits": {"class_recall": 0.5, "calibration_error": 0.3},
        "max_latency_ms": 60000,
    },
}
# Changes the code of a version after it was registered: it swaps the classes.
OTHER_CODE = """

_read = Classification.from_json.__func__


def _swapped(cls, value):
    task = _read(cls, value)
    return replace(task, class_names=task.class_names[::-1])


Classification.from_json = classmethod(_swapped)
"""


def film(level: int, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(-30, 31, (8, 32, 32, 3))
    return encode_mp4((level + noise).astype(np.uint8), fps=10)


def records() -> list[VideoRecord]:
    """Twelve test videos: files, a segment, a folder of pictures; and one that cannot be read."""
    rows = []
    for number in range(TEST_VIDEOS):
        label = CLASSES[number % 2]
        path = Path(f"videos/{number:02d}.mp4")
        if number == PICTURES:
            path = path.with_suffix("")
            path.mkdir(exist_ok=True)
            for picture in range(8):
                level = LEVELS[label] + picture
                cv2.imwrite(f"{path}/{picture}.png", np.full((32, 32, 3), level, np.uint8))
        else:
            path.write_bytes(film(LEVELS[label], number))
        start = 0.2 if number == 5 else None
        [sha256] = content_hashes(path.parent, [path.name])
        rows.append(VideoRecord(path.name, label, "test", path.stem, start, sha256=sha256))
    junk = Path("videos/junk.mp4")
    junk.write_bytes(b"junk")
    return [*rows, VideoRecord(junk.name, "dark", "test", sha256=sha256_of_file(junk))]


def build(sharpness: float) -> keras.Model:
    """Answer bright for pixels above the middle; with a negative sharpness, dark."""
    frames = keras.Input((4, 16, 16, 3), dtype="uint8", name="frames")
    mask = keras.Input((4,), dtype="bool", name="mask")
    light = keras.layers.GlobalAveragePooling3D()(keras.layers.Rescaling(1 / 255)(frames))
    middle = keras.layers.Dense(2, activation="softmax")
    model = keras.Model({"frames": frames, "mask": mask}, middle(light))
    kernel = np.array([[sharpness / 3, 0]] * 3)
    middle.set_weights([kernel, np.array([-sharpness / 2, 0])])
    return model


def register(sharpness: float, trained_on: list[VideoRecord]) -> int:
    """Register a model that had these videos in its training set."""
    model, metadata = Path("model.keras"), Path("model.json")
    save_model(build(sharpness), model)
    METADATA.write(metadata)
    sha256 = model_digest(model, metadata)
    run_id = ensure_run(sha256, params={}, dataset="data", history=[])
    write_catalog(Path("of_run.csv"), [replace(one, split="train") for one in trained_on])
    log_data(run_id, Path("of_run.csv"), name=CATALOG)
    return register_model(
        run_id,
        name=NAME,
        model_sha256=sha256,
        model_path=model,
        metadata_path=metadata,
        example_video=film(100, 0),
        tags={"git.commit": "c0ffee"},
        config=ServingConfig(),
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with params, a catalog and videos; its store is the default one."""
    folder = tmp_path_factory.mktemp("checkout")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    merge(params, RULES)
    params["promote"]["limits"] = RULES["promote"]["limits"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("params.yaml").write_text(yaml.safe_dump(params))
        Path("videos").mkdir()
        CATALOG_PATH.parent.mkdir(parents=True)
        write_catalog(CATALOG_PATH, records())
        yield folder


def in_checkout() -> dict[str, str]:
    """Return the environment in which commands find this Python and this code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)}


def tags_of(version: int) -> dict[str, str]:
    return connect().get_model_version(NAME, str(version)).tags


@pytest.fixture(scope="module")
def first(checkout):
    """Two promotions of the first version at once, each a process of its own."""
    version = register(40, trained_on=records()[:2])
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "promote"],
            cwd=checkout,
            env=in_checkout(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        printed = [process.communicate(timeout=1200) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], printed
    return version, [out for out, _ in printed]


def test_two_promotions_at_once_make_one_first_champion(first):
    version, printed = first
    heads = sorted(out.splitlines()[0] for out in printed)
    assert heads == [
        f"{NAME} version 1 is champion already. Nothing to do.",
        f"{NAME} version 1 is the first champion.",
    ]
    assert champion_number(NAME) == version
    (record,) = read_records(NAME)
    assert (record.version, record.previous, record.git_commit) == (1, None, "c0ffee")
    assert tags_of(1)["gate.outcome"] == "first champion"


@pytest.fixture(scope="module")
def refused(first):  # noqa: ARG001
    """A challenger that was trained on permuted labels."""
    version = register(-40, trained_on=[])
    report = promote(load_params())
    return version, report, read_json(PROMOTION), PROMOTION_REPORT.read_text()


def test_a_poisoned_challenger_is_refused_and_the_champion_stays(refused):
    version, report, content, _ = refused
    assert champion_number(NAME) == 1
    assert report.decision.outcome == content["outcome"] == tags_of(version)["gate.outcome"]
    assert content["outcome"] == "refused"
    assert content["gain"]["champion"] == 1
    assert content["gain"]["challenger"] == 0
    assert "recall of bright 0.000 [0.000, 0.459] on 6 videos" in content["reasons"][0]
    assert tags_of(version)["gate.reasons"].startswith(content["reasons"][0])


def test_videos_that_the_champion_was_trained_on_or_cannot_read_are_left_out(refused):
    content = refused[2]
    assert content["gain"]["videos"] == TEST_VIDEOS - 2
    assert "05.mp4#t=0.2" in content["gain"]["broken"]
    assert content["left_out"]["1"] == {"seen": 2, "unreadable": 1}
    trained, unreadable = content["notes"]
    assert trained.startswith("The champion was trained on 2 of 13 test videos")
    assert unreadable.startswith("The champion cannot read 1 of 13 test videos")
    assert "The first is junk.mp4: " in unreadable
    assert "Invalid data found when processing input" in unreadable


def test_the_report_has_both_versions_and_every_check(refused):
    text = refused[3]
    assert text.startswith(f"# {NAME} version 2 is refused; version 1 stays champion.\n")
    assert "| **refused** | class\\_recall | " in text
    assert "| passed | latency | The median latency of a video is " in text
    assert "## Each class against all others, version 2" in text


@pytest.fixture(scope="module")
def promoted(refused):  # noqa: ARG001
    """A challenger against a champion whose own code swaps the classes."""
    version = register(50, trained_on=[])
    source = connect().get_model_version(NAME, "1").source.removeprefix("models:/")
    pattern = f"{source}/artifacts/code/pipeline/tasks/classification.py"
    (code,) = Path("mlartifacts").rglob(pattern)
    before = code.read_text()
    code.write_text(before + OTHER_CODE)
    yield version, promote(load_params(), version=f"{NAME}/{version}")
    code.write_text(before)


def test_each_version_is_judged_by_the_code_that_travels_with_it(promoted):
    version, report = promoted
    assert (report.decision.gain.champion, report.decision.gain.challenger) == (0, 1)
    assert champion_number(NAME) == version
    assert tags_of(version)["gate.outcome"] == report.decision.outcome == "promoted"


def test_a_version_that_was_rolled_back_is_refused(promoted):
    version, _ = promoted
    roll_back(NAME, reason="too slow")
    assert champion_number(NAME) == 1
    (reason,) = promote(load_params()).decision.reasons
    assert reason.startswith(f"Version {version} was champion and was rolled back on 20")
    assert reason.endswith(f"vidpipe promote {version} --again")
    assert champion_number(NAME) == 1
