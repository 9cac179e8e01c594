"""Unpack zip, tar and rar archives that come from elsewhere.

An archive is refused before it harms: a path that leaves the folder, a link, a member that is
larger than it claims, or more data than the disk or a real data set has. Modes and owners of
members are ignored.
"""

import re
import shutil
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import rarfile
from tqdm import tqdm

from pipeline.common.errors import PipelineError
from pipeline.importing.archive_members import (
    DAMAGE,
    Member,
    archive_stem,
    is_archive,
    parts_of,
    read_members,
)

_MAX_NESTING = 2  # HMDB51 is a rar of rars
_CHUNK = 1 << 20  # bytes
_LONGEST_NAME = 255  # bytes of a part of a path
_LONGEST_PATH = 1024  # bytes

# The most that an archive may hold. Videos are compressed already; lists of text are small, so
# some bytes are allowed in any case.
MAX_ENTRIES = 2_000_000  # files and folders, those of inner archives included
MAX_RATIO = 100  # unpacked bytes for each byte of the archive
FREE_BYTES = 1 << 28  # of content that the ratio does not limit


@dataclass
class _Budget:
    """What an outer archive and the archives inside it hold so far."""

    archive: Path
    entries: int = 0
    size_bytes: int = 0
    most_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        packed = sum(path.stat().st_size for path in parts_of(self.archive))
        self.most_bytes = max(MAX_RATIO * packed, FREE_BYTES)

    def take(self, member: "Member") -> None:
        self.entries += 1
        self.size_bytes += member.size_bytes
        if self.entries > MAX_ENTRIES:
            raise PipelineError(
                f"{self.archive}: expected at most {MAX_ENTRIES:,} files and folders. "
                "Received: more. Unpack it by hand if you trust it, and name the folder."
            )
        if self.size_bytes > self.most_bytes:
            raise PipelineError(
                f"{self.archive}: expected at most {self.most_bytes:,} bytes of content for an "
                f"archive of its size. Received: {self.size_bytes:,} or more, as in a "
                "decompression bomb. Unpack it by hand if you trust it, and name the folder."
            )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive, and the archives inside it, into ``folder``, a new folder.

    Raises:
        PipelineError: the archive is damaged, encrypted or not safe, or needs a program that is
            not installed.
    """
    _unpack(archive, folder, _Budget(archive), nesting=1)


def free_path(path: Path) -> Path:
    """Return a path where nothing is yet: ``path``, or with underscores after its name."""
    while path.exists():
        path = path.with_name(f"{path.name}_")
    return path


def _unpack(archive: Path, folder: Path, budget: _Budget, *, nesting: int) -> None:
    try:
        with read_members(archive) as members:
            folder.mkdir(parents=True)
            _write_members(archive, members, folder, budget)
    except rarfile.NeedFirstVolume:
        return  # the first volume holds the list of all members
    except rarfile.RarCannotExec:
        raise PipelineError(
            f"{archive}: its content is compressed, and no program that reads it is installed. "
            "Expected one of unrar, unar, 7z, bsdtar on PATH. Install one (on Debian: apt-get "
            "install unar), or unpack the archive elsewhere, name the folder, and move the archive "
            "away."
        ) from None
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; those of a damaged archive have no number
        another_program = (
            " If it has that size, the program on PATH may lack the method to decompress it, as 7z "
            "of Debian does. Install unar."
            if archive.suffix.lower() == ".rar"
            else ""
        )
        raise PipelineError(
            f"{archive}: the archive is damaged or is not what its suffix says ({error}). Get it "
            "again and compare its size with that on the page of the data set, or move the archive "
            f"away if you have its content.{another_program}"
        ) from error
    inner = [path for path in sorted(folder.rglob("*")) if is_archive(path) and path.is_file()]
    for path in inner if nesting < _MAX_NESTING else []:
        target = free_path(path.with_name(archive_stem(path)))
        _unpack(path, target, budget, nesting=nesting + 1)
        path.unlink()


def _write_members(archive: Path, members: Iterable[Member], folder: Path, budget: _Budget) -> None:
    """Check and write the members; those of a list are all checked before the first is written."""
    is_listed = isinstance(members, list)
    total = None
    for member in members if is_listed else ():
        _checked_parts(archive, member)
        budget.take(member)
    if isinstance(members, list):
        total = sum(member.size_bytes for member in members)
        _check_disk(archive, total, folder)
    with tqdm(total=total, desc=archive.name, unit="B", unit_scale=True, disable=None) as progress:
        for member in members:
            parts = _checked_parts(archive, member)
            if not is_listed:
                budget.take(member)
                _check_disk(archive, member.size_bytes, folder)
            path = folder.joinpath(*parts)
            try:
                if member.kind == "folder":
                    path.mkdir(parents=True, exist_ok=True)
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write_file(archive, member, path, progress)
            except (FileExistsError, NotADirectoryError):
                raise PipelineError(
                    f"{archive}: the member {member.name!r} is there twice, or as a file and as a "
                    "folder. Expected each path once. Get the archive again."
                ) from None


def _write_file(archive: Path, member: Member, path: Path, progress: "tqdm[Any]") -> None:
    written = 0
    with closing(member.open()) as content, path.open("xb") as out:
        while chunk := content.read(_CHUNK):
            written += len(chunk)
            if written > member.size_bytes:
                break
            out.write(chunk)
            progress.update(len(chunk))
    if written != member.size_bytes:
        received = "more" if written > member.size_bytes else f"{written:,}"
        raise PipelineError(
            f"{archive}: the member {member.name!r} should have {member.size_bytes:,} bytes, as "
            f"the archive says. Received: {received}. Get the archive again."
        )


def _checked_parts(archive: Path, member: Member) -> tuple[str, ...]:
    """Return the parts of the path of a member; refuse one that is not a path inside a folder."""
    name = member.name.replace("\\", "/")
    parts = PurePosixPath(name).parts
    is_outside = name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name)
    if is_outside or "\0" in name or (not parts and member.kind != "folder"):
        raise PipelineError(
            f"{archive}: expected paths inside the archive's own folder. Received: the member "
            f"{member.name!r}. Do not unpack this archive; get it from the page of the data set."
        )
    if member.is_encrypted:
        raise PipelineError(
            f"{archive}: the member {member.name!r} is encrypted. Expected an archive without a "
            "password. Unpack it by hand, name the folder, and move the archive away."
        )
    if member.kind in ("link", "device"):
        raise PipelineError(
            f"{archive}: expected files and folders. Received: the member {member.name!r}, a "
            f"{member.kind}, which can lead out of the folder. Get the archive from the page of "
            "the data set, or unpack it by hand and name the folder."
        )
    lengths = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if max(lengths, default=0) > _LONGEST_NAME or sum(lengths) > _LONGEST_PATH:
        raise PipelineError(
            f"{archive}: expected names of at most {_LONGEST_NAME} bytes in paths of at most "
            f"{_LONGEST_PATH}. Received: the member {member.name[:80]!r}... Get the archive again."
        )
    return parts


def _check_disk(archive: Path, size_bytes: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise PipelineError(
            f"{archive}: unpacking it needs {size_bytes:,} bytes, but {free:,} are free in "
            f"{folder.parent}. Make room there, or name another disk with --to."
        )
