"""Who waits for whom among the processes of a user on one machine.

A promotion judges for minutes and moves the alias in a moment. Promotions wait for each other
throughout, so that none judges against a champion that another is about to replace; a rollback
waits for that moment only. Processes elsewhere are noticed by ``crown``, which compares before
and after it writes.
"""

import getpass
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from pipeline.base.files import sha256_of_json
from pipeline.tracking.store import store_uri

logger = logging.getLogger(__name__)

Step = Literal["gate", "champion"]

_AT_WORK: dict[Step, str] = {
    "gate": "Another promotion of %s is at work; waiting for its end.",
    "champion": "The champion of %s is being changed; waiting for its end.",
}


@contextmanager
def one_at_a_time(name: str, step: Step) -> Iterator[None]:
    """Let one process of this user on this machine take the step; others wait.

    Args:
        name: of the registered model.
        step: ``gate``: judging; ``champion``: moving the alias.
    """
    digest = sha256_of_json([store_uri(), name, getpass.getuser()])[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"{step}-{digest}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info(_AT_WORK[step], name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
