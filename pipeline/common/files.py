"""Write files and folders atomically, reserve arrays, read and write csv and JSON, hash content."""

import csv
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.common.errors import PipelineError

if TYPE_CHECKING:  # the command line imports this module and must start fast
    import numpy as np
    from numpy.typing import DTypeLike

# Prefix of files that a killed run leaves behind. Git and DVC ignore them.
IN_PROGRESS_PREFIX = ".in-progress-"

LONGEST_CELL = 1 << 30  # characters of a csv file

_LONGEST_NAME = 255  # bytes, of the usual file systems
# EDQUOT: a quota. EFBIG: a limit of the user or of the file system.
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if no error is raised.

    A device or a pipe, such as /dev/null, is yielded itself: a rename would replace it. To an open
    file, such as /dev/stdout, the content is appended: its file may have other content.

    >>> with replacing_file(Path("eval/metrics.json")) as temporary:
    ...     temporary.write_text("{}")
    """
    if path.is_char_device() or path.is_fifo():
        with _explain_full_disk(path):
            yield path
        return
    if (descriptor := _descriptor(path)) is not None:
        with _explain_full_disk(path), tempfile.TemporaryDirectory() as folder:
            yield Path(folder, "output")
            _append(Path(folder, "output"), descriptor)
        return
    temporary = _temporary_sibling(path)
    try:
        with _explain_full_disk(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; rename it if no error is raised.

    The previous content of ``path`` is removed, so no stale file survives a rerun.
    """
    remove_leftovers(path)
    temporary = _temporary_sibling(path)
    temporary.mkdir()
    previous = _temporary_sibling(path)
    try:
        with _explain_full_disk(path):
            yield temporary
            if path.exists():
                path.replace(previous)
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)


@contextmanager
def _explain_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL_DISK:
            raise
        folder = path.absolute().parent
        raise PipelineError(
            f"{path}: cannot be written ({error.strerror}). {shutil.disk_usage(folder).free:,} "
            f"bytes are free in {folder}. Make room there, then run the command again."
        ) from error


def create_array(
    path: Path, dtype: "DTypeLike", shape: tuple[int, ...]
) -> "np.memmap[Any, np.dtype[Any]]":
    """Create a .npy file of zeros with its disk space reserved; return it memory-mapped.

    Without the reservation, a write to the array on a full disk kills the process (SIGBUS).

    Raises:
        OSError: the disk is full.
    """
    from numpy.lib.format import open_memmap

    array: np.memmap[Any, np.dtype[Any]] = open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def output_file(path: Path) -> Path:
    """Return the file to write for an output path: ``path``, or the file that it links to.

    A device, a pipe and an open file such as /dev/stdout are returned as they are.
    Commands call it before they work for minutes.

    Raises:
        PipelineError: the path is a folder, a socket or a disk, or no file can be created there.
    """
    longest = max(len(os.fsencode(part)) for part in path.absolute().parts)
    if longest > _LONGEST_NAME:
        raise PipelineError(
            f"{path}: cannot be created, because a name in it has {longest} bytes. Expected at "
            f"most {_LONGEST_NAME}. Name another."
        )
    if path.is_char_device() or path.is_fifo():
        return path
    if path.is_file():
        if _descriptor(path) is not None:
            return path
        path = path.resolve()
    elif path.exists():
        kind = "a folder" if path.is_dir() else "a socket" if path.is_socket() else "a disk"
        raise PipelineError(f"{path}: expected a file. Received: {kind}. Name a file.")
    elif path.is_symlink():
        path = Path(os.path.realpath(path))
        if path.is_symlink():
            raise PipelineError(
                f"{path}: cannot be created, because the link links to itself. Name another."
            )
    folder = next(
        parent for parent in path.absolute().parents if parent.exists() or parent.is_symlink()
    )
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        reason = "cannot be written" if folder.is_dir() else "is not a folder"
        raise PipelineError(
            f"{path}: cannot be created, because {folder} {reason}. Name another file."
        )
    return path


def remove_in_progress(folder: Path) -> None:
    """Delete the temporary files of killed runs under ``folder``, at any depth."""
    leftovers, folders = [], []  # few, though the folder may have millions of files
    with suppress(PermissionError), os.scandir(folder) as entries:  # lost+found of a disk
        for entry in entries:
            if entry.name.startswith(IN_PROGRESS_PREFIX):
                leftovers.append(Path(entry))
            elif entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry))
    for path in leftovers:
        _remove(path)
    for path in folders:
        remove_in_progress(path)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files and folders of killed runs for ``path``, which no one writes."""
    for leftover in path.parent.glob(f"{_temporary_prefix(path)}*"):
        _remove(leftover)


def _remove(leftover: Path) -> None:
    if leftover.is_dir():
        shutil.rmtree(leftover)
    else:
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys: equal values give equal bytes."""
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write ``rows`` with a header and ``\\n`` line endings; None becomes an empty cell."""
    with (
        replacing_file(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as out,
    ):
        writer = csv.DictWriter(_UnixLines(out), fieldnames=columns, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)


class _UnixLines:
    """A file of csv lines; csv quotes a carriage return only if lines end with one."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, line: str) -> int:
        return self._out.write(line.removesuffix("\r\n") + "\n")


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a csv file with a header: one dict a row, by column."""
    return list(csv_rows(path))


def csv_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of ``read_csv``, one at a time."""
    csv.field_size_limit(LONGEST_CELL)  # 131,072 is too few for a long video
    with path.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Return the SHA-256, in hex, of ``value`` as JSON with sorted keys and no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _temporary_sibling(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{_temporary_prefix(path)}{uuid.uuid4().hex}")


def _temporary_prefix(path: Path) -> str:
    """Return the beginning of the temporary names for ``path``: short, though its name is long."""
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return f"{IN_PROGRESS_PREFIX}{name}-"


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file that ``path`` names, such as 1 for /dev/stdout."""
    while path.exists():
        folder = path.absolute().parent.resolve()
        if folder in (Path("/dev/fd"), Path(f"/proc/{os.getpid()}/fd")):
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _append(source: Path, descriptor: int) -> None:
    """Write a file through a descriptor, so that what is written later comes after it."""
    sys.stdout.flush()
    with source.open("rb") as content, os.fdopen(os.dup(descriptor), "ab") as out:
        shutil.copyfileobj(content, out)
