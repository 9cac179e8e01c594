"""Which videos a command line means."""

import shlex
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

from pipeline.base.errors import PipelineError
from pipeline.catalog.layouts import VIDEO_SUFFIXES

_EXPECTED = "Expected files with a suffix such as .mp4, .mkv or .webm."


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
        if not (found := _in_folder(path)):
            raise PipelineError(f"{path}: no video found. {_EXPECTED}")
        yield from found
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
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not _is_hidden(path, folder)
    ]


def _fitting(pattern: str) -> list[Path]:
    """Return the videos that fit, with those in folders that fit: some of these may have none."""
    paths = map(Path, sorted(glob(pattern, recursive=True)))  # noqa: PTH207  # Path takes no absolute pattern
    found = [video for path in paths for video in (_in_folder(path) if path.is_dir() else [path])]
    if not found:
        raise PipelineError(f"{pattern}: no video fits the pattern. {_EXPECTED}")
    return found


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
