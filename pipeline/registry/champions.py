"""The champion of a registered model: read, changed, and recorded in the registry itself.

The alias ``champion`` names it. Tags of the registered model record every change, so that every
clone and machine that uses the registry reads the same history. A record is written before the
alias moves, and the alias decides: a record whose move did not happen (the process was killed,
or another machine was faster) contradicts the record or the champion after it and is skipped.

MLflow has no compare-and-set. Without the comparisons before and after the alias moves, two
machines that promote at once would both report success, and the history would name the wrong
champion.
"""

import json
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from filelock import FileLock, Timeout
from mlflow.entities.model_registry import ModelVersion

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_json
from pipeline.common.tables import align_columns
from pipeline.registry.versions import CHAMPION, if_exists, version_with_alias
from pipeline.tracking.provenance import UNKNOWN
from pipeline.tracking.runs import MODEL_SHA256
from pipeline.tracking.store import connect, mlflow_errors, shown_uri, store_uri

logger = logging.getLogger(__name__)

Action = Literal["promoted", "rolled back"]

# Printed after a promotion and a rollback.
RESTART_SERVERS = (
    "A server keeps the version that it started with: restart vidpipe serve and containers."
)

_TAG_PREFIX = "champion."
_MAX_REASON = 1000  # characters; PostgreSQL and MySQL keep 5,000 of a tag


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
        model_sha256: digest of the weights and metadata of ``version``.
        best: the best champion of the line up to ``version``, by the scores of its promotion.
    """

    time: str
    action: Action
    version: int
    previous: int | None
    git_commit: str
    reason: str
    model_sha256: str = UNKNOWN
    best: int | None = None

    def to_tag(self) -> tuple[str, str]:
        """Return key and value of a new tag of the registered model."""
        key = f"{_TAG_PREFIX}{self.time}.{uuid.uuid4().hex[:8]}"
        return key, json.dumps(asdict(self), ensure_ascii=False)


class History(NamedTuple):
    """The history of champions.

    records: those whose move happened, the oldest first.
    succession: versions that rollbacks go back through; the last one is the champion or, when
        there is none now, the last champion.
    rolled_back: version -> when and why, such as "on 2026-01-02: it was slow"; without those
        whose model became champion again, also as another version.
    models: version -> digest of its weights and metadata, as far as recorded.
    """

    records: list[Record]
    succession: list[int]
    rolled_back: dict[int, str]
    models: dict[int, str]

    @property
    def best_of_line(self) -> int | None:
        """The best champion of the succession, as the promotion of its last one recorded it.

        The last one itself if that is not recorded; None without a champion.
        """
        if not self.succession:
            return None
        last = self.succession[-1]
        promotions = [
            record
            for record in self.records
            if record.version == last and record.action == "promoted"
        ]
        best = promotions[-1].best if promotions else None
        return best if best in self.succession else last


def champion_history(records: Sequence[Record], champion: int | None) -> History:
    """Combine records of changes to the history.

    A rollback removes the versions that it leaves from the succession, so that the next one
    goes further back. A champion that was set by hand counts as promoted.

    Args:
        records: the oldest first.
        champion: the version that has the alias now.
    """
    champions_after = [*(record.previous for record in records), champion][1:]
    history = History([], [], {}, {})
    _, succession, rolled_back, models = history

    def append(version: int | None) -> None:
        if version is not None and succession[-1:] != [version]:
            succession.append(version)

    for record, after in zip(records, champions_after, strict=True):
        if after == record.previous:
            continue  # the move did not happen
        history.records.append(record)
        append(record.previous)
        if record.action == "rolled back":
            while succession and succession[-1] != record.version:
                rolled_back[succession.pop()] = f"on {record.time[:10]}: {record.reason}"
        append(record.version)
        if record.model_sha256 != UNKNOWN:
            models[record.version] = record.model_sha256
        for version in [*rolled_back]:
            if version == record.version or models.get(version) == record.model_sha256:
                del rolled_back[version]
    append(champion)
    return history


def champion_number(name: str) -> int | None:
    """Return the number of the champion; None if there is none."""
    version = version_with_alias(name, CHAMPION)
    return None if version is None else int(version.version)


def read_records(name: str) -> list[Record]:
    """Return all records of a registered model, the oldest first."""
    model = if_exists(lambda client: client.get_registered_model(name))
    tags = {} if model is None else model.tags
    keys = sorted(key for key in tags if key.startswith(_TAG_PREFIX))
    return [Record(**json.loads(tags[key])) for key in keys]


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
        for record in champion_history(read_records(name), champion).records
    ]
    table = align_columns(rows, "<<<<<<") if rows else []
    return [f"{name}: {version_text(champion)} is champion", *table]


def version_text(number: int | None) -> str:
    """Return a version for messages."""
    return "no version" if number is None else f"version {number}"


def set_champion(
    name: str,
    version: ModelVersion,
    *,
    expected: int | None,
    action: Action,
    reason: str,
    best: int | None = None,
) -> Record:
    """Make a version the champion and record it.

    Args:
        name: of the registered model.
        expected: the champion that the decision was made against.
        best: as in ``Record``.

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
        model_sha256=version.tags.get(MODEL_SHA256, UNKNOWN),
        best=best,
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

    # Record again if another machine recorded after this one but moved the alias before.
    if champion_number(name) != number:
        return record  # it has a successor already
    records = read_records(name)
    last = champion_history(records, number).records[-1]
    if last.version != number:
        record = replace(record, time=_time_after(records), previous=last.version)
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
def one_at_a_time(name: str, step: Literal["gate", "champion"]) -> Iterator[None]:
    """Run the block in one process of this user on this machine at a time; others wait.

    Promotions wait for each other throughout (``gate``), so that none is judged against a champion
    that another is about to replace. A rollback waits only while the alias moves (``champion``).
    """
    digest = sha256_of_json([store_uri(), name, os.getuid()])[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"{step}-{digest}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Waiting for another promotion or rollback of %s to end.", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
