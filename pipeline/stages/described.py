"""What catalog and decode found out about each video, read by the stages that tell of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pipeline.base.errors import PipelineError
from pipeline.base.files import read_csv
from pipeline.catalog.records import CatalogEntry, read_catalog
from pipeline.evaluation.data_summary import DescribedVideo, Status


def read_described(catalog: Path, index: Path) -> dict[str, DescribedVideo]:
    """Join the catalog with the ledger of the frame store; return the videos by name.

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
    return {entry.name: _described(entry, found[entry.name]) for entry in entries}


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
        extra=entry.extra,
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
