"""Classify videos with a registered model: make predict VIDEO="a.mp4 folder '*.mkv'"."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import joblib
from tqdm import tqdm

from pipeline.base.command import run_command
from pipeline.base.files import read_json, replacing_file
from pipeline.base.paths import REGISTRATION
from pipeline.params import Params, load_params
from pipeline.predict.formats import FORMATS, Format
from pipeline.predict.inputs import named_videos
from pipeline.predict.outcomes import Outcome, classify
from pipeline.predict.preview import write_preview
from pipeline.serving.contract import RequestOptions, ServingConfig
from pipeline.tracking.loading import load_model

logger = logging.getLogger(__name__)


def main() -> None:
    arguments = _parse_arguments()
    videos = named_videos(arguments.videos)
    options = RequestOptions.from_params(
        {"timeline": arguments.timeline, "clips": arguments.clips}, prefix="--"
    )
    params = load_params()
    classifier = load_model(
        arguments.model or _registered_here(params), config=_config(params, len(videos))
    )
    logger.info("model %s", classifier.uri)
    outcomes = list(
        tqdm(
            classify(classifier, videos, options),
            total=len(videos),
            desc="predict",
            unit="video",
            disable=None,
        )
    )
    _write(FORMATS[arguments.format](outcomes), arguments.output)
    if arguments.preview:
        write_preview(outcomes, model_uri=classifier.uri, options=options, path=arguments.preview)
    _fail_if_any_failed(outcomes)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.predict", description=__doc__)
    parser.add_argument(
        "videos", nargs="*", metavar="VIDEO", help="a file, a folder, or a pattern in quotes"
    )
    parser.add_argument(
        "--model",
        help="name of a registered model (its challenger is used), name@alias, or a URI such as "
        "models:/video-classifier/3; default: the version that this checkout registered",
    )
    parser.add_argument("--format", choices=get_args(Format), default="table")
    parser.add_argument("--output", type=Path, help="a file, instead of the terminal")
    parser.add_argument(
        "--timeline", action="store_true", help="also classify each stretch of every video"
    )
    parser.add_argument(
        "--clips",
        type=int,
        default=0,
        metavar="N",
        help="cut a video that is longer than a clip into at most N and average what is said of "
        "them; default: as in training",
    )
    parser.add_argument("--preview", type=Path, help="a PNG to write, of what the model saw")
    return parser.parse_args()


def _registered_here(params: Params) -> str:
    """Name the version of eval/registration.json: the model whose scores lie beside it."""
    if not REGISTRATION.exists():
        return params.register_.name
    registration = read_json(REGISTRATION)
    return f"models:/{registration['name']}/{registration['version']}"


def _config(params: Params, videos: int) -> ServingConfig:
    """Read any file; decode side by side, where a video that crashes a decoder harms no other."""
    return ServingConfig(
        path_root="/",
        timeout_seconds=params.decode.timeout_seconds,
        decoders=min(videos, params.compute.workers or joblib.cpu_count()),
    )


def _write(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    with replacing_file(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    logger.info("wrote %s", output)


def _fail_if_any_failed(outcomes: Sequence[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.prediction is None]
    if failed:
        logger.error("%d of %d videos could not be classified:", len(failed), len(outcomes))
        for outcome in failed:
            logger.error("  %s: %s", outcome.video, outcome.error)
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
