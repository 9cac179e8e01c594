"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True)
class Threshold:
    """From which value on a check warns or fails; None: never."""

    warn: float | None
    fail: float | None

    def status(self, value: float) -> Status:
        if self.fail is not None and value >= self.fail:
            return "fail"
        if self.warn is not None and value >= self.warn:
            return "warn"
        return "ok"

    @property
    def warning_only(self) -> "Threshold":
        return Threshold(self.warn, None)


@dataclass(frozen=True)
class Finding:
    """One line of the table; ``sentence`` says it in plain words.

    value: None when it cannot be known.
    """

    name: str
    status: Status
    sentence: str
    value: float | None = None
    threshold: Threshold | None = None


def judged(name: str, value: float, threshold: Threshold, sentence: str) -> Finding:
    """Return a finding whose status follows from its value."""
    return Finding(name, threshold.status(value), sentence, round(value, 6), threshold)


def unknown(name: str, sentence: str) -> Finding:
    """Return a finding of something that cannot be known."""
    return Finding(name, "unknown", sentence)
