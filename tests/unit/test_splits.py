import hashlib
from collections import Counter

import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.records import VideoRecord
from pipeline.dataset.catalog import build_catalog
from pipeline.dataset.settings import CatalogSection, DataSection
from pipeline.dataset.splits import assign_splits, merge_groups
from pipeline.tasks.targets import targets_of

CATALOG = CatalogSection(val_share=0.2, test_share=0.3, seed=0)
CLASSES = targets_of("classification")


def assign(records, catalog=CATALOG):
    return assign_splits(records, catalog, CLASSES)


def many(count):
    """``count`` videos of each of two classes, each with a content of its own."""
    return [
        VideoRecord(f"{label}/{n}.mp4", label, sha256=f"hash of {label}/{n}")
        for label in ("cat", "dog")
        for n in range(count)
    ]


def splits(records):
    return [record.split for record in records]


def test_the_shares_of_each_class_are_those_of_the_settings():
    assigned = assign(many(500))
    for label in ("cat", "dog"):
        counts = Counter(record.split for record in assigned if record.target == label)
        assert counts == {"train": 250, "val": 100, "test": 150}


def test_a_new_video_moves_few_others():
    before = {record.video: record.split for record in assign(many(500))}
    after = {record.video: record.split for record in assign(many(505))}
    assert sum(after[video] != split for video, split in before.items()) <= 10


def test_a_renamed_video_stays_in_its_split():
    records = many(50)
    renamed = [
        VideoRecord(f"{one.target}/new/{n}.mp4", one.target, sha256=one.sha256)
        for n, one in enumerate(records)
    ]
    assert splits(assign(records)) == splits(assign(renamed))


def test_another_seed_gives_another_split():
    other = CATALOG.model_copy(update={"seed": 1})
    assert splits(assign(many(50))) != splits(assign(many(50), other))


def test_a_group_is_never_divided():
    records = [
        VideoRecord(f"{label}/{n}.mp4", label, group=f"scene {n // 5}", sha256=f"{label}{n}")
        for label in ("cat", "dog")
        for n in range(200)
    ]
    splits_by_group = {}
    for record in assign(records):
        splits_by_group.setdefault(record.group, set()).add(record.split)
    assert len(splits_by_group) == 40
    assert all(len(group) == 1 for group in splits_by_group.values())


def test_copies_of_one_file_share_a_split():
    records = many(40)
    copied = assign([*records, VideoRecord("cat/copy.mp4", "cat", sha256=records[7].sha256)])
    assert copied[-1].split == copied[7].split
    assert copied[-1].group == copied[7].group


def test_a_shared_copy_joins_whole_groups():
    assert merge_groups(["b", "c", "a", "d"], ["1", "2", "2", "3"]) == ["b", "a", "a", "d"]
    # a-b share 1, b-c share 2: all three are one.
    assert merge_groups(["a", "b", "b", "c"], ["1", "1", "2", "2"]) == ["a", "a", "a", "a"]


def test_videos_without_a_hash_are_not_copies():
    assert merge_groups(["a", "b"], ["", ""]) == ["a", "b"]


def test_segments_of_one_video_share_a_split():
    segments = [
        VideoRecord("match.mp4", ("cat", "dog")[n % 2], start_seconds=float(n), sha256="match")
        for n in range(9)
    ]
    assert len(set(splits(assign(many(40) + segments)[-9:]))) == 1


def test_given_splits_are_kept():
    given = ("train", "val", "test")
    records = [VideoRecord(f"{n}.mp4", ("cat", "dog")[n % 2], given[n % 3]) for n in range(12)]
    assert splits(assign(records)) == splits(records)


def test_val_is_taken_from_each_class_of_train_when_only_train_and_test_are_given():
    records = [
        VideoRecord(f"{n}.mp4", f"class {n % 9}", "test" if n < 90 else "train", sha256=f"{n}")
        for n in range(90 + 9 * 7)
    ]
    assigned = splits(assign(records))
    assert set(assigned[:90]) == {"test"}
    # val is 0.2 of (0.2 + 0.5): 2/7 of the 7 training videos of each class.
    counts = Counter(
        (record.target, split) for record, split in zip(records, assigned, strict=True)
    )
    assert [counts[f"class {n}", "val"] for n in range(9)] == [2] * 9


@pytest.mark.parametrize("given", [("val",), ("test",), ("val", "test")])
def test_given_splits_without_train_are_refused(given):
    records = [VideoRecord(f"{n}.mp4", "cat", given[n % len(given)]) for n in range(4)]
    message = rf"no video has the split train\. .*Received: {' and '.join(sorted(given))}\."
    with pytest.raises(PipelineError, match=message):
        assign(records)


def test_a_group_in_two_given_splits_is_refused():
    records = [
        VideoRecord("a.mp4", "cat", "train", group="g"),
        VideoRecord("b.mp4", "cat", "test", group="g"),
    ]
    with pytest.raises(PipelineError, match=r"a\.mp4 \(train\) and b\.mp4 \(test\) .* group, g"):
        assign(records)


