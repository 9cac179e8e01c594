"""Annotation files of well-known data sets, as short excerpts, become rows of the catalog."""

import json
import re
from collections import Counter

import pandas as pd
import pytest
import yaml

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv
from pipeline.dataset.catalog import build_catalog
from pipeline.dataset.layouts import read_labels
from pipeline.dataset.settings import DataSection
from pipeline.importing.importer import import_data_set
from pipeline.params import load_params
from pipeline.tasks.targets import targets_of
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with params.yaml, and a folder ``source`` for a data set."""
    params = (tmp_path.cwd() / "params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(params)
    (tmp_path / "source").mkdir()
    return tmp_path


MP4 = encode_mp4(numbered_frames(3), fps=10)


def write(folder, files):
    """Write texts, and a video of its own for every path without a text."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.write_bytes(MP4 + name.encode())  # no copies of one video
        else:
            path.write_text(text)


def imported(project, name, files, *, task=None):
    """Import and return the rows of labels.csv; the catalog stage reads them, too."""
    write(project / "source", files)
    lines = import_data_set(name, project / "source", params=project / "params.yaml", task=task)
    params = load_params(project / "params.yaml")
    assert params.data.videos == f"data/imported/{name}"
    targets = targets_of(params.task.type)
    assert read_labels(params.data, targets)
    return read_csv(project / "data/imported" / name / "labels.csv"), lines


def refused(project, name, files, **options):
    write(project / "source", files)
    with pytest.raises(PipelineError) as caught:
        import_data_set(name, project / "source", params=project / "params.yaml", **options)
    assert not (project / "data/imported" / name).exists()
    return str(caught.value)


UCF = {
    "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\n2 HandstandPushups\n",
    "ucfTrainTestlist/trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n"
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi 1\n"
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g22_c01.avi 1\n"
    "HandstandPushups/v_HandStandPushups_g08_c01.avi 2\n"
    "HandstandPushups/v_HandStandPushups_g22_c01.avi 2\n",
    "ucfTrainTestlist/testlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\n"
    "HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n",
    "ucfTrainTestlist/trainlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\n"
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g22_c01.avi 1\n"
    "HandstandPushups/v_HandStandPushups_g01_c01.avi 2\n"
    "HandstandPushups/v_HandStandPushups_g22_c01.avi 2\n",
    "ucfTrainTestlist/testlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\n"
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi\n"
    "HandstandPushups/v_HandStandPushups_g08_c01.avi\n",
    **dict.fromkeys(
        f"UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_{name}.avi"
        for name in ("g01_c01", "g08_c01", "g08_c02", "g22_c01")
    ),
    # The spelling of some copies differs from that of the lists.
    **dict.fromkeys(
        f"UCF-101/HandStandPushups/v_HandstandPushups_{name}.avi"
        for name in ("g01_c01", "g08_c01", "g22_c01")
    ),
}


def test_ucf101_has_groups_and_official_splits(project):
    rows, lines = imported(project, "ucf101", UCF)
    by_video = {row["video"]: row for row in rows}
    assert by_video["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi"] == {
        "video": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi",
        "label": "ApplyEyeMakeup",
        "split": "train",
        "group": "ApplyEyeMakeup_g08",
        "fold_1": "train",
        "fold_2": "test",
    }
    assert by_video["HandstandPushups/v_HandstandPushups_g01_c01.avi"]["split"] == "test"
    assert lines[0].endswith(
        "has 7 videos of UCF101 for the task classification, with 2 official folds."
    )


def test_the_catalog_of_ucf101_takes_validation_videos_by_group(project):
    imported(project, "ucf101", UCF)
    params = load_params(project / "params.yaml")
    records = build_catalog(params.data, params.catalog, targets_of("classification"))
    assert Counter(record.split for record in records)["test"] == 2
    assert {record.split for record in records} == {"train", "val", "test"}
    assert all(len(record.folds) == 2 for record in records)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ucfTrainTestlist/classInd.txt", "0 ApplyEyeMakeup\n",
         "classInd.txt, line 1: expected '1 <class>'"),
        ("ucfTrainTestlist/trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 2\n",
         "trainlist01.txt, line 1: expected 1, the number of ApplyEyeMakeup"),
        ("ucfTrainTestlist/testlist01.txt", "\nJump/v_Jump_g01_c01.avi\n",
         "testlist01.txt, line 2: expected <class>/"),
        ("ucfTrainTestlist/testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g09_c01.avi\n",
         "testlist01.txt, line 1: the video v_ApplyEyeMakeup_g09_c01.avi is not below"),
        ("ucfTrainTestlist/testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\n",
         "v_ApplyEyeMakeup_g08_c01.avi is a test video, but a train video in"),
    ],
)  # fmt: skip
def test_a_wrong_line_of_ucf101_is_named(project, file, text, message):
    received = refused(project, "ucf101", UCF | {file: text})
    assert message in received
    assert str(project / "source/ucfTrainTestlist") in received


