"""Values of params.yaml are replaced in its text; comments and the other lines stay."""

from pathlib import Path

import pytest
import yaml

from pipeline.common.errors import PipelineError
from pipeline.common.params_text import set_values

VALUES = [
    "/data/My videos (2)",
    "a#b",
    "it's",
    'a "quoted" name',
    "",
    "x: y",
    "- a",
    3,
    True,
    "é 漢",
]


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text("data:\n  videos: old # of videos\n  labels: ''\nlast:\n  key: [1, 2]\n")
    return path


@pytest.mark.parametrize("first", VALUES, ids=str)
def test_a_value_is_replaced_by_any_other_one(path, first):
    for second in VALUES:
        set_values(path, {"data.videos": first})
        set_values(path, {"data.videos": second, "data.labels": first})
        assert yaml.safe_load(path.read_text()) == {
            "data": {"videos": second, "labels": first},
            "last": {"key": [1, 2]},
        }
        assert " # of videos\n" in path.read_text()


@pytest.mark.parametrize("value", ["|\n    text", "\n    - a\n    - b"])
def test_a_value_on_several_lines_is_refused_and_the_file_stays(path, value):
    text = f"data:\n  videos: {value}\n  labels: ''\n"
    path.write_text(text)
    with pytest.raises(PipelineError, match=r"data\.videos"):
        set_values(path, {"data.videos": "new"})
    assert path.read_text() == text


def test_letters_beyond_ascii_stay_readable(path):
    set_values(path, {"data.videos": "/data/mes vidéos/漢字"})
    assert "videos: /data/mes vidéos/漢字" in path.read_text()
