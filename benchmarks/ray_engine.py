"""Compare decoding with ``compute.engine`` ray and local, on the same cores of this machine.

`python -m benchmarks.ray_engine [--videos 1000]` decodes short videos (H.264, 240p, 2 s) into a
new frame store with each engine in turns. Both have one process a core, two by default. Local
starts its processes in each turn. Ray connects to a cluster that runs already and starts its
workers in each turn; `seconds_connect` is the time of a connection without work, a part of
`seconds_ray`. `overhead_ms` is the difference of the medians, for a video: with few videos, mostly
the start. `scheduling_ms_local` and `scheduling_ms_ray` are the times of a task without work, of
4,000 in chunks as of videos, when the processes run; `scheduling_ms_ray_data` is that of a row of
Ray Data, in blocks of the same size. The last line of the output is JSON.
"""

import argparse
import json
import os
import shutil
import struct
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from benchmarks.made_videos import SHORT, make_video
from benchmarks.timing import interleaved, rounded, seconds_of, usable_cores
from pipeline.common.records import VideoRecord
from pipeline.compute.isolated import run_isolated
from pipeline.compute.ray_cluster import ENVIRONMENT, ray_cluster
from pipeline.compute.ray_tasks import run_on_ray
from pipeline.compute.settings import ComputeSection
from pipeline.video.batch import decode_records
from pipeline.video.settings import DecodeSection

_SCENES = 8
_SECONDS = 2
_TASKS, _FIRST_TASKS = 4000, 800  # in the first ones, processes start
_DECODE = DecodeSection()  # that of params.yaml: 10 fps, 64x64


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.ray_engine", description=__doc__)
    parser.add_argument("--videos", type=int, default=1000, help="default: 1000")
    parser.add_argument("--repetitions", type=int, default=3, help="default: 3")
    parser.add_argument("--cores", type=int, default=2, help="default: 2")
    options = parser.parse_args()
    os.sched_setaffinity(0, usable_cores()[: options.cores])  # also of the processes of Ray
    with tempfile.TemporaryDirectory(prefix="ray-engine-") as folder:
        report = measure(Path(folder), options.videos, options.repetitions, cores=options.cores)
    print(json.dumps(report))


def measure(folder: Path, count: int, repetitions: int, *, cores: int) -> dict[str, float | None]:
    """Return medians in seconds, their ratio, and the overhead of a video in milliseconds."""
    records = make_videos(folder / "videos", count)
    with _running_cluster(cores) as address:
        engines = {
            "local": ComputeSection(workers=cores),
            "ray": ComputeSection(engine="ray", address=address),
        }

        def seconds(name: str) -> float:
            store = folder / "store"
            shutil.rmtree(store, ignore_errors=True)
            videos = folder / "videos"

            def work() -> None:
                decode_records(store, records, videos=videos, decode=_DECODE, compute=engines[name])

            taken = seconds_of(work)
            if len(list(store.iterdir())) != count:
                raise SystemExit(f"{name}: expected {count} stored videos in {store}")
            print(f"{name:7} {taken:8.2f} s", flush=True)
            return taken

        def connect() -> None:
            with ray_cluster(address):
                pass

        sides = {
            "local": lambda: seconds("local"),
            "ray": lambda: seconds("ray"),
            "connect": lambda: seconds_of(connect),
        }
        scheduling = _scheduling_ms(cores, engines["ray"])
        medians = interleaved(sides, repetitions=repetitions).medians
    return {
        "videos": count,
        "cores": cores,
        **scheduling,
        **{f"seconds_{name}": rounded(median) for name, median in medians.items()},
        "ray_over_local": rounded(medians["ray"] / medians["local"]),
        "overhead_ms": rounded((medians["ray"] - medians["local"]) / count * 1000),
    }


def _scheduling_ms(cores: int, compute: ComputeSection) -> dict[str, float | None]:
    """Return the milliseconds of a task without work, without those in which processes start."""
    records = [VideoRecord(f"{number}.mp4", "", sha256=str(number)) for number in range(_TASKS)]
    chunks = [records[start : start + 16] for start in range(0, _TASKS, 16)]
    runs: dict[str, Iterator[Any]] = {
        "local": run_isolated(repr, chunks, workers=cores, timeout_seconds=60),
        "ray": run_on_ray(repr, chunks, compute=compute, timeout_seconds=60),
        "ray_data": _on_ray_data(chunks, compute.address),
    }
    milliseconds = {}
    for name, run in runs.items():
        for _ in islice(run, _FIRST_TASKS):
            pass
        seconds = seconds_of(partial(deque, run, 0))  # the others
        milliseconds[f"scheduling_ms_{name}"] = rounded(seconds / (_TASKS - _FIRST_TASKS) * 1000)
    return milliseconds


def _on_ray_data(chunks: Sequence[Sequence[VideoRecord]], address: str) -> Iterator[Any]:
    """Yield the answers for the records of the chunks, each chunk a block of Ray Data."""
    with ray_cluster(address):
        from ray import data

        data.DataContext.get_current().enable_progress_bars = False
        items = data.from_items([*chain.from_iterable(chunks)], override_num_blocks=len(chunks))
        answers = items.map(lambda row: {"item": repr(row["item"])}, num_cpus=1)
        yield from answers.iter_rows()


def make_videos(folder: Path, count: int) -> list[VideoRecord]:
    """Write short videos, no two with the same content, and return their records.

    The scenes repeat. A box of type ``free``, which players skip (ISO/IEC 14496-12, 8.1.2), makes
    the contents different.
    """
    folder.mkdir()
    scenes = []
    for seed in range(_SCENES):
        path = make_video(folder / "scene.mp4", SHORT["h264_240p"], seconds=_SECONDS, seed=seed)
        scenes.append(path.read_bytes())
        path.unlink()
    records = []
    for number in range(count):
        name = f"{number}.mp4"
        free = struct.pack(">I4sQ", 16, b"free", number)
        (folder / name).write_bytes(scenes[number % _SCENES] + free)
        records.append(VideoRecord(name, "", sha256=name))
    return records


@contextmanager
def _running_cluster(cores: int) -> Iterator[str]:
    """Start a cluster of one machine inside the block and yield its address."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        raise SystemExit("Ray is not installed. Run: make install-cluster") from None
    cluster = Cluster()
    cluster.add_node(num_cpus=cores, include_dashboard=False)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
