"""Does the order of the frames matter to the model?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.audits import Audit
from pipeline.evaluation.intervals import Resampling, mean_interval


@dataclass(frozen=True)
class OrderAccuracies:
    """Accuracies on the same test videos, with the frames of each clip in another order."""

    accuracy: float  # as they are
    frames_shuffled: float
    frames_reversed: float
    one_frame: float  # the middle one, in place of all others


def time_audit(
    hits: NDArray[np.bool_],
    shuffled_hits: NDArray[np.bool_],
    *,
    accuracies: OrderAccuracies,
    margin: float,
    units: Sequence[str],
    resampling: Resampling,
) -> Audit:
    """Ask what the model loses when the frames of each clip are shuffled: more than ``margin``?

    Args:
        hits: bool [N], whether each test video was predicted right.
        shuffled_hits: the same with shuffled frames.
        accuracies: ``hits`` and ``shuffled_hits`` are the first two.
    """
    lost = accuracies.accuracy - accuracies.frames_shuffled
    difference = hits.astype(np.float64) - shuffled_hits
    low, high = mean_interval(difference, units=units, resampling=resampling)
    ok = lost > margin
    if not ok:
        verdict = (
            "Order hardly matters: the model looks at what the frames show and not at how it "
            "moves. One without a recurrent layer (model.temporal.recurrent: none) may do as well."
        )
    elif low <= 0:
        verdict = f"Order seems to matter, but {len(hits):,} test videos are too few to be sure."
    else:
        verdict = "Order matters, so what stands over time earns its place."
    return Audit(
        name="time",
        value=lost,
        threshold=margin,
        ok=ok,
        sentence=(
            f"With the frames of each clip shuffled the accuracy is "
            f"{accuracies.frames_shuffled:.3f} instead of {accuracies.accuracy:.3f}, with frames "
            f"reversed {accuracies.frames_reversed:.3f}, with one frame held still "
            f"{accuracies.one_frame:.3f}. {verdict}"
        ),
        details={**asdict(accuracies), "low": low, "high": high},
    )
