"""Data sets with archives: what is unpacked, linked or refused, and interruptions."""

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv
from pipeline.importing.archives import unpack
from pipeline.importing.importer import import_data_set
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames
from tests.made_archives import (
    ARCHIVES,
    files_in,
    rar_member,
    rar_of,
    tar_of,
    zip_of,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    params = (REPOSITORY / "params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(params)
    (tmp_path / "source").mkdir()
    return tmp_path


def ucf_archives(folder):
    """Write UCF101 as people download it: a rar of videos and a zip of lists."""
    names = [f"v_{label}_g{group:02}_c01.avi" for label in ("Archery", "Biking")
             for group in range(1, 6)]  # fmt: skip
    videos = {
        f"UCF-101/{name.split('_')[1]}/{name}": encode_mp4(numbered_frames(3 + number), fps=10)
        for number, name in enumerate(names)
    }
    rar_of(folder / "UCF101.rar", videos)
    lines = [f"{name.split('_')[1]}/{name}" for name in names]
    lists = {
        "ucfTrainTestlist/classInd.txt": "1 Archery\n2 Biking\n",
        "ucfTrainTestlist/trainlist01.txt": "".join(
            f"{line} {1 + ('Biking' in line)}\n" for line in lines if "_g01_" not in line
        ),
        "ucfTrainTestlist/testlist01.txt": "".join(f"{x}\n" for x in lines if "_g01_" in x),
    }
    zip_of(folder / "UCF101TrainTestSplits-RecognitionTask.zip", lists)
    return videos


def test_archives_of_a_folder_are_unpacked_and_only_videos_stay(project):
    videos = ucf_archives(project / "source")
    import_data_set("ucf101", project / "source", params=project / "params.yaml")
    folder = project / "data/imported/ucf101"
    expected = {name.removeprefix("UCF-101/"): content for name, content in videos.items()}
    received = files_in(folder)
    assert set(received) == {*expected, "labels.csv", "import.json"}
    assert all(received[name] == content for name, content in expected.items())
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_videos_of_a_folder_are_linked_and_not_copied(project):
    ucf_archives(project / "source")
    for name in ("UCF101.rar", "UCF101TrainTestSplits-RecognitionTask.zip"):
        unpack(project / "source" / name, project / "extracted" / name[:6] / name[-3:])
    import_data_set("ucf101", project / "extracted", params=project / "params.yaml", to=Path("new"))
    rows = read_csv(project / "new/labels.csv")
    assert all((project / "new" / row["video"]).is_symlink() for row in rows)
    assert all(not path.is_symlink() for path in project.glob("new/*/"))


def test_a_linked_folder_of_videos_is_found_and_a_loop_of_links_ends(project):
    ucf_archives(project / "source")
    unpack(project / "source/UCF101.rar", project / "big disk")
    (project / "source/UCF101.rar").unlink()
    (project / "source/videos").symlink_to(project / "big disk")
    (project / "big disk/loop").symlink_to(project / "source")
    import_data_set("ucf101", project / "source", params=project / "params.yaml", to=Path("new"))
    rows = read_csv(project / "new/labels.csv")
    assert len(rows) == 10
    place = (project / "new" / rows[0]["video"]).readlink()
    assert place.is_relative_to(project / "big disk/UCF-101")


def test_extracted_videos_are_preferred_to_those_of_an_archive(project):
    ucf_archives(project / "source")
    unpack(project / "source/UCF101.rar", project / "source/extracted")
    import_data_set("ucf101", project / "source", params=project / "params.yaml", to=Path("new"))
    rows = read_csv(project / "new/labels.csv")
    assert all((project / "new" / row["video"]).is_symlink() for row in rows)


def rows_of_videofolder(project):
    import_data_set(
        "videofolder", project / "source", params=project / "params.yaml", to=project / "new"
    )
    rows = read_csv(project / "new/labels.csv")
    return {row["video"]: row["label"] for row in rows}, {row.get("split") for row in rows}


PETS = {f"{label}/{n}.mp4": f"{label} {n}".encode() for label in ("cat", "dog") for n in range(3)}


@pytest.mark.parametrize("place", ["", "videos", "Videos_"])
@pytest.mark.parametrize("name", ["videos.zip", "videos.tar.gz", "videos.rar"])
def test_an_archive_beside_its_content_is_not_unpacked(project, caplog, name, place):
    caplog.set_level("INFO")
    make = ARCHIVES[name.replace("videos", "x")]
    make(project / "source" / name, PETS | {"__MACOSX/dog/._1.mp4": b"of a Mac"})
    for video, content in PETS.items():
        path = project / "source" / place / video
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    labels, _ = rows_of_videofolder(project)
    assert labels == {(Path(place) / video).as_posix(): video[:3] for video in PETS}
    assert f"{name} is not unpacked: its content is in {project / 'source' / place}" in caplog.text


def test_an_archive_with_a_part_of_its_content_beside_it_is_refused(project):
    zip_of(project / "source/videos.zip", PETS)
    (project / "source/cat").mkdir()
    (project / "source/cat/0.mp4").write_bytes(PETS["cat/0.mp4"])
    with pytest.raises(PipelineError) as caught:
        rows_of_videofolder(project)
    message = str(caught.value)
    assert message.startswith(f"{project}/source/videos.zip: expected all of its files, or none")
    assert "Received: cat/0.mp4, but no cat/1.mp4 of 5 bytes" in message
    assert message.endswith("or move the archive away.")


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_useless_archive_beside_its_videos_does_no_harm(project, is_damaged, monkeypatch):
    ucf_archives(project / "source")
    archive = project / "source/UCF101.rar"
    unpack(archive, project / "unpacked")
    (project / "unpacked/UCF-101").rename(project / "source/UCF-101")
    if is_damaged:
        archive.write_bytes(b"<html>Log in first</html>" * 100)
    else:
        videos = {path: path.stat().st_size for path in project.glob("source/UCF-101/*/*.avi")}
        packed = [
            rar_member(f"UCF-101/{path.parent.name}/{path.name}", b"packed", method=0x33, size=size)
            for path, size in videos.items()
        ]
        rar_of(archive, None, *packed)
        monkeypatch.setenv("PATH", str(project))  # no unrar
    import_data_set("ucf101", project / "source", params=project / "params.yaml", to=Path("new"))
    assert len(read_csv(project / "new/labels.csv")) == 10


def test_an_encrypted_archive_beside_its_content_is_not_needed(project):
    archive = zip_of(project / "source/videos.zip", PETS)
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of the first member: encrypted
    archive.write_bytes(content)
    with pytest.raises(PipelineError, match=r"'cat/0\.mp4' is encrypted.*move the archive away"):
        rows_of_videofolder(project)
    for video, content in PETS.items():
        path = project / "source/videos" / video
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert len(rows_of_videofolder(project)[0]) == 6


def test_an_archive_of_archives_beside_its_content_is_not_unpacked(project):
    inner = {
        f"{label}.zip": zip_of(
            project / "inner.zip", {f"{n}.mp4": PETS[f"{label}/{n}.mp4"] for n in range(3)}
        ).read_bytes()
        for label in ("cat", "dog")
    }
    archive = zip_of(project / "source/pets.zip", inner)
    unpack(archive, project / "source/pets")
    assert set(rows_of_videofolder(project)[0]) == {f"pets/{video}" for video in PETS}


def test_the_archive_of_a_split_gives_its_split(project):
    for split in ("train", "test"):
        videos = {f"{label}/{split}.mp4": f"{label} {split}".encode() for label in ("cat", "dog")}
        zip_of(project / "source" / f"{split}.zip", videos)
    labels, splits = rows_of_videofolder(project)
    assert labels["test/dog/test.mp4"] == "dog"
    assert splits == {"train", "test"}


def test_the_archive_of_a_class_gives_its_class(project):
    zip_of(project / "source/dog.zip", {"1.mp4": b"1", "2.mp4": b"2"})
    tar_of(project / "source/cat.tar.gz", {"1.mp4": b"3", "2.mp4": b"4"}, "w:gz")
    assert set(rows_of_videofolder(project)[0].values()) == {"cat", "dog"}


def test_archives_with_similar_names_have_places_of_their_own(project):
    for number, name in enumerate(("a.b.zip", "a_b.zip", "a.b.tar")):
        make = tar_of if name.endswith("tar") else zip_of
        make(project / "source" / name, {f"cat/{number}.mp4": f"{number}".encode()})
    labels, _ = rows_of_videofolder(project)
    assert set(labels) == {"a.b/cat/2.mp4", "a.b_/cat/0.mp4", "a_b/cat/1.mp4"}


def test_a_name_that_is_not_utf8_is_refused(project):
    for name in (b"train/a/1.mp4", b"test/a\xe9/2.mp4"):
        path = Path(os.fsdecode(os.fsencode(project / "source") + b"/" + name))
        path.parent.mkdir(parents=True)
        path.write_bytes(b"1")
    with pytest.raises(PipelineError, match=r"udce9.*the name is not UTF-8"):
        import_data_set("videofolder", project / "source", params=project / "params.yaml")


def test_an_error_in_an_archive_names_a_path_that_the_user_knows(project):
    ucf_archives(project / "source")
    lists = project / "source/UCF101TrainTestSplits-RecognitionTask.zip"
    with zipfile.ZipFile(lists, "a") as packed:
        packed.writestr("ucfTrainTestlist/trainlist02.txt", "Archery 1\n")
        packed.writestr("ucfTrainTestlist/testlist02.txt", "")
    with pytest.raises(PipelineError) as caught:
        import_data_set("ucf101", project / "source", params=project / "params.yaml")
    assert str(caught.value).startswith(
        f"{project}/source/UCF101TrainTestSplits-RecognitionTask/ucfTrainTestlist/"
        "trainlist02.txt, line 1: expected"
    )
    assert not list((project / "data/imported").iterdir())


def test_a_killed_import_leaves_no_folder_and_the_same_call_succeeds(project):
    ucf_archives(project / "source")
    big = project / "source/big.tar"
    with tarfile.open(big, "w") as packed:  # a part that takes a while
        for number in range(3000):
            member = tarfile.TarInfo(f"{number}.txt")
            member.size = 1 << 16
            packed.addfile(member, io.BytesIO(bytes(1 << 16)))
    before = (project / "params.yaml").read_bytes()
    command = [sys.executable, "-m", "pipeline.cli", "import", "ucf101", "source"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.DEVNULL)
    while not list(project.glob("data/imported/.in-progress-*/.unpacked/big/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (project / "data/imported/ucf101").exists()
    assert (project / "params.yaml").read_bytes() == before
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "data/imported/ucf101 has 10 videos of UCF101" in done.stdout
    assert [path.name for path in (project / "data/imported").iterdir()] == ["ucf101"]


def test_an_archive_without_the_annotations_is_named(project):
    ucf_archives(project / "source")
    archive = project / "source/UCF101.rar"
    with pytest.raises(PipelineError) as caught:
        import_data_set("ucf101", archive, params=project / "params.yaml")
    assert str(caught.value).startswith(f"{archive}: no file classInd.txt in it or below it. It is")


def test_an_import_can_be_repeated_but_replaces_no_other_folder(project):
    ucf_archives(project / "source")
    for _ in range(2):
        import_data_set("ucf101", project / "source", params=project / "params.yaml")
    (project / "mine").mkdir()
    (project / "mine/notes.txt").write_text("keep")
    for folder, message in [
        (project / "mine", "mine: expected a new folder, or one of an earlier import"),
        (project / "source/new", "expected a folder beside"),
        (project, "expected a new folder"),
    ]:
        with pytest.raises(PipelineError, match=message):
            import_data_set("ucf101", project / "source", params=project / "params.yaml", to=folder)
    assert files_in(project / "mine") == {"notes.txt": b"keep"}


def test_a_missing_source_says_where_the_data_set_is_and_its_terms(project):
    with pytest.raises(PipelineError) as caught:
        import_data_set("hmdb51", Path("nowhere"), params=project / "params.yaml")
    message = str(caught.value)
    assert message.startswith("nowhere: expected an archive")
    assert (
        "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/" in message
    )
    assert "Creative Commons Attribution 4.0" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imagenet", "source"], "DATASET: expected one of ucf101, .*Received: imagenet"),
        (["ssv2", "source", "--task", "regression"],
         "--task: expected one of classification, caption for ssv2.*Received: regression"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("project")
def test_an_unknown_data_set_or_task_is_a_wrong_argument(arguments, message):
    result = CliRunner().invoke(app, ["import", *arguments])
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.output.split()))
