"""Servers that a test starts as a user would, each in its own process group."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


@contextmanager
def hanging_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that accepts connections and never answers; yield its URL and the connections."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):  # the listener is closed
                while True:
                    connections.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", connections
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends accept()
            for connection in connections:
                connection.close()


@contextmanager
def refusing_server(status: int, body: str) -> Iterator[str]:
    """A server that gives every request the same answer; yield its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
