"""The result of one check: of the data, of an evaluation, or of the gate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warn", "fail", "unknown"]

# What lines for a terminal begin with.
STATUS_MARKS: dict[Status, str] = {"ok": "ok", "warn": "WARN", "fail": "FAIL", "unknown": "?"}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: of the check.
        status: ``unknown`` when the check could not be computed.
        sentence: the result in one or two sentences, and what to do.
        value: the measured number; None when it is unknown or the check has none.
        threshold: the limit that ``value`` is compared with; None when there is none.
        details: other numbers and names, JSON-compatible.
    """

    name: str
    status: Status
    sentence: str
    value: float | None = None
    threshold: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"
