"""The predict command without its model: which videos are meant, and what is printed."""

import csv
import io
import json
from pathlib import Path

import pytest

from pipeline.base.errors import PipelineError
from pipeline.predict.formats import as_csv, as_json, as_table
from pipeline.predict.inputs import named_videos
from pipeline.predict.outcomes import Outcome, classify
from pipeline.serving.contract import PLAIN
from pipeline.tracking.loading import Prediction, Stretch

FILES = ("a.mp4", "my video.mp4", "it's.mkv", "x/b.MP4", "x/deep/c.avi", "x/.hidden/d.mp4", "t.txt")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.mp4"], ["a.mp4"]),
        (["my video.mp4"], ["my video.mp4"]),
        (["it's.mkv"], ["it's.mkv"]),
        (["a.mp4 x"], ["a.mp4", "x/b.MP4", "x/deep/c.avi"]),
        (["'my video.mp4' a.mp4"], ["my video.mp4", "a.mp4"]),
        (["*.mp4"], ["a.mp4", "my video.mp4"]),
        (["my*.mp4"], ["my video.mp4"]),
        (["x/**/*.avi"], ["x/deep/c.avi"]),
        (["x/*"], ["x/b.MP4", "x/deep/c.avi"]),
        (["*"], ["a.mp4", "it's.mkv", "my video.mp4", "t.txt", "x/b.MP4", "x/deep/c.avi"]),
        (["t.txt"], ["t.txt"]),  # who names a file means it
        (["none.mp4"], ["none.mp4"]),
        (["a.mp4", "*.mp4", "a.mp4"], ["a.mp4", "my video.mp4"]),
    ],
)
def test_names_folders_and_patterns(folder, names, expected):
    (folder / "empty").mkdir()  # a pattern may fit it
    assert [str(path) for path in named_videos(names)] == expected


def test_all_of_a_folder_but_what_is_hidden_or_no_video(folder):
    assert named_videos([str(folder)]) == [
        folder / name for name in ("a.mp4", "it's.mkv", "my video.mp4", "x/b.MP4", "x/deep/c.avi")
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no video given. Name at least one"),
        ([" "], "no video given. Name at least one"),
        (["*.flv"], r"\*\.flv: no video fits the pattern. Expected files with a suffix"),
        (["em*"], r"em\*: no video fits the pattern. Expected files with a suffix"),
        (["empty"], "empty: no video found. Expected files with a suffix"),
    ],
)
def test_names_that_mean_nothing(folder, names, message):
    (folder / "empty").mkdir()
    with pytest.raises(PipelineError, match=message):
        named_videos(names)


def prediction(**probabilities: float) -> Prediction:
    label = max(probabilities, key=lambda name: probabilities[name])
    return Prediction(label, probabilities[label], probabilities)


OUTCOMES = (
    Outcome(Path("long name.mp4"), prediction(a=0.1, bb=0.6, c=0.25, d=0.05)),
    Outcome(Path("b,ad.mp4"), error="not a video"),
    Outcome(Path("x.mp4"), prediction(a=0.7, bb=0.1, c=0.15, d=0.05)),
)


def test_the_table_has_the_most_probable_classes_first():
    assert as_table(OUTCOMES).splitlines() == [
        "long name.mp4  bb 0.6000  c 0.2500  a 0.1000   and 1 more",
        "b,ad.mp4       error: not a video",
        "x.mp4          a 0.7000   c 0.1500  bb 0.1000  and 1 more",
    ]
    assert as_table(OUTCOMES[2:]) == "x.mp4  a 0.7000  c 0.1500  bb 0.1000  d 0.0500\n"
    assert as_table(OUTCOMES[1:2]) == "b,ad.mp4  error: not a video\n"


def test_csv_has_the_columns_of_evaluate():
    rows = list(csv.DictReader(io.StringIO(as_csv(OUTCOMES))))
    assert rows[0] == {
        "video": "long name.mp4",
        "predicted": "bb",
        "probability": "0.600000000",
        "p_a": "0.100000000",
        "p_bb": "0.600000000",
        "p_c": "0.250000000",
        "p_d": "0.050000000",
        "error": "",
    }
    assert rows[1]["video"] == "b,ad.mp4"
    assert rows[1]["error"] == "not a video"
    assert rows[1]["p_a"] == ""


