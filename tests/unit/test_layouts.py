import os
from pathlib import Path

import pytest

from pipeline.base.errors import PipelineError
from pipeline.catalog.layouts import read_folders, read_table
from pipeline.catalog.records import LabelledVideo


@pytest.fixture
def videos(tmp_path):
    """A folder of empty files in the shape of a data set; layouts never look inside a video."""
    folder = tmp_path / "videos"
    for name in ("cat/one.mp4", "cat/deep/two.MKV", "dog/three.avi", "dog/notes.txt", "dog/.x.mp4"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def table(tmp_path):
    def write(text: str, encoding: str = "utf-8"):
        path = tmp_path / "labels.csv"
        path.write_text(text, encoding=encoding)
        return path

    return write


class TestFolders:
    def test_the_first_folder_is_the_class_at_any_depth(self, videos):
        assert read_folders(videos) == [
            LabelledVideo("cat/deep/two.MKV", "cat"),
            LabelledVideo("cat/one.mp4", "cat"),
            LabelledVideo("dog/three.avi", "dog"),
        ]

    def test_files_that_are_no_videos_are_counted_in_the_log(self, videos, caplog):
        read_folders(videos)
        assert f"{videos}: left out 1 files whose suffix is not a video's" in caplog.text

    def test_a_missing_folder_is_named(self, tmp_path):
        with pytest.raises(PipelineError) as error:
            read_folders(tmp_path / "nowhere")
        assert str(error.value) == (
            f"{tmp_path}/nowhere: data.videos must be a folder of videos, found nothing there."
        )

    def test_a_folder_without_videos_says_what_was_expected(self, tmp_path):
        (tmp_path / "readme.md").touch()
        with pytest.raises(PipelineError, match=r"no video found\. Expected .*found 1 other files"):
            read_folders(tmp_path)

    def test_a_video_beside_the_class_folders_is_refused(self, videos):
        (videos / "loose.mp4").touch()
        with pytest.raises(PipelineError, match=r"loose\.mp4: expected each video inside a folder"):
            read_folders(videos)

    def test_a_name_that_dvc_cannot_track_is_refused(self, videos):
        Path(os.fsdecode(os.fsencode(videos) + b"/dog/caf\xe9.mp4")).touch()
        with pytest.raises(PipelineError, match=r"caf\\udce9\.mp4': the name is not UTF-8 or"):
            read_folders(videos)

    def test_an_empty_class_folder_is_refused(self, videos):
        (videos / "bird").mkdir()
        with pytest.raises(PipelineError, match="bird: a class folder without a video"):
            read_folders(videos)


class TestTable:
    def test_all_columns(self, videos, table):
        path = table(
            "video,label,split,group,start_seconds,end_seconds\n"
            "cat/one.mp4,cat,train,a,,\n"
            "dog/three.avi,dog,test,b,1.5,4\n"
        )
        assert read_table(videos, path) == [
            LabelledVideo("cat/one.mp4", "cat", "train", "a"),
            LabelledVideo("dog/three.avi", "dog", "test", "b", 1.5, 4.0),
        ]

    def test_other_columns_come_along(self, videos, table):
        path = table("video,label,camera,note\ncat/one.mp4,cat, left ,\ndog/three.avi,dog,right\n")
        assert [video.extra for video in read_table(videos, path)] == [
            {"camera": "left", "note": ""},
            {"camera": "right", "note": ""},
        ]

    def test_only_what_is_required_with_a_byte_order_mark(self, videos, table):
        path = table("video,label\ncat/one.mp4,cat\n", encoding="utf-8-sig")
        assert read_table(videos, path) == [LabelledVideo("cat/one.mp4", "cat")]

    def test_an_absolute_path_inside_the_folder_is_made_relative(self, videos, table):
        path = table(f"video,label\n{videos}/cat/one.mp4,cat\n")
        assert read_table(videos, path) == [LabelledVideo("cat/one.mp4", "cat")]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("file,label\n", "missing video. Received: file,label"),
            ("", "missing video, label. Received: an empty file"),
            ("video,label\n", "no row below the header"),
            ("video,label\ncat/one.mp4,\n", "line 2: the column label is empty"),
            (
                "video,label\ncat/one.mp4,cat\ncat/no.mp4,cat\ncat/none.mp4,cat\n",
                "line 3: cat/no.mp4 is not in {videos}. Add the file or remove the row. "
                "(1 more rows name missing files)",
            ),
            (
                "video,label,split\ncat/one.mp4,cat,training\n",
                "line 2: split must be train, val or test. Received: training",
            ),
            (
                "video,label,split\ncat/one.mp4,cat,train\ndog/three.avi,dog,\n",
                "line 3: split is empty, but other rows have one",
            ),
            (
                "video,label,start_seconds\ncat/one.mp4,cat,soon\n",
                "line 2: start_seconds must be a number, 0 or more. Received: soon",
            ),
            (
                "video,label,start_seconds,end_seconds\ncat/one.mp4,cat,5,2\n",
                "line 2: end_seconds must come after start_seconds. "
                "Received: start_seconds=5, end_seconds=2",
            ),
            (
                "video,label\n../secret.mp4,cat\n",
                "line 2: video must be a path inside data.videos ({videos}). "
                "Received: ../secret.mp4",
            ),
            (
                "video,label\ncat/one.mp4,cat\ncat/one.mp4,dog\n",
                "line 3: cat/one.mp4 stands already in {labels}, line 2",
            ),
        ],
    )
    def test_a_mistake_is_named_by_its_line(self, videos, table, text, message):
        path = table(text)
        with pytest.raises(PipelineError) as error:
            read_table(videos, path)
        assert message.format(videos=videos, labels=path) in str(error.value)

    def test_a_missing_table_is_named(self, videos, tmp_path):
        with pytest.raises(PipelineError, match=r"labels\.csv: no such file \(data\.labels\)"):
            read_table(videos, tmp_path / "labels.csv")

    def test_a_folder_instead_of_a_table(self, videos):
        with pytest.raises(PipelineError, match=r"data\.labels must be a csv file"):
            read_table(videos, videos)
