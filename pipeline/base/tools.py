"""Running the command line tools that the pipeline stands on."""

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from pipeline.base.errors import PipelineError


def run_python(
    *arguments: str,
    cwd: Path = Path(),
    accept: Collection[int] = (0,),
    without: Collection[str] = (),
) -> int:
    """Run ``python -m <arguments>`` with this Python, its output on stderr; return its exit code.

    What it starts, such as the commands of dvc.yaml, finds this Python first.

    Args:
        arguments: a module, and what it is to be told.
        cwd: where it runs.
        accept: exit codes that are no error.
        without: environment variables that it does not inherit.

    Raises:
        PipelineError: it exits with another code.
    """
    environment = {key: value for key, value in os.environ.items() if key not in without}
    scripts = Path(sys.executable).parent
    environment["PATH"] = f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"
    sys.stderr.flush()
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=environment,
        stdout=sys.stderr.fileno(),
        check=False,
    )
    if done.returncode not in accept:
        raise PipelineError(
            f"{' '.join(arguments)} failed with exit code {done.returncode} in {cwd.absolute()}; "
            "see above."
        )
    return done.returncode
