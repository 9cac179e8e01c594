"""Tiny videos, made once a session, the real ones where they are at hand, and a browser."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from pipeline.tracking.store import connect
from pipeline.video.writing import encode_mp4
from tests.browser import find_chromium

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


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A new database of MLflow; making its tables takes longer than a test."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect().search_experiments()
    return folder / "mlflow.db"


@pytest.fixture(scope="module")  # while it is open, no test can run an event loop of its own
def browser() -> Iterator[Browser]:
    """A headless Chromium; ``tests.browser.visit`` opens pages in it."""
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium on PATH (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path)
        yield chromium
        chromium.close()
