"""Start stages and command line tools: logging, exit codes, child processes."""

import errno
import getpass
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

from pipeline.common.errors import PipelineError
from pipeline.common.tables import printable

INTERRUPTED = 130  # exit code after Ctrl-C

_REMEDIES = {
    errno.EROFS: "Move the project to a disk that can be written.",
    errno.EACCES: "Change its permissions or its owner.",
    errno.EPERM: "Change its permissions or its owner.",
    errno.ENOSPC: "The disk is full: free some space, then run the command again.",
    errno.EDQUOT: "The disk quota is used up: free some space, then run the command again.",
}


def run_command(main: Callable[[], None]) -> None:
    """Run ``main`` with logging to stderr.

    Exits with code 1 and one line on a PipelineError, or when a file cannot be written or a
    package is missing. Exits with code 130 after Ctrl-C.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    _name_user()
    try:
        main()
    except PipelineError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except ModuleNotFoundError as error:
        name = error.name or ""
        if name.partition(".")[0] == "pipeline":
            raise
        print(  # noqa: T201
            f"error: the package of the module {name} is not installed, so .venv differs from "
            "requirements.txt. Run: touch pyproject.toml && make install",
            file=sys.stderr,
        )
        sys.exit(1)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None or error.filename is None:
            raise
        where = printable(os.fsdecode(error.filename))
        print(f"error: {where}: {error.strerror}. {remedy}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        end_interrupted()


def end_interrupted() -> NoReturn:
    """End this process with code 130, at once, with a message unless it runs a stage.

    At its normal end, the interpreter waits for threads of TensorFlow, for seconds.
    """
    if "pipeline.stages" not in sys.modules:  # vidpipe repro, which runs them, has the message
        print("Interrupted. To go on, run the command again.", file=sys.stderr)  # noqa: T201
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


class _OneLine(logging.Formatter):
    """Write a message on one line, whatever the names in it; a traceback follows as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))


def _name_user() -> None:
    """Set LOGNAME and HOME for a user id without a passwd entry, as ``docker run -u`` gives.

    MLflow and DVC ask for both and fail without them. Child processes inherit them.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"  # as Docker does; libraries then use the temporary folder


def run_python(
    *arguments: str,
    cwd: Path = Path(),
    accept: Collection[int] = (0,),
    without: Collection[str] = (),
) -> int:
    """Run ``python -m <arguments>`` with this interpreter and return its exit code.

    Its stdout goes to stderr. The folder of this interpreter is first on its PATH, also for its
    child processes, such as the commands of dvc.yaml.

    Args:
        arguments: module name and its arguments.
        cwd: working directory.
        accept: exit codes that are not an error.
        without: environment variables that the process does not inherit.

    Raises:
        PipelineError: the process exits with another code.
    """
    environment = {key: value for key, value in os.environ.items() if key not in without}
    scripts = Path(sys.executable).parent
    environment["PATH"] = f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"
    sys.stderr.flush()
    process = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=environment,
        stdout=sys.stderr.fileno(),
        check=False,
    )
    if process.returncode not in accept:
        raise PipelineError(
            f"{' '.join(arguments)} failed with exit code {process.returncode} in "
            f"{cwd.absolute()}. Its output is above."
        )
    return process.returncode
