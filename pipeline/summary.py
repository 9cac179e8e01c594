"""Print what `make repro` led to: data, scores, the registered version, and what to do next."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.base.command import run_command
from pipeline.base.files import read_csv, read_json
from pipeline.base.paths import CATALOG, CLIPS, FRAMES, INTERVALS, METRICS, REGISTRATION
from pipeline.catalog.records import SPLITS, read_catalog
from pipeline.params import load_params
from pipeline.video.ledger import Ledger


def main() -> None:
    rows = list(_rows())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
    print("\nNext:")
    print("  make ui                # runs, pictures and models in the browser")
    print(f"  make predict VIDEO={_a_test_video()}")


def _rows() -> Iterator[tuple[str, str]]:
    ledger = Ledger.read(FRAMES)
    refused = sum(not row.is_usable for row in ledger.rows)
    clips = {split: len(read_csv(CLIPS / split / "clips.csv")) for split in SPLITS}
    metrics, intervals, version = map(read_json, (METRICS, INTERVALS, REGISTRATION))
    yield "videos", str(len(ledger.rows))
    yield "quarantined", f"{refused} (see {FRAMES}/index.csv)" if refused else "0"
    yield "clips", ", ".join(f"{count} {split}" for split, count in clips.items())
    for name in ("accuracy", "macro_f1"):
        low, high = intervals[name]
        yield (
            f"test {name.replace('_', ' ')}",
            f"{metrics[name]:.3f}  [{low:.3f}, {high:.3f}] at {_confidence():.0%}",
        )
    yield "with frames shuffled", f"{metrics['accuracy_frames_shuffled']:.3f} accuracy"
    yield "by length alone", f"{metrics['accuracy_length_only']:.3f} accuracy"
    yield "registered", f"{version['name']} version {version['version']}, @{version['alias']}"


def _confidence() -> float:
    return load_params().evaluate.confidence


def _a_test_video() -> Path:
    folder = Path(load_params().data.videos)
    return folder / next(row.video for row in read_catalog(CATALOG) if row.split == "test")


if __name__ == "__main__":
    run_command(main)
