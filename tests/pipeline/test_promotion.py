"""From the first champion to a rollback, on a real store, with models that look at brightness."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from pipeline import promote, rollback
from pipeline.base.files import read_json, sha256_of_file
from pipeline.catalog.records import CatalogEntry, write_catalog
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.sampling import ClipSpec
from pipeline.model.saving import save_classifier
from pipeline.promotion.champions import champion_number, read_records
from pipeline.tracking.lineage import log_catalog
from pipeline.tracking.registry import register_model
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.store import connect
from pipeline.video.reading import FrameSpec
from pipeline.video.source import Limits
from pipeline.video.writing import encode_mp4
from tests.pipeline.conftest import REPOSITORY, merge

NAME = "test-classifier"
CLASSES = ("bright", "dark")
LEVELS = {"bright": 180, "dark": 70}
TEST_VIDEOS = 12
CATALOG = Path("data/catalog/catalog.csv")
PREPROCESSING = Preprocessing(
    frames=FrameSpec(fps=5, width=16, height=16, fit="crop"),
    clip=ClipSpec(frames=4, sampling="uniform"),
    limits=Limits(max_seconds=60, max_pixels=10**6),
)
RULES = {
    "register": {"name": NAME},
    "data": {"videos": "videos", "layout": "csv", "labels": "labels.csv"},
    "evaluate": {"bootstrap_samples": 100},
    "promote": {"metric": "accuracy", "max_calibration_error": 0.3, "max_latency_ms": 60000},
}
# How the code of a version is changed after it was registered: it swaps the classes.
OTHER_CODE = """

_read = ClipsMetadata.read


def _swapped(path):
    known = _read(path)
    object.__setattr__(known, "class_names", known.class_names[::-1])
    return known


ClipsMetadata.read = staticmethod(_swapped)
"""


def film(level: int, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(-30, 31, (8, 32, 32, 3))
    return encode_mp4((level + noise).astype(np.uint8), fps=10)


def entries() -> list[CatalogEntry]:
    """Twelve test videos, of which one is a part and one more cannot be read."""
    found = []
    for number in range(TEST_VIDEOS):
        label = CLASSES[number % 2]
        path = Path(f"videos/{number:02d}.mp4")
        path.write_bytes(film(LEVELS[label], number))
        start = 0.2 if number == 5 else None
        sha256 = sha256_of_file(path)
        found.append(CatalogEntry(path.name, label, "test", path.stem, start, None, sha256))
    junk = Path("videos/junk.mp4")
    junk.write_bytes(b"junk")
    junk_entry = CatalogEntry(junk.name, "dark", "test", "", None, None, sha256_of_file(junk))
    return [*found, junk_entry]


def save_model(sharpness: float) -> None:
    """Says bright for pixels above the middle; with a sharpness below 0, dark."""
    frames = keras.Input((4, 16, 16, 3), dtype="uint8", name="frames")
    mask = keras.Input((4,), dtype="bool", name="mask")
    light = keras.layers.GlobalAveragePooling3D()(keras.layers.Rescaling(1 / 255)(frames))
    middle = keras.layers.Dense(2, activation="softmax")
    model = keras.Model({"frames": frames, "mask": mask}, middle(light))
    kernel = np.array([[sharpness / 3, 0]] * 3)
    middle.set_weights([kernel, np.array([-sharpness / 2, 0])])
    save_classifier(model, Path("classifier.keras"))
    ClipsMetadata(CLASSES, PREPROCESSING).write(Path("classifier.json"))


def register(sharpness: float, trained_on: list[CatalogEntry]) -> int:
    """Register a model that had these videos in its training set."""
    save_model(sharpness)
    sha256 = sha256_of_file(Path("classifier.keras"))
    run_id = ensure_run(sha256, params={}, dataset="data", history=[])
    write_catalog(Path("of_run.csv"), [replace(one, split="train") for one in trained_on])
    log_catalog(run_id, Path("of_run.csv"))
    return register_model(
        run_id,
        name=NAME,
        model_sha256=sha256,
        model_path=Path("classifier.keras"),
        metadata_path=Path("classifier.json"),
        example_video=film(100, 0),
        tags={"git.commit": "c0ffee"},
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with params, a catalog and videos; its store is the default one."""
    folder = tmp_path_factory.mktemp("checkout")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    merge(params, RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("params.yaml").write_text(yaml.safe_dump(params))
        Path("videos").mkdir()
        CATALOG.parent.mkdir(parents=True)
        write_catalog(CATALOG, entries())
        yield folder


def in_checkout() -> dict[str, str]:
    """Return the environment in which commands find this Python and this code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)}


def run_promote(*arguments: str) -> int:
    """Run the command in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["promote", *arguments])
        try:
            promote.main()
        except SystemExit as stopped:
            return stopped.code
    return 0


