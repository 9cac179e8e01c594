"""The error that commands print without a traceback, and the text of other errors."""


class PipelineError(Exception):
    """An error that the user can fix: a bad parameter, a missing file, a damaged input.

    The message has four parts, in this order: where (file and line, or dotted key), what is
    wrong, what was expected and received, and what to do. Commands print it and exit with
    code 1. Any other exception is a defect of the pipeline and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if there is no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
