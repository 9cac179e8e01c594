"""The checks of ``vidpipe check``, which run before any stage."""

from pathlib import Path

import pytest
import yaml

from pipeline.common.errors import PipelineError
from pipeline.retraining.checks import check_settings

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check the committed params.yaml with changed keys of one section."""
    monkeypatch.chdir(tmp_path)

    def check(section: str = "data", **changes: object) -> None:
        content = yaml.safe_load(PARAMS.read_text())
        part = content
        for name in section.split("."):
            part = part[name]
        part.update(changes)
        Path("params.yaml").write_text(yaml.safe_dump(content))
        check_settings()

    return check


def test_the_committed_params_pass_although_the_demo_is_not_built(check):
    check()


def test_a_folder_of_videos_and_its_labels_pass(check, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "labels.csv").touch()
    check(videos="clips")
    check(videos="clips", labels="../labels.csv")


def test_a_linked_folder_that_dvc_does_not_see_is_refused(check, tmp_path):
    (tmp_path / "clips/cat").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    check(videos="clips")
    (tmp_path / "clips/cat/more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PipelineError, match=r"^clips/cat/more: .* a symbolic link to a folder"):
        check(videos="clips")


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("data", {"videos": "clips"}, r"data\.videos: no such folder\. Received: clips"),
        (
            "data",
            {"videos": ".", "labels": "classes.csv"},
            r"data\.labels: no such file\. Received: classes\.csv",
        ),
        (
            "promote",
            {"metric": "speed"},
            r"promote\.metric must be primary or one of .* Received: speed",
        ),
        ("promote", {"limits": {"beauty": 0.5}}, r"promote\.limits\.beauty"),
        ("train", {"batch_size": 0}, r"train\.batch_size: .* Received: 0"),
        (
            "model.cnn",
            {"trainable": 9},
            r"model\.cnn\.trainable: .*at most 4.* Received: 9",
        ),
        (
            "model.cnn",
            {"backbone": "InceptionV3"},
            r"(?s)InceptionV3 .*75x75.* Received: 64 x 64",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_refused(check, section, changes, message):
    with pytest.raises(PipelineError, match=message):
        check(section, **changes)
