"""Draw and encode the demo data set: short H.264 videos in one folder a class.

Run by data/demo/dvc.yaml; by hand from the root of the repository: python -m data.demo.generate
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError
from tqdm import tqdm

from data.demo.scenes import FPS, MOTIONS, Motion, render_clip
from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.base.files import replacing_folder
from pipeline.video.writing import encode_mp4

_FOLDER = Path("data/demo/videos")
_PARAMS = Path("data/demo/params.yaml")

# Frames of a video: from under a third of the default T = 20 to more than T.
SHORTEST, LONGEST = 6, 24


class DemoParams(BaseModel):
    """data/demo/params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

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
    workers: int = 1,
) -> None:
    """Write ``<folder>/<motion>/<number>.mp4``; the same seed gives the same bytes.

    Every class has the same lengths, spread evenly over SHORTEST..LONGEST frames.
    """
    for motion in motions:
        (folder / motion).mkdir(parents=True)
    tasks = list(_tasks(folder, motions, videos_per_class, seed))
    run = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
    done = run(joblib.delayed(_write_video)(*task) for task in tasks)
    for _ in tqdm(done, total=len(tasks), desc="demo", unit="video", disable=None):
        pass


def clip_lengths(count: int) -> list[int]:
    """Return ``count`` lengths in frames, from SHORTEST to LONGEST and back, evenly.

    >>> clip_lengths(3)
    [6, 15, 24]
    """
    return [int(round(length)) for length in np.linspace(SHORTEST, LONGEST, count)]


def _tasks(
    folder: Path, motions: Sequence[Motion], videos_per_class: int, seed: int
) -> Iterator[tuple[Path, Motion, int, tuple[int, ...]]]:
    for motion in motions:
        for number, frames in enumerate(clip_lengths(videos_per_class)):
            path = folder / motion / f"{number:03d}.mp4"
            yield path, motion, frames, (seed, MOTIONS.index(motion), number)


def _write_video(path: Path, motion: Motion, frames: int, seed: tuple[int, ...]) -> None:
    clip = render_clip(motion, frames=frames, rng=np.random.default_rng(seed))
    path.write_bytes(encode_mp4(clip, fps=FPS))


def _load_params() -> DemoParams:
    try:
        return DemoParams.model_validate(yaml.safe_load(_PARAMS.read_text(encoding="utf-8")))
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"])
        raise PipelineError(
            f"{_PARAMS}: {key}: {detail['msg']}. Received: {detail['input']!r}"
        ) from None


if __name__ == "__main__":
    run_command(main)
