"""What becomes of damaged files: `python -m tests.robustness.outcomes` prints a table of it."""

import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.files import sha256_of_file
from pipeline.video.batch import DecodeTask, update_store
from pipeline.video.reading import WHOLE_VIDEO, FrameSpec, read_frames
from pipeline.video.source import Limits
from pipeline.video.store import StoredVideo, load_frames, stored_path
from tests.robustness.damaged import Case, cuts, flips_and_swaps
from tests.robustness.sound import LIMITS, SPEC, sound_video
from tests.robustness.special import write_special_files

Frames = NDArray[np.uint8]
Word = Literal["right", "right, shorter", "quarantined", "unnoticed"]
WORDS: tuple[Word, ...] = ("right", "right, shorter", "quarantined", "unnoticed")

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Outcome:
    """What became of one damaged file; ``frames`` is None when there are none."""

    case: Case
    stored: StoredVideo
    frames: Frames | None

    @property
    def word(self) -> Word:
        """Compare with the frames of the sound file, bit for bit."""
        if self.frames is None:
            return "quarantined"
        expected = sound_frames(self.case.kind)
        if np.array_equal(self.frames, expected):
            return "right"
        is_prefix = np.array_equal(self.frames, expected[: len(self.frames)])
        return "right, shorter" if is_prefix else "unnoticed"


@cache
def sound_frames(kind: str) -> Frames:
    return read_frames(sound_video(kind), SPEC, limits=LIMITS)


def decode_task(path: Path, spec: FrameSpec = SPEC, limits: Limits = LIMITS) -> DecodeTask:
    """Make the task that the decode stage makes of a file."""
    sha256 = sha256_of_file(path) if path.is_file() else ""
    return DecodeTask(path, sha256, WHOLE_VIDEO, spec, limits)


def decode_files(
    store: Path, paths: Iterable[Path], spec: FrameSpec = SPEC, limits: Limits = LIMITS
) -> dict[Path, StoredVideo]:
    """Put files into a store as the decode stage does, in two processes; one row a file."""
    tasks = {path: decode_task(path, spec, limits) for path in paths}
    stored = update_store(store, list(tasks.values()), workers=2, timeout_seconds=TIMEOUT_SECONDS)
    return {path: stored[task.key] for path, task in tasks.items()}


def decode_cases(folder: Path, cases: Iterable[Case], spec: FrameSpec = SPEC) -> list[Outcome]:
    """Write damaged files into ``folder``, decode them and load what was stored."""
    paths = {folder / case.file_name: case for case in cases}
    for path, case in paths.items():
        path.write_bytes(case.content)
    stored = decode_files(folder / "store", paths, spec)
    return [
        Outcome(case, stored[path], load_stored(folder / "store", stored[path], spec))
        for path, case in paths.items()
    ]


def load_stored(store: Path, stored: StoredVideo, spec: FrameSpec = SPEC) -> Frames | None:
    """Return the frames uint8 [N, height, width, 3], or None if there are none."""
    return load_frames(stored_path(store, stored.key), spec) if stored.frames else None


def table(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield the lines of a Markdown table that counts words by kind and damage."""
    yield f"| file | damage | files | {' | '.join(WORDS)} |"
    yield f"|---|---|{'---:|' * (1 + len(WORDS))}"
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        counts[outcome.case.kind, outcome.case.damage][outcome.word] += 1
    for (kind, damage), words in counts.items():
        cells = [kind, damage, str(words.total()), *(str(words[word]) for word in WORDS)]
        yield f"| {' | '.join(cells)} |"


def special_table(stored: Mapping[str, StoredVideo]) -> Iterator[str]:
    """Yield the lines of a Markdown table of what became of each special file."""
    yield "| file | frames | why it was quarantined |"
    yield "|---|---:|---|"
    for what, video in stored.items():
        yield f"| {what} | {video.frames} | {video.reason} |"


def main() -> None:
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder says errors only
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcomes = decode_cases(folder, chain(cuts(), flips_and_swaps()))
        (folder / "special").mkdir()
        paths = write_special_files(folder / "special")
        special = decode_files(folder / "special store", paths.values())
    special_rows = special_table({what: special[path] for what, path in paths.items()})
    print("\n".join([*table(outcomes), "", *special_rows]))  # noqa: T201  (its output)


if __name__ == "__main__":
    main()
