"""The folders of videos: their files, those that DVC cannot watch, and paths that are misspelt."""

import os
import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from pipeline.common.errors import PipelineError
from pipeline.common.video_files import is_picture, is_video

_INNER_SPACE = re.compile(r"(?<![\d ]) +| +(?![\d ])")  # not between digits: "1 2" is not "12"


def visible_files(videos: Path) -> Iterator[Path]:
    """Yield all files below ``videos`` that are not hidden, in no particular order."""
    for name, subfolders, files in os.walk(videos):
        folder = Path(name)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for subfolder in subfolders:
            check_folder(folder / subfolder, where=str(folder / subfolder))
        yield from (folder / name for name in files if not name.startswith("."))


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that are not hidden, by name."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]


def check_folder(path: Path, *, where: str) -> None:
    """Refuse a folder that DVC and ``os.walk`` skip without a message."""
    if path.is_symlink():  # DVC hashes the content behind a link to a file, but not to a folder
        raise PipelineError(
            f"{where}: expected a folder. Received: a symbolic link to a folder, behind which DVC "
            "sees no change. Replace it with the folder or with links to its files."
        )
    check_readable(path, where=where)


def check_readable(path: Path, *, where: str) -> None:
    is_effective = os.access in os.supports_effective_ids
    if not os.access(path, os.R_OK | os.X_OK, effective_ids=is_effective):
        raise PipelineError(
            f"{where}: the folder cannot be read (permission denied). Make it readable or remove "
            "it."
        )


def path_remedy(path: str, videos: Path, labelled: Collection[str] = ()) -> str:
    """Return a sentence that names the video which a wrong path means; empty if none is certain.

    The paths may differ in case, spaces, slashes, suffix, or the folder that they begin in.

    Args:
        path: of a video, relative to ``videos`` or not.
        labelled: paths relative to ``videos`` that are not suggested, because they have labels.
    """
    similar = _similar_video(path, videos)
    if not similar or similar in labelled:
        return ""
    forms = {unicodedata.normalize("NFC", text) for text in (path, similar)}
    return f" Write {ascii(similar) if len(forms) == 1 else repr(similar)}, which exists."


def _similar_video(path: str, videos: Path) -> str:
    """Return the path of the only video of the best rank, relative to ``videos``."""
    names: set[str] = set()
    for folder, subfolders, files in os.walk(videos):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        relative = Path(folder).relative_to(videos)
        paths = [Path(name) for name in files if not name.startswith(".") and is_video(Path(name))]
        names.update((relative / path).as_posix() for path in paths)
        if len(relative.parts) > 1 and any(map(is_picture, paths)):
            names.add(relative.as_posix())  # of numbered pictures
    for has_suffix in (True, False):
        wanted = _comparable(path, has_suffix=has_suffix)
        parts = {name: _comparable(name, has_suffix=has_suffix) for name in names}
        same = [name for name, own in parts.items() if own == wanted]
        ending = [
            name
            for name, own in parts.items()
            if own[-len(wanted) :] == wanted or wanted[-len(own) :] == own
        ]
        for similar in (same, ending):
            if similar:
                return similar[0] if len(similar) == 1 else ""
    return ""


def _comparable(path: str, *, has_suffix: bool) -> tuple[str, ...]:
    """Return the parts of a path, of Windows or not, without case, spaces and invisible letters.

    Hyphens and underscores count: ``1_2.mp4`` and ``12.mp4`` are two videos.
    """
    pure = PurePosixPath(path.replace("\\", "/"))
    if not has_suffix and is_video(Path(pure)):
        pure = pure.with_suffix("")
    return tuple(map(_comparable_part, pure.parts))


def _comparable_part(part: str) -> str:
    letters = unicodedata.normalize("NFC", part).casefold()
    categories = [(letter, unicodedata.category(letter)) for letter in letters]
    text = "".join(" " if kind == "Zs" else letter for letter, kind in categories if kind != "Cf")
    return _INNER_SPACE.sub("", text)
