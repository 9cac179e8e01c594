import os
import tempfile
from pathlib import Path

import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.records import VideoRecord
from pipeline.dataset.layouts import read_labels
from pipeline.dataset.settings import DataSection
from pipeline.tasks.targets import Targets, targets_of

CLASSES = targets_of("classification")


@pytest.fixture
def videos(tmp_path):
    """A folder of empty files in the shape of a data set; layouts never open a video."""
    folder = tmp_path / "videos"
    for name in ("cat/one.mp4", "cat/deep/two.MKV", "dog/three.avi", "dog/notes.txt", "dog/.x.mp4"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def read(videos, labels="", targets=CLASSES):
    return read_labels(DataSection(videos=str(videos), labels=labels), targets)


def write_table(videos, text, name="labels.csv", encoding="utf-8"):
    (videos / name).write_text(text, encoding=encoding)


def message(videos, labels=""):
    with pytest.raises(PipelineError) as error:
        read(videos, labels)
    return str(error.value)


class TestWhereTheLabelsAre:
    def test_without_a_table_folders_are_classes(self, videos):
        assert read(videos) == [
            VideoRecord("cat/deep/two.MKV", "cat"),
            VideoRecord("cat/one.mp4", "cat"),
            VideoRecord("dog/three.avi", "dog"),
        ]

    def test_a_file_labels_csv_is_the_table(self, videos):
        write_table(videos, "video,label\ncat/one.mp4,lion\n")
        assert read(videos) == [VideoRecord("cat/one.mp4", "lion")]

    def test_data_labels_names_another_table(self, videos):
        write_table(videos, "video,label\ncat/one.mp4,lion\n")
        write_table(videos, "video,label\ncat/one.mp4,tiger\n", name="dog/tigers.csv")
        assert read(videos, "dog/tigers.csv") == [VideoRecord("cat/one.mp4", "tiger")]

    def test_a_table_may_lie_outside_the_videos(self, videos):
        write_table(videos, "video,label\ncat/one.mp4,puma\n", name="../labels.csv")
        assert read(videos, "../labels.csv") == [VideoRecord("cat/one.mp4", "puma")]

    def test_an_absolute_path_of_the_table_is_refused(self, videos):
        text = message(videos, "/data/labels.csv")
        assert "data.labels: expected a path relative to data.videos" in text
        assert "Received: /data/labels.csv" in text

    def test_a_missing_table_is_named(self, videos):
        text = message(videos, "no.csv")
        assert text.startswith("data.labels: expected a file")
        assert f"Received: {videos}/no.csv (no such path)" in text

    def test_a_folder_instead_of_a_table(self, videos):
        assert message(videos, "cat") == (
            f"data.labels: expected a csv file. Received: {videos}/cat (a folder)"
        )

    def test_a_missing_folder_is_named(self, tmp_path):
        assert message(tmp_path / "nowhere") == (
            f"data.videos: expected a folder. Received: {tmp_path}/nowhere (no such path)"
        )

    def test_a_task_that_folders_cannot_label_needs_a_table(self, videos):
        class Heights(Targets):
            columns = ("height", "unit")

            def read(self, cells, *, where):  # noqa: ARG002
                return f"{cells['height']} {cells['unit']}"

        with pytest.raises(PipelineError, match=r"labels\.csv: no such file.*video,height,unit"):
            read(videos, targets=Heights())
        write_table(videos, "video,height,unit,label\ncat/one.mp4, 3 ,m,cat\n")
        assert read(videos, targets=Heights()) == [
            VideoRecord("cat/one.mp4", "3 m", extra={"label": "cat"})
        ]


class TestClassFolders:
    def test_other_files_are_counted_in_the_log(self, videos, caplog):
        read(videos)
        assert f"{videos}: ignored 1 file without the suffix of a video" in caplog.text

    def test_a_folder_without_videos_names_what_is_expected(self, tmp_path):
        (tmp_path / "readme.md").touch()
        text = message(tmp_path)
        assert f"{tmp_path}: no video found. Expected {tmp_path}/<class>/<video>" in text
        assert "Received: 1 other file" in text

    def test_a_video_beside_the_class_folders_is_refused(self, videos):
        (videos / "loose.mp4").touch()
        assert "loose.mp4: the video is not in a class folder" in message(videos)

    def test_a_name_that_dvc_cannot_track_is_refused(self, videos):
        Path(os.fsdecode(os.fsencode(videos) + b"/dog/caf\xe9.mp4")).touch()
        assert r"caf\udce9.mp4': the name is not UTF-8. Rename the file" in message(videos)

    def test_spellings_of_one_class_in_unicode_are_one_class(self, tmp_path):
        for folder in ("caf\u00e9", "cafe\u0301"):  # NFC, NFD
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a.mp4").touch()
        assert read(tmp_path) == [
            VideoRecord("cafe\u0301/a.mp4", "caf\u00e9"),
            VideoRecord("caf\u00e9/a.mp4", "caf\u00e9"),
        ]

    @pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x85", "\u2028", "\x1b"])
    def test_a_control_character_in_the_name_of_a_class_is_refused(self, videos, character):
        (videos / f"a{character}b").mkdir()
        (videos / f"a{character}b/one.mp4").touch()
        text = message(videos)
        assert "/one.mp4', class folder: expected a name without line breaks" in text
        assert f"Received: {f'a{character}b'!a}. Delete them." in text

    def test_a_link_to_a_file_is_a_video(self, videos, tmp_path):
        (tmp_path / "elsewhere.mp4").touch()
        (videos / "dog/linked.mp4").symlink_to(tmp_path / "elsewhere.mp4")
        assert VideoRecord("dog/linked.mp4", "dog") in read(videos)

    @pytest.mark.parametrize("name", ["bird", "dog/more"])
    def test_a_linked_folder_is_refused(self, videos, tmp_path, name):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/four.mp4").touch()
        (videos / name).symlink_to(tmp_path / "elsewhere")
        assert message(videos).startswith(
            f"{videos}/{name}: expected a folder. Received: a symbolic link to a folder, behind "
            "which DVC sees no change."
        )

    def test_the_folder_of_videos_may_be_a_link(self, videos, tmp_path):
        (tmp_path / "link").symlink_to(videos)
        assert len(read(tmp_path / "link")) == 3

    def test_an_empty_class_folder_is_refused(self, videos):
        (videos / "bird").mkdir()
        assert "bird: the class folder has no video" in message(videos)


class TestFoldersOfSplits:
    def make(self, tmp_path, *folders):
        for folder in folders:
            add(tmp_path, folder, f"{folder.replace('/', '_')}.mp4")

    def splits(self, videos):
        return {record.video.rpartition("/")[0]: (record.target, record.split)
                for record in read(videos)}  # fmt: skip

    def test_the_second_folder_is_the_class(self, tmp_path):
        self.make(tmp_path, "Train/cat", "Train/dog/deep", "TEST/cat", "validation/dog", ".x/y")
        assert self.splits(tmp_path) == {
            "TEST/cat": ("cat", "test"),
            "Train/cat": ("cat", "train"),
            "Train/dog/deep": ("dog", "train"),
            "validation/dog": ("dog", "val"),
        }

    def test_without_test_videos_those_of_validation_are_tested(self, tmp_path, caplog):
        self.make(tmp_path, "train/cat", "val/cat")
        assert self.splits(tmp_path)["val/cat"] == ("cat", "test")
        assert "no folder of test videos. Those of val are the split test" in caplog.text

    def test_pictures_directly_in_a_class_folder_are_single(self, tmp_path):
        for folder in ("train/cat", "test/cat", "test/cat/clip"):
            add(tmp_path, folder, "f_1.jpg", "f_2.jpg")
        assert [record.video for record in read(tmp_path)] == [
            "test/cat/clip", "test/cat/f_1.jpg", "test/cat/f_2.jpg",
            "train/cat/f_1.jpg", "train/cat/f_2.jpg",
        ]  # fmt: skip

    def test_a_single_class_may_have_the_name_of_a_split(self, tmp_path):
        self.make(tmp_path, "train", "car")
        assert self.splits(tmp_path) == {"train": ("train", None), "car": ("car", None)}

    @pytest.mark.parametrize(
        ("folders", "received", "remedy"),
        [
            (["train/cat", "test/cat", "cat"], "test, train, and also cat", "Move cat to another"),
            (
                ["Train/cat", "Train/dog"],
                "Train",
                "For computed splits, set data.videos to {}/Train.",
            ),
            (["val/cat", "test/dog"], "test, val", "Rename the folder of training videos to train"),
            (["val/cat", "Validation/dog"], "Validation, val", "Rename the folder of training"),
        ],
    )
    def test_other_folders_and_missing_splits_are_refused(
        self, tmp_path, folders, received, remedy
    ):
        self.make(tmp_path, *folders)
        text = message(tmp_path)
        assert text.startswith(f"{tmp_path}: folders that are named after splits must be train")
        assert f"(received: {received}). {remedy.format(tmp_path)}" in text

    @pytest.mark.parametrize(
        ("video", "expected"), [("train/x.mp4", "train/<class>"), ("x.mp4", "<split>/<class>")]
    )
    def test_a_video_outside_the_class_folders_is_refused(self, tmp_path, video, expected):
        self.make(tmp_path, "train/cat", "test/cat")
        (tmp_path / video).touch()
        assert f"Expected {tmp_path}/{expected}/x.mp4. Move it, or" in message(tmp_path)

    @pytest.mark.parametrize(
        ("folder", "kind"), [("test/dog", "class folder"), ("val", "folder of a split")]
    )
    def test_an_empty_folder_is_refused(self, tmp_path, folder, kind):
        self.make(tmp_path, "train/cat", "test/cat")
        (tmp_path / folder).mkdir()
        assert f"{tmp_path}/{folder}: the {kind} has no video. Add" in message(tmp_path)


def add(videos, folder, *names):
    (videos / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (videos / folder / name).touch()


class TestPictures:
    def names(self, videos):
        return {record.video: record.target for record in read(videos)}

    def test_pictures_of_a_class_folder_are_videos_even_if_they_are_numbered(self, tmp_path):
        add(tmp_path, "cat", "0001.jpg", "0002.JPEG", ".0003.jpg", "0004.txt")
        add(tmp_path, "dog", "rex.png")
        assert self.names(tmp_path) == {
            "cat/0001.jpg": "cat", "cat/0002.JPEG": "cat", "dog/rex.png": "dog"
        }  # fmt: skip

    def test_a_deeper_folder_of_numbered_pictures_is_a_video(self, videos):
        add(videos, "cat/deep/clip", "frames_9.jpg", "frames_10.jpg", ".frames_11.jpg")
        add(videos, "dog/old", "frames_0001.jpg", "notes.txt")  # one picture is a picture
        add(videos, "dog/studio", "rex.png", "ben.png", "b.mp4")
        assert self.names(videos) == {
            "cat/deep/clip": "cat",
            "cat/deep/two.MKV": "cat",
            "cat/one.mp4": "cat",
            "dog/old/frames_0001.jpg": "dog",
            "dog/studio/b.mp4": "dog",
            "dog/studio/ben.png": "dog",
            "dog/studio/rex.png": "dog",
            "dog/three.avi": "dog",
        }

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("cover.jpg", "the name cover.jpg does not end with a number"),
            ("g_3.jpg", "the names f_1.jpg and g_3.jpg have different beginnings"),
            ("f_01.jpg", "f_01.jpg and f_1.jpg have the same number"),
        ],
    )
    def test_a_folder_that_may_be_a_video_or_not_is_refused(self, videos, name, fault):
        add(videos, "cat/clip", "f_1.jpg", "f_2.jpg", name)
        text = message(videos)
        assert text.startswith(f"{videos}/cat/clip: expected the numbered pictures of one video")
        assert f"Received: {fault}. Rename or move pictures" in text

    @pytest.mark.parametrize("name", ["a.mp4", "deeper/f_1.jpg"])
    def test_a_video_among_numbered_pictures_is_refused(self, videos, name):
        add(videos, "cat/clip", "f_1.jpg", "f_2.jpg")
        add(videos, f"cat/clip/{name}".rpartition("/")[0], name.rpartition("/")[2])
        assert f"{videos}/cat/clip/{name}: expected only numbered pictures" in message(videos)

    def test_a_table_names_pictures_and_folders(self, videos):
        add(videos, "clips/a", "1.jpg", "2.jpg")
        write_table(videos, "video,label\nclips/a,cat\nclips/a/1.jpg,dog\n")
        assert self.names(videos) == {"clips/a": "cat", "clips/a/1.jpg": "dog"}

    def test_a_linked_folder_of_pictures_is_refused(self, videos, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (videos / "clip").symlink_to(tmp_path / "elsewhere")
        write_table(videos, "video,label\nclip,cat\n")
        assert f"line 2: {videos}/clip: expected a folder. Received: a symbol" in message(videos)


@pytest.fixture
def as_nobody():
    """A folder that a user without privileges may read; the test runs as that user."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        is_root = os.geteuid() == 0

        def become() -> Path:
            if is_root:  # root reads everything
                os.seteuid(65534)
            return Path(folder)

        yield Path(folder), become
        if is_root:
            os.seteuid(0)
        for path, _, _ in os.walk(folder):
            Path(path).chmod(0o755)


@pytest.mark.parametrize("table", ["", "video,label\ncat/two/b.mp4,cat\n"])
@pytest.mark.parametrize("mode", [0, 0o100, 0o400])
def test_an_unreadable_folder_is_refused(as_nobody, table, mode):
    videos, become = as_nobody
    (videos / "cat/two").mkdir(parents=True)
    for name in ("cat/a.mp4", "cat/two/b.mp4"):
        (videos / name).touch()
    if table:
        write_table(videos, table)
    (videos / "cat/two").chmod(mode)
    become()
    text = message(videos)
    assert f"{videos}/cat/two: the folder cannot be read (permission denied). Make it" in text


def test_an_unreadable_folder_of_videos_is_refused(as_nobody):
    videos, become = as_nobody
    (videos / "cat").mkdir()
    videos.chmod(0)
    become()
    assert message(videos).startswith(f"data.videos: {videos}: the folder cannot be read (perm")


class TestTable:
    def test_all_columns(self, videos):
        write_table(
            videos,
            "video,label,split,group,start_seconds,end_seconds\n"
            "cat/one.mp4,cat,train,a,,\n"
            "dog/three.avi,dog,test,b,1.5,4\n",
        )
        assert read(videos) == [
            VideoRecord("cat/one.mp4", "cat", "train", "a"),
            VideoRecord("dog/three.avi", "dog", "test", "b", 1.5, 4.0),
        ]

    def test_other_columns_are_kept_as_extra(self, videos):
        write_table(
            videos, "video,label,camera,note\ncat/one.mp4,cat, left ,\ndog/three.avi,dog,right\n"
        )
        assert [record.extra for record in read(videos)] == [
            {"camera": "left", "note": ""},
            {"camera": "right", "note": ""},
        ]

    def test_a_byte_order_mark_is_ignored(self, videos):
        write_table(videos, "video,label\ncat/one.mp4,cat\n", encoding="utf-8-sig")
        assert read(videos) == [VideoRecord("cat/one.mp4", "cat")]

    def test_spaces_around_the_names_of_columns_are_ignored(self, videos):
        write_table(videos, "video , label, group\ncat/one.mp4,cat, a \n")
        assert read(videos) == [VideoRecord("cat/one.mp4", "cat", group="a")]

    def test_a_column_without_a_name_and_without_cells_is_ignored(self, videos):
        write_table(videos, "video,label,,\ncat/one.mp4,cat,, \n")
        assert read(videos) == [VideoRecord("cat/one.mp4", "cat")]

    def test_spellings_of_one_name_in_unicode_are_one_name(self, videos):
        name = "cat/ne\u0301.mp4"  # a path keeps its bytes
        (videos / name).touch()
        write_table(videos, f"video,label,group,pe\u0301re\n{name},cafe\u0301,e\u0301,e\u0301\n")
        assert read(videos) == [
            VideoRecord(name, "caf\u00e9", group="\u00e9", extra={"p\u00e9re": "\u00e9"})
        ]

    @pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x85", "\u2028", "\x1b"])
    @pytest.mark.parametrize("column", ["label", "group"])
    def test_a_control_character_in_a_label_or_a_group_is_refused(self, videos, column, character):
        cells = {"label": "cat", "group": "g", column: f"a{character}b"}
        write_table(
            videos, f'video,label,group\n\ncat/one.mp4,"{cells["label"]}","{cells["group"]}"'
        )
        text = message(videos)
        assert text.startswith(
            f"{videos}/labels.csv, line 3, column {column}: expected a name without line breaks"
        )
        assert f"Received: {f'a{character}b'!a}." in text

    def test_a_video_behind_a_linked_folder_is_refused(self, videos):
        (videos / "lynx").symlink_to(videos / "cat")
        write_table(videos, "video,label\ncat/one.mp4,cat\nlynx/deep/two.MKV,cat\n")
        text = message(videos)
        assert text.startswith(f"{videos}/labels.csv, line 3: {videos}/lynx: expected a folder.")
        assert "behind which DVC sees no change" in text

    def test_an_absolute_path_inside_the_folder_becomes_relative(self, videos):
        write_table(videos, f"video,label\n{videos}/cat/one.mp4,cat\n")
        assert read(videos) == [VideoRecord("cat/one.mp4", "cat")]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("file,label\n", "line 1: missing video. Expected the columns video,label and"),
            ("file,label\n", "Received: file,label"),
            ("", "missing video, label."),
            ("", "Received: an empty line"),
            ("video,label\n", "no row below the header"),
            ("Video,label\n", "line 1: unknown column 'Video'. Expected 'video', which differs"),
            (
                "Label,Video\n",
                "line 1: unknown columns 'Label', 'Video'. Expected 'label', 'video', "
                "which differ only in case, spaces, hyphens or underscores. Received: Label,Video. "
                "Rename the columns: names are lower case.",
            ),
            ("path,class\n", "Received: path,class. Rename path to video and class to label."),
            ("video,label,GROUP\n", "unknown column 'GROUP'. Expected 'group'"),
            ("video,label,Start seconds\n", "unknown column 'Start seconds'. Expected 'start_s"),
            ("video,label,end-seconds\n", "unknown column 'end-seconds'. Expected 'end_seconds"),
            ("video,label,group,Group\n", "unknown column 'Group'. Expected 'group'"),
            ("video,label,group\u200b\n", "Expected 'group', which differs only in"),
            ("video,label,\uff47roup\n", "Expected 'group', which differs only in"),
            ("video,label,Fold 01\n", "unknown column 'Fold 01'. Expected 'fold_1', which"),
            ("video,label,label\n", "line 1: expected each column once. Received several columns"),
            ("video,label,a, a,b,b\n", "Received several columns 'a', 'b'. Rename or delete"),
            (
                "video;label\n",
                "line 1: the cells are separated by ';'. Expected commas. Received: ",
            ),
            ("video\tlabel\n", "line 1: the cells are separated by tabs. Expected commas."),
            ("video|label\n", "Received: 'video|label'. Save the table with commas as separ"),
            ("video,label\ncat/one.mp4;cat\n", "line 2: the cells are separated by ';'. Expect"),
            (
                '"video";"label"\n"cat/one.mp4";"cat"\n',
                "line 1: the cells are separated by ';'. Expected commas. Received: "
                '\'"video";"label"\'. Save the table with commas',
            ),
            (
                'video,label\n"cat/one.mp4"\t"cat"\n',
                "line 2: the cells are separated by tabs. Expected commas.",
            ),
            (
                'video,label\n"cat/one.mp4,cat"\n',
                "line 2: the whole line is quoted, so it is one cell. Expected quotes around",
            ),
            (
                'video,label\n"cat/one.mp4,""jump, high"""\n',
                "line 2: the whole line is quoted, so it is one cell. Expected quotes around",
            ),
            (
                "video,label\ncat/one.mp4;jump, high\n",
                "line 2: 'cat/one.mp4;jump' seems to be several cells, separated by ';'. Expected",
            ),
            (
                '"video,label"\n"cat/one.mp4,cat"\n',
                "line 1: the whole line is quoted, so it is one cell",
            ),
            (
                "video,label\ncat/one.mp4,cat,,\n",
                "4 cells. Delete the commas at its end.",
            ),
            ("video,label,split\ncat/one.mp4,cat,Valid\n", "Received: Valid. Write val."),
            ("\nvideo,label\n", "line 1: missing video, label."),
            (
                "video,label\ncat/one.mp4,cat\ndog/three.avi,jump, high\n",
                "line 3: expected 2 cells, as in line 1. Received: 3 cells, 'dog/three.avi,jump, "
                "high'. Quote a cell that contains a comma",
            ),
            (
                "video,label,\ncat/one.mp4,cat,left\n",
                "line 2: the column of the cell 'left' has no name in line 1",
            ),
            (
                'video,label,note\ncat/one.mp4,cat,"left\ndog/three.avi,dog,right\n',
                "line 2: expected csv. Received: unexpected end of data in line 3. Close each",
            ),
            (
                'video,label,note\ncat/one.mp4,cat,"left\ndog/three.avi,dog,"right"\n',
                "line 2: expected csv. Received: ',' expected after '\"' in line 3. Close each",
            ),
            (
                'video,label,note\ncat/one.mp4,cat,"left\nright"\n"dog/\nthree.avi",dog,\n',
                "line 4: video 'dog/\\nthree.avi' does not exist",
            ),
            ("video,label\ncat/one.mp4,\n", "line 2: the column label is empty"),
            ("video,label\n,cat\n", "line 2: the column video is empty"),
            (
                "video,label\ncat/one.mp4,cat\ncat/no.mp4,cat\ncat/none.mp4,cat\n",
                "line 3: video 'cat/no.mp4' does not exist under {videos}. Add the file or "
                "delete the row. Rows with missing files: 2.",
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
                "line 2: start_seconds must be a number, 0 or more. Received: 'soon'. Correct",
            ),
            (
                "video,label,end_seconds\ncat/one.mp4,cat,1_0\n",
                "line 2: end_seconds must be a number, 0 or more. Received: '1_0'. Correct",
            ),
            (
                "video,label,start_seconds,end_seconds\ncat/one.mp4,cat,5,2\n",
                "line 2: end_seconds must be greater than start_seconds. "
                "Received: start_seconds=5, end_seconds=2",
            ),
            (
                "video,label\n../secret.mp4,cat\n",
                "line 2: video must be a path inside data.videos ({videos}). "
                "Received: ../secret.mp4",
            ),
            (
                "video,label\ncat/one.mp4,cat\ncat/one.mp4,dog\n",
                "line 3: cat/one.mp4 already has a row, {videos}/labels.csv, line 2",
            ),
        ],
    )
    def test_a_mistake_is_named_by_its_line(self, videos, text, expected):
        write_table(videos, text)
        received = message(videos)
        assert received.startswith(f"{videos}/labels.csv")
        assert expected.format(videos=videos) in received

    @pytest.mark.parametrize(
        ("cell", "meant"),
        [
            ("cat/one", "cat/one.mp4"),
            ("cat/one.avi", "cat/one.mp4"),
            ("Cat/ONE.mp4", "cat/one.mp4"),
            ("cat\\deep\\two.MKV", "cat/deep/two.MKV"),
            (r"C:\data\videos\cat\one.mp4", "cat/one.mp4"),
            ("/elsewhere/videos/cat/one.mp4", "cat/one.mp4"),
            ("videos/dog/three.avi", "dog/three.avi"),
            ("../videos/dog/three.avi", "dog/three.avi"),
            ("three.avi", "dog/three.avi"),
            ("three", "dog/three.avi"),
            ("dog/ three.avi", "dog/three.avi"),
            ("cat/clip 1", "cat/clip1"),
        ],
    )
    def test_a_path_that_nearly_exists_is_suggested(self, videos, cell, meant):
        add(videos, "cat/clip1", "f_1.jpg", "f_2.jpg")
        write_table(videos, f"video,label\n{cell},cat\n")
        text = message(videos)
        assert text.startswith(f"{videos}/labels.csv, line 2: video ")
        assert f" Write {meant!r}, which exists." in text

    def test_letters_that_look_alike_are_shown_by_number(self, videos):
        add(videos, "cat", "ne\u0301.mp4")
        write_table(videos, "video,label\ncat/n\u00e9.mp4,cat\n")
        assert r"Write 'cat/ne\u0301.mp4', which exists." in message(videos)

    @pytest.mark.parametrize("cell", ["bird/nine.mp4", "four.mp4", "elsewhere/cat", "notes"])
    def test_no_path_is_suggested_if_none_or_several_are_similar(self, videos, cell):
        for folder in ("cat", "dog"):
            add(videos, folder, "four.mp4")
        write_table(videos, f"video,label\n{cell},cat\n")
        assert message(videos).endswith("Add the file or delete the row.")

    @pytest.mark.parametrize(
        "cell", ["cat/1_2.mp4", "cat/1-2.mp4", "cat/1 2.mp4", "cat/1  2.mp4", "cat/1\u00b2.mp4"]
    )
    def test_a_path_with_another_number_is_not_suggested(self, videos, cell):
        add(videos, "cat", "12.mp4")
        write_table(videos, f"video,label\n{cell},cat\n")
        assert "Write" not in message(videos)

    @pytest.mark.parametrize("cell", [f"cat/{'x' * 300}.mp4", f"{'x' * 300};a"])
    def test_a_path_that_is_too_long_does_not_exist(self, videos, cell):
        write_table(videos, f"video,label\n{cell},cat\n")
        assert message(videos).startswith(f"{videos}/labels.csv, line 2: video ")
        assert message(videos).endswith(
            f"not exist under {videos}. Add the file or delete the row."
        )

    @pytest.mark.parametrize("cell", ["cat/one.avi", "CAT/one.mp4", "/elsewhere/cat/one.mp4"])
    def test_a_video_with_a_row_is_not_suggested_for_another_row(self, videos, cell):
        write_table(videos, f"video,label\n{cell},cat\ncat/one.mp4,cat\n")
        assert "Write" not in message(videos)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_a_table_in_utf16_is_refused(self, videos, encoding):
        write_table(videos, "video,label\ncat/one.mp4,café\n", encoding=encoding)
        assert message(videos) == (
            f"{videos}/labels.csv: expected a csv file in UTF-8. Received: UTF-16, or no text. "
            "Save the file as UTF-8."
        )

    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
    @pytest.mark.parametrize("n_rows", [1, 2000])
    def test_a_table_in_latin_1_is_refused_with_its_line(self, videos, line_end, n_rows):
        rows = [b"video,label", *[b"cat/one.mp4,cat"] * n_rows, "cat/one.mp4,café".encode("latin1")]
        (videos / "labels.csv").write_bytes(line_end.join(rows))
        assert message(videos) == (
            f"{videos}/labels.csv, line {n_rows + 2}: expected a csv file in UTF-8. Received: the "
            "byte 0xe9, as in Latin-1 or Windows-1252. Save the file as UTF-8."
        )

    def test_a_zero_far_inside_a_table_is_refused(self, videos):
        write_table(videos, "video,label\n" + "cat/one.mp4,cat\n" * 2000 + "cat/one.mp4,c\0t\n")
        assert "line 2002: expected a csv file in UTF-8. Received: the byte 0x0" in message(videos)

    @pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0"])
    def test_a_workbook_named_csv_is_refused(self, videos, start):
        (videos / "labels.csv").write_bytes(start + bytes(30))
        assert "Received: a workbook" in message(videos)
        assert "save the sheet as csv in UTF-8" in message(videos)


