"""The champion of a registered model: read, changed, and recorded in the registry itself.

The alias ``champion`` names it. Tags of the registered model record every change, so that every
clone and machine that uses the registry reads the same history. A record is written before the
alias moves, and the alias decides: a record whose move did not happen (the process was killed,
or another machine was faster) contradicts the record or the champion after it and is skipped.

MLflow has no compare-and-set. Without the comparisons before and after the alias moves, two
machines that promote at once would both report success, and the history would name the wrong
champion.
"""

import getpass
import json
import logging
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_json
from pipeline.common.tables import align_columns
from pipeline.registry.versions import CHAMPION, version_with_alias
from pipeline.tracking.provenance import UNKNOWN
from pipeline.tracking.store import MISSING, connect, mlflow_errors, shown_uri, store_uri

logger = logging.getLogger(__name__)

Action = Literal["promoted", "rolled back"]
Step = Literal["gate", "champion"]

# Printed after a promotion and a rollback.
RESTART_SERVERS = (
    "A server keeps the version that it started with: restart vidpipe serve and containers."
)

_TAG_PREFIX = "champion."
_MAX_REASON = 1000  # characters; PostgreSQL and MySQL keep 5,000 of a tag
_WAITING: dict[Step, str] = {
    "gate": "Another promotion of %s is running; waiting for it.",
    "champion": "The champion of %s is being changed; waiting.",
}


class _OtherChampionError(PipelineError):
    """The champion is not the expected version."""


@dataclass(frozen=True)
class Record:
    """One change of champion. Its JSON in the registry has the same fields.

    Attributes:
        time: UTC, ISO 8601 with microseconds, so that text order is time order.
        version: champion from now on.
        previous: champion until now; None if there was none.
        git_commit: of the training of ``version``.
    """

    time: str
    action: Action
    version: int
    previous: int | None
    git_commit: str
    reason: str

    def to_tag(self) -> tuple[str, str]:
        """Return key and value of a new tag of the registered model."""
        key = f"{_TAG_PREFIX}{self.time}.{uuid.uuid4().hex[:8]}"
        return key, json.dumps(asdict(self), ensure_ascii=False)


def records_in(tags: Mapping[str, str]) -> list[Record]:
    """Return the records among the tags of a registered model, the oldest first."""
    keys = sorted(key for key in tags if key.startswith(_TAG_PREFIX))
    return [Record(**json.loads(tags[key])) for key in keys]


def effective(records: Sequence[Record], champion: int | None) -> list[Record]:
    """Return the records whose move happened, in their order.

    Args:
        records: the oldest first.
        champion: the version that has the alias now.
    """
    champions_after = [*(record.previous for record in records), champion][1:]
    return [
        record
        for record, after in zip(records, champions_after, strict=True)
        if after != record.previous
    ]


def succession(records: Sequence[Record], champion: int | None) -> list[int]:
    """Return the versions that rollbacks go back through; the last one is the champion.

    A rollback removes the versions that it leaves, so that the next one goes further back. A
    champion that was set by hand counts as promoted.

    Args:
        records, champion: as for ``effective``. Without a champion now, the last version is
            the last champion.
    """
    line: list[int] = []
    for record in effective(records, champion):
        _apply(line, record)
    _append(line, champion)
    return line


def rolled_back(records: Sequence[Record], champion: int | None, version: int) -> str:
    """Return when and why ``version`` was rolled back; "" if it was not, or returned since.

    A rollback over several champions rolls all of them back.
    """
    reason = ""
    line: list[int] = []
    for record in effective(records, champion):
        removed = _apply(line, record)
        if record.version == version:
            reason = ""
        elif version in removed:
            reason = f"on {record.time[:10]}: {record.reason}"
    return reason


def _append(line: list[int], version: int | None) -> None:
    if version is not None and line[-1:] != [version]:
        line.append(version)


def _apply(line: list[int], record: Record) -> list[int]:
    """Change the succession by one record; return the versions that a rollback removed."""
    _append(line, record.previous)
    removed = []
    if record.action == "rolled back":
        while line and line[-1] != record.version:
            removed.append(line.pop())
    _append(line, record.version)
    return removed