def test_a_missing_video_of_several_official_splits_is_counted_once(project):
    files = {name: text for name, text in UCF.items() if "ApplyEyeMakeup_g08_c01" not in name}
    assert "Missing: 1 of 7 videos." in refused(project, "ucf101", files)


HMDB_CLIPS = [
    "April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
    "April_09_brush_hair_u_nm_np1_ba_goo_1.avi",
    "atheletic_brush_hair_u_nm_np1_fr_med_0.avi",
    "Brushing_my_hair_brush_hair_u_cm_np1_le_goo_2.avi",
]
WAVE_CLIPS = [
    "20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0.avi",
    "winKen_wave_u_cm_np1_ri_bad_1.avi",
]


def hmdb_list(clips, numbers):
    return "".join(f"{clip} {number} \n" for clip, number in zip(clips, numbers, strict=True))


HMDB = {
    "splits/brush_hair_test_split1.txt": hmdb_list(HMDB_CLIPS, [1, 1, 2, 0]),
    "splits/brush_hair_test_split2.txt": hmdb_list(HMDB_CLIPS, [2, 1, 0, 1]),
    "splits/wave_test_split1.txt": hmdb_list(WAVE_CLIPS, [1, 2]),
    "splits/wave_test_split2.txt": hmdb_list(WAVE_CLIPS, [2, 1]),
    **dict.fromkeys(f"hmdb51_org/brush_hair/{clip}" for clip in HMDB_CLIPS),
    **dict.fromkeys(f"hmdb51_org/wave/{clip}" for clip in WAVE_CLIPS),
}


def test_hmdb51_keeps_videos_that_only_another_fold_uses(project):
    rows, lines = imported(project, "hmdb51", HMDB)
    columns = ("split", "group", "fold_1", "fold_2")
    cells = {row["video"]: tuple(row[name] for name in columns) for row in rows}
    assert cells[f"brush_hair/{HMDB_CLIPS[3]}"] == ("", "brush_hair/Brushing_my_hair", "", "train")
    assert cells[f"brush_hair/{HMDB_CLIPS[2]}"] == ("test", "brush_hair/atheletic", "test", "")
    # Fold 2 divides the clips of April_09, so they are no group.
    assert cells[f"brush_hair/{HMDB_CLIPS[0]}"] == ("train", "", "train", "test")
    assert lines[0].startswith("The official splits divide 1 group with 2 videos, such as")


def test_a_wrong_number_of_hmdb51_is_named(project):
    files = HMDB | {"splits/wave_test_split2.txt": hmdb_list(WAVE_CLIPS, [2, 3])}
    assert "wave_test_split2.txt, line 2: expected a file and 0, 1 or 2" in refused(
        project, "hmdb51", files
    )


KINETICS = {
    "train.csv": "label,youtube_id,time_start,time_end,split,is_cc\n"
    "abseiling,-3B32lodo2M,59,69,train,0\n"
    '"air drumming",_dbcJuKJQNs,40,50,train,0\n'
    "abseiling,0347ZoDXyP0,1,11,train,0\n",
    "validate.csv": "label,youtube_id,time_start,time_end,split\n"
    "abseiling,---QUuC4vJs,84,94,validate\nair drumming,--nQbRBEz2s,104,114,validate\n",
    "test.csv": "youtube_id,time_start,time_end,split\n--Z6nXhQ7Zk,10,20,test\n",
    **dict.fromkeys(
        [
            "train/abseiling/-3B32lodo2M_000059_000069.mp4",
            "train/air drumming/_dbcJuKJQNs_000040_000050.mp4",
            "val/---QUuC4vJs_000084_000094.mp4",
            "val/--nQbRBEz2s_000104_000114.mkv",
        ]
    ),
}