def tags_of(version: int) -> dict[str, str]:
    return connect().get_model_version(NAME, str(version)).tags


@pytest.fixture(scope="module")
def first(checkout):
    """Two promotions of the first version at once, each a process of its own."""
    version = register(40, trained_on=entries()[:2])
    command = [sys.executable, "-m", "pipeline.promote"]
    both = [
        subprocess.Popen(
            command,
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
    code = run_promote()
    return (
        version,
        code,
        read_json(Path("eval/promotion.json")),
        Path("eval/promotion.md").read_text(),
    )


def test_a_poisoned_challenger_is_refused_and_the_champion_stays(refused):
    version, code, told, _ = refused
    assert code == 3
    assert champion_number(NAME) == 1
    assert told["outcome"] == tags_of(version)["gate.outcome"] == "refused"
    assert told["gain"]["champion"] == 1
    assert told["gain"]["challenger"] == 0
    assert told["reasons"][0] == "Recall is below 0.5 for bright 0.000, dark 0.000."
    assert tags_of(version)["gate.reasons"].startswith(told["reasons"][0])


def test_what_the_champion_has_seen_or_cannot_read_is_left_out_and_counted(refused):
    told = refused[2]
    assert told["gain"]["videos"] == TEST_VIDEOS - 2
    assert "05.mp4#t=0.2" in told["gain"]["broken"]
    assert told["left_out"]["1"] == {"seen": 2, "unreadable": 1}
    assert told["notes"] == [
        "2 test videos are left out: the champion had them in its training or validation set.",
        "1 test video is left out: the champion cannot read them, such as junk.mp4: not a video "
        "that can be opened (Invalid data found when processing input)",
    ]


def test_the_report_names_both_and_every_check(refused):
    text = refused[3]
    assert text.startswith(f"# {NAME} version 2 is refused; version 1 stays champion.\n")
    assert "| **refused** | class floor | Recall is below 0.5 for bright 0.000" in text
    assert "| passed | latency | A video takes " in text
    assert "| bright | 1.000 | 0.000 |" in text


@pytest.fixture(scope="module")
def promoted(refused):  # noqa: ARG001
    """A challenger against a champion whose own code swaps the classes."""
    version = register(50, trained_on=[])
    store = Path("mlartifacts")
    source = connect().get_model_version(NAME, "1").source.removeprefix("models:/")
    (code,) = store.rglob(f"{source}/artifacts/code/pipeline/clips/metadata.py")
    before = code.read_text()
    code.write_text(before + OTHER_CODE)
    yield version, run_promote(), read_json(Path("eval/promotion.json"))
    code.write_text(before)


def test_each_is_judged_by_the_code_that_travels_with_it(promoted):
    version, code, told = promoted
    assert code == 0
    assert (told["gain"]["champion"], told["gain"]["challenger"]) == (0, 1)
    assert champion_number(NAME) == version
    assert tags_of(version)["gate.outcome"] == told["outcome"] == "promoted"


def test_a_version_that_was_rolled_back_comes_back_only_when_told_to(promoted, monkeypatch):
    version = promoted[0]
    monkeypatch.setattr(sys, "argv", ["rollback", "--reason", "too slow"])
    rollback.main()
    assert champion_number(NAME) == 1
    assert run_promote() == 3
    (reason,) = read_json(Path("eval/promotion.json"))["reasons"]
    assert reason.startswith(f"Version {version} was champion and was rolled back on 20")
    assert champion_number(NAME) == 1
    make = ["make", "--silent", "--file", REPOSITORY / "Makefile", "INSTALLED="]
    remedy = reason.partition("all the same: make ")[2].split()
    done = subprocess.run(
        [*make, *remedy], env=in_checkout(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{NAME} version {version} is promoted" in done.stdout
    assert champion_number(NAME) == version
