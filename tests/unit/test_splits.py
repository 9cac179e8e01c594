import hashlib
from collections import Counter

import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.records import VideoRecord
from pipeline.dataset.catalog import build_catalog
from pipeline.dataset.settings import CatalogSection, DataSection
from pipeline.dataset.splits import assign_splits, merge_groups, split_of
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


def test_shares_are_about_those_of_the_settings():
    counts = Counter(splits(assign(many(500))))
    # Binomial with n = 1000: a standard deviation is at most 15 videos.
    assert counts["test"] == pytest.approx(300, abs=45)
    assert counts["val"] == pytest.approx(200, abs=45)


def test_no_video_moves_when_others_are_added():
    before = {record.video: record.split for record in assign(many(50))}
    after = {record.video: record.split for record in assign(many(80))}
    assert {video: after[video] for video in before} == before


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


def test_val_is_taken_from_train_when_only_train_and_test_are_given():
    records = [
        VideoRecord(f"{n}.mp4", ("cat", "dog")[n % 2], "test" if n < 40 else "train", sha256=f"{n}")
        for n in range(440)
    ]
    assigned = splits(assign(records))
    assert set(assigned[:40]) == {"test"}
    counts = Counter(assigned[40:])
    # val is 0.2 of (0.2 + 0.5): 2/7 of 400 is 114, a standard deviation is 9.
    assert set(counts) == {"train", "val"}
    assert counts["val"] == pytest.approx(114, abs=27)


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


def test_a_class_with_too_few_videos_is_named_with_what_to_do():
    with pytest.raises(PipelineError) as error:
        assign(many(40)[:41])
    message = str(error.value)
    assert message.startswith("Class 'dog' has no video in the ")
    assert "Add videos or groups of this class, raise catalog.val_share" in message


def test_a_split_much_smaller_than_its_share_is_logged(caplog):
    videos = [
        VideoRecord(f"{label}/{n}.mp4", label, group=group, sha256=f"{label}{n}")
        for label in ("cat", "dog")
        for n, group in enumerate(["a"] * 100 + [str(number) for number in range(10)])
    ]
    assigned = assign(videos, CatalogSection(val_share=0.3, test_share=0.3, seed=3))
    share = splits(assigned).count("val") / len(assigned)
    assert share < 0.15
    assert f"The val split has {100 * share:.0f} % of the videos, but catalog.val_share" in (
        caplog.text
    )


def test_the_hash_decides_the_split():
    # sha256("0:a") starts with 9df3c5fa, which is 0.617 of 2**32: above test (0.3) and val (0.5).
    assert split_of("a", CATALOG) == "train"


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
