"""The weights of saved models, compared array by array."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

_WEIGHTS = "model.weights.h5"  # within a .keras file
_OPTIMIZER = "optimizer/"  # its state says nothing of what the model predicts


@dataclass(frozen=True)
class WeightsComparison:
    """How the arrays of two models differ."""

    arrays: int  # in both, of the same shape
    same: int  # of these, to the last bit
    unmatched: tuple[str, ...]  # in one only, or of another shape
    largest_difference: float  # absolute, over all arrays that are in both

    @property
    def are_same(self) -> bool:
        return not self.unmatched and self.same == self.arrays


def compare_weights(first: Path, second: Path) -> WeightsComparison:
    """Compare two .keras files."""
    a, b = read_weights(first), read_weights(second)
    common = [name for name in a if name in b and a[name].shape == b[name].shape]
    unmatched = sorted((a.keys() | b.keys()) - set(common))
    return WeightsComparison(
        arrays=len(common),
        same=sum(np.array_equal(a[name], b[name]) for name in common),
        unmatched=tuple(unmatched),
        largest_difference=max((_largest(a[name], b[name]) for name in common), default=0.0),
    )


def read_weights(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a .keras file by their path in it, without the optimizer's."""
    arrays: dict[str, NDArray[np.generic]] = {}

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith(_OPTIMIZER):
            arrays[name] = item[()]

    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read(_WEIGHTS))
    with h5py.File(content, "r") as weights:
        weights.visititems(collect)
    return arrays


def _largest(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    if a.size == 0:
        return 0.0
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
