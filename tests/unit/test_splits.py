from collections import Counter

import pytest

from pipeline.base.errors import PipelineError
from pipeline.catalog.records import CatalogEntry, LabelledVideo, read_catalog, write_catalog
from pipeline.catalog.splits import SplitRule, build_entries, merge_groups, split_of

RULE = SplitRule(val_share=0.2, test_share=0.3, seed=0)


def many(n: int, **fields):
    """n videos of each of two classes, each with a content of its own."""
    videos = [
        LabelledVideo(f"{label}/{number}.mp4", label, **fields)
        for label in ("cat", "dog")
        for number in range(n)
    ]
    return videos, [f"hash of {video.video}" for video in videos]


def test_shares_come_out_about_as_asked():
    entries = build_entries(*many(500), RULE)
    counts = Counter(entry.split for entry in entries)
    # Binomial with n = 1000: a standard deviation is at most 15 videos.
    assert counts["test"] == pytest.approx(300, abs=45)
    assert counts["val"] == pytest.approx(200, abs=45)


def test_no_video_moves_when_others_arrive():
    before = {entry.video: entry.split for entry in build_entries(*many(50), RULE)}
    after = {entry.video: entry.split for entry in build_entries(*many(80), RULE)}
    assert {video: after[video] for video in before} == before


def test_a_renamed_video_stays_in_its_split():
    videos, hashes = many(50)
    renamed = [
        LabelledVideo(f"{video.label}/new/{n}.mp4", video.label) for n, video in enumerate(videos)
    ]
    old, new = build_entries(videos, hashes, RULE), build_entries(renamed, hashes, RULE)
    assert [entry.split for entry in old] == [entry.split for entry in new]


def test_another_seed_is_another_split():
    other = SplitRule(val_share=0.2, test_share=0.3, seed=1)
    videos, hashes = many(50)
    assert [entry.split for entry in build_entries(videos, hashes, RULE)] != [
        entry.split for entry in build_entries(videos, hashes, other)
    ]


def test_a_group_is_never_divided():
    videos = [
        LabelledVideo(f"{label}/{number}.mp4", label, group=f"scene {number // 5}")
        for label in ("cat", "dog")
        for number in range(200)
    ]
    entries = build_entries(videos, [video.video for video in videos], RULE)
    splits_of = {}
    for entry in entries:
        splits_of.setdefault(entry.group, set()).add(entry.split)
    assert len(splits_of) == 40
    assert all(len(splits) == 1 for splits in splits_of.values())


def test_copies_of_one_file_share_a_split():
    videos, hashes = many(40)
    videos.append(LabelledVideo("cat/copy.mp4", "cat"))
    hashes.append(hashes[7])
    entries = build_entries(videos, hashes, RULE)
    assert entries[-1].split == entries[7].split
    assert entries[-1].group == entries[7].group


def test_a_shared_copy_joins_whole_groups():
    assert merge_groups(["b", "c", "a", "d"], ["1", "2", "2", "3"]) == ["b", "a", "a", "d"]
    # a-b share 1, b-c share 2: all three are one.
    assert merge_groups(["a", "b", "b", "c"], ["1", "1", "2", "2"]) == ["a", "a", "a", "a"]


def test_videos_without_a_hash_are_no_copies_of_each_other():
    assert merge_groups(["a", "b"], ["", ""]) == ["a", "b"]


def test_segments_of_one_video_share_a_split():
    videos = [
        LabelledVideo("match.mp4", ("cat", "dog")[n % 2], start_seconds=float(n)) for n in range(9)
    ]
    others, hashes = many(40)
    entries = build_entries(others + videos, hashes + ["match"] * 9, RULE)
    assert len({entry.split for entry in entries[-9:]}) == 1


def test_given_splits_are_kept():
    splits = ("train", "val", "test")
    videos = [LabelledVideo(f"{n}.mp4", ("cat", "dog")[n % 2], splits[n % 3]) for n in range(12)]
    entries = build_entries(videos, [video.video for video in videos], RULE)
    assert [entry.split for entry in entries] == [video.split for video in videos]


