"""Measure how time and memory of the bookkeeping grow with the number of videos.

``python -m benchmarks.scale [--quick]`` runs each step on 1,000, 10,000 and 100,000 rows (100, 300
and 1,000 with ``--quick``), each in a process of its own. The videos are small files and the stored
frames tiny, so the figures are the costs of a row, not those of decoding or training:

- catalog: read class folders, hash the files, assign splits, write the catalog
- decode: verify the stored frames of all videos, write the decode index, prune the store
- extract: read stored frames, write shards of clips and their index
- dvc: ``dvc add`` of the folder of videos
- evaluate: scores with intervals, tables and predictions of all videos
- mlflow: log the catalog and the predictions to a run of an SQLite store

Then it decodes and trains a few clips of 10 seconds, and estimates what large data sets cost on 1,
10 and 100 machines with 16 cores like those of this machine. Where Ray is installed, it also
decodes short clips, as many as the first size, with both engines (benchmarks/ray_engine.py);
otherwise the estimates leave out the time of scheduling.

The exponent is the slope of log(seconds) over log(rows) from the second to the last size, because
the time of a start dominates the first size; 1 is linear. The memory is the growth of the peak
from the first to the last size. The last line is JSON.
"""

import argparse
import importlib.util
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.timing import memory_mb, new_process
from pipeline.clips.settings import ExtractSection
from pipeline.clips.shards import write_clips
from pipeline.common.command import run_command
from pipeline.common.files import sha256_of_file
from pipeline.common.records import (
    DecodeFacts,
    VideoRecord,
    read_catalog,
    read_decoded,
    write_catalog,
    write_decode_index,
)
from pipeline.compute.settings import ComputeSection
from pipeline.dataset.catalog import build_catalog
from pipeline.dataset.settings import CatalogSection, DataSection
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.scores import score_predictions
from pipeline.evaluation.settings import EvaluateSection
from pipeline.params import load_params
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import targets_of
from pipeline.tasks.task import task_class
from pipeline.video.batch import decode_records, prune_store
from pipeline.video.settings import DecodeSection
from pipeline.video.store import frames_key, load_frames, stored_path, write_frames

_SIZES = (1_000, 10_000, 100_000)
_QUICK_SIZES = (100, 300, 1_000)
_CLASSES = tuple(f"class {number:02d}" for number in range(20))
_DECODE = DecodeSection(width=8, height=8)
_EXTRACT = ExtractSection(frames=4)
_FRAMES = np.zeros((4, 8, 8, 3), np.uint8)
_SECTION = EvaluateSection()