class TestSeveralRowsOfOneVideo:
    class Notes(Targets):
        """Any number of notes a video."""

        columns = ("note",)
        several_rows = True

        def read(self, cells, *, where):
            if not cells["note"]:
                raise PipelineError(f"{where}: note is empty")
            return cells["note"]

        def combine(self, targets, *, where):
            if len(set(targets)) < len(targets):
                raise PipelineError(f"{where[1]}: the note repeats that of {where[0]}")
            return " / ".join(targets)

    def read(self, videos, text):
        write_table(videos, text)
        return read(videos, targets=self.Notes())

    def error(self, videos, text):
        with pytest.raises(PipelineError) as error:
            self.read(videos, text)
        return str(error.value)

    def test_become_one_record_with_all_targets(self, videos):
        records = self.read(
            videos,
            "video,note,group,room\ncat/one.mp4,sits,a,1\ndog/three.avi,runs,b,2\n"
            "cat/one.mp4,sleeps,a,1\n",
        )
        assert records == [
            VideoRecord("cat/one.mp4", "sits / sleeps", group="a", extra={"room": "1"}),
            VideoRecord("dog/three.avi", "runs", group="b", extra={"room": "2"}),
        ]

    def test_are_of_one_segment(self, videos):
        records = self.read(
            videos,
            "video,note,start_seconds,end_seconds\ncat/one.mp4,sits,0,1\ncat/one.mp4,eats,0,1\n"
            "cat/one.mp4,sleeps,1,2\n",
        )
        assert [record.target for record in records] == ["sits / eats", "sleeps"]

    @pytest.mark.parametrize("column", ["split", "group", "room"])
    def test_must_agree_in_the_other_columns(self, videos, column):
        text = f"video,note,{column}\ncat/one.mp4,sits,val\ncat/one.mp4,eats,test\n"
        assert self.error(videos, text).startswith(f"{videos}/labels.csv, line 3: {column} must be")

    def test_must_not_contradict_each_other(self, videos):
        message = self.error(videos, "video,note\ncat/one.mp4,sits\ncat/one.mp4,sits\n")
        assert "line 3: the note repeats that of" in message
        assert message.endswith("line 2")