def test_kinetics_counts_the_clips_that_are_missing(project):
    rows, lines = imported(project, "kinetics", KINETICS)
    assert [tuple(row.values()) for row in rows] == [
        ("-3B32lodo2M_000059_000069.mp4", "abseiling", "train", "-3B32lodo2M"),
        ("_dbcJuKJQNs_000040_000050.mp4", "air drumming", "train", "_dbcJuKJQNs"),
        ("---QUuC4vJs_000084_000094.mp4", "abseiling", "test", "---QUuC4vJs"),
        ("--nQbRBEz2s_000104_000114.mkv", "air drumming", "test", "--nQbRBEz2s"),
    ]
    assert lines[:3] == [
        "Missing: 1 of 5 videos of the annotation files, such as 0347ZoDXyP0_000001_000011.",
        "Left out: 1 line without a label.",
        "There are no test videos with labels: the official validation videos are the split test, "
        "and the catalog stage takes val from train.",
    ]


def test_kinetics_with_validation_videos_alone_gets_computed_splits(project):
    files = {name: text for name, text in KINETICS.items() if name != "train.csv"}
    rows, lines = imported(project, "kinetics", files)
    assert tuple(rows[0]) == ("video", "label", "group")
    assert lines[1] == (
        "Only validation videos have labels and files: the catalog stage computes the splits."
    )


def test_kinetics_without_any_clip_is_refused(project):
    files = {name: text for name, text in KINETICS.items() if text}
    message = refused(project, "kinetics", files)
    assert "train.csv, line 2: the video -3B32lodo2M_000059_000069 is not below" in message
    assert "Missing: 5 of 5 videos" in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("abseiling,x,59,soon,train", "train.csv, line 2: expected a youtube_id and seconds"),
        ("abseiling,x,59,69,first", "train.csv, line 2: split must be train, val"),
        ("abseiling,x,59,69", "train.csv, line 2: expected 5 cells, as in line 1"),
    ],
)
def test_a_wrong_line_of_kinetics_is_named(project, line, message):
    header = "label,youtube_id,time_start,time_end,split\n"
    assert message in refused(project, "kinetics", KINETICS | {"train.csv": f"{header}{line}\n"})


def test_a_misspelt_label_of_kinetics_is_refused_and_other_columns_are_not_checked(project):
    text = KINETICS["train.csv"].replace("is_cc", "fold1").replace("label,", "Label,", 1)
    message = refused(project, "kinetics", KINETICS | {"train.csv": text})
    assert "train.csv, line 1: unknown column 'Label'. Expected 'label', which" in message
    imported(project, "kinetics", KINETICS | {"train.csv": text.replace("Label", "label")})


SSV2_ENTRIES = {
    "train": [
        {"id": "78687", "label": "holding potato next to vicks vaporub bottle",
         "template": "Holding [something] next to [something]",
         "placeholders": ["potato", "vicks vaporub bottle"]},
        {"id": "42326", "label": "showing a photo to the camera",
         "template": "Showing [something] to the camera", "placeholders": ["a photo"]},
    ],
    "validation": [
        {"id": "74225", "label": "holding cup next to plate",
         "template": "Holding [something] next to [something]", "placeholders": ["cup", "plate"]},
        {"id": "116154", "label": "showing a key to the camera",
         "template": "Showing [something] to the camera", "placeholders": ["a key"]},
    ],
    "test": [{"id": "1420"}],
}  # fmt: skip
SSV2 = {
    "labels/labels.json": json.dumps(
        {"Holding something next to something": "22", "Showing something to the camera": "112"}
    ),
    **{f"labels/{name}.json": json.dumps(rows, indent=1) for name, rows in SSV2_ENTRIES.items()},
    **dict.fromkeys(
        f"20bn-something-something-v2/{number}.webm" for number in (78687, 42326, 74225, 116154)
    ),
}


def test_the_template_of_ssv2_is_the_class(project):
    rows, _ = imported(project, "ssv2", SSV2)
    assert [tuple(row.values()) for row in rows] == [
        ("78687.webm", "Holding something next to something", "train"),
        ("42326.webm", "Showing something to the camera", "train"),
        ("74225.webm", "Holding something next to something", "test"),
        ("116154.webm", "Showing something to the camera", "test"),
    ]


