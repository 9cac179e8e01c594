"""Which videos a command line means."""

import shlex
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

from pipeline.base.errors import PipelineError
from pipeline.catalog.layouts import VIDEO_SUFFIXES


def named_videos(names: Iterable[str]) -> list[Path]:
    """Return the videos that are meant, each once, in the order in which they are named.

    A name is a file; a folder, which stands for every video in it, at any depth; a pattern
    (``*``, ``?``, ``[...]``, ``**``); or several of these, separated by spaces and quoted as in
    a shell, as ``make predict VIDEO=...`` passes them. A file that does not exist is returned:
    whoever opens it will say so.

    Raises:
        PipelineError: nothing is named, a folder holds no video, or a pattern fits nothing.
    """
    videos = list(dict.fromkeys(video for name in names for video in _meant(name)))
    if not videos:
        raise PipelineError('no video given. Name at least one: make predict VIDEO="a.mp4 b.mp4"')
    return videos


def _meant(name: str) -> Iterator[Path]:
    path = Path(name)
    if not name.strip():
        return
    if path.is_dir():
        yield from _in_folder(path)
    elif path.exists():
        yield path
    elif (parts := _split(name)) != [name]:
        for part in parts:
            yield from _meant(part)
    elif has_magic(name):
        yield from _fitting(name)
    else:
        yield path


def _split(name: str) -> list[str]:
    try:
        return shlex.split(name)
    except ValueError:  # a quotation mark that is part of the name
        return [name]


def _in_folder(folder: Path) -> list[Path]:
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not _is_hidden(path, folder)
    ]
    if not found:
        raise PipelineError(
            f"{folder}: no video found. Expected files with a suffix such as .mp4, .mkv or .webm."
        )
    return found


def _fitting(pattern: str) -> Iterator[Path]:
    found = sorted(glob(pattern, recursive=True))  # noqa: PTH207  # Path takes no absolute pattern
    if not found:
        raise PipelineError(f"{pattern}: no file fits the pattern.")
    for name in found:
        yield from _meant(name)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
