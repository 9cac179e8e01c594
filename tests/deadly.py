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


class GreedyVideo:
    """A path whose first use allocates 8 GiB, without touching them."""

    def exists(self) -> bool:
        return False

    def stat(self) -> None:
        bytearray(8 << 30)


class DangerousFolder:
    """A folder whose videos are deadly, blocking or greedy, by their names."""

    def __truediv__(self, name: str) -> DeadlyVideo | BlockingVideo | GreedyVideo:
        kinds = {"deadly": DeadlyVideo, "blocking": BlockingVideo, "greedy": GreedyVideo}
        return kinds[name.removesuffix(".mp4")]()
