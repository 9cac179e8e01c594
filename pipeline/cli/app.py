"""The command ``vidpipe``, and what its verbs share.

Slow imports are inside the commands, so that help and completion answer at once.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Typer

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.params import Params

logger = logging.getLogger(__name__)

app = Typer(
    help="From a folder of labelled videos to an evaluated, registered and served model.",
    epilog="A version is named 3, @champion, name@alias or name/3. Exit codes: 0 done, 1 error, "
    "2 wrong arguments, 3 refused or different, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Version = Annotated[str, Argument(help="such as 3, @champion, name@alias or name/3")]


def params_of_project() -> "Params":
    """Return the validated params.yaml of the current folder."""
    from pipeline.params import load_params

    return load_params()


def version_named(text: str, params: "Params | None" = None) -> "ModelVersion":
    """Return the version that a user named, of the model ``register.name``."""
    from pipeline.registry.versions import find_version

    return find_version(text, name=(params or params_of_project()).register_.name)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines; control characters in names are escaped."""
    from pipeline.common.tables import printable

    print("\n".join(map(printable, lines)))


def write_text(text: str, destination: str) -> None:
    """Write ``text`` to a file, or to stdout for ``-``."""
    from pipeline.common.files import output_file, replacing_file

    if destination == "-":
        print(text, end="")
        return
    with replacing_file(output_file(Path(destination))) as temporary:
        temporary.write_text(text, encoding="utf-8")
    logger.info("wrote %s", destination)
