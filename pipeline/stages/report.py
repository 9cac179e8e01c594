"""report: what the videos are, as a picture and as a table by class and split."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.base.files import read_csv
from pipeline.base.paths import CATALOG, DATA_SUMMARY, FRAMES_INDEX, VIDEOS_PICTURE
from pipeline.catalog.records import SPLITS, CatalogEntry, read_catalog
from pipeline.evaluation.data_plots import videos_picture
from pipeline.evaluation.data_summary import (
    DescribedVideo,
    Status,
    summarise,
    write_summary_csv,
)
from pipeline.evaluation.plots import save_png
from pipeline.params import load_params


def main() -> None:
    bins = load_params().report.bins
    videos = read_described(CATALOG, FRAMES_INDEX)
    summary = summarise(videos, splits=SPLITS)
    write_summary_csv(DATA_SUMMARY, summary)
    save_png(videos_picture(videos, summary, bins=bins), VIDEOS_PICTURE)


def read_described(catalog: Path, index: Path) -> list[DescribedVideo]:
    """Join the catalog with the ledger of the frame store, by name.

    Raises:
        PipelineError: a row of the catalog is not in the ledger.
    """
    found = {row["name"]: row for row in read_csv(index)} if index.exists() else {}
    entries = read_catalog(catalog)
    missing = [entry.name for entry in entries if entry.name not in found]
    if missing:
        raise PipelineError(
            f"{index}: expected a row for each of the {len(entries)} rows of {catalog}, "
            f"{len(missing)} missing, the first {missing[0]}. Run the decode stage (dvc repro)."
        )
    return [_described(entry, found[entry.name]) for entry in entries]


def _described(entry: CatalogEntry, row: Mapping[str, str]) -> DescribedVideo:
    return DescribedVideo(
        label=entry.label,
        split=entry.split,
        status=cast(Status, row["status"]),
        frames=int(row["frames"]),
        codec=row["codec"],
        size=_upright_size(row),
        fps=_number_or_none(row["source_fps"]),
        is_variable_rate={"True": True, "False": False}.get(row["is_variable_rate"]),
        seconds=_seconds(entry, _number_or_none(row["source_seconds"])),
    )


def _upright_size(row: Mapping[str, str]) -> tuple[int, int] | None:
    """Return width and height as shown; as coded where the rotation is not known."""
    width, height = int(row["width"] or 0), int(row["height"] or 0)
    if not width or not height:  # a header may leave them open
        return None
    is_turned = round(int(row["rotation"] or 0) / 90) % 2 == 1
    return (height, width) if is_turned else (width, height)


def _seconds(entry: CatalogEntry, source_seconds: float | None) -> float | None:
    """Return how much of the source the row speaks of."""
    if source_seconds is None:
        return None
    end = source_seconds if entry.end_seconds is None else min(entry.end_seconds, source_seconds)
    return max(end - (entry.start_seconds or 0), 0.0)


def _number_or_none(text: str) -> float | None:
    return float(text) if text else None


if __name__ == "__main__":
    run_command(main)
