"""Official folds: from the labels table through the catalog to the parts of a cross-validation."""

import re

import numpy as np
import pytest

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.settings import ExtractSection
from pipeline.clips.shards import write_clips
from pipeline.common.errors import PipelineError
from pipeline.common.records import DecodeFacts, VideoRecord, read_catalog, write_catalog
from pipeline.dataset.catalog import build_catalog
from pipeline.dataset.layouts import read_labels
from pipeline.dataset.settings import CatalogSection, DataSection
from pipeline.retraining.folds import official_folds
from pipeline.tasks.targets import targets_of

CLASSES = targets_of("classification")
HEADER = "video,label,split,group,fold_1,fold_2\n"


def table_of(folder, *rows, header=HEADER):
    """Write a table and the videos that it names."""
    for row in rows:
        video = row.split(",")[0]
        (folder / video).write_bytes(video.encode())
    (folder / "labels.csv").write_text(header + "".join(f"{row}\n" for row in rows))
    return DataSection(videos=str(folder))


# Of each class: groups a to c train in fold 1, d tests; fold 2 tests a. Group e is only in fold 2.
PARTS = {
    "a": ("train", "test"),
    "b": ("train", "train"),
    "c": ("train", ""),
    "d": ("test", "train"),
    "e": ("", "train"),
    "f": ("train", "train"),
}


def rows_of_parts():
    return [
        f"{label}-{group}.mp4,{label},{first},{label}-{group},{first},{second}"
        for label in ("cat", "dog")
        for group, (first, second) in PARTS.items()
    ]


def test_the_catalog_keeps_the_parts_of_each_video(tmp_path):
    data = table_of(tmp_path, *rows_of_parts())
    records = build_catalog(data, CatalogSection(), CLASSES)
    write_catalog(tmp_path / "catalog.csv", records)
    read = {record.video: record for record in read_catalog(tmp_path / "catalog.csv")}
    assert read["dog-a.mp4"].folds == ("train", "test")
    assert read["dog-e.mp4"].folds == ("", "train")
    assert not read["dog-a.mp4"].extra  # no slices of folds
    header = (tmp_path / "catalog.csv").read_text().splitlines()[0]
    assert header.endswith("sha256,fold_1,fold_2")


def test_a_video_of_another_fold_only_is_in_no_split(tmp_path):
    data = table_of(tmp_path, *rows_of_parts())
    splits = {one.video: one.split for one in build_catalog(data, CatalogSection(), CLASSES)}
    assert splits["cat-e.mp4"] is None
    assert splits["cat-d.mp4"] == "test"
    assert sorted(map(str, splits.values())).count("val") == 2  # one of each class, from train


def test_a_video_that_no_fold_uses_needs_a_split(tmp_path):
    data = table_of(tmp_path, "a.mp4,cat,train,,train,test", "b.mp4,cat,test,,test,train",
                    "c.mp4,cat,,,,")  # fmt: skip
    with pytest.raises(PipelineError, match=r"labels\.csv, line 4: split is empty"):
        read_labels(data, CLASSES)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (HEADER, "a.mp4,cat,,,val,train", r"line 2: fold_1 must be train, test or empty.*val"),
        ("video,label,fold_1,fold_3\n", "a.mp4,cat,train,test",
         r"line 1: expected official folds in the columns fold_1, fold_2, .*: fold_1, fold_3"),
        ("video,label,fold_1\n", "a.mp4,cat,train", r"line 1: .*at least two\. Received: fold_1"),
        ("video,label,Fold 1,fold_2\n", "a.mp4,cat,train,", r"line 1: unknown column 'Fold 1'"),
        (HEADER, "a.mp4,cat,,,train,train", r"labels\.csv: no row has test in fold_1"),
    ],
)  # fmt: skip
def test_a_wrong_fold_is_refused_with_its_place(tmp_path, header, row, message):
    data = table_of(tmp_path, row, header=header)
    with pytest.raises(PipelineError, match=message):
        read_labels(data, CLASSES)


def test_a_group_that_trains_and_tests_in_one_fold_is_refused(tmp_path):
    rows = [*rows_of_parts(), "cat-x.mp4,cat,train,cat-b,train,test"]
    message = r"fold_2: cat-b\.mp4 \(train\) and cat-x\.mp4 \(test\) are in one group, cat-b"
    with pytest.raises(PipelineError, match=message):
        build_catalog(table_of(tmp_path, *rows), CatalogSection(), CLASSES)


def test_the_rows_of_one_video_have_the_same_parts(tmp_path):
    header = "video,caption,fold_1,fold_2\n"
    rows = ["a.mp4,one cat,train,test", "a.mp4,a cat,train,train", "b.mp4,a dog,test,train"]
    data = table_of(tmp_path, *rows, header=header)
    message = r"line 3: fold_2 must be the same in all rows of a\.mp4\. Received: train, but test"
    with pytest.raises(PipelineError, match=message):
        read_labels(data, targets_of("caption"))


def test_a_fold_column_is_no_side_input():
    with pytest.raises(ValueError, match="fold_1"):
        DataSection(videos="x", side_inputs={"fold_1": "category"})


