"""How long a client of the model's server waits, and how many videos a second it answers.

`python -m benchmarks.serve` registers the classifier of params.yaml, untrained, in a store of
its own, serves it as `make serve` does, on this machine only, and posts a made H.264 video of
4 s at 320x240 as base64: first one client, then 8 at once, each sending its next request when
it has the answer. The server and its clients share the cores. The last line is JSON:
`p50_ms_1` and `p95_ms_1` are quantiles of what a single client waits.
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

import yaml

from benchmarks.made_videos import Encoding, make_video
from pipeline.base.command import run_command
from pipeline.base.files import sha256_of_file
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.sampling import ClipSpec
from pipeline.model.classifier import build_classifier
from pipeline.model.saving import save_classifier
from pipeline.params import PARAMS_FILE, load_params
from pipeline.stages.train import architecture
from pipeline.tracking.registry import register_model
from pipeline.tracking.runs import ensure_run
from pipeline.video.reading import FrameSpec
from pipeline.video.source import Limits

_VIDEO = Encoding("libx264", ".mp4", 320, 240, {"preset": "medium", "crf": "22"})
_VIDEO_SECONDS = 4
_CLASSES = ("a", "b", "c", "d")
_NAME = "served"
_WARM_UP, _REQUESTS_OF_1, _REQUESTS_OF_8 = 10, 100, 200
_MOST_SECONDS = 60  # of each measurement; a slow machine sends fewer requests
_START_SECONDS = 300


def main() -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["PYTHONPATH"] = str(Path.cwd())
    with tempfile.TemporaryDirectory(prefix="serve-") as name:
        folder = Path(name)
        _copy_params(folder)
        with chdir(folder):  # where the store and its artifacts come to lie
            video = make_video(folder / "video.mp4", _VIDEO, seconds=_VIDEO_SECONDS, seed=0)
            content = video.read_bytes()
            _register(folder, content)
            row = {"video": base64.b64encode(content).decode()}
            body = json.dumps({"dataframe_records": [row]}).encode()
            with _server(folder) as port:
                _ask(port, body, requests=_WARM_UP)
                waits, rate_1 = _measure(port, body, clients=1, requests=_REQUESTS_OF_1)
                _, rate_8 = _measure(port, body, clients=8, requests=_REQUESTS_OF_8)
    quantiles = statistics.quantiles(waits, n=20)
    report = {
        "p50_ms_1": round(1000 * statistics.median(waits), 1),
        "p95_ms_1": round(1000 * quantiles[-1], 1),
        "requests_per_second_1": round(rate_1, 2),
        "requests_per_second_8": round(rate_8, 2),
    }
    print(f"{len(content)} bytes of video, {os.cpu_count()} cores")
    print(json.dumps(report))


def _copy_params(folder: Path) -> None:
    """Copy params.yaml, without the folder of serve.path_root, which may be relative."""
    params = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
    params["serve"]["path_root"] = ""
    (folder / PARAMS_FILE.name).write_text(yaml.safe_dump(params), encoding="utf-8")


def _register(folder: Path, example: bytes) -> None:
    params = load_params()
    decode, extract = params.decode, params.extract
    frames = FrameSpec(decode.fps, decode.width, decode.height, decode.fit)
    model = build_classifier(
        architecture(params), n_classes=len(_CLASSES), frame_shape=(frames.height, frames.width, 3)
    )
    save_classifier(model, folder / "classifier.keras")
    ClipsMetadata(
        _CLASSES,
        Preprocessing(
            frames,
            ClipSpec(extract.frames, extract.sampling, extract.stride, extract.clips_per_video),
            Limits(decode.max_seconds, decode.max_pixels),
        ),
    ).write(folder / "classifier.json")
    sha256 = sha256_of_file(folder / "classifier.keras")
    register_model(
        ensure_run(sha256, params={}, dataset="none", history=[]),
        name=_NAME,
        model_sha256=sha256,
        model_path=folder / "classifier.keras",
        metadata_path=folder / "classifier.json",
        example_video=example,
        tags={},
    )


@contextmanager
def _server(folder: Path) -> Iterator[int]:
    """Serve the model on a free port of this machine until the block ends."""
    with create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "pipeline.serve"]
    command += ["--model", f"{_NAME}@challenger", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(port, server, folder / "log")
        yield port
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
    raise SystemExit(f"the server did not start: {log.read_text(errors='replace')}")


def _measure(port: int, body: bytes, *, clients: int, requests: int) -> tuple[list[float], float]:
    """Return what every request waited, in seconds, and the answers a second."""
    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        futures = [
            pool.submit(_ask, port, body, requests=requests // clients) for _ in range(clients)
        ]
        waits = [wait for future in futures for wait in future.result()]
    return waits, len(waits) / (time.monotonic() - started)


def _ask(port: int, body: bytes, *, requests: int) -> list[float]:
    """Send one request after the other over one connection; return how long each waited."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    started = time.monotonic()
    waits: list[float] = []
    while len(waits) < requests and time.monotonic() - started < _MOST_SECONDS:
        sent = time.perf_counter()
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"expected status 200, received {answer.status}: {content!r}")
        waits.append(time.perf_counter() - sent)
    connection.close()
    return waits


if __name__ == "__main__":
    run_command(main)