def champion_number(name: str) -> int | None:
    """Return the number of the champion; None if there is none."""
    version = version_with_alias(name, CHAMPION)
    return None if version is None else int(version.version)


def read_records(name: str) -> list[Record]:
    """Return all records of a registered model, the oldest first.

    Raises:
        PipelineError: the store cannot be read.
    """
    client = connect()
    with mlflow_errors():
        try:
            return records_in(client.get_registered_model(name).tags)
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
            return []


def history_lines(name: str) -> list[str]:
    """Return the champion and its history as text, the oldest change first."""
    champion = champion_number(name)
    rows = [
        (
            f"{record.time[:19]}Z",
            f"version {record.version}",
            record.action,
            f"commit {record.git_commit[:10]}",
            f"after {version_text(record.previous)}",
            record.reason,
        )
        for record in effective(read_records(name), champion)
    ]
    table = align_columns(rows, "<<<<<<") if rows else []
    return [f"{name}: {version_text(champion)} is champion", *table]


def version_text(number: int | None) -> str:
    """Return a version for messages."""
    return "no version" if number is None else f"version {number}"


def set_champion(
    name: str, version: ModelVersion, *, expected: int | None, action: Action, reason: str
) -> Record:
    """Make a version the champion and record it.

    Args:
        name: of the registered model.
        version: the new champion.
        expected: the champion that the decision was made against.
        action, reason: are recorded.

    Raises:
        PipelineError: the champion is not ``expected`` any more, or another process changed it
            at the same time; that champion stays.
    """
    client = connect()
    number = int(version.version)
    _check_champion(name, expected, wanted=number)
    record = Record(
        time=_time_after(read_records(name)),
        action=action,
        version=number,
        previous=expected,
        git_commit=version.tags.get("git.commit", UNKNOWN),
        reason=reason[:_MAX_REASON],
    )
    key, value = record.to_tag()
    with mlflow_errors():
        client.set_registered_model_tag(name, key, value)
    try:
        _check_champion(name, expected, wanted=number)
        with mlflow_errors():
            client.set_registered_model_alias(name, CHAMPION, version.version)
        _check_champion(name, number, wanted=number)
    except _OtherChampionError:
        # After any other error the record stays, because the alias may have moved.
        try:
            with mlflow_errors():
                client.delete_registered_model_tag(name, key)
        except PipelineError as error:  # the champion matters more
            logger.warning("Delete the tag %s of %s: %s", key, name, error)
        raise
    return _record_again_if_not_last(name, record)


def _record_again_if_not_last(name: str, record: Record) -> Record:
    """Repeat the record if another machine recorded after it but moved the alias before."""
    if champion_number(name) != record.version:
        return record  # it has a successor already
    records = read_records(name)
    last = effective(records, record.version)[-1]
    if last.version == record.version:
        return record
    record = replace(record, time=_time_after(records), previous=last.version)
    client = connect()
    with mlflow_errors():
        client.set_registered_model_tag(name, *record.to_tag())
    return record


def _time_after(records: Sequence[Record]) -> str:
    """Return the time, or just after the last record when another machine's clock is ahead."""
    now = datetime.now(UTC)
    if records:
        now = max(now, datetime.fromisoformat(records[-1].time) + timedelta(microseconds=1))
    return now.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _check_champion(name: str, expected: int | None, *, wanted: int) -> None:
    champion = champion_number(name)
    if champion != expected:
        raise _OtherChampionError(
            f"MLflow at {shown_uri()}: expected {version_text(expected)} as the champion of "
            f"{name}. Received: {version_text(champion)}, because it changed while version "
            f"{wanted} was to become champion. Nothing was changed here. Run the command again."
        )


@contextmanager
def one_at_a_time(name: str, step: Step) -> Iterator[None]:
    """Run the block in one process of this user on this machine at a time; others wait.

    Promotions wait for each other throughout, so that none is judged against a champion that
    another is about to replace. A rollback waits only while the alias moves.

    Args:
        name: of the registered model.
        step: ``gate`` (judging) or ``champion`` (moving the alias).
    """
    digest = sha256_of_json([store_uri(), name, getpass.getuser()])[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"{step}-{digest}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info(_WAITING[step], name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
