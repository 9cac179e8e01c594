"""The ledger of the frame store: what was found in each video, or why it was quarantined."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipeline.base.errors import PipelineError
from pipeline.base.files import read_csv, read_json, write_csv, write_json
from pipeline.video.info import VideoInfo
from pipeline.video.reading import FrameSpec
from pipeline.video.source import Limits
from pipeline.video.store import StoredVideo

_INDEX = "index.csv"
_SETTINGS = "settings.json"
_FOUND = tuple(column.name for column in fields(VideoInfo) if column.name != "damage")
_COLUMNS = ("name", "status", "reason", "key", "frames", *_FOUND)


@dataclass(frozen=True)
class LedgerRow:
    """One row of the catalog and what became of it. ``key`` names its file in the store."""

    name: str
    stored: StoredVideo

    @property
    def is_usable(self) -> bool:
        return self.stored.frames > 0

    @property
    def status(self) -> str:
        """``ok``, ``damaged`` (kept up to the damage) or ``quarantined``."""
        if not self.is_usable:
            return "quarantined"
        return "damaged" if self.stored.reason else "ok"


@dataclass(frozen=True)
class Ledger:
    """All rows, and the settings that the stored frames were made with."""

    rows: Sequence[LedgerRow]
    spec: FrameSpec
    limits: Limits

    def write(self, folder: Path) -> None:
        """Write ``index.csv`` (sorted by name, byte-stable) and ``settings.json``."""
        write_json(folder / _SETTINGS, {"spec": asdict(self.spec), "limits": asdict(self.limits)})
        in_order = sorted(self.rows, key=lambda row: row.name)
        write_csv(folder / _INDEX, _COLUMNS, (_cells(row) for row in in_order))

    @classmethod
    def read(cls, folder: Path) -> "Ledger":
        """Read what ``write`` wrote; of what was found, only the counts of frames come back.

        Raises:
            PipelineError: the decode stage has not finished there.
        """
        if not (folder / _INDEX).exists():
            raise PipelineError(f"{folder}: no frames there. Run the decode stage (dvc repro).")
        settings = read_json(folder / _SETTINGS)
        rows = [
            LedgerRow(
                name=row["name"],
                stored=StoredVideo(key=row["key"], frames=int(row["frames"]), reason=row["reason"]),
            )
            for row in read_csv(folder / _INDEX)
        ]
        return cls(rows, FrameSpec(**settings["spec"]), Limits(**settings["limits"]))


def _cells(row: LedgerRow) -> dict[str, object]:
    return {
        "name": row.name,
        "status": row.status,
        "reason": row.stored.reason,
        "key": row.stored.key,
        "frames": row.stored.frames,
        **{column: row.stored.found.get(column) for column in _FOUND},
    }
