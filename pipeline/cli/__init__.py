"""The command line ``vidpipe``: each verb is a few lines over a package."""

# isort: off
from pipeline.cli import data, training, serving, registry, retraining  # noqa: F401  (their order)

# isort: on
from pipeline.cli.app import app
from pipeline.common.command import INTERRUPTED, end_interrupted, run_command


def main() -> None:
    """Run ``vidpipe``."""
    try:
        run_command(app)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            end_interrupted()
        raise
