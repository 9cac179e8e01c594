"""Estimate time, memory, disk and files of large data sets from rates of a clip and of a row."""

import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from benchmarks.made_videos import Encoding, make_video
from benchmarks.timing import seconds_of
from pipeline.clips.arrays import ClipArrays
from pipeline.clips.shards import shard_count, write_clips
from pipeline.common.files import sha256_of_file
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.common.tables import align_columns
from pipeline.model.fitting import fit, make_deterministic
from pipeline.model.network import build_model
from pipeline.params import Params
from pipeline.tasks.task import task_class
from pipeline.video.batch import decode_record
from pipeline.video.store import load_frames, read_stored, stored_path

# Clips: UCF101 (Soomro et al., 2012); the training split of Kinetics-400 (Kay et al., 2017).
_DATA_SETS = {"UCF101": 13_320, "Kinetics-400": 240_000, "10 million": 10_000_000}
_MACHINES = (1, 10, 100)
_CORES = 16  # of a machine

_ENCODING = Encoding("libx264", ".mp4", 320, 240, {"preset": "medium", "crf": "22"})
_DECODED, _TRAINED = 12, 160  # clips
_EPOCHS = 3  # of which the first does not count


@dataclass(frozen=True)
class ClipCost:
    """The cost of a clip of 10 seconds and 320 x 240 pixels, with the settings of params.yaml.

    Attributes:
        decode_seconds: of one core.
        extract_seconds: of one core, from stored frames to a clip.
        hash_seconds: of one core: SHA-256 of the video for the catalog, verification of its stored
            frames, and MD5 of video, frames and clip for DVC.
        train_seconds: of one core, in one epoch.
        frames_bytes: of its stored frames.
        clip_bytes: of its clip.
    """

    decode_seconds: float
    extract_seconds: float
    hash_seconds: float
    train_seconds: float
    frames_bytes: float
    clip_bytes: int


def measure_clip(params: Params) -> ClipCost:
    """Decode copies of a generated clip, and train on random ones."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_video(folder / "clip.mp4", _ENCODING, seconds=10, seed=0)
        seconds, records = [], []
        for number in range(_DECODED):
            record = VideoRecord("clip.mp4", "target", sha256=str(number))
            started = time.perf_counter()
            facts = decode_record(record, folder=folder, videos=folder, decode=params.decode)
            seconds.append(time.perf_counter() - started)
            records.append(replace(record, facts=facts))
        stored = [stored_path(folder, _key(record)) for record in records]
        extracting = seconds_of(partial(_extract, folder / "clips", records, params, folder))
        hashing = seconds_of(partial(_hash, folder, stored))
        train_seconds = _train_seconds(params, folder)
        frames_bytes = float(np.mean([path.stat().st_size for path in stored]))
    shape = (params.extract.frames, params.decode.height, params.decode.width, 3)
    return ClipCost(
        float(np.median(seconds)),
        extracting / _DECODED,
        hashing / _DECODED,
        train_seconds,
        frames_bytes,
        int(np.prod(shape)),
    )


def _extract(clips: Path, records: Sequence[VideoRecord], params: Params, store: Path) -> None:
    write_clips(
        clips,
        records,
        load=lambda record, indices: load_frames(
            stored_path(store, _key(record)), params.decode, indices
        ),
        extract=params.extract,
        frame_size=(params.decode.height, params.decode.width),
    )


def _hash(folder: Path, stored: Sequence[Path]) -> None:
    """Read and hash what the stages and DVC hash, the video as often as there are stored clips."""
    for path in stored:
        sha256_of_file(folder / "clip.mp4")
        if read_stored(path) is None:
            raise SystemExit(f"{path}: expected intact frames. Received: damaged ones")
        for content in (folder / "clip.mp4", path):
            hashlib.md5(content.read_bytes(), usedforsecurity=False)
    for path in (folder / "clips").iterdir():
        hashlib.md5(path.read_bytes(), usedforsecurity=False)


def _key(record: VideoRecord) -> str:
    """Return the key of the stored frames of a decoded record."""
    assert record.facts is not None
    return record.facts.key


def _train_seconds(params: Params, folder: Path) -> float:
    """Return the seconds of one core for one clip in an epoch."""
    height, width, n_frames = params.decode.height, params.decode.width, params.extract.frames
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (n_frames, height, width, 3), np.uint8)
    for split, count in (("train", _TRAINED), ("val", 2)):
        records = [
            VideoRecord(
                f"{n}.mp4", f"class {n % 2}", facts=DecodeFacts(f"{n:08x}", frames=n_frames)
            )
            for n in range(count)
        ]
        write_clips(
            folder / split,
            records,
            load=lambda _, indices: pixels[list(indices)],
            extract=params.extract,
            frame_size=(height, width),
        )
    train, val = ClipArrays(folder / "train"), ClipArrays(folder / "val")
    make_deterministic(0, params.train.threads)
    task = task_class("classification").learn(train.video_targets(), params.task)
    model = build_model(params.model, task, frame_shape=train.frames(0).shape[1:])
    clock = EpochClock()
    section = params.train.model_copy(update={"epochs": _EPOCHS})
    fit(model, task, train, val, section, callbacks=[clock])
    return float(np.median(clock.seconds[1:])) * params.train.threads / _TRAINED


class EpochClock(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Measure the seconds of each epoch, including its validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self.seconds.append(time.perf_counter() - self._started)


def estimate_lines(
    cost: ClipCost,
    rows_per_second: Mapping[str, float],
    bytes_per_row: Mapping[str, float],
    *,
    scheduling_seconds: float,
    test_share: float,
) -> Sequence[str]:
    """Return a table of data sets and numbers of machines.

    Decoding and an epoch of training are divided by all cores; one process schedules all videos, so
    decoding lasts at least as long as that. Extraction is divided by the cores that its shards can
    use. The bookkeeping (catalog, decode index, index of clips, DVC, evaluation) and the hashing of
    all files are counted as work of one core. Memory is that of the step that needs most.

    Args:
        rows_per_second, bytes_per_row: of each step of ``benchmarks.scale``.
        scheduling_seconds: of a video, on a cluster.
        test_share: of the videos, the only ones that are evaluated.
    """
    columns = ["clips", "machines", "decode", "extract", "epoch", "bookkeeping", "hashing"]
    rows = [[*columns, "memory", "disk", "files"]]
    share = {"dvc": 2.0, "evaluate": test_share}  # DVC tracks the videos and the stored frames
    bookkeeping = sum(share.get(step, 1) / rate for step, rate in rows_per_second.items())
    # DVC has the rows of one folder in memory at a time.
    memory = max(min(share.get(step, 1), 1) * n_bytes for step, n_bytes in bytes_per_row.items())
    for name, clips in _DATA_SETS.items():
        for machines in _MACHINES:
            cores = machines * _CORES
            rows.append(
                [
                    f"{name} ({clips:,})",
                    str(machines),
                    _hours(clips * max(cost.decode_seconds / cores, scheduling_seconds)),
                    _hours(clips * cost.extract_seconds / min(cores, shard_count(clips))),
                    _hours(clips * cost.train_seconds / cores),
                    _hours(clips * bookkeeping),
                    _hours(clips * cost.hash_seconds),
                    _size(clips * memory),
                    _size(clips * (cost.frames_bytes + cost.clip_bytes)),
                    f"{clips + 2 * 3 * 256:,}",
                ]
            )
    return align_columns(rows, "<>>>>>>>>>")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e12:.1f} TB" if n_bytes >= 1e12 else f"{n_bytes / 1e9:.1f} GB"
