"""Drift: are duration, frame rate, size, shape and brightness distributed as before?

Measured by the Kolmogorov-Smirnov statistic (``scipy.stats.ks_2samp``): the largest difference
of the two cumulative distributions, 0 (the same) to 1 (no overlap). It needs no bins, as the
population stability index does. What chance explains does not count.
"""

from collections.abc import Iterator

import numpy as np
from scipy.stats import ks_2samp

from pipeline.datacheck.dataset import DataSet
from pipeline.datacheck.finding import Finding, Threshold, judged, unknown

_MAX_P_VALUE = 0.01  # of a drift that counts
_QUANTITIES = {
    "seconds": ("duration", "s"),
    "fps": ("frame rate", "fps"),
    "size": ("size", "pixels, side of a square"),
    "shape": ("shape", "width / height"),
    "brightness": ("brightness", "of 1"),
}


def check_drift(now: DataSet, before: DataSet, threshold: Threshold) -> Iterator[Finding]:
    """Compare all videos with those of before, and the new ones alone.

    A few new videos that are unlike all others hardly move the whole, and that is when
    something is wrong with what comes in; these rows warn and never fail.
    """
    arrived = now.without(before)
    are_all_new = len(arrived.entries) == len(now.entries)
    for quantity, (name, _) in _QUANTITIES.items():
        yield _drift(name, quantity, now, before, threshold)
        if arrived.entries and not are_all_new:
            title = f"{name}, new videos"
            yield _drift(title, quantity, arrived, before, threshold.warning_only)


def _drift(
    name: str, quantity: str, now: DataSet, before: DataSet, threshold: Threshold
) -> Finding:
    new, old = now.values(quantity), before.values(quantity)
    if not new or not old:
        return unknown(name, "Not recorded for the champion." if new else "Not known of any video.")
    found = ks_2samp(new, old)
    counts = float(found.pvalue) < _MAX_P_VALUE
    medians = (
        f"median {np.median(old):.4g} before, {np.median(new):.4g} now "
        f"({_QUANTITIES[quantity][1]}; {len(old)} and {len(new)} videos)"
    )
    if not counts:
        sentence = f"{medians}; chance explains the difference."
        return Finding(name, "ok", sentence, round(float(found.statistic), 6), threshold)
    return judged(name, float(found.statistic), threshold, f"{medians}.")
