"""Paths of videos that stop a decoder process, as a defect in a codec would."""

import os
import signal
import time


class DeadlyVideo:
    """A path whose first use kills the process."""

    def exists(self) -> bool:
        return False

    def stat(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class BlockingVideo:
    """A path whose first use takes a minute."""

    def exists(self) -> bool:
        return False

    def stat(self) -> None:
        time.sleep(60)


class DangerousFolder:
    """A folder whose videos are deadly or blocking, by the first word of their names."""

    def __truediv__(self, name: str) -> DeadlyVideo | BlockingVideo:
        return DeadlyVideo() if name.startswith("deadly") else BlockingVideo()
