"""Servers that a test starts as a user would, each in its own process group."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

_START_SECONDS = 600  # about 10 on an idle machine


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def running_server(command: Sequence[str | Path], *, cwd: Path, health: str) -> Iterator[None]:
    """Run a server until the block ends; enter the block when the URL ``health`` answers."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with TemporaryFile() as log:
        server = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for(health, server, log)
            yield
        finally:
            with suppress(ProcessLookupError):  # the server has ended
                os.killpg(server.pid, signal.SIGKILL)  # the server and its workers
            server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: BinaryIO) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    log.seek(0)
    raise AssertionError(f"nothing answered at {url}: {log.read().decode(errors='replace')}")
