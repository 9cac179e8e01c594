"""Unpack zip, tar and rar archives that come from elsewhere.

An archive is refused before it harms: a path that leaves the folder, a link, a member that is
larger than it claims, or more data than the disk or a real data set has. Modes and owners of
members are ignored.
"""

import bz2
import gzip
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import rarfile
from tqdm import tqdm

from pipeline.common.errors import PipelineError

# Suffix of a tar file -> the module that decompresses it.
_COMPRESSIONS: dict[str, Any] = {
    ".tar": None,
    ".tar.gz": gzip,
    ".tgz": gzip,
    ".tar.bz2": bz2,
    ".tbz2": bz2,
    ".tar.xz": lzma,
    ".txz": lzma,
}
ARCHIVE_SUFFIXES = (".zip", ".rar", *_COMPRESSIONS)

_MAX_NESTING = 2  # HMDB51 is a rar of rars
_CHUNK = 1 << 20  # bytes
_LONGEST_HEADER = 1 << 24  # bytes of one read of tarfile, which keeps headers in memory
_LONGEST_NAME = 255  # bytes of a part of a path
_LONGEST_PATH = 1024  # bytes
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, rarfile.Error, zlib.error, lzma.LZMAError,
           EOFError, ValueError, gzip.BadGzipFile, NotImplementedError)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """The most that an archive may hold.

    Attributes:
        entries: files and folders, those of inner archives included.
        ratio: unpacked bytes for each byte of the archive. Videos are compressed already; lists of
            text are small, so ``free_bytes`` are allowed in any case.
    """

    entries: int = 2_000_000
    ratio: float = 100.0
    free_bytes: int = 1 << 28


@dataclass
class _Budget:
    """What remains of the limits of an outer archive and the archives inside it."""

    archive: Path
    limits: Limits
    entries: int = 0
    size_bytes: int = 0
    most_bytes: float = field(init=False)

    def __post_init__(self) -> None:
        packed = self.archive.stat().st_size
        self.most_bytes = max(self.limits.ratio * packed, self.limits.free_bytes)

    def take(self, member: "_Member") -> None:
        self.entries += 1
        self.size_bytes += member.size_bytes
        if self.entries > self.limits.entries:
            raise PipelineError(
                f"{self.archive}: expected at most {self.limits.entries:,} files and folders. "
                "Received: more. Unpack it by hand if you trust it, and name the folder."
            )
        if self.size_bytes > self.most_bytes:
            raise PipelineError(
                f"{self.archive}: expected at most {self.most_bytes:,.0f} bytes of content for an "
                f"archive of its size. Received: {self.size_bytes:,} or more, as in a "
                "decompression bomb. Unpack it by hand if you trust it, and name the folder."
            )


@dataclass(frozen=True)
class _Member:
    name: str
    size_bytes: int
    kind: Literal["file", "folder", "link", "device"]
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Return whether the name has the suffix of an archive."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def archive_stem(path: Path) -> str:
    """Return the name without the suffix of the archive."""
    suffix = max((end for end in ARCHIVE_SUFFIXES if path.name.lower().endswith(end)), key=len)
    return path.name[: -len(suffix)] or path.name


def unpack(archive: Path, folder: Path, *, limits: Limits | None = None) -> None:
    """Unpack an archive, and the archives inside it, into ``folder``, a new folder.

    Raises:
        PipelineError: the archive is damaged, encrypted or not safe, or needs a program that is
            not installed.
    """
    _unpack(archive, folder, _Budget(archive, limits or Limits()), nesting=1)


