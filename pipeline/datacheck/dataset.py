"""A data set as the checks see it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.catalog.records import CatalogEntry
from pipeline.evaluation.data_summary import DescribedVideo

# What one row shows: the same bytes, and the same part of them.
Content = tuple[str, float | None, float | None]


@dataclass(frozen=True)
class DataSet:
    """Rows of a catalog, and what decode found in them.

    videos: name -> what was found; empty when that was not recorded.
    brightness: name -> 0 to 1; of the usable videos, as far as known.
    """

    entries: Sequence[CatalogEntry]
    videos: Mapping[str, DescribedVideo] = field(default_factory=dict)
    brightness: Mapping[str, float] = field(default_factory=dict)

    @property
    def label_counts(self) -> Counter[str]:
        return Counter(entry.label for entry in self.entries)

    def without(self, other: "DataSet") -> "DataSet":
        """Return the rows whose content ``other`` does not have."""
        known = {content(entry) for entry in other.entries}
        entries = [entry for entry in self.entries if content(entry) not in known]
        return DataSet(entries, self.videos, self.brightness)

    def values(self, quantity: str) -> list[float]:
        """Return the known values of ``seconds``, ``fps``, ``size``, ``shape`` or ``brightness``.

        The size is the side of a square of as many pixels, the shape width / height.
        """
        found = (self._value(entry.name, quantity) for entry in self.entries)
        return [value for value in found if value is not None]

    def _value(self, name: str, quantity: str) -> float | None:
        if quantity == "brightness":
            return self.brightness.get(name)
        video = self.videos.get(name)
        if video is None:
            return None
        if quantity in ("seconds", "fps"):
            return {"seconds": video.seconds, "fps": video.fps}[quantity]
        if video.size is None:
            return None
        width, height = video.size
        return float((width * height) ** 0.5) if quantity == "size" else width / height


def content(entry: CatalogEntry) -> Content:
    return entry.sha256, entry.start_seconds, entry.end_seconds
