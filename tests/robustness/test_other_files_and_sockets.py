"""A file that only looks like a video opens no other file and no connection."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.video.opening import VideoError
from pipeline.video.reading import read_frames
from tests.robustness.canaries import (
    ATTEMPTS,
    CanaryFile,
    CanaryPort,
    concat_script,
    mp4_with_frames_elsewhere,
    playlist,
)
from tests.robustness.intact import DECODE, intact_video
from tests.robustness.outcomes import intact_frames

CANARY = "canary.mp4"

# File names that FFmpeg could read as a protocol; {} is the canary's port.
NAMES = [
    f"concat:{CANARY}|{CANARY}",
    f"file:{CANARY}",
    f"subfile,,start,0,end,0,,:{CANARY}",
    f"crypto:{CANARY}",
    f"cache:{CANARY}",
    f"http://{{}}/{CANARY}",
    "tcp://{}",
    "data:video/mp4;base64,AAAA",
    "pipe:0",
    "fd:0",
    "-",
]

NOT_A_VIDEO = "not a video that can be opened ("
EXPECTED = dict.fromkeys(ATTEMPTS, NOT_A_VIDEO) | {
    mp4_with_frames_elsewhere: "truncated after 0.0 of 1.8 s"
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Change to a working directory for the canary."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def visits(attempt: Callable[[str], None]) -> tuple[int, int]:
    """Count how often ``attempt(address)`` opens the canary file and the canary port."""
    with CanaryFile(Path(CANARY)) as file, CanaryPort() as port:
        attempt(port.address)
    return file.visits, port.visits


def open_unprotected(url: str | Path, **options: str) -> None:
    """Open a file with FFmpeg's defaults."""
    with suppress(av.FFmpegError):  # a canary is not a video
        av.open(str(url), options=options).close()


def reason(path: Path) -> str:
    with pytest.raises(VideoError) as error:
        read_frames(path, DECODE)
    return error.value.reason


class TestDefaultsOpenTheCanaries:
    """Otherwise the tests below could not fail."""

    def check_file_is_opened(self, path: Path, content: bytes, **options: str) -> None:
        path.write_bytes(content)
        assert visits(lambda _: open_unprotected(path, **options)) >= (1, 0)

    def test_by_a_script(self, folder):
        self.check_file_is_opened(folder / "script.mp4", concat_script(CANARY))

    def test_by_a_playlist(self, folder):
        self.check_file_is_opened(folder / "playlist.m3u8", playlist(CANARY))

    def test_by_an_mp4(self, folder):
        content = mp4_with_frames_elsewhere(CANARY)
        self.check_file_is_opened(folder / "alias.mp4", content, enable_drefs="1")

    def test_by_a_playlist_of_addresses(self, folder):
        path = folder / "playlist.m3u8"

        def attempt(address: str) -> None:
            path.write_bytes(playlist(f"http://{address}/{CANARY}"))
            open_unprotected(path, protocol_whitelist="file,http,tcp")

        assert visits(attempt)[1] > 0

    @pytest.mark.parametrize("name", ["concat:{1}|{1}", "subfile,,start,0,end,9,,:{1}"])
    def test_by_a_name(self, name):
        assert visits(lambda address: open_unprotected(name.format(address, CANARY)))[0] > 0

    @pytest.mark.parametrize("name", ["http://{}/canary.mp4", "tcp://{}"])
    def test_by_an_address(self, name):
        assert visits(lambda address: open_unprotected(name.format(address)))[1] > 0

    def test_a_script_gives_frames_of_another_file(self, folder):
        (folder / CANARY).write_bytes(intact_video("H.264 mp4"))
        (folder / "script.mp4").write_bytes(concat_script(CANARY))
        with av.open("script.mp4") as container:
            assert len(list(container.decode(video=0))) == 45


@pytest.mark.parametrize("make", ATTEMPTS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("target", [CANARY, f"file:{CANARY}", f"http://{{}}/{CANARY}", "tcp://{}"])
@pytest.mark.parametrize("is_named_mp4", [True, False])
def test_content_opens_nothing(folder, make, target, is_named_mp4):
    path = folder / f"video{'.mp4' if is_named_mp4 else ATTEMPTS[make]}"
    reasons = []

    def attempt(address: str) -> None:
        path.write_bytes(make(target.format(address)))
        reasons.append(reason(path))

    assert visits(attempt) == (0, 0)
    assert reasons[0].startswith(EXPECTED[make])


@pytest.mark.parametrize("make", ATTEMPTS, ids=lambda make: make.__name__)
def test_content_gives_no_frame_of_another_file(folder, make):
    (folder / CANARY).write_bytes(intact_video("H.264 mp4"))
    (folder / "video.mp4").write_bytes(make(CANARY))
    assert reason(folder / "video.mp4").startswith(EXPECTED[make])


@pytest.mark.parametrize("name", NAMES)
def test_a_name_opens_nothing(name):
    def attempt(address: str) -> None:
        path = Path(name.format(address))
        assert reason(path) == "cannot be read (No such file or directory)"

    assert visits(attempt) == (0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_such_a_name_is_read(name):
    def attempt(address: str) -> None:
        path = Path(name.format(address))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(intact_video("VP9 webm"))
        frames = read_frames(path, DECODE)
        np.testing.assert_array_equal(frames, intact_frames("VP9 webm"))

    assert visits(attempt) == (0, 0)


def test_a_pipe_of_this_process_is_not_read():
    receiving, sending = os.pipe()
    os.write(sending, b"untouched")
    assert reason(Path(f"/dev/fd/{receiving}")) == "not a regular file"
    assert os.read(receiving, 99) == b"untouched"
    os.close(receiving)
    os.close(sending)
