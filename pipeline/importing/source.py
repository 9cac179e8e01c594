"""The files of a data set as people have them: annotation files and videos in some folders."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.common.csv_columns import check_columns
from pipeline.common.csv_text import csv_lines, text_of
from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file
from pipeline.common.video_files import VIDEO_SUFFIXES, is_picture
from pipeline.importing.archive_members import is_archive


class Source:
    """All files below some folders that are not hidden.

    Links to folders are followed. A video of an earlier folder is preferred to one with the same
    path in a later folder.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self.files = [path for folder in folders for path in sorted(_visible_files(folder))]
        self._videos_by_name: dict[str, list[Path]] = defaultdict(list)
        self._videos_by_stem: dict[str, list[Path]] = defaultdict(list)
        self._picture_folders: dict[str, set[Path]] = defaultdict(set)
        for path in self.files:
            if path.suffix.lower() in VIDEO_SUFFIXES:
                self._videos_by_name[path.name.casefold()].append(path)
                self._videos_by_stem[path.stem].append(path)
            elif is_picture(path):
                self._picture_folders[path.parent.name].add(path.parent)

    def annotations(self, pattern: str) -> list[Path]:
        """Return the files whose whole name matches a regular expression, by name.

        Of files with one name and one content, the first is returned.

        Raises:
            PipelineError: files with one name have different contents.
        """
        by_name: dict[str, Path] = {}
        for path in self.files:
            if not re.fullmatch(pattern, path.name):
                continue
            other = by_name.setdefault(path.name, path)
            if other != path and sha256_of_file(other) != sha256_of_file(path):
                raise PipelineError(
                    f"{path}: expected one file {path.name}. Received: another one, {other}, with "
                    "other content. Remove one of them."
                )
        return [by_name[name] for name in sorted(by_name)]

    def require(self, pattern: str, example: str, remedy: str) -> list[Path]:
        """Return ``annotations``, at least one.

        Args:
            example: name of such a file, for the message.
            remedy: where the file is found.
        """
        paths = self.annotations(pattern)
        if not paths:
            raise PipelineError(f"{self.folders[0]}: no file {example} in it or below it. {remedy}")
        return paths

    def video_named(self, name: str, *, where: str, parent: str = "") -> Path | None:
        """Return the video file with a name, in any case of letters; None without one.

        Args:
            where: file and line, for messages.
            parent: name of the folder to prefer, in any case of letters.
        """
        videos = self._videos_by_name.get(name.casefold(), [])
        preferred = [path for path in videos if path.parent.name.casefold() == parent.casefold()]
        return self._only(preferred or videos, name, where)

    def video_with_stem(self, stem: str, *, where: str) -> Path | None:
        """Return the video file with a name before its suffix; None without one."""
        return self._only(self._videos_by_stem.get(stem, []), stem, where)

    def video_at(self, path: str, *, where: str) -> Path | None:
        """Return the video file, or the folder of pictures, whose path ends with ``path``."""
        parts = PurePosixPath(path).parts
        name = parts[-1] if parts else ""
        videos = [
            *self._videos_by_name.get(name.casefold(), []),
            *sorted(self._picture_folders.get(name, ())),
        ]
        fitting = [one for one in videos if one.parts[-len(parts) :] == parts]
        return self._only(fitting, path, where)

    def _only(self, videos: Sequence[Path], name: str, where: str) -> Path | None:
        """Return the video; of the same path in several folders, that in the first folder."""
        if len(videos) < 2:
            return videos[0] if videos else None
        for folder in self.folders:
            own = [path for path in videos if path.is_relative_to(folder)]
            if len(own) == 1:
                return own[0]
            if own:
                raise PipelineError(
                    f"{where}: expected one video {name}. Received: {own[0]} and {own[1]}. "
                    "Remove or rename one of them."
                )
        raise AssertionError  # every path is below a folder


def _visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that are neither hidden nor archives."""
    seen: set[str] = set()
    for name, subfolders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(name))
        subfolders[:] = [
            subfolder
            for subfolder in subfolders
            if not subfolder.startswith(".")
            and os.path.realpath(os.path.join(name, subfolder)) not in seen  # noqa: PTH118
        ]
        for file in files:
            path = Path(name, file)
            if not file.startswith(".") and not is_archive(path):
                yield path


def safe_name(text: str, *, where: str) -> str:
    """Return a path of an annotation as a path inside a folder.

    Raises:
        PipelineError: it is absolute or leaves the folder.
    """
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise PipelineError(
            f"{where}: expected a path inside the folder of videos. Received: {text!r}. Correct "
            "the line."
        )
    return path.as_posix()


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text that are not empty, each with its place for messages."""
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def csv_rows(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> list[tuple[str, Mapping[str, str]]]:
    """Return the rows of a csv file with a header, each with its place for messages.

    Raises:
        PipelineError: the file is not csv with these columns, or one of them is misspelt.
    """
    lines = csv_lines(path)
    where, header = next(lines, (f"{path}, line 1", []))
    columns = [cell.strip() for cell in header]
    check_columns(where, columns, [*required, *optional])
    if missing := [column for column in required if column not in columns]:
        raise PipelineError(
            f"{where}: missing {', '.join(missing)}. Expected the columns "
            f"{', '.join(required)}. Received: {', '.join(columns) or 'nothing'}. Correct it."
        )
    rows: list[tuple[str, Mapping[str, str]]] = []
    for where, cells in lines:
        if len(cells) != len(columns):
            raise PipelineError(
                f"{where}: expected {len(columns)} cells, as in line 1. Received: "
                f"{len(cells)}. Correct the line."
            )
        rows.append((where, dict(zip(columns, map(str.strip, cells), strict=True))))
    return rows


def json_content(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        PipelineError: it is not JSON; the message has the line.
    """
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise PipelineError(
            f"{path}, line {error.lineno}: expected JSON. Received: {error.msg}. Get the file "
            "again."
        ) from None


def lines_of_key(path: Path, key: str) -> dict[str, int]:
    """Return the line of the first entry with each value of a key in a JSON file."""
    lines: dict[str, int] = {}
    text, at, line = text_of(path), 0, 1
    for match in re.finditer(rf'"{key}"\s*:\s*"?([^",\s}}]+)', text):
        line += text.count("\n", at, match.start())
        at = match.start()
        lines.setdefault(match[1], line)
    return lines
