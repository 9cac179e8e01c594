"""Videos and classes with unusual names go through every stage, and each is shown on one line."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from mlflow import MlflowClient
from PIL import Image

from pipeline.common.files import read_csv
from pipeline.common.tables import printable, read_table_csv
from pipeline.video.writing import encode_mp4
from tests.pipeline.conftest import run_stages

pytestmark = pytest.mark.long

CLASSES = ("=a|b`[x](y) <i>&amp;", "\u202e#2 $x^$")
VIDEOS = (
    "line\nbreak.mp4",
    "\x85\u2028\t\r.mp4",
    "\x1b[31mred\x07.mp4",
    "\u202e4pm.mp4",
    "|pipe` <b>*.mp4",
    '"quoted",\\n.mp4',
)


@dataclass(frozen=True)
class Project:
    """The folder of the project and what its stages logged."""

    root: Path
    log: str


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    root = tmp_path_factory.mktemp("unusual_names")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (root / "videos" / name).mkdir(parents=True)
        for number, video in enumerate(VIDEOS):
            frames = rng.integers(0, 255, (4 + number, 16, 16, 3), dtype=np.uint8)
            (root / "videos" / name / video).write_bytes(encode_mp4(frames, fps=10))
            # Frames that look alike: the audit compares the two.
            (root / "videos" / name / f"copy of {video}").write_bytes(
                encode_mp4(frames[:-1], fps=10)
            )
    (root / "videos" / CLASSES[0] / "not a\nvideo\x1b[2J.mp4").write_bytes(b"text")
    log = run_stages(root, train={"epochs": 1}, decode={"max_bad_fraction": 0.5})
    return Project(root, log)


def test_a_log_line_has_no_control_character(project):
    (line,) = [line for line in project.log.split("\n") if "quarantined, see" in line]
    assert r"not a\nvideo\x1b[2J.mp4: " in line
    for line in project.log.split("\n"):
        assert "\u202e" not in line
        assert "\x1b" not in line


def test_the_tables_keep_the_names(project):
    names = {f"{target}/{video}" for target in CLASSES for video in VIDEOS}
    catalog = read_csv(project.root / "data/catalog/catalog.csv")
    assert names <= {row["video"] for row in catalog}
    index = read_csv(project.root / "data/frames/index.csv")
    assert {row["name"] for row in index} == {row["video"] for row in catalog}
    predictions = read_table_csv(project.root / "eval/tables/predictions.csv")
    assert {row["video"] for row in predictions} == {
        row["video"] for row in catalog if row["split"] == "test"
    }


def test_the_review_shows_each_name_on_one_line(project):
    page = (project.root / "eval/review/report.html").read_text(encoding="utf-8")
    assert all(character.isprintable() or character == "\n" for character in page)
    assert "<i>" not in page
    for picture in (project.root / "eval").rglob("*.png"):
        Image.open(picture).verify()
    shown = [row["video"] for row in read_table_csv(project.root / "eval/tables/predictions.csv")]
    assert any(str(escape(printable(name))) in page for name in shown)


def test_the_note_of_the_run_shows_the_classes_as_text(project):
    client = MlflowClient(f"sqlite:///{project.root}/mlflow.db")
    version = client.get_model_version_by_alias("video-classifier", "challenger")
    note = client.get_run(version.run_id).data.tags["mlflow.note.content"]
    assert r"=a\|b\`\[x\](y) \<i\>\&amp;" in note
    assert r"\\u202e\#2 $x^$" in note
    registration = json.loads((project.root / "eval/registration.json").read_text())
    assert registration["version"] == 1
