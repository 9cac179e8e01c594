"""Classify videos with the registered model: make predict VIDEO="one.mp4 other.mp4"."""

import argparse
import sys
from pathlib import Path

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.base.files import read_json
from pipeline.base.paths import REGISTRATION
from pipeline.params import load_params
from pipeline.tracking.loading import Prediction, load_model

_SHOWN_CLASSES = 10


def main() -> None:
    arguments = _parse_arguments()
    if not arguments.videos:
        raise PipelineError('no video given. Name at least one: make predict VIDEO="a.mp4 b.mp4"')
    classifier = load_model(arguments.model or _registered_here())
    print(f"model {classifier.uri}")
    failed = 0
    for video in arguments.videos:
        try:
            (prediction,) = classifier.predict([video])
        except PipelineError as error:
            failed += 1
            print(f"\n{video}\n  error: {error}")
        else:
            print(f"\n{video}\n{_table(prediction)}")
    if failed:
        sys.exit(1)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.predict", description=__doc__)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument(
        "--model",
        help="name of a registered model (its challenger is used), or a URI such as "
        "models:/video-classifier/3; default: the version that this checkout registered",
    )
    return parser.parse_args()


def _registered_here() -> str:
    """Name the version of eval/registration.json: the model whose scores lie beside it."""
    if not REGISTRATION.exists():
        return load_params().register_.name
    registration = read_json(REGISTRATION)
    return f"models:/{registration['name']}/{registration['version']}"


def _table(prediction: Prediction) -> str:
    """Return the classes and their probabilities, the most probable first."""
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    shown = ranked[:_SHOWN_CLASSES]
    width = max(len(name) for name, _ in shown)
    lines = [f"  {name:<{width}}  {probability:.4f}" for name, probability in shown]
    if len(ranked) > len(shown):
        lines.append(f"  and {len(ranked) - len(shown)} more classes")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
