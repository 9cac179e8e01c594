"""Draw and encode a demo data set: short H.264 videos and their labels.

data/demo/dvc.yaml runs `python -m data.demo.generate DEMO` from the root of the repository.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import NonNegativeInt, PositiveInt, ValidationError
from tqdm import tqdm

from data.demo import caption, frames, multilabel, regression, side_inputs
from data.demo.drawing import FPS, Drawn
from data.demo.scenes import MOTIONS, Motion, render_clip
from pipeline.common.command import run_command
from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_folder, write_csv
from pipeline.common.params_text import read_yaml
from pipeline.common.settings import Section, describe_errors
from pipeline.video.writing import encode_mp4

_PARAMS = Path("data/demo/params.yaml")

# Frames per video: from less than a third of the default T = 20 to more than T.
SHORTEST, LONGEST = 6, 24

# Frames per video of the other demo sets, in which a short clip does not show the answer.
_SHORTEST_LABELLED = 12


class DrawnSet(NamedTuple):
    """A demo data set with a table of labels.

    lengths: frames per video.
    divisor: of the number of videos, because they are longer.
    """

    draw: Callable[[int, np.random.Generator], Drawn]
    lengths: range = range(_SHORTEST_LABELLED, LONGEST + 1)
    divisor: int = 1


class DemoParams(Section):
    """The content of data/demo/params.yaml."""

    seed: NonNegativeInt
    videos_per_class: PositiveInt
    videos: PositiveInt


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data.demo.generate")
    parser.add_argument("demo", choices=["classification", *DRAWN])
    demo, params = parser.parse_args().demo, _load_params()
    with replacing_folder(demo_folder(demo)) as folder:
        if demo == "classification":
            write_demo_videos(folder, videos_per_class=params.videos_per_class, seed=params.seed)
        else:
            drawn = DRAWN[demo]
            videos = -(-params.videos // drawn.divisor)
            write_labelled_videos(folder, drawn, videos=videos, seed=params.seed)


def demo_folder(demo: str) -> Path:
    """Return the folder of the videos: of a value of ``task.type``, or ``side_inputs``."""
    return Path("data/demo/videos" if demo == "classification" else f"data/demo/videos_{demo}")


def write_demo_videos(
    folder: Path,
    *,
    videos_per_class: int,
    seed: int,
    motions: Sequence[Motion] = MOTIONS,
) -> None:
    """Write ``<folder>/<motion>/<number>.mp4``; the same seed gives the same bytes.

    Every class has the same lengths, from SHORTEST to LONGEST frames.

    Args:
        folder: contains no folder with the name of a motion.
        seed: 0 or more.
    """
    total = len(motions) * videos_per_class
    with tqdm(total=total, desc="demo", unit="video", disable=None) as progress:
        for motion in motions:
            (folder / motion).mkdir(parents=True)
            for number, n_frames in enumerate(clip_lengths(videos_per_class)):
                rng = np.random.default_rng((seed, MOTIONS.index(motion), number))
                clip = render_clip(motion, frames=n_frames, rng=rng)
                (folder / motion / f"{number:03d}.mp4").write_bytes(encode_mp4(clip, fps=FPS))
                progress.update()


def write_labelled_videos(folder: Path, drawn: DrawnSet, *, videos: int, seed: int) -> None:
    """Write ``<number>.mp4`` and ``labels.csv``; the same seed gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in tqdm(range(videos), "demo", unit="video", disable=None):
        rng = np.random.default_rng((seed, number))
        clip, labels = drawn.draw(drawn.lengths[number % len(drawn.lengths)], rng)
        name = f"{number:04d}.mp4"
        (folder / name).write_bytes(encode_mp4(clip, fps=FPS))
        rows += [{"video": name, **cells} for cells in labels]
    write_csv(folder / "labels.csv", list(rows[0]), rows)


def clip_lengths(count: int) -> list[int]:
    """Return ``count`` lengths in frames, spread evenly from SHORTEST to LONGEST.

    >>> clip_lengths(3)
    [6, 15, 24]
    """
    return [round(length) for length in np.linspace(SHORTEST, LONGEST, count)]


DRAWN: Mapping[str, DrawnSet] = {
    "caption": DrawnSet(caption.draw),
    "frames": DrawnSet(frames.draw, range(frames.SHORTEST, frames.LONGEST + 1), divisor=3),
    "multilabel": DrawnSet(multilabel.draw),
    "regression": DrawnSet(regression.draw),
    "side_inputs": DrawnSet(side_inputs.draw),
}


def _load_params() -> DemoParams:
    content = read_yaml(_PARAMS)
    try:
        return DemoParams.model_validate({} if content is None else content)
    except ValidationError as error:
        raise PipelineError(f"{_PARAMS}: {describe_errors(error, DemoParams)}") from None


if __name__ == "__main__":
    run_command(main)
