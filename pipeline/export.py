"""Write a registered model as files that need no MLflow: make export."""

import argparse
import logging
import shutil
from pathlib import Path

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.base.files import replacing_folder
from pipeline.base.paths import MODEL, MODEL_METADATA
from pipeline.model.saving import export_saved_model, load_classifier
from pipeline.params import load_params
from pipeline.tracking.aliases import CHAMPION
from pipeline.tracking.loading import model_file, model_uri

logger = logging.getLogger(__name__)

SAVED_MODEL = "saved_model"
_EXPORTED = sorted([MODEL.name, MODEL_METADATA.name, SAVED_MODEL])


def main() -> None:
    arguments = _parse_arguments()
    _refuse_other_content(arguments.output)
    name = arguments.model or load_params().register_.name
    uri = model_uri(name, alias=CHAMPION)
    with replacing_folder(arguments.output) as folder:
        for file in (MODEL.name, MODEL_METADATA.name):
            shutil.copy(model_file(uri, file), folder / file)
        export_saved_model(load_classifier(folder / MODEL.name), folder / SAVED_MODEL)
    logger.info("%s: wrote %s", uri, arguments.output)


def _refuse_other_content(folder: Path) -> None:
    """Refuse to replace anything but an earlier export.

    Raises:
        PipelineError: ``folder`` is a file, or holds something else.
    """
    if folder.is_dir():
        found = sorted(path.name for path in folder.iterdir())
        is_other, received = found not in ([], _EXPORTED), f"one that holds {', '.join(found[:5])}"
    else:
        is_other, received = folder.exists(), "a file"
    if is_other:
        raise PipelineError(
            f"--output {folder}: expected a folder that is new, empty or an earlier export, which "
            f"is replaced. Received: {received}"
        )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.export", description=__doc__)
    parser.add_argument(
        "--model",
        help="name of a registered model (its champion is taken), name@alias, or a URI such as "
        "models:/video-classifier/3; default: register.name",
    )
    parser.add_argument("--output", type=Path, default=Path("exported"), help="folder to write")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
