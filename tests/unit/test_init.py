"""``vidpipe init``: what it finds in a folder, and the settings that it writes."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.common.errors import PipelineError
from pipeline.common.params_text import set_values
from pipeline.params import load_params
from pipeline.setup.init import initialise
from pipeline.tasks.targets import targets_of
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames

PARAMS = Path("params.yaml").absolute()


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """The current folder of the test, with the params.yaml of this repository."""
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(PARAMS, root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def videos(tmp_path):
    return tmp_path / "My videos (2)"


def add(path: Path, *, frames: int = 20, fps: float = 10, height: int = 96, width: int = 128):
    """Add a video of its own: a box that players skip holds its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = bytes(path)
    content = encode_mp4(numbered_frames(frames, height=height, width=width) // 4, fps=fps)
    path.write_bytes(content + (len(name) + 8).to_bytes(4) + b"free" + name)


def class_folders(folder: Path, *, per_class: int = 4, **video) -> None:
    for label in ("clap", "wave"):
        for number in range(per_class):
            add(folder / label / f"{number}.mp4", **video)


def init(folder: Path, *, task_type: str | None = None, dvc_add: bool = False) -> str:
    return "\n".join(initialise(folder, task_type=task_type, dvc_add=dvc_add).lines)


def to_fix(folder: Path) -> str:
    """Return what must be fixed; params.yaml is written in any case."""
    result = initialise(folder, task_type=None, dvc_add=False)
    output = "\n".join(result.lines)
    assert load_params().data.videos == str(folder)
    assert not result.is_trainable
    assert output.endswith(f"Then again: vidpipe init '{folder}'")
    assert "Next: vidpipe repro" not in output
    return output.partition("To fix:\n")[2].partition("\n\n")[0]


def test_class_folders_are_found_and_the_comments_of_params_stay(project, videos):
    class_folders(videos)
    before = PARAMS.read_text().splitlines()
    output = init(videos)
    assert "classes      clap 4, wave 4" in output
    assert "128 x 96 (8)" in output
    assert "durations    2.0 s to 2.0 s" in output
    params = load_params()
    assert params.data.videos == str(videos)
    assert params.task.type == "classification"
    assert params.register_.name == "my-videos-2"
    after = (project / "params.yaml").read_text().splitlines()
    assert [line.partition("#")[2] for line in after] == [line.partition("#")[2] for line in before]
    assert "params.yaml fits already." in init(videos)


def test_another_folder_can_follow(videos, tmp_path):
    class_folders(videos)
    (videos / "my annotations.csv").write_text("video,label\nclap/0.mp4,a\nwave/0.mp4,b\n")
    init(videos)
    class_folders(tmp_path / "other")
    init(tmp_path / "other")
    data = load_params().data
    assert (data.videos, data.labels) == (str(tmp_path / "other"), "")


def test_a_second_call_keeps_side_inputs_and_the_name_of_the_model(project, videos):
    class_folders(videos)
    init(videos)
    set_values(
        project / "params.yaml", {"data.side_inputs": {"age": "number"}, "register.name": "mine"}
    )
    (videos / "labels.csv").write_text("video,label,age\nclap/0.mp4,a,3\nwave/0.mp4,b,4\n")
    init(videos)
    params = load_params()
    assert params.data.side_inputs == {"age": "number"}
    assert params.register_.name == "mine"


def test_the_name_of_the_model_is_that_of_the_folder_in_ascii(tmp_path):
    class_folders(tmp_path / "Mes vidéos")
    init(tmp_path / "Mes vidéos")
    assert load_params().register_.name == "mes-videos"


def test_a_folder_of_the_project_is_named_relative_to_it(project):
    class_folders(project / "data/mine")
    init(project / "data/mine")
    assert load_params().data.videos == "data/mine"


@pytest.mark.parametrize(
    ("table", "task"),
    [
        ("video,label\na.mp4,x\nb.mp4,y\n", "classification"),
        ("video,labels\na.mp4,x|y\nb.mp4,\n", "multilabel"),
        ("video,value\na.mp4,1\nb.mp4,2.5\n", "regression"),
        ("video,caption\na.mp4,a dog runs\nb.mp4,a cat\n", "caption"),
        (
            "video,label,start_seconds,end_seconds\na.mp4,x,0,1\na.mp4,y,1,2\nb.mp4,x,0,1\n",
            "frames",
        ),
        (
            "video,label,start_seconds,end_seconds\na.mp4,x,0,0.5\na.mp4,y,1,2\nb.mp4,x,0,1\n",
            "classification",
        ),
    ],
)
@pytest.mark.parametrize("name", ["labels.csv", "my annotations.csv"])
def test_the_columns_of_the_table_tell_the_task(videos, table, task, name):
    for video in ("a.mp4", "b.mp4"):
        add(videos / video)
    (videos / name).write_text(table)
    (videos / "notes.csv").write_text("who,when\n")
    init(videos)
    params = load_params()
    # Other tests register a task with the columns of regression.
    assert targets_of(params.task.type).columns == targets_of(task).columns
    assert params.data.labels == ("" if name == "labels.csv" else name)


def test_two_tables_are_an_error_that_names_both(videos):
    class_folders(videos)
    for name in ("a.csv", "b.csv"):
        (videos / name).write_text("video,label\n")
    with pytest.raises(PipelineError, match=r"Received: a\.csv, b\.csv\. Choose one with"):
        init(videos)


def test_of_two_tables_the_task_chooses_the_one_with_its_columns(videos):
    class_folders(videos)
    rows = [path.relative_to(videos).as_posix() for path in sorted(videos.rglob("*.mp4"))]
    for name, column in (("a", "label"), ("b", "labels")):
        cells = [f"{row},{row.split('/')[0]}" for row in rows]
        (videos / f"{name}.csv").write_text("\n".join([f"video,{column}", *cells]))
    init(videos, task_type="multilabel")
    assert load_params().data.labels == "b.csv"
    text = (videos / "b.csv").read_text()
    (videos / "b.csv").write_text(text.replace("video,labels", "video,tags"))
    with pytest.raises(PipelineError, match=r"b\.csv, line 1: .* Rename tags to labels\."):
        init(videos, task_type="multilabel")


def test_an_unknown_table_is_an_error_that_lists_the_columns_of_the_tasks(project, videos):
    add(videos / "a.mp4")
    (videos / "labels.csv").write_text("video,category\na.mp4,x\n")
    with pytest.raises(PipelineError, match=r"labels\.csv, line 1: .*caption.*label.*category"):
        init(videos)
    assert (project / "params.yaml").read_text() == PARAMS.read_text()


@pytest.mark.parametrize("name", ["labels.csv", "annotations.csv"])
@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        (
            "video;label\na.mp4;x\n",
            "utf-8",
            r"line 1: the cells are separated by ';'\. Expected com",
        ),
        ("video\tlabel\na.mp4\tx\n", "utf-8", "line 1: the cells are separated by tabs"),
        ("video,label\na.mp4,x\n", "utf-16", r"Received: UTF-16, .* Save the file as UTF-8\."),
        ("video,label\na.mp4,x\n", "utf-16-le", r"Received: UTF-16, .* Save the file as UTF-8\."),
        ("video,label\na.mp4,é\n", "latin-1", r"line 2: .* the byte 0xe9, as in Latin-1"),
        (
            "Video,Label\na.mp4,x\n",
            "utf-8",
            r"line 1: unknown columns 'Video', 'Label'\. Expected "
            r"'video', 'label', which differ only in case.* names are lower case",
        ),
        ("clip,Label,video\na.mp4,x,a.mp4\n", "utf-8", "unknown column 'Label'. Expected 'label'"),
        ("video,Class\na.mp4,x\n", "utf-8", r"Received: video,Class\. Rename Class to label\."),
    ],
)
def test_the_fault_of_a_table_is_named(videos, name, text, encoding, expected):
    add(videos / "a.mp4")
    (videos / name).write_text(text, encoding=encoding)
    with pytest.raises(PipelineError, match=rf"{name}.*{expected}"):
        init(videos)