_VIDEOS, _CATALOG, _FRAMES_FOLDER = Path("videos"), Path("catalog.csv"), Path("frames")
_INDEX, _PREDICTIONS = Path("index.csv"), Path("predictions.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    sizes = _QUICK_SIZES if parser.parse_args().quick else _SIZES
    measured: dict[str, list[Cost]] = {name: [] for name in _STEPS}
    for n_rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{n_rows:,} rows: writing files", flush=True)
            with new_process(os.chdir, folder) as process:
                process.submit(_write_files, n_rows).result()
            for name in _STEPS:
                with new_process(os.chdir, folder) as process:
                    cost = process.submit(_measure, name).result()
                measured[name].append(cost)
                print(
                    f"  {name:9}{cost.seconds:9.2f} s{n_rows / cost.seconds:11,.0f} rows/s"
                    f"{cost.peak_mb:8.0f} MB",
                    flush=True,
                )
    growth = {name: _growth(sizes, costs) for name, costs in measured.items()}
    # Here, because the processes of the steps import this module, and need no TensorFlow.
    from benchmarks.estimates import estimate_lines, measure_clip

    with new_process() as process:
        clip = process.submit(measure_clip, load_params()).result()
    print("a clip of 10 s, on one core:")
    print(f"  {clip.decode_seconds:.3f} s to decode, {clip.extract_seconds:.4f} s to extract")
    print(f"  {clip.hash_seconds:.4f} s to hash, {clip.train_seconds:.4f} s in an epoch")
    print(f"  {clip.frames_bytes / 1e6:.2f} MB of frames, {clip.clip_bytes / 1e6:.2f} MB as a clip")
    ray = _compare_engines(videos=sizes[0]) if importlib.util.find_spec("ray") else None
    if ray:
        print(f"decoding {sizes[0]:,} short clips: ray {ray['ray_over_local']:.2f} times local")
    for line in estimate_lines(
        clip,
        {name: values["rows_per_second"] for name, values in growth.items()},
        {name: values["memory_bytes_per_row"] for name, values in growth.items()},
        scheduling_seconds=ray["scheduling_ms_ray"] / 1000 if ray else 0.0,
        test_share=load_params().catalog.test_share,
    ):
        print(line)
    print(json.dumps({**growth, "clip": asdict(clip), "ray": ray}))


def _compare_engines(*, videos: int) -> dict[str, float]:
    """Return the result of ``benchmarks.ray_engine``, which sets the cores of its process."""
    command = [sys.executable, "-m", "benchmarks.ray_engine", "--repetitions=1"]
    done = subprocess.run(
        [*command, f"--videos={videos}"], stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


@dataclass(frozen=True)
class Cost:
    """The cost of a step: seconds, and the peak of its memory in megabytes (10^6 bytes)."""

    seconds: float
    peak_mb: float


def _growth(sizes: Sequence[int], costs: Sequence[Cost]) -> dict[str, float]:
    seconds = [cost.seconds for cost in costs]
    slope = math.log(seconds[-1] / seconds[-2]) / math.log(sizes[-1] / sizes[-2])
    grown_mb = costs[-1].peak_mb - costs[0].peak_mb
    return {
        "rows_per_second": round(sizes[-1] / seconds[-1], 1),
        "exponent": round(slope, 3),
        "memory_bytes_per_row": round(1e6 * grown_mb / (sizes[-1] - sizes[0])),
    }


def _measure(name: str) -> Cost:
    run = _STEPS[name]()
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    if name == "dvc":  # a process of its own
        peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    else:
        peak_mb = memory_mb("VmHWM")
    return Cost(seconds, peak_mb)


def _write_files(n_rows: int) -> None:
    """Write the videos, and the stored frames of each."""
    for name in _CLASSES:
        (_VIDEOS / name).mkdir(parents=True)
    _FRAMES_FOLDER.mkdir()
    for row in tqdm(range(n_rows), disable=None):
        path = _VIDEOS / _CLASSES[row % len(_CLASSES)] / f"{row:06d}.mp4"
        path.write_text(f"not a video, and not opened: {row}")
        key = frames_key(sha256_of_file(path), None, None, _DECODE)
        facts = DecodeFacts(key=key, source_seconds=1.0, width=8, height=8)
        write_frames(stored_path(_FRAMES_FOLDER, key), _FRAMES, partial(_same, facts), key=key)


def _same(facts: DecodeFacts) -> DecodeFacts:
    return facts


def _catalog() -> Callable[[], None]:
    targets = targets_of("classification").configured(TaskSection())
    return lambda: write_catalog(
        _CATALOG, build_catalog(DataSection(videos=str(_VIDEOS)), CatalogSection(), targets)
    )


def _decode() -> Callable[[], None]:
    def run() -> None:
        records = decode_records(
            _FRAMES_FOLDER,
            read_catalog(_CATALOG),
            videos=_VIDEOS,
            decode=_DECODE,
            compute=ComputeSection(),
        )
        write_decode_index(_INDEX, records)
        prune_store(_FRAMES_FOLDER, {record.facts.key for record in records if record.facts})

    return run


def _extract() -> Callable[[], None]:
    records = read_decoded(_CATALOG, _INDEX)

    def run() -> None:
        write_clips(
            Path("clips"),
            records,
            load=lambda record, indices: load_frames(_stored(record), _DECODE, indices),
            extract=_EXTRACT,
            frame_size=(_DECODE.height, _DECODE.width),
        )

    return run


def _stored(record: VideoRecord) -> Path:
    assert record.facts is not None
    return stored_path(_FRAMES_FOLDER, record.facts.key)


def _dvc() -> Callable[[], None]:
    def dvc(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True)

    dvc("init", "--quiet", "--no-scm")
    dvc("config", "cache.type", "hardlink,symlink")
    return lambda: dvc("add", "--quiet", str(_VIDEOS))


def _evaluate() -> Callable[[], None]:
    records = read_catalog(_CATALOG)
    targets = [record.target for record in records]
    task = task_class("classification").learn(targets, TaskSection())
    logits = np.random.default_rng(0).normal(size=(len(records), len(_CLASSES)))
    outputs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    def run() -> None:
        predictions = Predictions(
            videos=tuple(record.name for record in records),
            groups=tuple(record.group for record in records),
            targets=tuple(targets),
            outputs=outputs,
            task=task,
        )
        score_predictions(predictions, _SECTION)
        predictions.tables(_SECTION.resampling(predictions.resampling_groups))
        predictions.write_csv(_PREDICTIONS)

    return run


def _mlflow() -> Callable[[], None]:
    from pipeline.tracking.results import CATALOG, log_data, log_files
    from pipeline.tracking.runs import training_run

    with training_run(params={}, dataset="videos") as run:
        run_id = run.id
    assert run_id is not None

    def log() -> None:
        log_data(run_id, _CATALOG, name=CATALOG)
        log_files(run_id, [_PREDICTIONS])

    return log


_STEPS: dict[str, Callable[[], Callable[[], None]]] = {
    "catalog": _catalog,
    "decode": _decode,
    "extract": _extract,
    "dvc": _dvc,
    "evaluate": _evaluate,
    "mlflow": _mlflow,
}


if __name__ == "__main__":
    run_command(main)
