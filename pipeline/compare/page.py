"""A comparison as one HTML file."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.compare.comparison import Comparison, Verdict, readable, verdict
from pipeline.evaluation.paired import LOWER_IS_BETTER, Difference, Metric
from pipeline.page.rendering import render_page

_TEMPLATE = Path(__file__).parent / "templates" / "compare.html"
_HALF_WIDTH = 100  # of the drawing of an interval, in CSS pixels


@dataclass(frozen=True)
class _Row:
    """A metric, with its interval drawn from 0 in the middle; x in CSS pixels."""

    name: str
    found: Difference
    verdict: Verdict
    is_lower_better: bool
    low_x: float
    x: float
    high_x: float


def comparison_page(found: Comparison) -> str:
    """Return the page, which needs nothing beside it."""
    return render_page(
        _TEMPLATE,
        found=found,
        rows=[_row(metric, difference) for metric, difference in found.differences.items()],
        middle=_HALF_WIDTH,
        lists=[("Became wrong", found.became_wrong), ("Became right", found.became_right)],
    )


def _row(metric: Metric, found: Difference) -> _Row:
    # Each metric has its own scale: a log loss has no upper end.
    scale = (_HALF_WIDTH - 8) / (max(abs(found.low), abs(found.high), abs(found.difference)) or 1)
    low, value, high = (
        round(_HALF_WIDTH + scale * end, 1) for end in (found.low, found.difference, found.high)
    )
    return _Row(
        name=readable(metric),
        found=found,
        verdict=verdict(metric, found),
        is_lower_better=metric in LOWER_IS_BETTER,
        low_x=low,
        x=value,
        high_x=high,
    )
