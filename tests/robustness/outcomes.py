"""Decode damaged files: `python -m tests.robustness.outcomes` prints tables of the results."""

import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.common.files import sha256_of_file
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.compute.settings import ComputeSection
from pipeline.video.batch import decode_records
from pipeline.video.reading import read_frames
from pipeline.video.settings import DecodeSection
from pipeline.video.store import load_frames, stored_path
from tests.robustness.damaged import Case, cuts, flips_and_swaps
from tests.robustness.intact import DECODE, intact_video
from tests.robustness.special import write_special_files

Frames = NDArray[np.uint8]
Result = Literal["right", "right, shorter", "quarantined", "unnoticed"]
RESULTS: tuple[Result, ...] = get_args(Result)


@dataclass(frozen=True)
class Outcome:
    """A damaged file after decoding; ``frames`` is None when it is quarantined."""

    case: Case
    facts: DecodeFacts
    frames: Frames | None

    @property
    def result(self) -> Result:
        """The comparison with the frames of the intact file, bit for bit."""
        if self.frames is None:
            return "quarantined"
        expected = intact_frames(self.case.kind)
        if np.array_equal(self.frames, expected):
            return "right"
        is_prefix = np.array_equal(self.frames, expected[: len(self.frames)])
        return "right, shorter" if is_prefix else "unnoticed"


@cache
def intact_frames(kind: str) -> Frames:
    return read_frames(intact_video(kind), DECODE)


def decode_files(
    store: Path, paths: Iterable[Path], decode: DecodeSection = DECODE
) -> dict[Path, DecodeFacts]:
    """Decode files into a store as the decode stage does, in two processes."""
    records = [
        VideoRecord(
            video=str(path), target="", sha256=sha256_of_file(path) if path.is_file() else ""
        )
        for path in paths
    ]
    decoded = decode_records(
        store, records, videos=Path("/"), decode=decode, compute=ComputeSection(workers=2)
    )
    return {Path(record.video): record.facts for record in decoded if record.facts is not None}


def decode_cases(
    folder: Path, cases: Iterable[Case], decode: DecodeSection = DECODE
) -> list[Outcome]:
    """Write damaged files into ``folder``, decode them and load the stored frames."""
    paths = {folder / case.file_name: case for case in cases}
    for path, case in paths.items():
        path.write_bytes(case.content)
    facts = decode_files(folder / "store", paths, decode)
    return [
        Outcome(case, facts[path], load_stored(folder / "store", facts[path], decode))
        for path, case in paths.items()
    ]


def load_stored(store: Path, facts: DecodeFacts, decode: DecodeSection = DECODE) -> Frames | None:
    """Return the frames uint8 [N, height, width, 3], or None if there are none."""
    if not facts.frames:
        return None
    return load_frames(stored_path(store, facts.key), decode, range(facts.frames))


def table(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield the lines of a Markdown table that counts results by kind and damage."""
    yield f"| file | damage | files | {' | '.join(RESULTS)} |"
    yield f"|---|---|{'---:|' * (1 + len(RESULTS))}"
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        counts[outcome.case.kind, outcome.case.damage][outcome.result] += 1
    for (kind, damage), results in counts.items():
        cells = [kind, damage, str(results.total()), *(str(results[name]) for name in RESULTS)]
        yield f"| {' | '.join(cells)} |"


def special_table(facts: Mapping[str, DecodeFacts]) -> Iterator[str]:
    """Yield the lines of a Markdown table of the special files."""
    yield "| file | frames | why it was quarantined |"
    yield "|---|---:|---|"
    for kind, row in facts.items():
        yield f"| {kind} | {row.frames} | {row.reason} |"


def main() -> None:
    os.environ.setdefault("SVT_LOG", "1")  # log level of the AV1 encoder: errors only
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcomes = decode_cases(folder, chain(cuts(), flips_and_swaps()))
        (folder / "special").mkdir()
        paths = write_special_files(folder / "special")
        facts = decode_files(folder / "special store", paths.values())
    special_rows = special_table({kind: facts[path] for kind, path in paths.items()})
    print("\n".join([*table(outcomes), "", *special_rows]))  # noqa: T201


if __name__ == "__main__":
    main()
