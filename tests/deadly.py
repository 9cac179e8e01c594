"""A video that kills whoever opens it, as a fault in a codec would."""

import os
import signal


class DeadlyVideo:
    """Stands for the path of a file; its first use ends the process."""

    def stat(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
