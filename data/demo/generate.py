"""Draw and encode the demo data set: short H.264 videos, one folder per class.

data/demo/dvc.yaml runs `python -m data.demo.generate` from the root of the repository.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from pydantic import NonNegativeInt, PositiveInt, ValidationError
from tqdm import tqdm

from data.demo.scenes import FPS, MOTIONS, Motion, render_clip
from pipeline.common.command import run_command
from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_folder
from pipeline.common.settings import Section, describe_errors
from pipeline.video.writing import encode_mp4

_FOLDER = Path("data/demo/videos")
_PARAMS = Path("data/demo/params.yaml")

# Frames per video: from less than a third of the default T = 20 to more than T.
SHORTEST, LONGEST = 6, 24


class DemoParams(Section):
    """The content of data/demo/params.yaml."""

    seed: NonNegativeInt
    videos_per_class: PositiveInt


def main() -> None:
    params = _load_params()
    with replacing_folder(_FOLDER) as folder:
        write_demo_videos(folder, videos_per_class=params.videos_per_class, seed=params.seed)


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
            for number, frames in enumerate(clip_lengths(videos_per_class)):
                rng = np.random.default_rng((seed, MOTIONS.index(motion), number))
                clip = render_clip(motion, frames=frames, rng=rng)
                (folder / motion / f"{number:03d}.mp4").write_bytes(encode_mp4(clip, fps=FPS))
                progress.update()


def clip_lengths(count: int) -> list[int]:
    """Return ``count`` lengths in frames, spread evenly from SHORTEST to LONGEST.

    >>> clip_lengths(3)
    [6, 15, 24]
    """
    return [round(length) for length in np.linspace(SHORTEST, LONGEST, count)]


def _load_params() -> DemoParams:
    try:
        content = yaml.safe_load(_PARAMS.read_text(encoding="utf-8"))
        return DemoParams.model_validate({} if content is None else content)
    except FileNotFoundError:
        raise PipelineError(
            f"{_PARAMS}: no such file. Run the command from the root of the repository."
        ) from None
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise PipelineError(f"{_PARAMS} is not valid YAML: {problem}. Correct the file.") from None
    except ValidationError as error:
        raise PipelineError(f"{_PARAMS}: {describe_errors(error)}") from None


if __name__ == "__main__":
    run_command(main)
