"""Tiny videos, made once a session, and the real ones where they are at hand."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.video.writing import encode_mp4

REAL_VIDEOS = Path(__file__).parents[2] / "shared" / "videos"


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of real clips beside the repository."""
    if not REAL_VIDEOS.is_dir():
        pytest.skip(f"no real videos beside the repository ({REAL_VIDEOS.name}/ is absent)")
    return REAL_VIDEOS


def numbered_frames(count: int, *, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames that say their number in grey: frame k is 10 + 8 k everywhere."""
    levels = 10 + 8 * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers_in(frames: np.ndarray) -> list[int]:
    """Read the numbers that numbered_frames wrote."""
    return [round((float(frame.mean()) - 10) / 8) for frame in frames]


@pytest.fixture(scope="session")
def numbered_mp4(tmp_path_factory) -> Path:
    """Thirty numbered frames at 30 fps, with B-frames."""
    path = tmp_path_factory.mktemp("videos") / "numbered.mp4"
    path.write_bytes(encode_mp4(numbered_frames(30), fps=30))
    return path