def test_the_answers_of_the_test_videos_of_ssv2_are_used(project):
    files = {"labels/test-answers.csv": "1420;Holding something next to something\n"}
    rows, _ = imported(project, "ssv2", SSV2 | files | {"1420.webm": None})
    assert [row["split"] for row in rows] == ["train", "train", "val", "val", "test"]


def test_the_sentence_of_ssv2_is_a_caption(project):
    rows, _ = imported(project, "ssv2", SSV2, task="caption")
    assert rows[0]["caption"] == "holding potato next to vicks vaporub bottle"
    params = yaml.safe_load((project / "params.yaml").read_text())
    assert params["task"]["type"] == "caption"
    assert params["register"]["name"] == "ssv2-caption"


def test_a_wrong_entry_of_ssv2_is_named(project):
    wrong = [*SSV2_ENTRIES["train"], {"id": "5", "template": "Eating [something]", "label": "x"}]
    message = refused(project, "ssv2", SSV2 | {"labels/train.json": json.dumps(wrong, indent=1)})
    assert "train.json, line 20: expected a class of labels.json. Received: 'Eating some" in message
    message = refused(project, "ssv2", SSV2 | {"labels/train.json": '[\n{"id": }]'})
    assert "train.json, line 2: expected JSON" in message


def test_a_video_with_two_entries_is_named_with_both_places(project):
    twice = json.dumps([*SSV2_ENTRIES["validation"], SSV2_ENTRIES["train"][0]], indent=1)
    message = refused(project, "ssv2", SSV2 | {"labels/validation.json": twice})
    assert re.search(
        r"validation.json, line \d+: 78687.webm is also in .*train.json, line", message
    )


def test_a_label_that_the_catalog_refuses_is_named_with_its_annotation(project):
    files = {"label_map.txt": "clap\nwa\x07ve\n"}
    message = refused(project, "mmaction2", MMACTION | files)
    assert re.match(r".*/train_list.txt, line 1: the row of the labels table would be", message)
    assert "expected a name without line breaks" in message


MMACTION = {
    "train_list.txt": "some/path/000.mp4 1\nsome/path/001.mp4 0\n",
    "val_list.txt": "some/path/002.mp4 1\nsome/path/003.mp4 0\n",
    "label_map.txt": "clap\nwave\n",
    **dict.fromkeys(f"videos/some/path/{number:03}.mp4" for number in range(4)),
}


def test_lists_of_mmaction2_count_classes_from_0(project):
    rows, _ = imported(project, "mmaction2", MMACTION)
    assert [tuple(row.values()) for row in rows] == [
        ("some/path/000.mp4", "wave", "train"),
        ("some/path/001.mp4", "clap", "train"),
        ("some/path/002.mp4", "wave", "test"),
        ("some/path/003.mp4", "clap", "test"),
    ]


def test_training_videos_alone_get_computed_splits(project):
    files = {name: text for name, text in MMACTION.items() if name != "val_list.txt"}
    rows, lines = imported(project, "mmaction2", files)
    assert tuple(rows[0]) == ("video", "label")
    assert lines[0].startswith("Only training videos have labels and files")


def test_other_texts_are_no_lists_of_mmaction2(project):
    files = dict.fromkeys(("latest.txt", "intervals.txt", "evaluation.txt"), "no list\n")
    assert len(imported(project, "mmaction2", MMACTION | files)[0]) == 4


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("x_train_list.txt", "train"),
        ("training.txt", "train"),
        ("trainlist01.txt", "train"),
        ("trainval_list.txt", "train"),
        ("latest_train.txt", "train"),
        ("x_validation.txt", "val"),
        ("testlist.txt", "test"),
    ],
)
def test_a_word_in_the_name_of_a_list_is_its_split(project, name, split):
    lists = {"train_list.txt": "some/path/000.mp4 1\n", "val_list.txt": "some/path/001.mp4 0\n",
             "test_list.txt": "some/path/002.mp4 1\n"}  # fmt: skip
    rows, _ = imported(project, "mmaction2", MMACTION | lists | {name: "some/path/003.mp4 0\n"})
    assert {row["video"]: row["split"] for row in rows}["some/path/003.mp4"] == split