class TestSideInputs:
    def read(self, videos, table="video,label,age,site\ncat/one.mp4,cat,34, Rom \n", **kinds):
        write_table(videos, table)
        kinds = kinds or {"age": "number", "site": "category"}
        return read_labels(DataSection(videos=str(videos), side_inputs=kinds), CLASSES)

    def test_the_columns_are_kept_with_the_others(self, videos):
        (record,) = self.read(videos)
        assert record.extra == {"age": "34", "site": "Rom"}

    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            ("cat/one.mp4,cat,,Rom", "line 2: the side input age is missing. Expected a finite"),
            ("cat/one.mp4,cat,old,Rom", "line 2: the side input age must be a finite number"),
            ("cat/one.mp4,cat,nan,Rom", "line 2: the side input age must be a finite number"),
            ("cat/one.mp4,cat,3_4,Rom", "line 2: the side input age must be a finite number"),
            ("cat/one.mp4,cat,٣,Rom", "line 2: the side input age must be a finite number"),
            ("cat/one.mp4,cat,34,", "line 2: the side input site is missing. Expected a name"),
        ],
    )
    def test_a_cell_that_is_empty_or_no_number_is_named(self, videos, row, expected):
        with pytest.raises(PipelineError, match=rf"labels\.csv, {expected}.*Correct the cell"):
            self.read(videos, f"video,label,age,site\n{row}\n")

    def test_a_missing_column_is_named(self, videos):
        with pytest.raises(PipelineError, match=r"labels\.csv, line 1: missing size.*data\.side_i"):
            self.read(videos, size="number")

    def test_the_column_of_the_target_is_refused(self, videos):
        with pytest.raises(PipelineError, match=r"data\.side_inputs\.label: expected a column oth"):
            self.read(videos, label="category")

    def test_class_folders_have_none(self, videos):
        data = DataSection(videos=str(videos), side_inputs={"age": "number"})
        with pytest.raises(PipelineError, match=r"labels\.csv: no such file\. .*columns age"):
            read_labels(data, CLASSES)
