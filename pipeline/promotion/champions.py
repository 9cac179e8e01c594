"""The champion of a registered model: asked for, moved, and recorded, in the registry itself.

The alias ``champion`` says who it is, tags of the registered model say who was when. Every
clone and every machine that uses the registry sees both.
"""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.base.errors import PipelineError
from pipeline.promotion.history import Action, Record, effective, records_in, tag_key
from pipeline.tracking.aliases import CHAMPION
from pipeline.tracking.provenance import UNKNOWN
from pipeline.tracking.store import MISSING, connect, mlflow_errors, shown_uri

logger = logging.getLogger(__name__)

# What a promotion and a rollback leave to do.
RESTART_SERVERS = (
    "A server keeps the version that it started with: start make serve and containers again."
)

_MAX_REASON = 1000  # characters; PostgreSQL and MySQL keep 5,000 of a tag


class _OtherChampionError(PipelineError):
    """The champion is not the one that was expected."""


def version_with(name: str, alias: str) -> ModelVersion | None:
    """Return the version of the registered model that has the alias, None if none has.

    Raises:
        PipelineError: the store cannot be opened or read.
    """
    client = connect()
    with mlflow_errors():
        try:
            return client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
            return None


def existing_version(name: str, version: int) -> ModelVersion | None:
    """Return a version by its number; None if it was deleted, or its files were."""
    client = connect()
    with mlflow_errors():
        try:
            found = client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
            return None
        has_files = mlflow.artifacts.list_artifacts(f"models:/{name}/{version}")
        return found if has_files else None


def champion_number(name: str) -> int | None:
    """Return the number of the champion, None if there is none."""
    version = version_with(name, CHAMPION)
    return None if version is None else int(version.version)


def read_records(name: str) -> list[Record]:
    """Return everything that was recorded of the champions, the oldest first."""
    client = connect()
    with mlflow_errors():
        try:
            return records_in(client.get_registered_model(name).tags)
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
            return []


def crown(
    name: str, version: ModelVersion, *, expected: int | None, action: Action, reason: str
) -> Record:
    """Make a version the champion, and record it.

    The record is written first and the alias moves last, in one step: wherever this is
    killed, history.py can tell whether it came to pass.

    Args:
        expected: the champion that this was decided against.

    Raises:
        PipelineError: the champion is another one by now, or became another one in the same
            moment; then that one stays.
    """
    client = connect()
    number = int(version.version)
    _check_champion(name, expected, wanted=number)
    new = Record(
        time=_time_after(read_records(name)),
        action=action,
        version=number,
        previous=expected,
        git_commit=version.tags.get("git.commit", UNKNOWN),
        reason=reason[:_MAX_REASON],
    )
    key = _write(name, new)
    try:
        _check_champion(name, expected, wanted=number)
        with mlflow_errors():
            client.set_registered_model_alias(name, CHAMPION, version.version)
        _check_champion(name, number, wanted=number)
    except _OtherChampionError:
        _take_back(name, key)
        raise
    return _made_last(name, new)


def _take_back(name: str, key: str) -> None:
    """Delete the record of a move that another one came before.

    After any other error the record stays, because the alias may have moved: if it has not,
    history.py passes the record over.
    """
    client = connect()
    try:
        with mlflow_errors():
            client.delete_registered_model_tag(name, key)
    except PipelineError as error:  # what is wrong with the champion matters more
        logger.warning("The tag %s of %s should be deleted: %s", key, name, error)


def _made_last(name: str, record: Record) -> Record:
    """Write the record once more if another machine's came after it, but its move before."""
    if champion_number(name) != record.version:
        return record  # it was, and has a successor already
    records = read_records(name)
    last = effective(records, record.version)[-1]
    if last.version == record.version:
        return record
    again = replace(record, time=_time_after(records), previous=last.version)
    _write(name, again)
    return again


def _write(name: str, record: Record) -> str:
    key = tag_key(record, uuid.uuid4().hex[:8])
    client = connect()
    with mlflow_errors():
        client.set_registered_model_tag(name, key, record.to_json())
    return key


def _time_after(records: Sequence[Record]) -> str:
    """Return the time, or a moment after the last record if that machine's clock is ahead."""
    now = datetime.now(UTC)
    if records:
        now = max(now, datetime.fromisoformat(records[-1].time) + timedelta(microseconds=1))
    return now.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _check_champion(name: str, expected: int | None, *, wanted: int) -> None:
    found = champion_number(name)
    if found == expected:
        return
    raise _OtherChampionError(
        f"MLflow at {shown_uri()}: expected {shown_version(expected)} as the champion of {name}, "
        f"found {shown_version(found)}: it was changed while version {wanted} was to become "
        "champion. Nothing was changed here. Run the command again."
    )


def shown_version(number: int | None) -> str:
    """Return a version for messages."""
    return "no version" if number is None else f"version {number}"