def test_several_labels_of_mmaction2_are_multilabel(project):
    files = {"train_list.txt": "some/path/000.mp4 1 0\nsome/path/001.mp4 0\n"}
    rows, _ = imported(project, "mmaction2", MMACTION | files)
    assert rows[0]["labels"] == "wave|clap"
    assert rows[1]["labels"] == "clap"


def test_lists_of_several_splits_are_official_folds(project):
    files = {
        "ucf101_train_split_1_videos.txt": "some/path/000.mp4 0\nsome/path/001.mp4 1\n",
        "ucf101_val_split_1_videos.txt": "some/path/002.mp4 0\nsome/path/003.mp4 1\n",
        "ucf101_train_split_2_videos.txt": "some/path/002.mp4 0\nsome/path/003.mp4 1\n",
        "ucf101_val_split_2_videos.txt": "some/path/000.mp4 0\nsome/path/001.mp4 1\n",
        "classInd.txt": "1 clap\n2 wave\n",
        "annotations/trainlist01.txt": "some/path/000.mp4 1\n",  # the original, from 1
    } | {name: None for name, text in MMACTION.items() if text is None}
    rows, _ = imported(project, "mmaction2", files)
    assert tuple(rows[0].values()) == ("some/path/000.mp4", "clap", "train", "train", "test")


def test_folders_of_frames_are_linked_without_optical_flow(project):
    picture = b"not opened here"
    for number, folder in enumerate(["a-1", "a-2", "a-3", "a-4"]):
        for name in ("img_00001.jpg", "img_00002.jpg", "flow_x_00001.jpg"):
            path = project / "source/rawframes" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture + bytes([number]))
    lists = {
        "train_rawframes.txt": "rawframes/a-1 2 0\nrawframes/a-2 2 1\n",
        "val_rawframes.txt": "rawframes/a-3 2 0\nrawframes/a-4 2 1\n",
    }
    rows, _ = imported(project, "mmaction2", lists)
    assert tuple(rows[1].values()) == ("rawframes/a-2", "1", "train")
    folder = project / "data/imported/mmaction2/rawframes/a-2"
    assert not folder.is_symlink()
    assert sorted(path.name for path in folder.iterdir()) == ["img_00001.jpg", "img_00002.jpg"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("some/path/000.mp4 2", "line 1: expected a label from 0 to 1. Received: 2"),
        ("some/path/000.mp4", "line 1: expected 'path label' of a video"),
        ("../000.mp4 1", "line 1: expected a path inside the folder of videos"),
        ("some/path/002.mp4 1", "some/path/002.mp4 is also in"),
    ],
)
def test_a_wrong_line_of_mmaction2_is_named(project, line, message):
    received = refused(project, "mmaction2", MMACTION | {"train_list.txt": f"{line}\n"})
    assert message in received


VIDEOS = dict.fromkeys(
    f"{split}/{n}.mp4" for split in ("train", "validation", "test") for n in "12"
)


