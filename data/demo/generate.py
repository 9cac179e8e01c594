"""Draw and encode the demo data set: short H.264 videos, one folder per class.

data/demo/dvc.yaml runs it. By hand, from the root of the repository: python -m data.demo.generate
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError
from pydantic_core import ErrorDetails
from tqdm import tqdm

from data.demo.scenes import FPS, MOTIONS, Motion, render_clip
from pipeline.common.command import run_command
from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_folder
from pipeline.video.writing import encode_mp4

_FOLDER = Path("data/demo/videos")
_PARAMS = Path("data/demo/params.yaml")

# Frames per video: from less than a third of the default T = 20 to more than T.
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

    Every class has the same lengths, from SHORTEST to LONGEST frames.

    Args:
        folder: must not contain folders with the names of ``motions``.
        seed: 0 or more.
        workers: number of processes.
    """
    for motion in motions:
        (folder / motion).mkdir(parents=True)
    tasks = list(_tasks(folder, motions, videos_per_class, seed))
    run = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
    done = run(joblib.delayed(_write_video)(*task) for task in tasks)
    for _ in tqdm(done, total=len(tasks), desc="demo", unit="video", disable=None):
        pass


def clip_lengths(count: int) -> list[int]:
    """Return ``count`` lengths in frames, spread evenly from SHORTEST to LONGEST.

    >>> clip_lengths(3)
    [6, 15, 24]
    """
    return [round(length) for length in np.linspace(SHORTEST, LONGEST, count)]


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
    except FileNotFoundError:
        raise PipelineError(
            f"{_PARAMS}: no such file. Run the command from the root of the repository."
        ) from None
    except yaml.YAMLError as error:
        raise PipelineError(
            f"{_PARAMS} is not valid YAML: {' '.join(str(error).split())}"
        ) from None
    except ValidationError as error:
        messages = "; ".join(_message(detail) for detail in error.errors())
        raise PipelineError(f"{_PARAMS}: {messages}") from None


def _message(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key (expected {', '.join(DemoParams.model_fields)})"
        case "missing":
            return f"{key}: missing"
        case "model_type":
            return f"expected the keys {', '.join(DemoParams.model_fields)}. Received: none"
    return f"{key}: {detail['msg']}. Received: {detail['input']!r:.80}"


if __name__ == "__main__":
    run_command(main)
