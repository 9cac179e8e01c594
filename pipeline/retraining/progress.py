"""One retraining at a time in a folder, and how far the last one came."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from pipeline.base.errors import PipelineError

logger = logging.getLogger(__name__)

# nothing: there was nothing to do; reported: eval/retrain.md is of this command.
State = Literal["looking", "working", "nothing", "reported"]

_LOCK = Path(".dvc/tmp/retrain.lock")
_STATE = Path(".dvc/tmp/retrain.state")


@contextmanager
def one_retraining(*, wait: bool) -> Iterator[None]:
    """Let one retraining at a time work in this folder.

    Raises:
        PipelineError: another one is at work, and this one is not to wait for it.
    """
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise PipelineError(
                "Another retraining is at work in this folder. Wait for its end, or start this "
                "one with: make retrain WAIT=yes"
            ) from None
        logger.info("Another retraining is at work in this folder; waiting for its end.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def begin() -> bool:
    """Note that a retraining begins; tell whether the one before stopped amid its work.

    It was killed, or a step failed: there may be data that was not pushed, or no report.
    """
    was_cut_short = last_state() == "working"
    if not was_cut_short:
        note("looking")
    return was_cut_short


def note(state: State) -> None:
    """Note how far this retraining has come."""
    _STATE.parent.mkdir(parents=True, exist_ok=True)
    _STATE.write_text(state, encoding="utf-8")


def last_state() -> State | None:
    """Return how far the last retraining of this folder came; None if there was none."""
    found = _STATE.read_text(encoding="utf-8") if _STATE.exists() else ""
    return next((state for state in get_args(State) if state == found), None)
