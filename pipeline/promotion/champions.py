"""The champion of a registered model: asked for, moved, and recorded, in the registry itself.

The alias ``champion`` says who it is, tags of the registered model say who was when. Every
clone and every machine that uses the registry sees both.
"""

import getpass
import logging
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.base.errors import PipelineError
from pipeline.base.files import sha256_of_json
from pipeline.promotion.history import Action, Record, effective, records_in, tag_key
from pipeline.tracking.aliases import CHAMPION
from pipeline.tracking.provenance import UNKNOWN
from pipeline.tracking.store import connect, mlflow_errors, shown_uri, store_uri

logger = logging.getLogger(__name__)


# Error codes of MLflow for a model, a version or an alias that does not exist.
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_MAX_REASON = 1000  # characters; PostgreSQL and MySQL keep 5,000 of a tag


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
            if error.error_code not in _MISSING:
                raise
            return None


def existing_version(name: str, version: int) -> ModelVersion | None:
    """Return a version by its number; None if it was deleted, or its files were."""
    client = connect()
    with mlflow_errors():
        try:
            found = client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code not in _MISSING:
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
            if error.error_code not in _MISSING:
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
    except PipelineError:
        with mlflow_errors():
            client.delete_registered_model_tag(name, key)
        raise
    return _made_last(name, new)


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


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Let one process of this user on this machine change the champion; others wait.

    Processes elsewhere are noticed by ``crown``, which compares before and after it writes.
    """
    digest = sha256_of_json([store_uri(), name, getpass.getuser()])[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"champion-{digest}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another promotion or rollback of %s is at work; waiting for its end.", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_champion(name: str, expected: int | None, *, wanted: int) -> None:
    found = champion_number(name)
    if found == expected:
        return
    raise PipelineError(
        f"MLflow at {shown_uri()}: expected {shown_version(expected)} as the champion of {name}, "
        f"found {shown_version(found)}: it was changed while version {wanted} was to become "
        "champion. Nothing was changed here. Run the command again."
    )


def shown_version(number: int | None) -> str:
    """Return a version for messages."""
    return "no version" if number is None else f"version {number}"
