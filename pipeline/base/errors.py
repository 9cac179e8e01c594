"""The one error that a user of the pipeline is meant to read."""


class PipelineError(Exception):
    """Something that the user can mend: a bad parameter, a missing file, a damaged input.

    The message is a sentence or two that name the culprit, what was expected, what was
    received, and the remedy. Commands print it without a traceback and exit with 1;
    every other exception is a bug of ours and keeps its traceback.
    """