def test_copies_with_different_targets_are_refused():
    records = [*many(40), VideoRecord("dog/copy.mp4", "dog", sha256="hash of cat/3")]
    with pytest.raises(
        PipelineError, match=r"cat/3\.mp4 \(cat\) and dog/copy\.mp4 \(dog\) have the same content"
    ):
        assign(records)


def test_one_class_is_not_enough():
    with pytest.raises(PipelineError, match=r"at least two classes\. Received: cat"):
        assign(many(30)[:30])


def test_all_classes_with_too_few_groups_are_named_with_what_to_do():
    records = [
        *many(40),
        VideoRecord("emu/1.mp4", "emu", sha256="e1"),
        *(VideoRecord(f"fox/{n}.mp4", "fox", group=f"{n % 2}", sha256=f"f{n}") for n in range(9)),
    ]
    with pytest.raises(PipelineError) as error:
        assign(records)
    assert str(error.value).startswith(
        "Splits: too few groups of videos of class 'emu' (1), class 'fox' (2). Expected at least 3 "
        "groups of each class, one for each of train, val, test."
    )
    assert "Add videos, divide other groups in that column, cut a long file" in str(error.value)


def test_all_classes_that_given_splits_lack_are_named():
    given = [("cat", "train"), ("cat", "test"), ("dog", "train"), ("dog", "val"), ("emu", "val")]
    records = [VideoRecord(f"{n}.mp4", *pair) for n, pair in enumerate(given)]
    with pytest.raises(PipelineError) as error:
        assign(records)
    assert (
        "no usable video of class 'cat' in val; class 'dog' in test; class 'emu' in train; class "
        "'emu' in test. Expected each class in train, val, test."
    ) in str(error.value)


def test_groups_of_several_classes_that_cannot_be_divided_are_refused():
    # Each class has three groups, so that each of them needs a split of its own: a, b, c for cat.
    members = {"cat": "abc", "dog": "abd", "emu": "acd"}
    records = [
        VideoRecord(f"{label}/{group}.mp4", label, group=group, sha256=label + group)
        for label, groups in members.items()
        for group in groups
    ]
    with pytest.raises(PipelineError) as error:
        assign(records)
    message = str(error.value)
    assert message.startswith("Splits: no division of the groups has every class in each of train")
    assert "Missing in the nearest division: class '" in message


def test_splits_of_other_sizes_than_wanted_are_logged(caplog):
    videos = [
        VideoRecord(f"{label}/{n}.mp4", label, group=group, sha256=f"{label}{n}")
        for label in ("cat", "dog")
        for n, group in enumerate(["a"] * 100 + [str(number) for number in range(10)])
    ]
    assigned = assign(videos, CatalogSection(val_share=0.3, test_share=0.3, seed=3))
    share = splits(assigned).count("val") / len(assigned)
    assert share < 0.15
    assert f"The val split has {100 * share:.0f} % of the videos instead of 30 % (catalog.val" in (
        caplog.text
    )


def test_a_catalog_has_content_hashes_and_keeps_extra_columns(tmp_path):
    rows = ["video,label,camera"]
    for n in range(60):
        (tmp_path / f"{n}.mp4").write_bytes(bytes([n]))
        rows.append(f"{n}.mp4,{'ab'[n % 2]},{n}")
    (tmp_path / "socket.mp4").mkdir()  # exists, but is not a regular file
    rows.append("socket.mp4,a,60")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    records = build_catalog(DataSection(videos=str(tmp_path)), CATALOG, CLASSES)
    assert records[1].sha256 == hashlib.sha256(b"\x01").hexdigest()
    assert (records[60].sha256, records[60].group) == ("", "socket.mp4")
    assert [record.extra for record in records] == [{"camera": str(n)} for n in range(61)]


def test_an_unreadable_video_is_named(tmp_path):
    # /proc/self/mem is a regular file whose first byte nobody may read, not even root.
    (tmp_path / "labels.csv").write_text("video,label\na.mp4,cat\n")
    (tmp_path / "a.mp4").symlink_to("/proc/self/mem")
    with pytest.raises(PipelineError, match=r"a\.mp4: the file cannot be read \(.*\)\. Make it"):
        build_catalog(DataSection(videos=str(tmp_path)), CATALOG, CLASSES)


def test_classes_that_differ_only_in_case_are_named(tmp_path, caplog):
    for folder in ("fight", "Fight ", "walk"):
        for number in range(3):
            path = tmp_path / folder / f"{number}.mp4"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{folder}{number}")
    build_catalog(DataSection(videos=str(tmp_path)), CATALOG, CLASSES)
    assert "'Fight' and 'fight' differ only in case, spaces, " in caplog.text
    assert "if they are one class, write them alike." in caplog.text