@pytest.mark.parametrize("header", ["path,class", "File Name,label"])
def test_a_table_with_other_names_of_columns_is_recognised(videos, header):
    add(videos / "a.mp4")
    (videos / "annotations.csv").write_text(f"{header}\na.mp4,x\n")
    with pytest.raises(
        PipelineError, match=rf"annotations\.csv, line 1: .*Rename {header.split(',')[0]} to video"
    ):
        init(videos)


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        ({}, {"fps": 10, "frames": 20, "width": 64, "fit": "crop"}),
        ({"frames": 12, "fps": 30}, {"fps": 20, "frames": 8}),  # 0.4 s
        ({"frames": 5, "fps": 1}, {"fps": 1, "frames": 5}),
        ({"height": 48, "width": 48}, {"width": 48}),
        ({"height": 64, "width": 192}, {"fit": "letterbox"}),
    ],
)
def test_rate_length_and_size_follow_the_videos(videos, video, expected):
    class_folders(videos, **video)
    init(videos)
    params = load_params()
    settings = {**params.decode.model_dump(), **params.extract.model_dump()}
    assert {key: settings[key] for key in expected} == expected


def test_a_longer_video_raises_the_limit(project, videos):
    set_values(project / "params.yaml", {"decode.max_seconds": 1})
    class_folders(videos)
    init(videos)
    assert load_params().decode.max_seconds == 600


