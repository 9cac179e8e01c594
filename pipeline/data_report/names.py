"""Find videos whose file names share a stem, such as ``x``, ``x_flipped`` and ``x_part2``."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.common.video_files import is_video

_Scope = Literal["everywhere", "folder", "nowhere"]

_BETWEEN = r"[\s_.\-]"
_COPY_OF = re.compile(r"copy (?:\(\d+\) )?of (?P<stem>.+)", re.IGNORECASE)
_NUMBERED_COPY = re.compile(r"(?P<stem>.+?)\s*\(\d+\)")
_VARIANT = re.compile(
    rf"(?P<stem>.+?){_BETWEEN}+(?:copy|[hv]?flip(?:ped)?|flip(?:lr|ud)|mirror(?:ed)?|"
    r"aug(?:mented)?|rot(?:ated)?|crop(?:ped)?|nois[ey]|blur(?:red)?|jitter(?:ed)?|resized|"
    rf"compressed|reencoded|reversed)(?:{_BETWEEN}*\d+|\s*\(\d+\))?",
    re.IGNORECASE,
)
_PART = re.compile(
    rf"(?P<stem>.+?){_BETWEEN}+(?:part|pt|clip|seg(?:ment)?|chunk|shot|scene){_BETWEEN}*\d+",
    re.IGNORECASE,
)
_CLIP_OF_GROUP = re.compile(r"(?P<stem>.+_g\d+)_c\d+", re.IGNORECASE)  # of UCF101
_SPAN = re.compile(rf"(?P<stem>.+?){_BETWEEN}+(?P<start>\d{{5,}}){_BETWEEN}(?P<end>\d{{5,}})")

_LONGEST_SPAN = 1000  # seconds or frames; longer ones may be a date and a time
_LARGEST_COUNT = 20  # videos of a family; more must be less than half of all
_MIN_LETTERS = 4  # of a stem that names one source, wherever its videos lie
# fmt: off
_GENERIC = frozenset({
    "cam", "camera", "capture", "clip", "dsc", "dscn", "file", "film", "footage", "frame", "gopr",
    "image", "img", "mov", "movie", "mvi", "new", "output", "pxl", "rec", "record", "recording",
    "sample", "scene", "seq", "sequence", "shot", "take", "test", "train", "trim", "untitled",
    "val", "vid", "video", "videos",
})
# fmt: on


@dataclass(frozen=True)
class NameFamily:
    """Videos whose names share a stem.

    Attributes:
        stem: as in the name of the first member.
        members: indices of the videos, at least two, ascending.
    """

    stem: str
    members: tuple[int, ...]


def find_name_families(videos: Sequence[str]) -> list[NameFamily]:
    """Return the videos that share a stem.

    Endings of copies, variants and parts are removed: ``x (1)`` if ``x`` is in the same folder,
    ``x - copy``, ``x_mirror``, ``x_aug3``, ``x_part2``, ``x_000010_000020`` (a span of seconds or
    frames), and ``_c02`` after ``_g01``. Numbers alone, as in ``video_17``, are not removed.

    A stem with too few letters of its own, such as ``017``, joins videos of one folder only, and
    only if an ending was removed. One that is nothing but a general word or the name of the
    folder, such as ``video``, joins none. Nor does one of more than half of all videos: it names
    the data set.

    Args:
        videos: paths with ``/``.
    """
    paths = [Path(unicodedata.normalize("NFC", video)) for video in videos]
    names = [path.stem if is_video(path) else path.name for path in paths]
    present: dict[Path, set[str]] = defaultdict(set)
    for path, name in zip(paths, names, strict=True):
        present[path.parent].add(name.casefold())
    stems = [_stem(name, present[path.parent]) for path, name in zip(paths, names, strict=True)]
    families: dict[tuple[Path | None, str], list[int]] = defaultdict(list)
    for index, (path, stem) in enumerate(zip(paths, stems, strict=True)):
        scope = _scope(stem, path.parent)
        if scope != "nowhere":
            folder = None if scope == "everywhere" else path.parent
            families[folder, stem.casefold()].append(index)
    return [
        NameFamily(stems[members[0]], tuple(members))
        for (folder, _), members in families.items()
        if 1 < len(members) <= max(_LARGEST_COUNT, len(videos) // 2)
        and (folder is None or any(stems[member] != names[member] for member in members))
    ]


def _stem(name: str, siblings: Set[str]) -> str:
    """Return the name without the endings of copies, variants and parts.

    Args:
        siblings: names in the same folder, without case.

    >>> _stem("Copy of goal_part2_flipped", set())
    'goal'
    """
    while True:
        shorter = next((match["stem"] for match in _endings(name, siblings)), name)
        if shorter == name:
            return name
        name = shorter


def _endings(name: str, siblings: Set[str]) -> Iterator[re.Match[str]]:
    for pattern in (_COPY_OF, _VARIANT, _PART, _CLIP_OF_GROUP):
        if match := pattern.fullmatch(name):
            yield match
    match = _NUMBERED_COPY.fullmatch(name)
    if match and match["stem"].casefold() in siblings:
        yield match
    match = _SPAN.fullmatch(name)
    if match and 0 < int(match["end"]) - int(match["start"]) <= _LONGEST_SPAN:
        yield match


def _scope(stem: str, folder: Path) -> _Scope:
    """Return where videos with this stem are taken for parts of one source."""
    general = _GENERIC.union(*(_words(part) for part in folder.parts))
    own = [word for word in _words(stem) if word not in general]
    if sum(map(len, own)) >= _MIN_LETTERS:
        return "everywhere"
    return "folder" if own or any(map(str.isdigit, stem)) else "nowhere"


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())
