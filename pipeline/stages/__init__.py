"""One module a stage of dvc.yaml: a thin ``main`` over the domain packages."""

import sys
from types import TracebackType

from pipeline.common.command import end_interrupted


def _end_quietly(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Leave out the traceback after Ctrl-C while the modules of a stage are imported."""
    if issubclass(kind, KeyboardInterrupt):
        end_interrupted()
    sys.__excepthook__(kind, error, traceback)


if sys.argv[0] == "-m":  # ``python -m pipeline.stages.train`` imports this package first
    sys.excepthook = _end_quietly
