"""Measure latency and throughput of a served model over HTTP.

`python -m benchmarks.serve` registers the untrained model of params.yaml in a new store, serves it
with `vidpipe serve` on this machine, and posts generated H.264 videos of 2 and 4 s at 320x240 as
base64: from one client, and from 8 clients at once. Each client sends its next request after the
answer, over the same connection. Server and clients share the cores. The last line is JSON, with
an object for each video: `p50_ms_1` and `p95_ms_1` are quantiles of the latency for one client,
`cpu_ms_1` is the processor time of a request in the server and its decoders, and
`throughput_8_over_1` is the ratio of the rates of 8 clients and of one.
"""

import base64
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager
from pathlib import Path
from socket import create_server

import psutil
import yaml

from benchmarks.made_videos import Encoding, make_video
from pipeline.clips.preprocessing import Preprocessing
from pipeline.common.command import run_command
from pipeline.common.paths import MODEL, MODEL_METADATA, PARAMS
from pipeline.model.network import build_model
from pipeline.model.saving import ModelMetadata, model_digest, save_model
from pipeline.params import load_params
from pipeline.registry.register import register_model
from pipeline.serving.request import ServingConfig
from pipeline.tasks.task import task_class
from pipeline.tracking.runs import ensure_run

_VIDEO = Encoding("libx264", ".mp4", 320, 240, {"preset": "medium", "crf": "22"})
_VIDEO_SECONDS = (2, 4)
_TARGETS = ("a", "b", "c", "d")
_NAME = "served"
_WARM_UP, _REQUESTS_OF_1, _REQUESTS_OF_8 = 10, 100, 200
_MOST_SECONDS = 60  # of each measurement; a slow machine then sends fewer requests
_START_SECONDS = 300


def main() -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["PYTHONPATH"] = str(Path.cwd())
    with tempfile.TemporaryDirectory(prefix="serve-") as name:
        folder = Path(name)
        params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
        params["serve"]["path_root"] = ""  # may be relative to the repository
        (folder / PARAMS).write_text(yaml.safe_dump(params), encoding="utf-8")
        with chdir(folder):  # the folder of the store and its artifacts
            videos = {
                f"{seconds}_s": make_video(
                    folder / f"{seconds}.mp4", _VIDEO, seconds=seconds, seed=0
                ).read_bytes()
                for seconds in _VIDEO_SECONDS
            }
            _register(videos["2_s"])
            with _server(folder) as (port, server):
                report = {name: _report(port, server, video) for name, video in videos.items()}
    sizes = ", ".join(str(len(video)) for video in videos.values())
    print(f"{sizes} bytes of video, {os.cpu_count()} cores")
    print(json.dumps(report))


def _report(port: int, server: psutil.Process, video: bytes) -> dict[str, float]:
    row = {"video": base64.b64encode(video).decode()}
    body = json.dumps({"dataframe_records": [row]}).encode()
    _send(port, body, requests=_WARM_UP)
    cpu_before = _cpu_seconds(server)
    latencies, rate_1 = _measure(port, body, clients=1, requests=_REQUESTS_OF_1)
    cpu_seconds = _cpu_seconds(server) - cpu_before
    _, rate_8 = _measure(port, body, clients=8, requests=_REQUESTS_OF_8)
    return {
        "p50_ms_1": round(1000 * statistics.median(latencies), 1),
        "p95_ms_1": round(1000 * statistics.quantiles(latencies, n=20)[-1], 1),
        "cpu_ms_1": round(1000 * cpu_seconds / len(latencies), 1),
        "requests_per_second_1": round(rate_1, 2),
        "requests_per_second_8": round(rate_8, 2),
        "throughput_8_over_1": round(rate_8 / rate_1, 2),
    }


def _cpu_seconds(server: psutil.Process) -> float:
    """Return the processor time of a process and its running descendants so far."""
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _register(example: bytes) -> None:
    """Register the untrained model of params.yaml."""
    params = load_params()
    task = task_class(params.task.type).learn(_TARGETS, params.task)
    frame_shape = (params.decode.height, params.decode.width, 3)
    save_model(build_model(params.model, task, frame_shape=frame_shape), MODEL)
    ModelMetadata(task, Preprocessing(params.decode, params.extract)).write(MODEL_METADATA)
    sha256 = model_digest(MODEL, MODEL_METADATA)
    register_model(
        ensure_run(sha256, params={}, dataset="none", history=[]),
        name=_NAME,
        model_sha256=sha256,
        model_path=MODEL,
        metadata_path=MODEL_METADATA,
        example_video=example,
        tags={},
        config=ServingConfig(),
    )


@contextmanager
def _server(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Serve the model until the block ends; yield the port and the process."""
    with create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "pipeline.cli", "serve", f"{_NAME}@challenger"]
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(port, server, log)
        yield port, psutil.Process(server.pid)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _wait_for(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise SystemExit(f"The server did not start:\n{log.read_text(errors='replace')}")


def _measure(port: int, body: bytes, *, clients: int, requests: int) -> tuple[list[float], float]:
    """Return the latency of each request in seconds, and the number of answers per second."""
    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        futures = [
            pool.submit(_send, port, body, requests=requests // clients) for _ in range(clients)
        ]
        latencies = [latency for future in futures for latency in future.result()]
    return latencies, len(latencies) / (time.monotonic() - started)


def _send(port: int, body: bytes, *, requests: int) -> list[float]:
    """Send requests one after the other over one connection; return their latencies."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    started = time.monotonic()
    latencies: list[float] = []
    while len(latencies) < requests and time.monotonic() - started < _MOST_SECONDS:
        sent = time.perf_counter()
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"Expected status 200. Received: {answer.status}, {content!r}")
        latencies.append(time.perf_counter() - sent)
    connection.close()
    return latencies


if __name__ == "__main__":
    run_command(main)