def test_json_says_what_a_server_says_or_the_error():
    rows = json.loads(as_json(OUTCOMES[1:]))
    assert rows == [
        {"video": "b,ad.mp4", "error": "not a video"},
        {
            "video": "x.mp4",
            "label": "a",
            "probability": 0.7,
            "probabilities": {"a": 0.7, "bb": 0.1, "c": 0.15, "d": 0.05},
        },
    ]


OVER_TIME = (
    Outcome(
        Path("x.mp4"),
        Prediction(
            "a",
            0.6,
            {"a": 0.6, "b": 0.4},
            (Stretch(0.0, 1.5, {"a": 1.0, "b": 0.0}), Stretch(1.5, 3.04, {"a": 0.2, "b": 0.8})),
        ),
    ),
    Outcome(Path("bad.mp4"), error="not a video"),
)


def test_the_parts_of_a_timeline_follow_their_video():
    assert as_table(OVER_TIME).splitlines() == [
        "x.mp4           a 0.6000  b 0.4000",
        "  0.0 to 1.5 s  a 1.0000  b 0.0000",
        "  1.5 to 3.0 s  b 0.8000  a 0.2000",
        "bad.mp4         error: not a video",
    ]
    assert as_csv(OVER_TIME).splitlines() == [
        "video,start_seconds,end_seconds,predicted,probability,p_a,p_b,error",
        "x.mp4,,,a,0.600000000,0.600000000,0.400000000,",
        "x.mp4,0.000000,1.500000,a,1.000000000,1.000000000,0.000000000,",
        "x.mp4,1.500000,3.040000,b,0.800000000,0.200000000,0.800000000,",
        "bad.mp4,,,,,,,not a video",
    ]
    (row, _) = json.loads(as_json(OVER_TIME))
    assert row["timeline"][1] == {
        "start_seconds": 1.5,
        "end_seconds": 3.04,
        "probabilities": {"a": 0.2, "b": 0.8},
    }


UNSURE = (
    Outcome(Path("a.mp4"), Prediction("a", 0.6, {"a": 0.6, "b": 0.4}, confident=False)),
    Outcome(Path("b.mp4"), Prediction("b", 0.9, {"a": 0.1, "b": 0.9}, confident=True)),
    Outcome(Path("c.mp4"), error="not a video"),
)


def test_what_a_model_is_unsure_of_is_marked():
    assert as_table(UNSURE).splitlines() == [
        "a.mp4  a 0.6000  b 0.4000  unsure",
        "b.mp4  b 0.9000  a 0.1000",
        "c.mp4  error: not a video",
    ]
    assert as_csv(UNSURE).splitlines() == [
        "video,predicted,probability,confident,p_a,p_b,error",
        "a.mp4,a,0.600000000,false,0.600000000,0.400000000,",
        "b.mp4,b,0.900000000,true,0.100000000,0.900000000,",
        "c.mp4,,,,,,not a video",
    ]
    assert [row.get("confident") for row in json.loads(as_json(UNSURE))] == [False, True, None]


class Picky:
    """Answers with an error for each bad video, as the registered model does."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def try_each(self, videos, options):
        assert options == PLAIN
        self.calls.append(len(videos))
        return [
            PipelineError("is bad") if video.name.startswith("bad") else prediction(a=0.5, b=0.5)
            for video in videos
        ]


def test_a_bad_video_costs_its_neighbours_nothing():
    videos = [Path(f"{number}.mp4") for number in range(17)]
    videos[3] = Path("bad one.mp4")
    picky = Picky()
    outcomes = list(classify(picky, videos))
    assert [outcome.video for outcome in outcomes] == videos
    assert [outcome.error for outcome in outcomes] == [
        "is bad" if n == 3 else "" for n in range(17)
    ]
    assert [outcome.prediction is None for outcome in outcomes] == [n == 3 for n in range(17)]
    assert picky.calls == [16, 1]