def test_the_rate_of_long_videos_is_lower_unless_every_frame_is_used(videos):
    videos.mkdir()
    for name in ("a.mp4", "b.mp4"):  # 40 s
        (videos / name).write_bytes(encode_mp4(np.zeros((400, 32, 32, 3), np.uint8), fps=10))
    (videos / "labels.csv").write_text(
        "video,label,start_seconds,end_seconds\na.mp4,x,0,30\na.mp4,y,30,40\nb.mp4,x,0,40\n"
    )
    init(videos)
    assert load_params().decode.fps == 10
    (videos / "labels.csv").write_text("video,label\na.mp4,x\nb.mp4,y\n")
    init(videos)
    assert load_params().decode.fps == 7.5


def test_an_error_of_the_table_is_shown_beside_files_of_a_known_data_set(videos):
    add(videos / "a.mp4")
    (videos / "labels.csv").write_text("video,label\nmissing.mp4,x\n")
    (videos / "metadata.csv").write_text("file_name\na.mp4\n")
    with pytest.raises(PipelineError, match=r"labels\.csv, line 2: video 'missing\.mp4'"):
        init(videos)


def test_pictures_get_a_model_without_time(videos):
    for label in ("cat", "dog"):
        for name in ("a", "b", "c"):
            (videos / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((80, 80, 3), 99, np.uint8)).save(videos / label / f"{name}.png")
    init(videos)
    params = load_params()
    assert params.extract.frames == 1
    assert params.model.streams == ["frames"]


def test_what_needs_attention_is_listed(videos):
    class_folders(videos, per_class=2)
    add(videos / "rare/1.mp4")
    (videos / "wave/broken.mp4").write_bytes(b"not a video")
    output = init(videos)
    assert "wave/broken.mp4: " in output
    assert "too few groups of videos of class 'clap' (2), class 'rare' (1)" in output
    assert "no groups: " in output
    assert "vidpipe labels" in output


def test_one_class_is_to_fix(videos):
    for number in range(3):
        add(videos / f"only/{number}.mp4")
    assert to_fix(videos) == "  - there is one class, 'only': a classifier needs at least two"
    assert CliRunner().invoke(app, ["init", str(videos)]).exit_code == 1


def test_one_folder_around_the_class_folders_is_named(videos):
    class_folders(videos / "dataset")
    assert f"If clap, wave are classes or splits, name the folder {videos}/dataset" in to_fix(
        videos
    )


def test_folders_of_splits_are_not_classes(videos):
    class_folders(videos / "Train")
    class_folders(videos / "test", per_class=2)
    output = init(videos)
    assert "classes      clap 6, wave 6" in output
    assert "splits       train 8, test 4, as given" in output
    assert "Next: vidpipe repro " in output


def test_folders_of_splits_below_the_classes_are_named(videos):
    for label in ("clap", "wave"):
        for number, split in enumerate(("train", "train", "test")):
            add(videos / label / split / f"{number}.mp4")
    assert "the folders test, train below the classes give no splits" in init(videos)


def test_too_few_videos_of_a_class_are_to_fix(videos):
    class_folders(videos, per_class=3)
    add(videos / "rare/1.mp4")
    assert "too few groups of videos of class 'rare' (1)" in to_fix(videos)