def _unpack(archive: Path, folder: Path, budget: _Budget, *, nesting: int) -> None:
    try:
        with _members(archive) as members:
            folder.mkdir(parents=True)
            _write_members(archive, members, folder, budget)
    except rarfile.NeedFirstVolume:
        return  # the first volume holds the list of all members
    except rarfile.RarCannotExec:
        raise PipelineError(
            f"{archive}: its content is compressed, and no program that reads it is installed. "
            "Expected one of unrar, unar, 7z, bsdtar on PATH. Install one (on Debian: apt-get "
            "install unar), or unpack the archive elsewhere and name the folder."
        ) from None
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; those of a damaged archive have no number
        raise PipelineError(
            f"{archive}: the archive is damaged or is not what its suffix says ({error}). Get it "
            "again and compare its size with that on the page of the data set."
        ) from error
    inner = [path for path in sorted(folder.rglob("*")) if is_archive(path) and path.is_file()]
    for path in inner if nesting < _MAX_NESTING else []:
        target = path.with_name(archive_stem(path))
        while target.exists():
            target = target.with_name(f"{target.name}_")
        _unpack(path, target, budget, nesting=nesting + 1)
        path.unlink()


def _write_members(
    archive: Path, members: Iterable[_Member], folder: Path, budget: _Budget
) -> None:
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


def _write_file(archive: Path, member: _Member, path: Path, progress: "tqdm[Any]") -> None:
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


def _checked_parts(archive: Path, member: _Member) -> tuple[str, ...]:
    """Return the parts of the path of a member; refuse one that is not a path inside a folder."""
    name = member.name.replace("\\", "/")
    parts = PurePosixPath(name).parts
    is_outside = name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name)
    if is_outside or "\0" in name or (not parts and member.kind != "folder"):
        raise PipelineError(
            f"{archive}: expected paths inside the archive's own folder. Received: the member "
            f"{member.name!r}. Do not unpack this archive; get it from the page of the data set."
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


@contextmanager
def _members(archive: Path) -> Iterator[Iterable[_Member]]:
    """Yield the members: a list if the archive has a table of contents."""
    suffix = archive.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            yield [_zip_member(archive, packed, info) for info in packed.infolist()]
    elif suffix == ".rar":
        with rarfile.RarFile(archive) as packed:
            yield [_rar_member(archive, packed, info) for info in packed.infolist()]
    else:
        name = archive.name.lower()
        module = next(module for end, module in _COMPRESSIONS.items() if name.endswith(end))
        with archive.open("rb") if module is None else module.open(archive, "rb") as stream:
            short_reads: Any = _ShortReads(stream)
            with tarfile.TarFile(fileobj=short_reads) as packed:
                yield (_tar_member(packed, info) for info in packed)


def _zip_member(archive: Path, packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    if info.flag_bits & 1:
        raise _encrypted(archive, info.filename)
    file_type = info.external_attr >> 28  # of the mode in Unix
    is_link = file_type not in (0, 0o04, 0o10)
    kind: Literal["file", "folder", "link"] = "folder" if info.is_dir() else "file"
    return _Member(
        info.filename, info.file_size, "link" if is_link else kind, lambda: packed.open(info)
    )


def _rar_member(archive: Path, packed: Any, info: Any) -> _Member:
    if info.needs_password():
        raise _encrypted(archive, info.filename)
    is_link = info.is_symlink() or info.file_redir is not None
    kind: Literal["file", "folder", "link"] = "folder" if info.is_dir() else "file"
    return _Member(
        info.filename, info.file_size or 0, "link" if is_link else kind, lambda: packed.open(info)
    )


def _tar_member(packed: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    kind: Literal["file", "folder", "link", "device"] = "device"
    if info.isdir():
        kind = "folder"
    elif info.isreg():
        kind = "file"
    elif info.issym() or info.islnk():
        kind = "link"

    def opened() -> IO[bytes]:
        content = packed.extractfile(info)
        assert content is not None  # a file
        return content

    return _Member(info.name, info.size if kind == "file" else 0, kind, opened)


def _encrypted(archive: Path, name: str) -> PipelineError:
    return PipelineError(
        f"{archive}: the member {name!r} is encrypted. Expected an archive without a password. "
        "Unpack it by hand and name the folder."
    )


class _ShortReads:
    """A stream that refuses a header of a tar file that would fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)
