"""`vidpipe predict`: the videos that names stand for, a model on disk, and the output text."""

import csv
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.cli.serving import shared_folder
from pipeline.common.errors import PipelineError
from pipeline.common.side_inputs import SideInput
from pipeline.serving.predict import (
    LocalModel,
    as_csv,
    as_json,
    as_table,
    given_side_inputs,
    named_videos,
)
from pipeline.serving.request import RequestOptions, ServingConfig
from pipeline.tasks.classification import Classification
from pipeline.video.writing import encode_mp4
from tests.brightness_model import brightness, write_model
from tests.conftest import numbered_frames

FILES = (
    "a.mp4", "my video.mp4", "it's $1.mkv", "[x].mp4", "x/b.MP4", "x/deep/c.avi",
    "x/.hidden/d.mp4", "t.txt",
)  # fmt: skip


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
        (["it's $1.mkv"], ["it's $1.mkv"]),
        (["[x].mp4"], ["[x].mp4"]),  # a file, although it looks like a pattern
        (["a.mp4", "x"], ["a.mp4", "x/b.MP4", "x/deep/c.avi"]),
        (["my*.mp4"], ["my video.mp4"]),
        (["x/**/*.avi"], ["x/deep/c.avi"]),
        (["x/*"], ["x/b.MP4", "x/deep/c.avi"]),
        (["t.txt"], ["t.txt"]),
        (["none.mp4"], ["none.mp4"]),
        (["a.mp4", "a*.mp4", "a.mp4"], ["a.mp4"]),
    ],
)
def test_a_name_is_a_file_a_folder_or_a_pattern(folder, names, expected):
    (folder / "empty").mkdir()  # a pattern may match a folder without videos
    assert [str(path) for path in named_videos(names)] == expected


def test_a_folder_of_numbered_pictures_is_one_video(folder):
    for name in ("clip/f_1.png", "clip/f_2.png", "photos/rex.jpg", "photos/ben.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    single = ["photos/ben.jpg", "photos/rex.jpg"]
    assert [str(path) for path in named_videos(["clip", "photos"])] == ["clip", *single]
    assert [str(path) for path in named_videos(["clip/*", "p*"])] == [
        "clip/f_1.png", "clip/f_2.png", *single
    ]  # fmt: skip
    assert folder / "clip" in named_videos([str(folder)])


def test_a_folder_stands_for_its_videos_without_hidden_and_other_files(folder):
    names = ("[x].mp4", "a.mp4", "it's $1.mkv", "my video.mp4", "x/b.MP4", "x/deep/c.avi")
    assert named_videos([str(folder)]) == [folder / name for name in names]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "No video given. Name at least one"),
        ([" "], "No video given. Name at least one"),
        (["*.flv"], r"\*\.flv: no video matches the pattern. Expected files with a suffix"),
        (["em*"], r"em\*: no video matches the pattern. Expected files with a suffix"),
        (["empty"], "empty: no video in this folder. Expected files with a suffix"),
    ],
)
def test_a_name_without_a_video_is_an_error(folder, names, message):
    (folder / "empty").mkdir()
    with pytest.raises(PipelineError, match=message):
        named_videos(names)


# A model on disk


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> LocalModel:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, abstain_below=0.9)
    return LocalModel(folder, ServingConfig())


def test_a_bad_video_does_not_affect_the_others(model, tmp_path):
    videos = [tmp_path / f"{number}.mp4" for number in range(18)]
    for video in videos:
        video.write_bytes(encode_mp4(numbered_frames(10), fps=10))
    videos[3].write_bytes(b"junk")
    videos[17].unlink()
    answers = list(model.predict(videos))
    assert [number for number, answer in enumerate(answers) if "error" in answer] == [3, 17]
    assert answers[3]["error"].startswith("not a video that can be opened")
    assert answers[17] == {"error": "cannot be read (No such file or directory)"}
    assert answers[0]["probabilities"]["light"] == pytest.approx(brightness([1, 3, 6, 8]), abs=2e-3)
    assert answers[0] == answers[16]
    assert answers[0]["confident"] is False


def test_a_name_that_is_too_long_is_a_video_that_cannot_be_read(model, tmp_path):
    (video,) = named_videos([str(tmp_path / f"{'x' * 300}.mp4")])
    (answer,) = model.predict([video])
    assert "File name too long" in answer["error"]


