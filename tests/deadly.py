"""Paths of videos that stop a decoder process, as a defect in a codec would."""

import os
import signal
import time


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
