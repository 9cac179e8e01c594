"""Videos and tasks that stop a process, as a defect in a codec would.

Processes import this module when they start: it imports little.
"""

import os
import signal
import time
from pathlib import Path


class _Video:
    """A path that looks absent until its first use."""

    def exists(self) -> bool:
        return False

    is_dir = is_file = exists


class DeadlyVideo(_Video):
    """A path whose first use kills the process."""

    def stat(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class BlockingVideo(_Video):
    """A path whose first use takes a minute."""

    def stat(self) -> None:
        time.sleep(60)


class GreedyVideo(_Video):
    """A path whose first use allocates 8 GiB, without touching them."""

    def stat(self) -> None:
        bytearray(8 << 30)


class DangerousFolder:
    """A folder whose videos are deadly, blocking or greedy, by their names."""

    def __truediv__(self, name: str) -> DeadlyVideo | BlockingVideo | GreedyVideo:
        kinds = {"deadly": DeadlyVideo, "blocking": BlockingVideo, "greedy": GreedyVideo}
        return kinds[name.removesuffix(".mp4")]()


def behave(task: str) -> str:
    """Return, block, die, die the first time, or raise an error, as the task says."""
    kind, _, path = task.partition(" ")
    match kind:
        case "block":
            time.sleep(60)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die-once":
            if not Path(path).exists():
                Path(path).touch()
                os.kill(os.getpid(), signal.SIGSEGV)
        case "raise":
            raise RuntimeError(task)
    return task.upper()
