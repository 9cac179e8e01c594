"""The folder of the command, which the machines of a cluster share at the same path."""

import json
import os
import platform
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import IN_PROGRESS_PREFIX, read_json
from pipeline.compute.processes import is_alive, is_here, process_tags

_REMEDY = (
    "The machines of a Ray cluster must share it, for example over NFS, at the same path. Mount it "
    "there, or stop Ray there with: ray stop"
)

# Ray's messages when a worker cannot import a task, the class of an actor, or that of an argument.
_NOT_IMPORTED = re.compile(
    r"(?:failed to import on the worker|could not be computed).*?(No module named '[^']*')",
    re.DOTALL,
)
_MACHINE = re.compile(r"\bip=([\w.:]+)")


@dataclass(frozen=True)
class SharedFolder:
    """The working directory of the command, with a file that shows that it is the same folder."""

    path: str
    marker: str

    def enter(self) -> None:
        """Make this folder the working directory of a Ray worker.

        Raises:
            PipelineError: this machine has another folder at the path, or none.
        """
        if not Path(self.path, self.marker).exists():
            raise PipelineError(
                f"{self.path} on the machine {platform.node()}: expected the folder in which the "
                f"command runs. {_REMEDY}"
            )
        os.chdir(self.path)
        # Without it, each process that this one spawns runs Ray's start script and imports Ray.
        vars(sys.modules["__main__"]).pop("__file__", None)


def require_imports(error: Exception) -> None:
    """Raise a PipelineError if a Ray worker could not import the pipeline.

    Raises:
        PipelineError: names the machine and the missing module.
    """
    text = str(error)
    if missing := _NOT_IMPORTED.search(text):
        machine = f"the machine {match[1]}" if (match := _MACHINE.search(text)) else "a machine"
        raise PipelineError(
            f"{Path.cwd()} on {machine}: expected the folder in which the command runs, with its "
            f".venv. Received: {missing[1]}. {_REMEDY}"
        ) from error


@contextmanager
def sharing_working_directory() -> Iterator[SharedFolder]:
    """Yield the working directory for the workers of a cluster.

    Markers of commands that were killed on this machine are deleted.
    """
    prefix = f"{IN_PROGRESS_PREFIX}cluster-"
    for leftover in Path().glob(f"{prefix}*"):
        with suppress(FileNotFoundError, ValueError):  # its process has just ended, or begun
            tags = read_json(leftover)
            if is_here(tags) and not is_alive(tags):
                leftover.unlink()
    marker = Path(f"{prefix}{uuid.uuid4().hex}")
    marker.write_text(json.dumps(process_tags()), encoding="utf-8")
    try:
        yield SharedFolder(str(Path.cwd()), marker.name)
    finally:
        marker.unlink(missing_ok=True)
