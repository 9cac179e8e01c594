"""A file and a port that no decoder may open, and files that try to make it."""

import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.made_videos import rewrite_box
from tests.robustness.intact import intact_video

_POLL_SECONDS = 0.005


class _Watch(threading.Thread):
    """Count visits from the start of a with block to its end, by polling."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._is_stopped = threading.Event()
        self.visits = 0

    def run(self) -> None:
        while not self._is_stopped.wait(_POLL_SECONDS):
            self.visits += self._is_visited()

    def _is_visited(self) -> bool:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._is_stopped.set()
        self.join()
        self.visits += self._is_visited()


class CanaryFile(_Watch):
    """A FIFO: opening it for reading is a visit, and finds it empty."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        os.mkfifo(path)

    def _is_visited(self) -> bool:
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # ENXIO: no reader
            return False
        return True


class CanaryPort(_Watch):
    """A port of this machine: a connection is a visit, and is closed at once."""

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _is_visited(self) -> bool:
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, where)
        self._socket.close()


def playlist(target: str) -> bytes:
    return (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n"
        f"#EXTINF:1.8,\n{target}\n#EXT-X-ENDLIST\n"
    ).encode()


def concat_script(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile {target}\n".encode()


def dash_manifest(target: str) -> bytes:
    return f"""<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1.8S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" minBufferTime="PT1S"><Period>
<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="100000" width="96"
 height="64" codecs="avc1.64000a"><BaseURL>{target}</BaseURL></Representation></AdaptationSet>
</Period></MPD>
""".encode()


def session_description(target: str) -> bytes:
    """Source: RFC 8866."""
    return (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"a=control:{target}\r\nm=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    ).encode()


def address(target: str) -> bytes:
    return f"{target}\n".encode()


def mp4_with_frames_elsewhere(target: str) -> bytes:
    """Return an mp4 that refers to media data in another file: a Macintosh alias.

    Source: QuickTime File Format, data reference atoms; libavformat/mov.c, mov_read_dref.
    """
    path = f"/{target}".encode()
    levels = struct.pack(">hh", 1, 1)  # of folders, from the alias and to its target
    alias = bytes(10 + 28 + 12 + 64 + 16) + levels + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2)
    alias += struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    return rewrite_box(
        intact_video("H.264 mp4"),
        "moov/trak/mdia/minf/dinf/dref",
        lambda _: struct.pack(">II", 0, 1) + entry,
    )


# Contents of a file that looks like a video, and the suffix that FFmpeg expects for them.
ATTEMPTS: dict[Callable[[str], bytes], str] = {
    playlist: ".m3u8",
    concat_script: ".ffconcat",
    dash_manifest: ".mpd",
    session_description: ".sdp",
    address: ".txt",
    mp4_with_frames_elsewhere: ".mov",
}
