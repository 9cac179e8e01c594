"""Audits: can the scores be trusted? Each is a number, a threshold and a plain sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base import files


@dataclass(frozen=True)
class Audit:
    """What one audit found.

    threshold: what ``value`` is held against; the sentence says which way.
    sentence: for people: what was found, and what to do about it.
    details: other numbers, as JSON takes them.
    """

    name: str
    value: float
    threshold: float
    ok: bool
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)


def write_audits(path: Path, audits: Sequence[Audit]) -> None:
    files.write_json(path, [asdict(audit) for audit in audits])