@pytest.mark.parametrize(
    ("column", "values", "task"),
    [
        ("label", ["cat", "dog"], "classification"),
        ("labels", ["cat|dog", ""], "multilabel"),
        ("value", [1.5, 2.0], "regression"),
        ("text", ["a cat runs", "a dog, running"], "caption"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_metadata_of_a_videofolder(project, column, values, task, suffix):
    write(project / "source", VIDEOS)
    for split in ("train", "validation", "test"):
        table = pd.DataFrame({"file_name": ["1.mp4", "2.mp4"], column: values})
        path = project / "source" / split / f"metadata.{suffix}"
        if suffix == "csv":
            table.to_csv(path, index=False)
        elif suffix == "jsonl":
            table.to_json(path, orient="records", lines=True)
        else:
            table.to_parquet(path)
    rows, _ = imported(project, "videofolder", {})
    name = targets_of(task).columns[0]
    assert {(row["video"], row["split"]) for row in rows} == {
        (video, {"validation": "val"}.get(video.split("/")[0], video.split("/")[0]))
        for video in VIDEOS
    }
    assert {row[name] for row in rows} == set(map(str, values))
    assert load_params(project / "params.yaml").task.type == task


def test_missing_videos_with_one_name_in_several_splits_are_counted_each(project):
    table = "file_name,label\n1.mp4,cat\n2.mp4,dog\n"
    files = {"train/1.mp4": None} | dict.fromkeys(
        (f"{split}/metadata.csv" for split in ("train", "test")), table
    )
    assert "Missing: 3 of 4 videos." in refused(project, "videofolder", files)


def test_captions_and_labels_of_a_videofolder_may_be_lists(project):
    lines = "".join(
        json.dumps({"file_name": name, "labels": ["a", "b"], "text": ["a cat", "one cat"]}) + "\n"
        for name in VIDEOS
    )
    files = VIDEOS | {"metadata.jsonl": lines}
    rows, _ = imported(project, "videofolder", files, task="caption")
    assert len(rows) == 12
    rows, _ = imported(project, "videofolder", files, task="multilabel")
    assert {row["labels"] for row in rows} == {"a|b"}


def test_folders_of_a_videofolder_are_classes(project):
    files = dict.fromkeys(f"{split}/{name}/1.mp4" for split in ("Train", "valid", "test")
                          for name in ("dog", "cat"))  # fmt: skip
    rows, _ = imported(project, "videofolder", files)
    assert tuple(rows[-1].values()) == ("valid/dog/1.mp4", "dog", "val")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "file_name,label\n1.mp4,\n3.mp4,a\n", "metadata.csv, line 3: the video 3"),
        ("metadata.csv", "file,label\n1.mp4,a\n", "metadata.csv, line 1: missing file_name"),
        (
            "metadata.csv",
            "file_name;label\n1.mp4;a\n",
            "metadata.csv, line 1: the cells are separated by ';'. Expected commas.",
        ),
        (
            "metadata.csv",
            "File Name,Label\n1.mp4,a\n",
            "metadata.csv, line 1: unknown columns 'File Name', 'Label'. Expected 'file_name', ",
        ),
        ("metadata.csv", "file_name,label,label\n1.mp4,a,a\n", "several columns 'label'. Rename"),
        ("metadata.csv", "file_name,label,Group\n1.mp4,a,a\n", "unknown column 'Group'. Expe"),
        ("metadata.csv", "file_name,label\n1,a\n", "Write '1.mp4', which exists."),
        (
            "metadata.csv",
            "file_name,label\n1.mp4,a\n1.mkv,a\n",
            "Add the videos, or delete the lines.",
        ),
        ("metadata.csv", f"file_name,label\n{'x' * 300}.mp4,a\n", "line 2: the video xxx"),
        ("metadata.csv", "file_name,kind\n1.mp4,a\n", "line 2: expected one of the columns label"),
        ("metadata.csv", "file_name,label\n../1.mp4,a\n", "line 2: expected a path inside"),
        ("metadata.jsonl", '{"file_name": "1.mp4", "label": "a"}\n{\n', "line 2: expected a JSON"),
    ],
)
def test_wrong_metadata_is_named(project, name, text, message):
    files = {"1.mp4": None, "2.mp4": None, name: text}
    assert message in refused(project, "videofolder", files)


def test_columns_of_metadata_that_are_not_used_may_have_any_name(project):
    text = "file_name,label,fold1,Text,note,note\n1.mp4,a,x,y,z,z\n2.mp4,b,x,y,z,z\n"
    rows, _ = imported(project, "videofolder", {"1.mp4": None, "2.mp4": None, "metadata.csv": text})
    assert [row["label"] for row in rows] == ["a", "b"]


def msrvtt(*videos):
    return json.dumps(
        {
            "info": {"year": "2016", "version": "1.0"},
            "videos": [
                {"category": 9, "url": f"https://www.youtube.com/watch?v={url}", "id": number,
                 "video_id": name, "start time": 137.72, "end time": 149.44, "split": split}
                for number, (name, split, url) in enumerate(videos)
            ],
            "sentences": [
                {"caption": caption, "video_id": name, "sen_id": 2 * number + index}
                for number, (name, *_) in enumerate(videos)
                for index, caption in enumerate(["a car is shown", "a group is dancing\n"])
            ],
        },
        indent=1,
    )  # fmt: skip


