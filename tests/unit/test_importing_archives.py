"""Archives from elsewhere: formats, members that would do harm, interruptions."""

import io
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv
from pipeline.importing.archive_members import is_archive
from pipeline.importing.archives import unpack
from pipeline.importing.importer import import_data_set
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames

REPOSITORY = Path(__file__).parents[2]
FILES = {"a/1.mp4": b"one", "a/b/2.mp4": b"two" * 1000, "list.txt": b"a/1.mp4 0\n"}


def zip_of(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def tar_of(path, files, mode="w"):
    with tarfile.open(path, mode) as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def rar_block(kind, flags, body, data=b""):
    """A block of a RAR 4 archive: CRC-16, type, flags, size, fields."""
    header = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
    return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header + data


def rar_member(name, content, *, method=0x30, attributes=0o100644, crc=None, size=None):
    packed = len(content)
    size = packed if size is None else size
    encoded = name.encode()
    crc = zlib.crc32(content) if crc is None else crc
    unix, no_date, version = 3, 0, 20
    body = struct.pack("<LLBLLBBHL", packed, size, unix, crc, no_date, version, method,
                       len(encoded), attributes)  # fmt: skip
    return rar_block(0x74, 0x8000, body + encoded, content)


def rar_of(path, files=None, *members):
    """Write a RAR 4 archive whose members are stored."""
    members = [*members, *(rar_member(*item) for item in (files or {}).items())]
    head = b"Rar!\x1a\x07\x00" + rar_block(0x73, 0, bytes(6))
    path.write_bytes(head + b"".join(members) + rar_block(0x7B, 0x4000, b""))
    return path


def vint(number):
    """A number of RAR 5: seven bits a byte, the lowest first."""
    low = number & 0x7F
    return bytes([low | 0x80]) + vint(number >> 7) if number > 0x7F else bytes([low])


def rar5_block(fields, data=b""):
    header = vint(len(fields)) + fields
    return struct.pack("<L", zlib.crc32(header)) + header + data


def rar5_of(path, files, link=None):
    """Write a RAR 5 archive whose members are stored; ``link`` redirects the first one."""
    blocks = [b"Rar!\x1a\x07\x01\x00", rar5_block(vint(1) + vint(0) + vint(0))]
    for name, content in files.items():
        extra = b""
        if link is not None:
            record = vint(5) + vint(1) + vint(0) + vint(len(link)) + link.encode()
            extra, link = vint(len(record)) + record, None
        file, has_crc, method, unix, mode = 2, 4, 0, 1, 0o100644
        flags = 2 | (1 if extra else 0)  # a data area, an extra area
        fields = vint(file) + vint(flags) + (vint(len(extra)) if extra else b"")
        fields += vint(len(content)) + vint(has_crc) + vint(len(content)) + vint(mode)
        fields += struct.pack("<L", zlib.crc32(content)) + vint(method) + vint(unix)
        fields += vint(len(name)) + name.encode() + extra
        blocks.append(rar5_block(fields, content))
    blocks.append(rar5_block(vint(5) + vint(0) + vint(0)))
    path.write_bytes(b"".join(blocks))
    return path


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


ARCHIVES = {
    "x.zip": zip_of,
    "x.tar": tar_of,
    "x.tar.gz": lambda path, files: tar_of(path, files, "w:gz"),
    "x.TGZ": lambda path, files: tar_of(path, files, "w:gz"),
    "x.tar.bz2": lambda path, files: tar_of(path, files, "w:bz2"),
    "x.tar.xz": lambda path, files: tar_of(path, files, "w:xz"),
    "x.rar": rar_of,
    "x5.rar": rar5_of,
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_format_is_unpacked(tmp_path, name):
    unpack(ARCHIVES[name](tmp_path / name, FILES), tmp_path / "out")
    assert files_in(tmp_path / "out") == FILES


def test_an_archive_in_parts_is_unpacked(tmp_path):
    files = {f"{number}.webm": os.urandom(30_000) for number in range(5)}
    content = tar_of(tmp_path / "whole", files, "w:gz").read_bytes()
    for number in range(3):
        part = content[number * 55_000 : (number + 1) * 55_000 if number < 2 else None]
        (tmp_path / f"20bn-something-something-v2-0{number}").write_bytes(part)
    first = tmp_path / "20bn-something-something-v2-00"
    assert is_archive(first)
    unpack(first, tmp_path / "out")
    assert files_in(tmp_path / "out") == files
    (tmp_path / "20bn-something-something-v2-01").unlink()
    with pytest.raises(PipelineError, match="20bn-something-something-v2-00"):
        unpack(first, tmp_path / "out2")


def test_a_rar_of_rars_is_unpacked(tmp_path):
    inner = rar_of(tmp_path / "wave.rar", {"wave/1.avi": b"1"}).read_bytes()
    unpack(rar_of(tmp_path / "hmdb51_org.rar", {"wave.rar": inner}), tmp_path / "out")
    assert files_in(tmp_path / "out") == {"wave/wave/1.avi": b"1"}


@pytest.mark.parametrize(
    "member", ["/etc/passwd", "../out.txt", "a/../../out.txt", "..\\out.txt", "C:\\out.txt"]
)
@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.rar"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path, name, member):
    archive = ARCHIVES[name](tmp_path / name, {"first.txt": b"1", member: b"x"})
    with pytest.raises(PipelineError, match="expected paths inside the archive's own folder"):
        unpack(archive, tmp_path / "in/out")
    outside = {path for path in files_in(tmp_path) if not path.startswith("in/out/")}
    assert outside == {name}


def tar_link(path, kind, target):
    with tarfile.open(path, "w") as packed:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, target
        packed.addfile(link)
        inside = tarfile.TarInfo("link/x.txt")
        inside.size = 1
        packed.addfile(inside, io.BytesIO(b"x"))
    return path


def zip_link(path):
    with zipfile.ZipFile(path, "w") as packed:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/tmp")
    return path


def test_links_and_devices_are_refused(tmp_path):
    target = str(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    archives = [
        tar_link(tmp_path / "symbolic.tar", tarfile.SYMTYPE, target),
        tar_link(tmp_path / "hard.tar", tarfile.LNKTYPE, "/etc/passwd"),
        tar_link(tmp_path / "device.tar", tarfile.CHRTYPE, ""),
        tar_link(tmp_path / "pipe.tar", tarfile.FIFOTYPE, ""),
        zip_link(tmp_path / "x.zip"),
        rar_of(tmp_path / "x.rar", None, rar_member("link", b"/tmp", attributes=0o120777)),
        rar5_of(tmp_path / "x5.rar", {"link": b""}, link="/tmp"),
    ]
    for number, archive in enumerate(archives):
        with pytest.raises(PipelineError, match=r"member 'link', a (link|device)"):
            unpack(archive, tmp_path / f"out{number}")
    assert not files_in(tmp_path / "elsewhere")


@pytest.mark.parametrize("member", ["a" * 300, "/".join(["folder"] * 300)])
def test_a_path_that_no_disk_takes_is_refused(tmp_path, member):
    with pytest.raises(PipelineError, match="at most 255 bytes in paths of at most 1024"):
        unpack(tar_of(tmp_path / "x.tar", {member: b""}), tmp_path / "out")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_a_bomb_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr("pipeline.importing.archives.FREE_BYTES", 1 << 20)
    archive = ARCHIVES[name](tmp_path / name, {"big.mp4": bytes(1 << 22)})
    with pytest.raises(PipelineError, match="as in a decompression bomb"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out/big.mp4").exists()


def test_an_inner_bomb_counts_too(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.importing.archives.FREE_BYTES", 1 << 20)
    inner = zip_of(tmp_path / "inner.zip", {"big.mp4": bytes(1 << 22)}).read_bytes()
    archive = zip_of(tmp_path / "x.zip", {"inner.zip": inner})
    with pytest.raises(PipelineError, match="as in a decompression bomb"):
        unpack(archive, tmp_path / "out")


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.importing.archives.MAX_ENTRIES", 10)
    archive = zip_of(tmp_path / "x.zip", {f"{number}.txt": b"" for number in range(20)})
    with pytest.raises(PipelineError, match="at most 10 files and folders"):
        unpack(archive, tmp_path / "out")
    assert not files_in(tmp_path / "out")


def test_more_content_than_the_disk_has_is_refused_at_first(small_disk, tmp_path):
    content = os.urandom(1 << 21)
    archive = zip_of(tmp_path / "x.zip", {"big.mp4": content})
    with pytest.raises(PipelineError, match=r"needs 2,097,152 bytes, but [\d,]+ are free"):
        unpack(archive, small_disk / "out")
    with pytest.raises(PipelineError, match=r"needs 2,097,152 bytes, but [\d,]+ are free"):
        unpack(tar_of(tmp_path / "x.tar", {"big.mp4": content}), small_disk / "out2")


def test_a_member_that_is_larger_than_it_claims_is_refused(tmp_path):
    archive = zip_of(tmp_path / "x.zip", {"a.txt": b"x" * 1000})
    content = archive.read_bytes()
    # The size in the table of contents, which zipfile reads.
    archive.write_bytes(content.replace(struct.pack("<L", 1000), struct.pack("<L", 10)))
    with pytest.raises(PipelineError, match=r"x\.zip"):
        unpack(archive, tmp_path / "out")


def test_a_tar_header_that_would_fill_the_memory_is_refused(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    archive = tmp_path / "x.tar"
    archive.write_bytes(header.tobuf() + bytes(1024))
    with pytest.raises(PipelineError, match="damaged"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_truncated_archive_is_refused(tmp_path, name):
    archive = ARCHIVES[name](tmp_path / name, {"a.mp4": os.urandom(100_000)})
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(PipelineError, match=name):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_another_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>Log in first</html>" * 100)
    with pytest.raises(PipelineError, match="damaged or is not what its suffix says"):
        unpack(tmp_path / name, tmp_path / "out")


def test_a_compressed_rar_without_a_program_says_what_to_install(tmp_path, monkeypatch):
    archive = rar_of(tmp_path / "x.rar", None, rar_member("a.avi", b"packed", method=0x33, size=9))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipelineError, match=r"unrar, unar, 7z, bsdtar.*apt-get\s+install unar"):
        unpack(archive, tmp_path / "out")


def test_a_rar_whose_list_of_names_is_encrypted_is_refused(tmp_path):
    archive = tmp_path / "x.rar"
    encryption = vint(4) + vint(0) + vint(0) + vint(0) + bytes([15]) + bytes(16)
    archive.write_bytes(b"Rar!\x1a\x07\x01\x00" + rar5_block(encryption) + bytes(32))
    with pytest.raises(PipelineError, match=r"x\.rar: the archive is encrypted\. Expected"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_rar_that_the_program_cannot_decompress_names_another_program(tmp_path, monkeypatch):
    """Debian's 7z lists a compressed rar, but it has no method to decompress it."""
    archive = rar_of(tmp_path / "x.rar", None, rar_member("a.avi", b"packed", method=0x33, size=9))
    program = tmp_path / "bin/7z"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(PipelineError, match=r"damaged.* Install unar"):
        unpack(archive, tmp_path / "out")


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    archive = tar_of(tmp_path / "x.tar", {"a.txt": b"1"})
    with tarfile.open(archive, "a") as packed:
        packed.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(PipelineError, match=r"'a\.txt' is there twice"):
        unpack(archive, tmp_path / "out")


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
