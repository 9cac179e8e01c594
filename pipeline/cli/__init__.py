"""The command line ``vidpipe``: each verb is a few lines over a package."""

from pipeline.cli import data, training, serving, registry, retraining  # noqa: F401, I001  (the order of the verbs in the help)
from pipeline.cli.app import app
from pipeline.common.command import run_command


def main() -> None:
    """Run ``vidpipe``."""
    run_command(app)
