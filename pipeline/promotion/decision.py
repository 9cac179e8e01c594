"""What the gate goes by and what it comes to, as values."""

from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.base.files import sha256_of_json
from pipeline.evaluation.paired import Metric

REFUSED_EXIT_CODE = 3
RULES = "gate.rules"  # tag of a version: the digest of the rules that it was judged by

Outcome = Literal["promoted", "refused", "first champion", "already champion", "passed"]


@dataclass(frozen=True)
class Rules:
    """What a champion must be: the section ``promote`` of params.yaml.

    min_gain: the lower end of the interval of the gain must reach it. 0: surely no worse;
        -0.02: surely at most that much worse.
    confidence: of that interval, two-sided.
    class_floor: smallest recall of any class.
    max_calibration_error: largest expected calibration error.
    max_latency_ms: largest median of a video.
    min_groups: fewest groups of videos to judge by.
    max_unreadable: largest share of the test videos that a first champion cannot read.
    bootstrap_samples, calibration_bins, seed: as for evaluate.
    """

    metric: Metric
    min_gain: float
    confidence: float
    class_floor: float
    max_calibration_error: float
    max_latency_ms: float
    min_groups: int
    max_unreadable: float
    bootstrap_samples: int
    calibration_bins: int
    seed: int

    @property
    def digest(self) -> str:
        """Return the same text for the same rules, another one for others."""
        return sha256_of_json(asdict(self))[:16]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``sentence`` says it in plain words."""

    name: str
    ok: bool
    sentence: str
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Gain:
    """What the challenger scores more than the champion; of a log loss, how much less it loses."""

    metric: Metric
    champion: float
    challenger: float
    gain: float
    low: float
    high: float
    videos: int
    groups: int  # of these videos, which are what is drawn
    fixed: tuple[str, ...]  # videos that only the challenger has right
    broken: tuple[str, ...]  # videos that only the champion has right


@dataclass(frozen=True)
class Decision:
    """What becomes of the challenger, and all that was looked at."""

    outcome: Outcome
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    gain: Gain | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was refused, every reason."""
        return tuple(check.sentence for check in self.checks if not check.ok)
