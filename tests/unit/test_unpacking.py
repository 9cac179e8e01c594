"""Archives from elsewhere: formats, and members that would do harm."""

import io
import os
import stat
import struct
import tarfile
import zipfile

import pytest

from pipeline.common.errors import PipelineError
from pipeline.importing.archive_members import is_archive
from pipeline.importing.archives import unpack
from tests.made_archives import (
    ARCHIVES,
    files_in,
    rar5_block,
    rar5_of,
    rar_member,
    rar_of,
    tar_of,
    vint,
    zip_of,
)

FILES = {"a/1.mp4": b"one", "a/b/2.mp4": b"two" * 1000, "list.txt": b"a/1.mp4 0\n"}


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