MSRVTT = {
    "train_val_annotation/train_val_videodatainfo.json": msrvtt(
        ("video0", "train", "9lZi22qLlEo"), ("video1", "train", "9lZi22qLlEo"),
        ("video6513", "validate", "8zzs8qkhZlU")
    ),
    "test_videodatainfo.json": msrvtt(("video7010", "test", "mrIrmDrTDRE")),
    **dict.fromkeys(
        ["TrainValVideo/video0.mp4", "TrainValVideo/video1.mp4", "TrainValVideo/video6513.mp4",
         "TestVideo/video7010.mp4"]
    ),
}  # fmt: skip


def test_msrvtt_has_a_row_for_each_caption(project):
    rows, _ = imported(project, "msrvtt", MSRVTT)
    assert [tuple(row.values()) for row in rows if row["video"] == "video0.mp4"] == [
        ("video0.mp4", "a car is shown", "train", "9lZi22qLlEo"),
        ("video0.mp4", "a group is dancing", "train", "9lZi22qLlEo"),
    ]
    assert Counter(row["split"] for row in rows) == {"train": 4, "val": 2, "test": 2}


def test_a_video_of_msrvtt_without_its_file_is_named(project):
    files = {name: text for name, text in MSRVTT.items() if "video1" not in name}
    message = refused(project, "msrvtt", files)
    text = MSRVTT["train_val_annotation/train_val_videodatainfo.json"]
    line = text.splitlines().index('   "video_id": "video1",') + 1
    assert f"train_val_videodatainfo.json, line {line}: the video video1 is not below" in message


MSVD = {
    "AllVideoDescriptions.txt": "# Descriptions\n\n"
    "-4wsuPCjDBc_5_15 a squirrel is eating a peanut in it's shell \n"
    "-4wsuPCjDBc_5_15 a chipmunk is eating \n"
    "mv89psg6zh4_33_46 a panda is eating bamboo\n"
    "mv89psg6zh4_33_46 !\n"
    "gone0000000_1_2 a man runs\n"
    "vVNCz1n6QbY_0_8 a boy swims\n"
    "zTZTqWxyzAB_3_9 a girl jumps\n",
    **dict.fromkeys(
        f"YouTubeClips/{name}.avi"
        for name in ("-4wsuPCjDBc_5_15", "mv89psg6zh4_33_46", "vVNCz1n6QbY_0_8", "zTZTqWxyzAB_3_9")
    ),
}


def test_msvd_groups_the_clips_of_a_video(project):
    rows, lines = imported(project, "msvd", MSVD)
    assert tuple(rows[0].values()) == (
        "-4wsuPCjDBc_5_15.avi", "a squirrel is eating a peanut in it's shell", "-4wsuPCjDBc",
    )  # fmt: skip
    assert len(rows) == 5
    assert lines[0].startswith("Missing: 1 of 5 videos of the annotation files, such as gone")
    assert lines[1].startswith("Left out: 1 caption without a word, the first in ")
    assert lines[1].endswith("AllVideoDescriptions.txt, line 6.")


def test_lists_give_the_splits_of_msvd(project):
    lists = {
        "train_list.txt": "-4wsuPCjDBc_5_15\nvVNCz1n6QbY_0_8\n",
        "val_list.txt": "zTZTqWxyzAB_3_9\n",
        "test_list.txt": "mv89psg6zh4_33_46\n",
    }
    rows, _ = imported(project, "msvd", MSVD | lists)
    assert [row["split"] for row in rows] == ["train", "train", "test", "train", "val"]


def test_a_line_of_msvd_without_a_clip_is_named(project):
    files = MSVD | {"AllVideoDescriptions.txt": "vid1 a man runs\n"}
    assert "AllVideoDescriptions.txt, line 1: expected <id>_<start>_<end>" in refused(
        project, "msvd", files
    )


def test_text_that_is_not_utf8_is_named_with_its_line(project):
    write(project / "source", UCF)
    (project / "source/ucfTrainTestlist/classInd.txt").write_bytes(b"1 ApplyEyeMakeup\n2 Caf\xe9\n")
    assert "classInd.txt, line 2: expected text in UTF-8" in refused(project, "ucf101", {})


def test_data_can_be_read_without_the_pipeline_knowing_of_imports(project):
    """The table alone is enough: nothing else of the import is read."""
    imported(project, "hmdb51", HMDB)
    folder = project / "data/imported/hmdb51"
    (folder / "import.json").unlink()
    records = read_labels(DataSection(videos=str(folder)), targets_of("classification"))
    assert len(records) == 6