def test_pictures_are_predicted(model, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, frame in enumerate(numbered_frames(10)):
        cv2.imwrite(str(pictures / f"{number}.png"), frame)
    one, many = model.predict([pictures / "3.png", pictures])
    assert one["probabilities"]["light"] == pytest.approx(brightness([3]), abs=2e-3)
    assert many["probabilities"]["light"] == pytest.approx(brightness([1, 3, 6, 8]), abs=2e-3)


def test_the_clips_that_the_model_saw_can_be_shown(model, tmp_path):
    video = tmp_path / "a.mp4"
    video.write_bytes(encode_mp4(numbered_frames(10), fps=10))
    first, second = model.seen_clips(video, RequestOptions(clips=2))
    assert first.mask.all()
    assert second.frames.mean() == pytest.approx(255 * brightness([5, 6, 8, 9]), abs=1)
    (only,) = model.seen_clips(video)
    assert only.frames.mean() == pytest.approx(255 * brightness([1, 3, 6, 8]), abs=1)
    assert model.seen_clips(tmp_path / "none.mp4") == []


def test_a_folder_that_cannot_be_written_names_tmpdir(model, tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(encode_mp4(numbered_frames(2), fps=10))
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/tmp")
    with pytest.raises(PipelineError, match=r"Not a directory.*TMPDIR"):
        list(model.predict([tmp_path / "a.mp4"]))


# Output


def answer_of(task: Classification, *probabilities: float, **more: object) -> dict[str, object]:
    return {**task.answer(np.array(probabilities), top_k=0), **more}


FOUR = Classification(("a", "bb", "c", "d"), target_accuracy=0.95)
TWO = Classification(("a", "b"), target_accuracy=0.95)
VIDEOS = [Path("long name.mp4"), Path("b,ad.mp4"), Path("x.mp4")]
ANSWERS = [
    answer_of(FOUR, 0.1, 0.6, 0.25, 0.05),
    {"error": "not a video"},
    answer_of(FOUR, 0.7, 0.1, 0.15, 0.05),
]


def test_the_table_has_the_most_probable_classes_first():
    assert as_table(VIDEOS, ANSWERS, FOUR).splitlines() == [
        "long name.mp4  bb 0.6000  c 0.2500  a 0.1000   and 1 more",
        "b,ad.mp4       error: not a video",
        "x.mp4          a 0.7000   c 0.1500  bb 0.1000  and 1 more",
    ]
    assert as_table(VIDEOS[2:], ANSWERS[2:], FOUR) == (
        "x.mp4  a 0.7000  c 0.1500  bb 0.1000  d 0.0500\n"
    )
    assert as_table(VIDEOS[1:2], ANSWERS[1:2], FOUR) == "b,ad.mp4  error: not a video\n"


def test_a_name_does_not_break_its_line():
    names = ["a\nb.mp4", "a\x85b.mp4", "a\u2028b.mp4", "a\udcffb.mp4", "\x1b[1mb.mp4", "ü ☃.mp4"]
    videos = [Path(name) for name in names]
    answers = [answer_of(FOUR, 0.1, 0.6, 0.25, 0.05)] * 5 + [{"error": "two\nlines"}]
    lines = as_table(videos, answers, FOUR).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        r"a\nb.mp4", r"a\x85b.mp4", r"a\u2028b.mp4", r"a\xffb.mp4", r"\x1b[1mb.mp4", "ü ☃.mp4",
    ]  # fmt: skip
    assert lines[5].endswith(r"error: two\nlines")


def test_csv_has_the_columns_of_evaluate():
    rows = list(csv.DictReader(io.StringIO(as_csv(VIDEOS, ANSWERS, FOUR))))
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
    assert (rows[1]["video"], rows[1]["error"]) == ("b,ad.mp4", "not a video")
    assert rows[1]["p_a"] == ""


def test_csv_is_safe_to_open_in_a_spreadsheet():
    task = Classification(("+1", "=x"), target_accuracy=0.95)
    text = as_csv([Path("=cmd|' /C calc'!A0.mp4")], [answer_of(task, 0.75, 0.25)], task)
    assert text.splitlines()[1].startswith("'=cmd|' /C calc'!A0.mp4,'+1,0.75")


def test_json_has_the_answers_of_a_server():
    assert json.loads(as_json(VIDEOS[1:], ANSWERS[1:], FOUR)) == [
        {"video": "b,ad.mp4", "error": "not a video"},
        {
            "video": "x.mp4",
            "label": "a",
            "probability": 0.7,
            "probabilities": {"a": 0.7, "bb": 0.1, "c": 0.15, "d": 0.05},
        },
    ]


def test_the_segments_of_a_timeline_follow_their_video():
    timeline = [
        {"start_seconds": 0.0, "end_seconds": 1.5, "probabilities": {"a": 1.0, "b": 0.0}},
        {"start_seconds": 1.5, "end_seconds": 3.04, "probabilities": {"a": 0.2, "b": 0.8}},
    ]
    videos = [Path("x.mp4"), Path("bad.mp4")]
    answers = [answer_of(TWO, 0.6, 0.4, timeline=timeline), {"error": "not a video"}]
    assert as_table(videos, answers, TWO).splitlines() == [
        "x.mp4           a 0.6000  b 0.4000",
        "  0.0 to 1.5 s  a 1.0000  b 0.0000",
        "  1.5 to 3.0 s  b 0.8000  a 0.2000",
        "bad.mp4         error: not a video",
    ]
    assert as_csv(videos, answers, TWO).splitlines() == [
        "video,start_seconds,end_seconds,predicted,probability,p_a,p_b,error",
        "x.mp4,,,a,0.600000000,0.600000000,0.400000000,",
        "x.mp4,0.000000,1.500000,a,1.000000000,1.000000000,0.000000000,",
        "x.mp4,1.500000,3.040000,b,0.800000000,0.200000000,0.800000000,",
        "bad.mp4,,,,,,,not a video",
    ]
    assert json.loads(as_json(videos, answers, TWO))[0]["timeline"] == timeline


def test_an_answer_below_the_threshold_is_marked():
    videos = [Path("a.mp4"), Path("b.mp4"), Path("c.mp4")]
    answers = [
        answer_of(TWO, 0.6, 0.4, confident=False),
        answer_of(TWO, 0.1, 0.9, confident=True),
        {"error": "not a video"},
    ]
    assert as_table(videos, answers, TWO).splitlines() == [
        "a.mp4  a 0.6000  b 0.4000  unsure",
        "b.mp4  b 0.9000  a 0.1000",
        "c.mp4  error: not a video",
    ]
    assert as_csv(videos, answers, TWO).splitlines() == [
        "video,predicted,probability,p_a,p_b,confident,error",
        "a.mp4,a,0.600000000,0.600000000,0.400000000,false,",
        "b.mp4,b,0.900000000,0.100000000,0.900000000,true,",
        "c.mp4,,,,,,not a video",
    ]


def test_a_video_has_the_row_of_the_table_whose_path_ends_its_own(folder):
    table = Path("ages.csv")
    table.write_text("video,label,age\na.mp4,left,1\nx/b.MP4,right,2\nb.MP4,left,3\n")
    videos = [Path("a.mp4"), folder / "x/b.MP4", Path("other.mp4")]
    given = given_side_inputs(videos, [], table)
    assert [row.get("age") for row in given] == ["1", "2", None]
    given = given_side_inputs(videos, ["age=9", "site=a=b"], table)
    assert [(row["age"], row["site"]) for row in given] == [("9", "a=b")] * 3


@pytest.mark.usefixtures("folder")
def test_several_rows_of_a_video_give_the_cells_that_are_equal():
    table = Path("rows.csv")
    table.write_text("video,label,age,site\na.mp4,x,5,b\na.mp4,y,5,c\na.mp4,z,5,b\n")
    assert given_side_inputs([Path("a.mp4")], [], table) == [{"age": "5"}]


@pytest.mark.parametrize(
    ("values", "content", "message"),
    [
        (["age"], "video\n", "--side: expected COLUMN=VALUE such as age=34. Received: age"),
        ([], "file,age\na.mp4,1\n", "t.csv, line 1: expected a column video. Received: file,age"),
        (
            [],
            "video;age\na.mp4;1\n",
            "t.csv, line 1: the cells are separated by ';'. Expected c",
        ),
        ([], "", "t.csv, line 1: expected a column video. Received: an empty line. Add it"),
        ([], "Video,age\n", "t.csv, line 1: unknown column 'Video'. Expected 'video', which"),
        ([], "video,age,age\n", "t.csv, line 1: expected each column once. Received several"),
        ([], "video,age\na.mp4,1,2\n", "t.csv, line 2: expected 2 cells, as in line 1"),
        ([], "video,age\n,\n", "t.csv, line 2: the column video is empty. Name the file."),
        ([], None, "--side-table: expected a csv file in UTF-8. Received: t.csv"),
    ],
)
def test_side_inputs_that_cannot_be_read_are_named(folder, values, content, message):
    table = Path("t.csv")
    if content is not None:
        table.write_text(content)
    with pytest.raises(PipelineError, match=message):
        given_side_inputs([folder / "a.mp4"], values, table)


def test_a_model_that_reads_side_inputs_names_the_missing_one(folder, tmp_path):
    write_model(tmp_path, side_inputs=(SideInput("age", "number"),))
    model = LocalModel(tmp_path, ServingConfig())
    with pytest.raises(
        PipelineError, match=r"a\.mp4: the side input age is missing.*--side COLUMN"
    ):
        list(model.predict([folder / "a.mp4"], given=[{}]))
    (answer,) = model.predict([Path("none.mp4")], given=[{}])
    assert "No such file" in answer["error"]
    (answer,) = model.predict([Path("a.mp4")], given=[{"age": "3"}])
    assert answer["error"] == "the file is empty"


HOLD_A_FOLDER = """
import sys, time
from pathlib import Path
from pipeline.cli.serving import shared_folder
with shared_folder(Path(sys.argv[1])) as folder:
    (folder / "model.keras").touch()
    print(folder.name, flush=True)
    time.sleep(60)
"""


def test_the_folder_of_a_killed_prediction_is_removed_by_the_next_one(tmp_path):
    command = [sys.executable, "-c", HOLD_A_FOLDER, str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        for _ in range(2)
    ]
    killed, _ = processes
    names = [process.stdout.readline().strip() for process in processes]
    try:
        killed.kill()
        killed.wait()
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
        with shared_folder(tmp_path) as own:
            assert sorted(tmp_path.iterdir()) == sorted([own, tmp_path / names[1]])
    finally:
        for process in processes:
            process.kill()
            process.wait()
    with shared_folder(tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own]
    assert list(tmp_path.iterdir()) == []