def clips_of(folder, videos):
    """Write clips of one grey frame: (name, class, group) each."""
    records = [
        VideoRecord(name, label, group=group, facts=DecodeFacts(key=f"{n:064x}", frames=1))
        for n, (name, label, group) in enumerate(videos)
    ]
    write_clips(
        folder,
        records,
        load=lambda _, indices: np.zeros((len(indices), 2, 2, 3), np.uint8),
        extract=ExtractSection(frames=2),
        frame_size=(2, 2),
    )
    return ClipArrays(folder)


def test_official_folds_use_the_parts_and_take_validation_from_train(tmp_path):
    videos = [(f"{label}-{group}", label, f"{label}-{group}") for label in ("cat", "dog")
              for group in PARTS]  # fmt: skip
    clips = clips_of(tmp_path / "clips", videos)
    parts = {name: PARTS[name[-1]] for name, *_ in videos}
    folds = official_folds(clips, parts, "classification", val_share=0.2, seed=0)
    names = [[{clips.names[index] for index in part} for part in (one.train, one.val, one.test)]
             for one in folds]  # fmt: skip
    assert names[0][2] == {"cat-d", "dog-d"}
    assert names[1][2] == {"cat-a", "dog-a"}
    assert names[0][0] | names[0][1] == {f"{label}-{g}" for label in ("cat", "dog") for g in "abcf"}
    assert names[1][0] | names[1][1] == {f"{label}-{g}" for label in ("cat", "dog") for g in "bdef"}
    for train, val, test in names:
        assert {name[:3] for name in val} == {"cat", "dog"}
        assert not train & val
        assert not (train | val) & test


def clips_in_folds(folder, n_groups, *, tested):
    """Write a clip a group, and test the last groups of each class in the only fold."""
    videos = [(f"{label}-{n}", label, f"{label}-{n}") for label, own in n_groups.items()
              for n in range(own)]  # fmt: skip
    parts = {
        name: ("test" if int(name.split("-")[1]) >= n_groups[label] - tested[label] else "train",)
        for name, label, _ in videos
    }
    return clips_of(folder, videos), parts


@pytest.mark.parametrize("seed", range(5))
def test_a_class_with_few_groups_does_not_enlarge_the_validation_part(tmp_path, caplog, seed):
    clips, parts = clips_in_folds(
        tmp_path / "clips",
        {"cat": 70, "dog": 70, "emu": 3},
        tested={"cat": 30, "dog": 30, "emu": 1},
    )
    (fold,) = official_folds(clips, parts, "classification", val_share=0.1, seed=seed)
    names = [clips.names[index] for index in fold.val]
    assert sum(name.startswith("emu") for name in names) == 1
    # 0.1 of the 143 clips of the fold, of the 40 train clips of a class as of all 82.
    assert 13 <= len(names) <= 17
    assert len(fold.train) + len(fold.val) == 82
    assert not caplog.messages


def test_a_validation_part_that_needs_a_big_group_is_logged(tmp_path, caplog):
    videos = [(f"{label}-{n}", label, f"{label}-{n // 10}") for label in ("cat", "dog")
              for n in range(30)]  # fmt: skip
    clips = clips_of(tmp_path / "clips", videos)
    parts = {name: ("test" if group.endswith("2") else "train",) for name, _, group in videos}
    (fold,) = official_folds(clips, parts, "classification", val_share=0.1, seed=0)
    assert len(fold.val) == 20
    assert caplog.messages == [
        "Fold 1: validation has 33 % of the clips instead of 10 % (catalog.val_share): there are "
        "few groups, or their sizes differ."
    ]


@pytest.mark.parametrize("seed", range(3))
def test_validation_numbers_of_a_fold_are_from_all_ranges(tmp_path, seed):
    videos = [(f"{n}", str(n), f"{n}") for n in range(100)]
    clips = clips_of(tmp_path / "clips", videos)
    parts = {name: ("test" if int(name) % 2 else "train",) for name, *_ in videos}
    (fold,) = official_folds(clips, parts, "regression", val_share=0.1, seed=seed)
    assert len({int(clips.names[index]) // 20 for index in fold.val}) == 5


def test_a_class_with_one_training_group_is_refused(tmp_path):
    clips, parts = clips_in_folds(
        tmp_path / "clips", {"cat": 4, "dog": 2}, tested={"cat": 1, "dog": 1}
    )
    message = (
        "Fold 1: no division of the training groups has 'dog' in both train and val. Expected at "
        "least 2 groups of each. Repair quarantined videos, correct the column fold_1"
    )
    with pytest.raises(PipelineError, match=re.escape(message)):
        official_folds(clips, parts, "classification", val_share=0.2, seed=0)


def test_a_fold_without_a_test_clip_of_a_class_is_refused(tmp_path):
    videos = [(f"{label}-{group}", label, f"{label}-{group}") for label in ("cat", "dog")
              for group in PARTS if (label, group) != ("dog", "d")]  # fmt: skip
    clips = clips_of(tmp_path / "clips", videos)
    parts = {name: PARTS[name[-1]] for name, *_ in videos}
    with pytest.raises(PipelineError, match=re.escape("Fold 1 of 2: no test clip of 'dog'")):
        official_folds(clips, parts, "classification", val_share=0.2, seed=0)
