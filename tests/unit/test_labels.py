"""``vidpipe labels``: a table of labels with proposed groups."""

import csv
import os
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.common.errors import PipelineError
from pipeline.common.records import VideoRecord
from pipeline.compute.settings import ComputeSection
from pipeline.data_report.groups import propose_groups
from pipeline.data_report.labels import write_labels_table
from pipeline.data_report.looks import look_at_videos
from pipeline.dataset.catalog import content_hashes
from pipeline.dataset.layouts import read_labels
from pipeline.dataset.settings import CatalogSection, DataSection
from pipeline.dataset.splits import assign_splits, with_groups
from pipeline.evaluation.near_duplicates import hash_stored_videos
from pipeline.tasks.targets import targets_of
from pipeline.video.batch import decode_records
from pipeline.video.settings import DecodeSection
from pipeline.video.store import write_frame_settings
from pipeline.video.writing import encode_mp4

SIZE = 96
HOSTILE = '<img src=x onerror=alert(1)>,"=1+1"\nü $(x).mp4'


def scene(seed, count=20):
    """Frames uint8 [count, SIZE, SIZE, 3]: coarse random blocks, and a square that moves."""
    blocks = np.random.default_rng(seed).integers(30, 226, (8, 8, 3), dtype=np.uint8)
    still = blocks.repeat(SIZE // 8, axis=0).repeat(SIZE // 8, axis=1)
    frames = np.repeat(still[None], count, axis=0)
    for number, frame in enumerate(frames):
        frame[40:52, 3 * number : 3 * number + 12] = 255
    return frames


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Class folders with a copy, a mirrored, a recompressed, a broken and hostile files."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("clap", "wave/deep"):
        (folder / name).mkdir(parents=True)
    (folder / "clap/1.mp4").write_bytes(encode_mp4(scene(1), fps=10))
    (folder / "wave/deep/2.mp4").write_bytes(encode_mp4(scene(1)[:, :, ::-1], fps=10))
    (folder / "wave/3.mp4").write_bytes(encode_mp4(scene(1)[:, ::2, ::2], fps=10, crf=35))
    (folder / "clap/4.mp4").write_bytes(encode_mp4(scene(4), fps=10))
    shutil.copy(folder / "clap/4.mp4", folder / "clap/5.mp4")
    (folder / f"clap/{HOSTILE}").write_bytes(encode_mp4(scene(6), fps=10))
    (folder / "wave/goal.mp4").write_bytes(b"not a video")
    (folder / "wave/goal_part2.mp4").write_bytes(encode_mp4(scene(7), fps=10))
    (folder / "wave/8.mp4").write_bytes(encode_mp4(scene(8), fps=10))
    return folder


@pytest.fixture
def videos(made, tmp_path):
    return shutil.copytree(made, tmp_path / "videos")


def write(videos, *, task="classification", labels="", output=None, **settings):
    return write_labels_table(
        DataSection(videos=str(videos), labels=labels),
        targets_of(task),
        decode=DecodeSection(**settings),
        compute=ComputeSection(workers=2),
        output=output,
    )


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def groups_of(path):
    """Sets of the videos of each group."""
    groups = {}
    for row in rows_of(path):
        if row["group"]:
            groups.setdefault(row["group"], set()).add(row["video"])
    return sorted(map(sorted, groups.values()))


EXPECTED = [
    ["clap/1.mp4", "wave/3.mp4", "wave/deep/2.mp4"],
    ["clap/4.mp4", "clap/5.mp4"],
    ["wave/goal.mp4", "wave/goal_part2.mp4"],
]


def test_class_folders_become_a_table_with_proposed_groups(videos):
    lines = "\n".join(write(videos))
    table = videos / "labels.csv"
    rows = rows_of(table)
    assert list(rows[0]) == ["video", "label", "group", "proposed_group"]
    assert len(rows) == 9
    assert {row["label"] for row in rows} == {"clap", "wave"}
    assert groups_of(table) == EXPECTED
    assert "9 videos" in lines
    assert "By class: clap 4, wave 5" in lines
    assert "Proposed groups: 3 of 7 videos" in lines
    for reason in ("copies of one file", "names with a common stem", "look alike when mirrored"):
        assert reason in lines
    assert "Not readable, and kept in the table: 1 video" in lines
    assert "wave/goal.mp4" in lines
    assert "vidpipe repro report" in lines
    assert "params.yaml" not in lines, "the table is at its usual place"


def test_folders_of_splits_become_a_column(videos, tmp_path):
    shutil.move(videos, tmp_path / "all/train")
    (tmp_path / "all/test/wave").mkdir(parents=True)
    (tmp_path / "all/test/wave/9.mp4").write_bytes(encode_mp4(scene(9), fps=10))
    data = DataSection(videos=str(tmp_path / "all"))
    before = read_labels(data, targets_of("classification"))
    write(tmp_path / "all")
    assert rows_of(tmp_path / "all/labels.csv")[0] == {
        "video": "test/wave/9.mp4", "label": "wave", "split": "test", "group": "",
        "proposed_group": "",
    }  # fmt: skip
    after = read_labels(data, targets_of("classification"))
    assert {(one.video, one.target, one.split) for one in after} == {
        (one.video, one.target, one.split) for one in before
    }


def test_the_table_can_be_read_as_labels(videos):
    before = read_labels(DataSection(videos=str(videos)), targets_of("classification"))
    write(videos)
    after = read_labels(DataSection(videos=str(videos)), targets_of("classification"))
    assert {(one.video, one.target) for one in before} == {(one.video, one.target) for one in after}
    assert f"clap/{HOSTILE}" in {one.video for one in after}


def test_an_existing_file_is_never_overwritten(videos, tmp_path):
    (videos / "labels.csv").write_text("video,label\nclap/1.mp4,clap\n")
    with pytest.raises(PipelineError, match=r"labels\.csv: the file exists.*--output"):
        write(videos)
    with pytest.raises(PipelineError, match="--output"):
        write(videos, output=videos / "clap/1.mp4")
    assert (videos / "labels.csv").read_text() == "video,label\nclap/1.mp4,clap\n"
    link = tmp_path / "link.csv"
    link.symlink_to(videos / "labels.csv")
    with pytest.raises(PipelineError, match="the file exists"):
        write(videos, output=link)


def test_the_rows_columns_and_groups_of_a_table_are_kept(videos, tmp_path):
    table = videos / "labels.csv"
    table.write_text(
        "video,camera,label,group\n"
        'clap/1.mp4,"a,b",clap,studio\n'
        "wave/deep/2.mp4,=1,wave,\n"
        "clap/4.mp4,,clap,four\n"
        "clap/5.mp4,,clap,five\n"
        "wave/8.mp4,c,wave,\n"
    )
    output = tmp_path / "new.csv"
    lines = "\n".join(write(videos, output=output))
    assert output.read_text() == (
        "video,camera,label,group,proposed_group\n"
        'clap/1.mp4,"a,b",clap,studio,\n'
        "wave/deep/2.mp4,=1,wave,studio,studio\n"
        "clap/4.mp4,,clap,four,\n"
        "clap/5.mp4,,clap,five,\n"
        "wave/8.mp4,c,wave,,\n"
    )
    assert "Several groups of the table may be one; they are unchanged:" in lines
    assert f"data.labels: {os.path.relpath(output, videos)}" in lines


def test_all_rows_of_a_video_get_its_group(videos, tmp_path):
    (videos / "labels.csv").write_text(
        "video,start_seconds,end_seconds,label\n"
        "clap/1.mp4,0,1,up\nclap/1.mp4,1,2,down\nwave/3.mp4,0,1,up\nwave/8.mp4,,,down\n"
    )
    write(videos, task="frames", output=tmp_path / "new.csv")
    rows = rows_of(tmp_path / "new.csv")
    assert [row["group"] for row in rows] == ["clap/1.mp4"] * 3 + [""]


def test_a_cleared_group_is_not_proposed_again_and_new_rows_get_proposals(videos, tmp_path):
    write(videos)
    table = videos / "labels.csv"
    text = table.read_text()
    kept = text.replace("wave/3.mp4,wave,clap/1.mp4,clap/1.mp4", "wave/3.mp4,wave,,clap/1.mp4")
    kept = kept.replace("clap/5.mp4,clap,clap/4.mp4,clap/4.mp4\n", "")
    kept += "clap/5.mp4,clap,,\n"  # a row that was added after the proposals
    table.write_text(kept)
    lines = "\n".join(write(videos, output=tmp_path / "second.csv"))
    rows = {row["video"]: row for row in rows_of(tmp_path / "second.csv")}
    assert (rows["wave/3.mp4"]["group"], rows["wave/3.mp4"]["proposed_group"]) == ("", "clap/1.mp4")
    assert rows["wave/deep/2.mp4"]["group"] == "clap/1.mp4"
    assert rows["clap/5.mp4"]["group"] == rows["clap/5.mp4"]["proposed_group"] == "clap/4.mp4"
    assert (
        "while its cell proposed_group is filled, it is not grouped with these videos again"
        in lines
    )
    assert "No group, because you cleared the proposed one: wave/3.mp4" in lines
    records = read_labels(DataSection(videos=str(videos)), targets_of("classification"))
    assert all(not record.extra for record in records)


def test_another_table_and_other_targets_are_kept(videos, tmp_path):
    (tmp_path / "values.csv").write_text("video,value\nclap/4.mp4,1.5\nclap/5.mp4,2\n")
    lines = "\n".join(write(videos, task="regression", labels="../values.csv"))
    assert (videos / "labels.csv").read_text() == (
        "video,value,group,proposed_group\n"
        "clap/4.mp4,1.5,clap/4.mp4,clap/4.mp4\nclap/5.mp4,2,clap/4.mp4,clap/4.mp4\n"
    )
    assert "data.labels: labels.csv" in lines


def test_pictures_are_videos_and_a_linked_folder_is_refused(tmp_path):
    for folder, seed in (("clap/series", 1), ("wave/again", 1)):
        (tmp_path / "videos" / folder).mkdir(parents=True)
        for number, frame in enumerate(scene(seed, 5)):
            Image.fromarray(frame).save(tmp_path / "videos" / folder / f"f_{number}.png")
    Image.fromarray(scene(2)[0]).save(tmp_path / "videos/clap/single.jpg")
    write(tmp_path / "videos")
    assert groups_of(tmp_path / "videos/labels.csv") == [["clap/series", "wave/again"]]
    (tmp_path / "videos/labels.csv").unlink()
    (tmp_path / "videos/linked").symlink_to(tmp_path / "videos/clap")
    with pytest.raises(PipelineError, match="symbolic link to a folder"):
        write(tmp_path / "videos")


def decoded(videos, folder, **settings):
    """Records without groups, as the catalog and decode stages leave them."""
    files = sorted(path for path in videos.rglob("*.*") if path.suffix != ".csv")
    names = [path.relative_to(videos).as_posix() for path in files]
    records = [
        VideoRecord(name, "", "train", sha256=sha256)
        for name, sha256 in zip(names, content_hashes(videos, names), strict=True)
    ]
    decode = DecodeSection(**settings)
    compute = ComputeSection(workers=2)
    records = decode_records(
        folder, with_groups(records), videos=videos, decode=decode, compute=compute
    )
    write_frame_settings(folder, decode)
    return records


@pytest.mark.parametrize("is_decoded", [False, True])
def test_the_table_has_the_groups_of_the_report(tmp_path, monkeypatch, is_decoded):
    # Of two wide videos the report compares the centre, which is all that the frame store keeps.
    monkeypatch.chdir(tmp_path)
    wide = np.concatenate([scene(1), scene(2), scene(3)], axis=2)
    other = np.concatenate([scene(4), scene(2), scene(5)], axis=2)
    for name, frames in (("a/1.mp4", wide), ("b/2.mp4", other), ("b/3.mp4", scene(6))):
        Path("videos", name).parent.mkdir(parents=True, exist_ok=True)
        Path("videos", name).write_bytes(encode_mp4(frames, fps=10))
    store = Path("data/frames" if is_decoded else "frames")
    records = decoded(Path("videos"), store)
    proposals = propose_groups(records, hash_stored_videos(store, records))
    write(Path("videos"))
    reported = [[records[member].video for member in group.members] for group in proposals.groups]
    assert reported == groups_of(Path("videos/labels.csv")) == [["a/1.mp4", "b/2.mp4"]]


def test_frames_are_hashed_alike_from_the_store_and_from_odd_files(tmp_path, real_videos):
    videos = real_videos / "odd"
    records = decoded(videos, tmp_path / "frames", on_damage="keep")
    decode, compute = DecodeSection(on_damage="keep"), ComputeSection(workers=2)
    stored, direct = (
        look_at_videos(records, videos=videos, frames=frames, decode=decode, compute=compute)
        for frames in (tmp_path / "frames", tmp_path)
    )
    usable = [record.name for record in records if record.is_usable]
    assert len(usable) > 20
    for name in usable:
        a, b = stored[name].hashed, direct[name].hashed
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.hashes.tolist() == b.hashes.tolist(), name
            assert a.colours.tolist() == b.colours.tolist(), name
            assert a.seconds.tolist() == b.seconds.tolist(), name


def test_segments_are_compared_and_all_segments_of_a_video_get_its_group(videos, tmp_path):
    (videos / "c.mp4").write_bytes(encode_mp4(np.concatenate([scene(20), scene(1)]), fps=10))
    (videos / "labels.csv").write_text(
        "video,start_seconds,end_seconds,label\n"
        "c.mp4,0,2,up\nc.mp4,2,4,down\nclap/1.mp4,,,down\nwave/8.mp4,0,1,up\nwave/8.mp4,1,2,up\n"
    )
    lines = "\n".join(write(videos, output=tmp_path / "new.csv"))
    rows = rows_of(tmp_path / "new.csv")
    assert [row["group"] for row in rows] == ["c.mp4"] * 3 + ["", ""]
    assert "Proposed groups: 1 of 2 videos" in lines
    assert "copies" not in lines


def test_a_video_without_contrast_has_no_group_by_looks(tmp_path):
    for name in ("a/1.mp4", "b/2.mp4"):
        (tmp_path / name).parent.mkdir()
        level = 10 if name == "a/1.mp4" else 200
        frames = np.full((4, 32, 32, 3), level, np.uint8)
        (tmp_path / name).write_bytes(encode_mp4(frames, fps=10))
    assert "Proposed groups: none." in write(tmp_path)
    assert groups_of(tmp_path / "labels.csv") == []


def test_most_pairs_of_real_clips_that_look_alike_show_one_source(tmp_path, real_videos):
    source = real_videos / "survfight"
    (tmp_path / "fight").mkdir()
    sources = {row["video"]: row["group"] for row in rows_of(source / "labels.csv")}
    for video in [video for video in sources if video.startswith("fight/")][:75]:
        (tmp_path / video).symlink_to(source / video)
    write(tmp_path)
    pairs = [
        pair for group in groups_of(tmp_path / "labels.csv") for pair in combinations(group, 2)
    ]
    right = [sources[a] == sources[b] for a, b in pairs]
    assert len(right) > 35
    assert np.mean(right) > 0.9


def test_odd_files_are_grouped_or_listed_and_kept(tmp_path, real_videos):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for number, source in enumerate(sorted((real_videos / "odd").rglob("*.*"))):
        shutil.copy(source, tmp_path / "ab"[number % 2] / f"{number:02}{source.suffix}")
    lines = "\n".join(write(tmp_path))
    assert "Not readable" in lines
    read = read_labels(DataSection(videos=str(tmp_path)), targets_of("classification"))
    assert len(rows_of(tmp_path / "labels.csv")) == len(read)


@pytest.mark.usefixtures("videos")
def test_the_command_writes_a_table_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("data: {videos: elsewhere}\ncompute: {workers: 2}\n")
    result = CliRunner().invoke(app, ["labels", "--folder", "videos", "--output", "sub/new.csv"])
    assert result.exit_code == 0, result.exception
    assert groups_of(tmp_path / "sub/new.csv") == EXPECTED
    assert "data.videos: videos, data.labels: ../sub/new.csv" in result.output
    result = CliRunner().invoke(app, ["labels"])
    assert "data.videos" in str(result.exception)


def test_alike_videos_of_two_given_splits_get_only_a_proposed_group(tmp_path):
    videos = tmp_path / "all"
    seeds = {
        "Train/a/1.mp4": 1, "test/a/2.mp4": 1, "Train/b/3.mp4": 3, "Train/b/4.mp4": 3,
        "test/b/5.mp4": 5, "Train/a/6.mp4": 6, "Train/b/7.mp4": 7,
    }  # fmt: skip
    for name, seed in seeds.items():
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        crf = 20 + int(name[-5])
        (videos / name).write_bytes(encode_mp4(scene(seed), fps=10, crf=crf))
    lines = "\n".join(write(videos))
    cells = {
        row["video"]: (row["group"], row["proposed_group"])
        for row in rows_of(videos / "labels.csv")
    }
    assert cells["Train/a/1.mp4"] == cells["test/a/2.mp4"] == ("", "Train/a/1.mp4")
    assert cells["Train/b/3.mp4"] == cells["Train/b/4.mp4"] == ("Train/b/3.mp4",) * 2
    assert "In several splits" in lines
    assert "Train/a/1.mp4, test/a/2.mp4" in lines
    assert "Move the videos of such a group to one split, then fill their cells group" in lines
    targets = targets_of("classification")
    records = read_labels(DataSection(videos=str(videos)), targets)
    splits = {one.split for one in assign_splits(records, CatalogSection(), targets)}
    assert splits == {"train", "val", "test"}, "the catalog stage takes the table"
    again = "\n".join(write(videos, output=tmp_path / "again.csv"))
    assert "In several splits" in again, "the leak stays visible"
    assert "you cleared" not in again


def test_alike_videos_of_two_parts_of_an_official_fold_get_only_a_proposed_group(videos, tmp_path):
    (videos / "labels.csv").write_text(
        "video,label,split,fold_1,fold_2\nclap/1.mp4,clap,train,train,train\n"
        "wave/3.mp4,wave,train,train,test\nwave/8.mp4,wave,test,test,train\n"
    )
    lines = "\n".join(write(videos, output=tmp_path / "new.csv"))
    rows = rows_of(tmp_path / "new.csv")
    assert [row["group"] for row in rows] == ["", "", ""]
    assert [row["proposed_group"] for row in rows] == ["clap/1.mp4", "clap/1.mp4", ""]
    assert "fold_2: test, train" in lines


def test_one_filled_row_gives_the_group_of_a_video_with_several_rows(videos, tmp_path):
    (videos / "labels.csv").write_text(
        "video,start_seconds,end_seconds,label,group,proposed_group\n"
        "clap/1.mp4,0,1,up,studio,\nclap/1.mp4,1,2,down,,\n"
        "wave/3.mp4,0,1,up,,clap/1.mp4\nwave/3.mp4,1,2,up,,\n"
    )
    lines = "\n".join(write(videos, output=tmp_path / "new.csv"))
    rows = rows_of(tmp_path / "new.csv")
    assert [row["group"] for row in rows] == ["studio", "", "studio", "studio"]
    assert "you cleared" not in lines, "a row of wave/3.mp4 has no proposed group"


def test_a_row_added_later_is_grouped_with_cleared_videos(videos, tmp_path):
    (videos / "labels.csv").write_text(
        "video,label,group,proposed_group\n"
        "clap/1.mp4,clap,,clap/1.mp4\nwave/3.mp4,wave,,clap/1.mp4\n"
    )
    assert "Proposed groups: none" in "\n".join(write(videos, output=tmp_path / "first.csv"))
    with (videos / "labels.csv").open("a") as table:
        table.write("wave/deep/2.mp4,wave,,\n")
    lines = "\n".join(write(videos, output=tmp_path / "second.csv"))
    assert groups_of(tmp_path / "second.csv") == EXPECTED[:1]
    assert "you cleared" not in lines


def test_a_row_added_later_joins_the_kept_group_and_the_cleared_video_stays_out(videos, tmp_path):
    shutil.copy(videos / "clap/1.mp4", videos / "clap/0.mp4")
    (videos / "labels.csv").write_text(
        "video,label,group,proposed_group\n"
        "wave/deep/2.mp4,wave,,clap/0.mp4\nclap/1.mp4,clap,clap/0.mp4,clap/0.mp4\n"
        "clap/0.mp4,clap,clap/0.mp4,clap/0.mp4\nwave/3.mp4,wave,,\n"
    )
    lines = "\n".join(write(videos, output=tmp_path / "new.csv"))
    assert groups_of(tmp_path / "new.csv") == [["clap/0.mp4", "clap/1.mp4", "wave/3.mp4"]]
    assert "No group, because you cleared the proposed one: wave/deep/2.mp4" in lines


@pytest.mark.parametrize("cleared", [0, 1, 2])
def test_a_new_copy_joins_the_kept_copies_wherever_the_cleared_one_is(videos, tmp_path, cleared):
    names = [f"clap/copy{number}.mp4" for number in "abcd"]
    for name in names:
        shutil.copy(videos / "clap/4.mp4", videos / name)
    rows = [f"{name},clap,,{names[0]}" if number == cleared else
            f"{name},clap,," if number == (cleared + 3) % 4 else
            f"{name},clap,{names[0]},{names[0]}"
            for number, name in enumerate(names)]  # fmt: skip
    (videos / "labels.csv").write_text("\n".join(["video,label,group,proposed_group", *rows]))
    write(videos, output=tmp_path / "new.csv")
    assert groups_of(tmp_path / "new.csv") == [[*names[:cleared], *names[cleared + 1 :]]]


def test_the_names_of_many_unreadable_files_are_shortened(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(12):
        (tmp_path / f"a/{number:02}.mp4").write_bytes(b"not a video %d" % number)
    lines = "\n".join(write(tmp_path))
    assert "Not readable, and kept in the table: 12 videos." in lines
    assert "a/09.mp4" in lines
    assert "a/10.mp4" not in lines
    assert "and 2 more" in lines
