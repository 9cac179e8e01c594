"""Decoding many videos into the frame store, a process a core, and only what is new."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import joblib
from tqdm import tqdm

from pipeline.base.files import remove_in_progress
from pipeline.video.damage import UNEXPECTED_ERRORS, detail
from pipeline.video.reading import FrameReader, FrameSpec, Segment
from pipeline.video.source import Limits, VideoError
from pipeline.video.store import (
    SUFFIX,
    StoredVideo,
    frames_key,
    read_stored,
    stored_path,
    write_frames,
    write_refusal,
)
from pipeline.video.workers import Failure, run_isolated

logger = logging.getLogger(__name__)

# What a worker gets at once: enough to hide the milliseconds of handing over.
_CHUNK_VIDEOS = 16
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class DecodeTask:
    """One video to decode, or a segment of it."""

    source: Path
    source_sha256: str  # empty when the source is no regular file
    segment: Segment
    spec: FrameSpec
    limits: Limits

    @property
    def key(self) -> str:
        identity = self.source_sha256 or str(self.source)
        return frames_key(identity, self.segment, self.spec, self.limits)


def update_store(
    folder: Path, tasks: Sequence[DecodeTask], *, workers: int, timeout_seconds: float
) -> dict[str, StoredVideo]:
    """Make ``folder`` hold the frames of these tasks; return what is stored, by key.

    Whole files of an earlier run are kept, damaged and missing ones are decoded. A killed
    run is taken up where it stopped. Files that no task asks for stay until ``prune_store``.

    Args:
        workers: processes; 0 for one per core.
        timeout_seconds: a video that takes longer, or that crashes the decoder twice, is
            refused; it is tried again in the next run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_key = {task.key: task for task in tasks}
    stored = _already_stored(folder, by_key)
    missing = [task for key, task in by_key.items() if key not in stored]
    logger.info("%d videos to decode, %d kept from earlier runs", len(missing), len(stored))
    results = run_isolated(
        partial(decode_one, folder),
        _chunked(missing),
        workers=workers or joblib.cpu_count(),
        timeout_seconds=timeout_seconds,
    )
    for task, result in tqdm(
        results, total=len(missing), desc="decode", unit="video", disable=None
    ):
        stored[task.key] = _as_refusal(task, result) if isinstance(result, Failure) else result
    remove_in_progress(folder)
    return stored


def prune_store(folder: Path, keys: Collection[str]) -> None:
    """Remove every stored video but those with ``keys``."""
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name.removesuffix(SUFFIX) not in keys:
            path.unlink()


def decode_one(folder: Path, task: DecodeTask) -> StoredVideo:
    """Decode one video into ``folder``; a video that cannot be used is refused with a reason."""
    cv2.setNumThreads(1)  # the processes already use every core
    path = stored_path(folder, task.key)
    reader = FrameReader(task.source, task.spec, limits=task.limits, segment=task.segment)
    try:
        return write_frames(path, reader, key=task.key)
    except VideoError as error:
        if error.is_lasting:
            return write_refusal(path, error, reader, key=task.key)
        return StoredVideo(key=task.key, frames=0, reason=error.reason)
    except UNEXPECTED_ERRORS as error:
        return _as_refusal(task, Failure(detail(error)))


def _as_refusal(task: DecodeTask, failure: Failure) -> StoredVideo:
    """Report a hang, a crash or a fault of ours without storing it: the next run may do better."""
    return StoredVideo(key=task.key, frames=0, reason=f"decoding failed: {failure.reason}")


def _already_stored(folder: Path, by_key: dict[str, DecodeTask]) -> dict[str, StoredVideo]:
    found = (
        read_stored(path)
        for path in tqdm(
            sorted(folder.glob(f"*{SUFFIX}")), desc="verify", unit="video", disable=None
        )
        if path.name.removesuffix(SUFFIX) in by_key
    )
    return {stored.key: stored for stored in found if stored is not None}


def _chunked(tasks: Sequence[DecodeTask]) -> list[list[DecodeTask]]:
    """Put small files together; the largest go first, so that no core waits for the last one."""
    chunks: list[list[DecodeTask]] = []
    room = -1
    for task in sorted(tasks, key=_size, reverse=True):
        if room < _size(task) or len(chunks[-1]) == _CHUNK_VIDEOS:
            chunks.append([])
            room = _CHUNK_BYTES
        chunks[-1].append(task)
        room -= _size(task)
    return chunks


def _size(task: DecodeTask) -> int:
    return task.source.stat().st_size if task.source.exists() else 0
