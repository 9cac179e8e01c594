"""The members of a zip, tar or rar archive, whatever the format."""

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import IO, Any, Literal

import rarfile

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

# A .tar.gz cut into name-00, name-01, ..., as Something-Something v2 is.
_FIRST_PART, _GZIP = re.compile(r"(.+-)00"), b"\x1f\x8b"

_LONGEST_HEADER = 1 << 24  # bytes of one read of tarfile, which keeps headers in memory

# What the readers of damaged archives raise.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, rarfile.Error, zlib.error, lzma.LZMAError,
          EOFError, ValueError, gzip.BadGzipFile, NotImplementedError)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A member of an archive, which may claim anything.

    Attributes:
        name: its path in the archive.
        size_bytes: of the content.
        open: returns the content of a file that is not encrypted.
    """

    name: str
    size_bytes: int
    kind: Literal["file", "folder", "link", "device"]
    open: Callable[[], IO[bytes]]
    is_encrypted: bool = False


def is_archive(path: Path) -> bool:
    """Return whether the name has the suffix of an archive, or the file is its first part."""
    if path.name.lower().endswith(ARCHIVE_SUFFIXES):
        return True
    if not _FIRST_PART.fullmatch(path.name) or not path.is_file():
        return False
    with path.open("rb") as content:
        return content.read(2) == _GZIP


def archive_stem(path: Path) -> str:
    """Return the name without the suffix of the archive."""
    suffixes = [end for end in ARCHIVE_SUFFIXES if path.name.lower().endswith(end)]
    return path.name[: -len(max(suffixes, key=len))] if suffixes else path.name.removesuffix("-00")


def parts_of(archive: Path) -> list[Path]:
    """Return the parts of an archive, mostly the file itself."""
    match = _FIRST_PART.fullmatch(archive.name)
    if match is None:
        return [archive]
    names = (archive.with_name(f"{match[1]}{number:02d}") for number in range(100))
    return list(takewhile(Path.exists, names))


@contextmanager
def read_members(archive: Path) -> Iterator[Iterable[Member]]:
    """Yield the members: a list if the archive has a table of contents.

    Raises:
        PipelineError: the table of contents is encrypted.
    """
    suffix = archive.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            yield [_zip_member(packed, info) for info in packed.infolist()]
    elif suffix == ".rar":
        with rarfile.RarFile(archive) as packed:
            if packed.needs_password() and not packed.infolist():
                raise PipelineError(
                    f"{archive}: the archive is encrypted. Expected one without a password. Unpack "
                    "it by hand, name the folder, and move the archive away."
                )
            yield [_rar_member(packed, info) for info in packed.infolist()]
    else:
        name = archive.name.lower()
        modules = [module for end, module in _COMPRESSIONS.items() if name.endswith(end)]
        with ExitStack() as stack:
            stream: Any = stack.enter_context(_Joined(parts_of(archive)))
            module = modules[0] if modules else gzip
            if module is not None:
                stream = stack.enter_context(module.open(stream, "rb"))
            short_reads: Any = _ShortReads(stream)
            with tarfile.TarFile(fileobj=short_reads) as packed:
                yield (_tar_member(packed, info) for info in packed)


def _zip_member(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    file_type = info.external_attr >> 28  # of the mode in Unix
    is_link = file_type not in (0, 0o04, 0o10)
    kind: Literal["file", "folder", "link"] = "folder" if info.is_dir() else "file"
    return Member(
        info.filename,
        info.file_size,
        "link" if is_link else kind,
        lambda: packed.open(info),
        is_encrypted=bool(info.flag_bits & 1),
    )


def _rar_member(packed: Any, info: Any) -> Member:
    is_link = info.is_symlink() or info.file_redir is not None
    kind: Literal["file", "folder", "link"] = "folder" if info.is_dir() else "file"
    return Member(
        info.filename,
        info.file_size or 0,
        "link" if is_link else kind,
        lambda: packed.open(info),
        is_encrypted=bool(info.needs_password()),
    )


def _tar_member(packed: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
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

    return Member(info.name, info.size if kind == "file" else 0, kind, opened)


class _Joined(io.RawIOBase):
    """The bytes of several files, one after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [path.open("rb") for path in paths]
        sizes = [path.stat().st_size for path in paths]
        self._starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._place, self._starts[-1])[whence]
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._starts[-1]:
            return 0
        number = bisect_right(self._starts, self._place) - 1
        self._files[number].seek(self._place - self._starts[number])
        count = self._files[number].readinto(buffer)
        self._place += count
        return count

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


class _ShortReads:
    """A stream that refuses a header of a tar file that would fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)
