"""Which files and folders are videos: by suffix, and folders of numbered pictures."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file, sha256_of_json

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# fmt: on

_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.DOTALL)  # a name without its suffix: prefix, number


def is_picture(path: Path) -> bool:
    """Return whether the name has the suffix of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def is_video(path: Path) -> bool:
    """Return whether the name has the suffix of a video or of a picture."""
    return path.suffix.lower() in VIDEO_SUFFIXES or is_picture(path)


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder by number; those without a number come first.

    Hidden files and files without the suffix of a picture are ignored.
    """
    pictures = [path for path in folder.iterdir() if is_picture(path) and path.name[0] != "."]
    return sorted(pictures, key=lambda path: (picture_number(path), path.name))


def picture_number(path: Path) -> int:
    """Return the number at the end of a name, 12 for ``frames_0012.jpg``; -1 without one."""
    match = _NUMBERED.fullmatch(path.stem)
    return int(match[2]) if match else -1


def numbering_fault(pictures: Sequence[Path]) -> str:
    """Return why pictures are not the frames of one video; empty if they are.

    Their names must be one prefix and different numbers. Gaps are found by the reader.

    >>> numbering_fault([Path("frames_2.jpg"), Path("frames_10.jpg")])
    ''
    """
    if not pictures:
        return "the folder has no picture"
    numbers: dict[int, Path] = {}
    for path in pictures:
        number = picture_number(path)
        if number < 0:
            return f"the name {path.name} does not end with a number"
        if _prefix(path) != _prefix(pictures[0]):
            return f"the names {pictures[0].name} and {path.name} have different beginnings"
        if number in numbers:
            return f"{numbers[number].name} and {path.name} have the same number"
        numbers[number] = path
    return ""


def _prefix(path: Path) -> str:
    match = _NUMBERED.fullmatch(path.stem)
    return match[1] if match else path.stem


def join_numbered_pictures(files: Iterable[Path]) -> list[Path]:
    """Return the videos among files: each folder of numbered pictures replaces its pictures.

    Such a folder has two or more pictures. Folders whose pictures have no numbers, and folders of
    one picture, hold single pictures.

    Raises:
        PipelineError: some pictures of a folder seem to be numbered frames, but not all, or
            the folder has other videos.
    """
    videos = [path for path in files if is_video(path)]
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in videos:
        if is_picture(path):
            by_folder[path.parent].append(path)
    folders = {folder for folder, pictures in by_folder.items() if _is_series(folder, pictures)}
    others = [path for path in videos if not (is_picture(path) and path.parent in folders)]
    for path in others:
        if holders := folders.intersection(path.parents):
            raise PipelineError(
                f"{path}: expected only numbered pictures of one video in {holders.pop()}. "
                "Received: another video. Move it to another folder."
            )
    return sorted([*folders, *others])


def _is_series(folder: Path, pictures: Sequence[Path]) -> bool:
    """Return whether the pictures of a folder are a video, and not single pictures."""
    if len(pictures) == 1 or all(picture_number(path) < 0 for path in pictures):
        return False
    if fault := numbering_fault(sorted(pictures)):
        raise PipelineError(
            f"{folder}: expected the numbered pictures of one video (frames_0001.jpg, ...) or "
            f"pictures without numbers. Received: {fault}. Rename or move pictures, or list the "
            "videos in a table."
        )
    return True


def sha256_of_pictures(folder: Path) -> str:
    """Return a SHA-256 of names and bytes of the pictures in a folder, in hex; empty if none."""
    pictures = pictures_in(folder)
    files = [[path.name, sha256_of_file(path) if path.is_file() else ""] for path in pictures]
    return sha256_of_json(files) if files else ""


def size_bytes(video: Path) -> int:
    """Return the size of a file, or of the files in a folder of pictures; 0 for another path."""
    files = video.iterdir() if video.is_dir() else [video]
    return sum(file.stat().st_size for file in files if file.is_file())
