"""How every command of the pipeline starts and ends."""

import logging
import sys
from collections.abc import Callable

from pipeline.base.errors import PipelineError


def run_command(main: Callable[[], None]) -> None:
    """Run ``main`` with logging to stderr; exit with 1 and one line on a PipelineError."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
