"""Who was champion when, worked out from what was recorded. Pure functions.

A record is written before the alias moves, and the alias is what counts: a record whose move
never came to pass (the process was killed, or another machine was faster) is told by the
champion that came after it, and is passed over.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Action = Literal["promoted", "rolled back"]


@dataclass(frozen=True)
class Record:
    """One change of champion. The fields of its JSON in the registry have the same names."""

    time: str  # UTC, ISO 8601 to the microsecond, so that records sort by it
    action: Action
    version: int  # champion from now on
    previous: int | None  # champion until now
    git_commit: str  # of the training of ``version``
    reason: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        return cls(**json.loads(text))


def effective(records: Sequence[Record], champion: int | None) -> list[Record]:
    """Return the records whose move came to pass, in their order.

    Args:
        records: sorted by time.
        champion: the version that has the alias now.
    """
    champions_before = [*(record.previous for record in records), champion]
    return [
        record
        for record, after in zip(records, champions_before[1:], strict=True)
        if after != record.previous
    ]


def succession(records: Sequence[Record], champion: int | None) -> list[int]:
    """Return the versions that a rollback walks back through, the last one the champion.

    A rollback takes what it left out of the line, so that the next one goes further back. A
    champion that was set by hand is in the line as if it had been promoted.

    Args:
        records, champion: as for ``effective``. With no champion now, the line ends with the
            last one that was.
    """
    line: list[int] = []
    for record in effective(records, champion):
        _follow(line, record)
    _append(line, champion)
    return line


def rolled_back(records: Sequence[Record], champion: int | None, version: int) -> str:
    """Say when and why ``version`` was rolled back, "" if it was not, or came back since.

    A rollback over several champions rolls all of them back, as if it was done step by step.
    """
    sentence = ""
    line: list[int] = []
    for record in effective(records, champion):
        left = _follow(line, record)
        if record.version == version:
            sentence = ""
        elif version in left:
            sentence = f"on {record.time[:10]}: {record.reason}"
    return sentence


def tag_key(record: Record, unique: str) -> str:
    """Return the key of a record among the tags of the registered model."""
    return f"{TAG_PREFIX}{record.time}.{unique}"


def records_in(tags: Mapping[str, str]) -> list[Record]:
    """Return the records among the tags of a registered model, the oldest first."""
    keys = sorted(key for key in tags if key.startswith(TAG_PREFIX))
    return [Record.from_json(tags[key]) for key in keys]


TAG_PREFIX = "champion."


def _append(line: list[int], version: int | None) -> None:
    if version is not None and line[-1:] != [version]:
        line.append(version)


def _follow(line: list[int], record: Record) -> list[int]:
    """Change the line as the record says; return the versions that a rollback took out of it."""
    _append(line, record.previous)
    left = _walk_back(line, record.version) if record.action == "rolled back" else []
    _append(line, record.version)
    return left


def _walk_back(line: list[int], version: int) -> list[int]:
    left = []
    while line and line[-1] != version:
        left.append(line.pop())
    return left