def test_val_is_taken_from_train_when_only_train_and_test_are_given():
    videos = [
        LabelledVideo(f"{n}.mp4", ("cat", "dog")[n % 2], "test" if n < 40 else "train")
        for n in range(440)
    ]
    entries = build_entries(videos, [video.video for video in videos], RULE)
    assert all(entry.split == "test" for entry in entries[:40])
    counts = Counter(entry.split for entry in entries[40:])
    # val is 0.2 of (0.2 + 0.5): 2/7 of 400 is 114, a standard deviation is 9.
    assert set(counts) == {"train", "val"}
    assert counts["val"] == pytest.approx(114, abs=27)


def test_a_group_in_two_given_splits_is_refused():
    videos = [
        LabelledVideo("a.mp4", "cat", "train", group="g"),
        LabelledVideo("b.mp4", "cat", "test", group="g"),
    ]
    with pytest.raises(
        PipelineError, match=r"a\.mp4 \(train\) and b\.mp4 \(test\) belong together"
    ):
        build_entries(videos, ["1", "2"], RULE)


def test_copies_with_different_labels_are_refused():
    videos, hashes = many(40)
    hashes[60] = hashes[3]
    with pytest.raises(
        PipelineError, match=r"cat/3\.mp4 \(cat\) and dog/20\.mp4 \(dog\) have the same content"
    ):
        build_entries(videos, hashes, RULE)


def test_one_class_is_not_enough():
    videos, hashes = many(30)
    with pytest.raises(PipelineError, match="needs at least two classes, found cat"):
        build_entries(videos[:30], hashes[:30], RULE)


def test_a_class_with_too_few_videos_is_named_with_the_remedy():
    videos, hashes = many(40)
    with pytest.raises(PipelineError) as error:
        build_entries(videos[:41], hashes[:41], RULE)
    message = str(error.value)
    assert message.startswith("Class 'dog' has no video in the ")
    assert "Add videos or groups of this class, raise catalog.val_share" in message


def test_the_draw_is_what_the_documentation_says():
    # sha256("0:a") starts with 9df3c5fa: 0x9df3c5fa / 2**32 = 0.617, past test (0.3) and val (0.5).
    assert split_of("a", RULE) == "train"


def test_the_catalog_reads_back_sorted(tmp_path):
    entries = [
        CatalogEntry("b.mp4", "dog", "test", "g", None, None, "2"),
        CatalogEntry("a.mp4", "cat", "train", "g,1", 10.5, None, "1"),
        CatalogEntry("a.mp4", "cat", "train", "g,1", 2.0, 3.0, "1"),
    ]
    path = tmp_path / "catalog.csv"
    write_catalog(path, entries)
    assert read_catalog(path) == [entries[2], entries[1], entries[0]]
    assert [entry.name for entry in read_catalog(path)] == ["a.mp4#t=2,3", "a.mp4#t=10.5", "b.mp4"]


def test_extra_columns_stand_last_in_the_catalog(tmp_path):
    entries = [CatalogEntry("a.mp4", "cat", "test", "g", None, None, "1", {"camera": "left"})]
    path = tmp_path / "catalog.csv"
    write_catalog(path, entries)
    assert path.read_text() == (
        "video,label,split,group,start_seconds,end_seconds,sha256,extra.camera\n"
        "a.mp4,cat,test,g,,,1,left\n"
    )
    assert read_catalog(path) == entries


def test_extra_columns_come_along_to_the_entries():
    videos = [
        LabelledVideo(f"{index}.mp4", "ab"[index % 2], extra={"n": str(index)})
        for index in range(40)
    ]
    entries = build_entries(videos, [str(index) for index in range(40)], RULE)
    assert [entry.extra for entry in entries] == [{"n": str(index)} for index in range(40)]
