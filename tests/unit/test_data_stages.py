"""From a folder of videos to clips: the stages catalog, decode and extract."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.preprocessing import Preprocessing
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv
from pipeline.common.paths import (
    CATALOG,
    CLIPS,
    DATA_SUMMARY,
    DECODE_INDEX,
    PREPROCESSING,
    UNUSED_CLIPS,
)
from pipeline.common.records import SPLITS, read_catalog, read_decoded
from pipeline.stages import catalog, decode, extract, report
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames, numbers_in


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with params.yaml, six videos of 2 to 7 numbered frames, and their labels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    rows = ["video,label,split"]
    for n, (label, split) in enumerate(
        (label, split) for label in ("cat", "dog") for split in SPLITS
    ):
        levels = 10 + 8 * np.arange(n + 2, dtype=np.uint8)
        frames = np.broadcast_to(levels[:, None, None, None], (n + 2, 32, 48, 3)).copy()
        (tmp_path / f"videos/{n}.mp4").write_bytes(encode_mp4(frames, fps=10))
        rows.append(f"{n}.mp4,{label},{split}")
    (tmp_path / "videos/labels.csv").write_text("\n".join(rows))
    write_params(tmp_path)
    return tmp_path


def write_params(project, **decode_settings):
    content = {
        "data": {"videos": "videos"},
        "decode": {"width": 8, "height": 8, **decode_settings},
        "extract": {"frames": 4},
        "compute": {"workers": 1},
    }
    (project / "params.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.usefixtures("project")
def test_three_stages_turn_a_folder_of_videos_into_clips(caplog):
    caplog.set_level("INFO")
    catalog.main()
    assert "6 videos in 6 groups:" in caplog.text
    assert "cat: 1 train, 1 val, 1 test" in caplog.text
    assert [record.target for record in read_catalog(CATALOG)] == ["cat"] * 3 + ["dog"] * 3
    decode.main()
    records = read_decoded(CATALOG, DECODE_INDEX)
    assert [record.facts.frames for record in records] == [2, 3, 4, 5, 6, 7]
    extract.main()
    assert "train: 2 clips of 4 frames" in caplog.text
    train = ClipArrays(CLIPS / "train")
    assert (train.names, train.targets) == (["0.mp4", "3.mp4"], ["cat", "dog"])
    assert train.masks().sum(axis=1).tolist() == [2, 4]
    assert numbers_in(train.frames(1)) == [0, 1, 3, 4]
    preprocessing = Preprocessing.read(PREPROCESSING)
    assert (preprocessing.decode.width, preprocessing.extract.frames) == (8, 4)


def test_a_video_of_another_official_fold_only_is_in_clips_of_its_own(project, caplog):
    caplog.set_level("INFO")
    table = project / "videos/labels.csv"
    header, *rows = table.read_text().splitlines()
    (project / "videos/6.mp4").write_bytes(encode_mp4(numbered_frames(9), fps=10))
    parts = {"train": "train,test", "val": "train,", "test": "test,train"}
    rows = [f"{row},{parts[row.rsplit(',')[-1]]}" for row in rows]
    table.write_text("\n".join([f"{header},fold_1,fold_2", *rows, "6.mp4,dog,,,train"]))
    for stage in (catalog, decode, report, extract):
        stage.main()
    assert read_catalog(CATALOG)[-1].folds == ("", "train")
    assert ClipArrays(UNUSED_CLIPS).names == ["6.mp4"]
    assert "unused: 1 clips of 4 frames" in caplog.text
    assert sum(int(row["videos"]) for row in read_csv(DATA_SUMMARY)) == 6


def test_a_video_that_is_cut_before_its_labels_is_left_out(project, caplog):
    rows = ["video,start_seconds,end_seconds,label,split"]
    for n, split in zip((3, 4, 5), SPLITS, strict=True):  # 5 frames or more at 10 fps
        rows += [f"{n}.mp4,0,0.2,cat,{split}", f"{n}.mp4,0.2,,dog,{split}"]
    (project / "videos/cut").mkdir()
    for number in (1, 2, 4):
        cv2.imwrite(str(project / f"videos/cut/{number}.png"), numbered_frames(1)[0])
    rows.append("cut,0.3,0.4,dog,train")
    (project / "videos/labels.csv").write_text("\n".join(rows))
    content = yaml.safe_load((project / "params.yaml").read_text())
    content["task"] = {"type": "frames"}
    content["data"]["image_fps"] = 10
    content["decode"] |= {"fps": 10, "on_damage": "keep"}
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    for stage in (catalog, decode, extract):
        stage.main()
    assert set(ClipArrays(CLIPS / "train").names) == {"3.mp4"}
    assert "cut: left out, no kept frame has a label" in caplog.text


def test_pictures_and_folders_of_pictures_become_clips(project):
    (project / "videos/labels.csv").unlink()
    for video in (project / "videos").iterdir():
        video.unlink()
    for start, name in ((0, "cat"), (12, "dog")):
        folder = project / "videos" / name / "clip"
        folder.mkdir(parents=True)
        frames = numbered_frames(start + 12)[start:]
        cv2.imwrite(str(folder.parent / "1.jpg"), frames[2])
        cv2.imwrite(str(folder.parent / "2.png"), frames[4])
        for number, frame in enumerate(frames[:6]):
            cv2.imwrite(str(folder / f"f{number}.png"), frame)
    write_params(project, fps=10)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["data"]["image_fps"] = 20
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    catalog.main()
    decode.main()
    frames = {record.video: record.facts.frames for record in read_decoded(CATALOG, DECODE_INDEX)}
    singles = {f"{name}/{picture}": 1 for name in ("cat", "dog") for picture in ("1.jpg", "2.png")}
    assert frames == {"cat/clip": 3, "dog/clip": 3} | singles  # every other picture
    extract.main()
    shown = {}
    for split in SPLITS:
        clips = ClipArrays(CLIPS / split)
        for row, name in enumerate(clips.names):
            shown[name] = numbers_in(clips.frames(row)[clips.masks()[row]])
    assert shown == {
        "cat/1.jpg": [2], "cat/2.png": [4], "cat/clip": [0, 2, 4],
        "dog/1.jpg": [14], "dog/2.png": [16], "dog/clip": [12, 14, 16],
    }  # fmt: skip
    assert Preprocessing.read(PREPROCESSING).decode.image_fps == 20


@pytest.mark.parametrize("numbers", [[4], [3, 4, 5]])
def test_a_class_whose_videos_of_a_split_are_quarantined_is_named_with_the_reason(project, numbers):
    splits_of_dog = {3: "train", 4: "val", 5: "test"}
    for number in numbers:
        (project / f"videos/{number}.mp4").write_bytes(b"not a video %d" % number)
    rows = [f"7{n}.mp4,{label},train" for n, label in enumerate(("emu", "cat"))]
    rows += ["81.mp4,emu,val", "82.mp4,emu,test"]  # two classes are left without dog
    with (project / "videos/labels.csv").open("a") as table:
        table.write("\n" + "\n".join(rows))
    for number, name in enumerate(row.split(",")[0] for row in rows):
        content = (project / "videos/0.mp4").read_bytes()
        (project / "videos" / name).write_bytes(content + bytes(number + 1))
    write_params(project, max_bad_fraction=0.5)
    catalog.main()
    decode.main()
    with pytest.raises(PipelineError) as error:
        extract.main()
    message = str(error.value)
    for number in numbers:
        assert (
            f"class 'dog' in {splits_of_dog[number]} (1 quarantined, such as {number}.mp4: not a "
            "video"
        ) in message
    assert message.count("class 'dog' in") == len(numbers)
    assert "Repair or replace these videos (data/frames/index.csv has the reasons), or" in message
    assert not CLIPS.exists()


def test_too_many_quarantined_videos_stop_decode_before_anything_is_deleted(project):
    catalog.main()
    decode.main()
    stored = {path.name: path.read_bytes() for path in (project / "data/frames").iterdir()}
    for n in (0, 4):
        (project / f"videos/{n}.mp4").write_bytes(b"not a video %d" % n)
    catalog.main()
    with pytest.raises(PipelineError) as error:
        decode.main()
    message = str(error.value)
    assert "2 of 6 videos cannot be used, more than decode.max_bad_fraction = 0.1" in message
    assert "0.mp4: not a video" in message
    after = {path.name: path.read_bytes() for path in (project / "data/frames").iterdir()}
    assert stored.items() <= after.items()


def test_quarantined_videos_are_logged(project, caplog):
    (project / "videos/4.mp4").write_bytes(b"")
    write_params(project, max_bad_fraction=0.5)
    catalog.main()
    decode.main()
    assert "1 of 6 videos quarantined, see data/frames/index.csv: 4.mp4: the file is empty" in (
        caplog.text
    )
    assert "4.mp4,quarantined,the file is empty," in DECODE_INDEX.read_text()


def test_a_full_disk_ends_extract_with_a_message_and_leaves_nothing(project, small_disk):
    (project / "data").symlink_to(small_disk)
    catalog.main()
    decode.main()
    content = yaml.safe_load((project / "params.yaml").read_text())
    content["extract"]["frames"] = 2000  # 384 kB a clip, on a disk of 1 MiB
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    # Another process, because a write to a full disk through a memory map would kill this one.
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.stages.extract"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: data/clips: cannot be written (No space left on device). " in done.stderr
    assert sorted(path.name for path in small_disk.iterdir()) == ["catalog", "frames"]
