"""The section ``evaluate`` of params.yaml."""

from pydantic import PositiveInt

from pipeline.common.bootstrap import Resampling
from pipeline.common.settings import OpenFraction, Section

_SEED = 0  # of the bootstrap


class EvaluateSection(Section):
    """Intervals of scores.

    Attributes:
        confidence: coverage probability of the intervals.
        bootstrap_samples: number of resampled test sets.
    """

    confidence: OpenFraction = 0.95
    bootstrap_samples: PositiveInt = 1000

    def resampling(self, groups: "list[str] | tuple[str, ...]") -> Resampling:
        """Return the resampled test sets for the group of each video."""
        return Resampling(groups, self.bootstrap_samples, self.confidence, _SEED)