def test_unreadable_videos_do_not_count(videos):
    class_folders(videos, per_class=3)
    (videos / "wave/0.mp4").write_bytes(b"not a video")
    assert "1 of 6 videos cannot be read, more than decode.max_bad_fraction" in to_fix(videos)
    assert "too few groups of videos of class 'wave' (2)" in to_fix(videos)


def test_one_video_in_two_classes_is_to_fix(videos):
    class_folders(videos)
    shutil.copy(videos / "clap/0.mp4", videos / "wave/copy.mp4")
    assert "have the same content but different targets" in to_fix(videos)


def test_given_splits_that_lack_a_class_are_to_fix(videos):
    class_folders(videos)
    rows = [f"{label}/{n}.mp4,{label},{'test' if n == 3 and label == 'clap' else 'train'}\n"
            for label in ("clap", "wave") for n in range(4)]  # fmt: skip
    (videos / "labels.csv").write_text("video,label,split\n" + "".join(rows))
    assert "no usable video of class 'wave' in test" in to_fix(videos)


def test_labels_with_another_separator_are_to_look_at(videos):
    for number in range(6):
        add(videos / f"{number}.mp4")
    cells = ["run;jump", "run", "jump"] * 2
    rows = [f"{number}.mp4,{cell}\n" for number, cell in enumerate(cells)]
    (videos / "labels.csv").write_text("video,labels\n" + "".join(rows))
    assert "'run;jump' is one label: the separator of labels is |" in init(videos)


def test_classes_that_differ_only_in_case_are_to_look_at(videos):
    for folder in ("Fight ", "fight"):
        for number in range(3):
            add(videos / folder / f"{number}.mp4")
    output = init(videos)
    assert "To look at:\n  - 'Fight' and 'fight' differ only in case, spaces, hyphens" in output
    assert "Next: vidpipe repro " in output


def test_similar_names_come_first_if_their_classes_are_too_small(videos):
    for folder, count in (("Fight", 2), ("fight", 2), ("calm", 4)):
        for number in range(count):
            add(videos / folder / f"{number}.mp4")
    first, second = to_fix(videos).splitlines()
    assert "'Fight' and 'fight' differ only in case" in first
    assert "too few groups" in second


def segments(videos: Path, *, n_groups: int) -> None:
    """One video with a table of six intervals of two classes."""
    add(videos / "long.mp4", frames=24)
    rows = [f"long.mp4,{n * 0.4},{(n + 1) * 0.4},{'ab'[n % 2]},g{n % n_groups}\n" for n in range(6)]
    table = "video,start_seconds,end_seconds,label,group\n" + "".join(rows)
    (videos / "labels.csv").write_text(table)


def test_segments_of_one_video_are_one_group_as_in_the_catalog(videos):
    segments(videos, n_groups=6)
    result = initialise(videos, task_type="classification", dvc_add=False)
    assert not result.is_trainable
    assert any("segments of one file are one group" in line for line in result.lines)


def test_a_guess_of_labelled_frames_names_the_other_task(videos):
    segments(videos, n_groups=1)
    assert "if each interval is one example, add --task classification" in init(videos)


def test_a_folder_without_a_readable_video_is_an_error(videos):
    (videos / "a").mkdir(parents=True)
    (videos / "a/1.mp4").write_bytes(b"text")
    with pytest.raises(PipelineError, match=r"no video can be read\. The first one, a/1\.mp4: "):
        init(videos)


@pytest.mark.parametrize("name", ["missing", "file.mp4"])
def test_a_path_that_is_not_a_folder_is_an_error(videos, name):
    videos.mkdir()
    (videos / "file.mp4").touch()
    with pytest.raises(PipelineError, match=r"data\.videos: expected a folder"):
        init(videos / name)


def test_the_folder_is_tracked_with_dvc_if_asked(project):
    class_folders(project / "data/mine")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    init(project / "data/mine", dvc_add=True)
    assert (project / "data/mine.dvc").is_file()


def test_a_folder_elsewhere_cannot_be_tracked(project, videos):
    class_folders(videos)
    with pytest.raises(PipelineError, match="--dvc-add: expected a folder in this repository"):
        init(videos, dvc_add=True)
    assert (project / "params.yaml").read_text() == PARAMS.read_text()


def test_real_clips_are_described(real_videos):
    output = init(real_videos / "survfight")
    assert "fight 150, noFight 150" in output
    assert "durations    1.0 s to 4.4 s" in output
    assert load_params().extract.frames == 20
