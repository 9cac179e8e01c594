"""Decode many videos into the frame store: in parallel, isolated, and only what is new.

Each worker is a separate process, because a damaged file can block or crash FFmpeg.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import joblib
from tqdm import tqdm

from pipeline.common.files import remove_in_progress
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.common.tables import count_of
from pipeline.common.video_files import size_bytes
from pipeline.compute.isolated import Failure, run_isolated
from pipeline.compute.ray_tasks import run_on_ray
from pipeline.compute.settings import ComputeSection
from pipeline.video.ffmpeg_errors import UNEXPECTED_ERRORS, describe
from pipeline.video.memory import limit_memory
from pipeline.video.opening import VideoError
from pipeline.video.reading import FrameReader, Segment
from pipeline.video.settings import DecodeSection
from pipeline.video.store import (
    SUFFIX,
    frames_key,
    read_stored,
    stored_path,
    write_frames,
    write_quarantined,
)

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

# A worker receives several videos at once, because sending a task takes milliseconds.
_CHUNK_VIDEOS = 16
_CHUNK_BYTES = 4 << 20


def decode_records(
    folder: Path,
    records: Sequence[VideoRecord],
    *,
    videos: Path,
    decode: DecodeSection,
    compute: ComputeSection,
) -> list[VideoRecord]:
    """Write the frames of ``records`` to ``folder`` and return the records with their facts.

    Intact files of earlier runs, and of a killed run, are kept; missing and damaged ones are
    decoded. Files of other records stay until ``prune_store``.

    A video that takes longer than ``decode.timeout_seconds``, or that crashes the decoder
    twice, is quarantined, and decoded again in the next run.

    Args:
        folder: the frame store.
        records: records with equal content and segment are decoded once.
        videos: the folder that ``VideoRecord.video`` is relative to.
        compute: where the videos are decoded, and the number of processes.

    Raises:
        PipelineError: as ``run_on_ray``, with ``compute.engine`` ray.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = list(records)
    keys = [record_key(record, videos, decode) for record in records]
    facts = _read_stored(folder, keys)
    by_key = {key: record for key, record in zip(keys, records, strict=True) if key not in facts}
    missing = list(by_key.values())
    logger.info(
        "%s to decode, %d kept from earlier runs", count_of(len(missing), "video"), len(facts)
    )
    work = partial(decode_record, folder=folder, videos=videos, decode=decode)
    results = for_each_video(
        work, missing, videos=videos, decode=decode, compute=compute, title="decode"
    )
    for record, result in results:
        key = record_key(record, videos, decode)
        facts[key] = _failed(key, result.reason) if isinstance(result, Failure) else result
    remove_in_progress(folder)
    for number, key in enumerate(keys):  # in place: a second list needs memory
        records[number] = replace(records[number], facts=facts[key])
    return records


def for_each_video(
    work: Callable[[VideoRecord], ResultT],
    records: Sequence[VideoRecord],
    *,
    videos: Path,
    decode: DecodeSection,
    compute: ComputeSection,
    title: str,
) -> Iterator[tuple[VideoRecord, ResultT | Failure]]:
    """Yield each record with the result of ``work``, or why it has none, with a progress bar.

    Args:
        work: a function that can be pickled, with small results that can be pickled.
        videos: the folder that ``VideoRecord.video`` is relative to.
        decode: limits of memory and time of a video.
        compute: where the videos are read, and the number of processes.
        title: of the progress bar.

    Raises:
        PipelineError: as ``run_on_ray``, with ``compute.engine`` ray.
    """
    run = (
        partial(run_on_ray, compute=compute)
        if compute.engine == "ray"
        else partial(run_isolated, workers=compute.workers or joblib.cpu_count())
    )
    results = run(
        work,
        _chunk_by_size(records, videos),
        timeout_seconds=decode.timeout_seconds,
        initializer=partial(_start_worker, decode),
    )
    yield from tqdm(results, total=len(records), desc=title, unit="video", disable=None)


def record_key(record: VideoRecord, videos: Path, decode: DecodeSection) -> str:
    """Return the name of the frames of a record in the frame store, see ``frames_key``."""
    source = record.sha256 or str(videos / record.video)
    is_folder = (videos / record.video).is_dir()
    return frames_key(source, record.start_seconds, record.end_seconds, decode, is_folder=is_folder)


def prune_store(folder: Path, keys: Collection[str]) -> None:
    """Delete every stored video except those with ``keys``."""
    with os.scandir(folder) as entries:
        stale = [
            Path(entry)
            for entry in entries
            if entry.name.endswith(SUFFIX) and entry.name.removesuffix(SUFFIX) not in keys
        ]
    for path in stale:
        path.unlink()


def decode_record(
    record: VideoRecord, *, folder: Path, videos: Path, decode: DecodeSection
) -> DecodeFacts:
    """Decode one video into ``folder``, or quarantine it with a reason."""
    key = record_key(record, videos, decode)
    path = stored_path(folder, key)
    segment = Segment(record.start_seconds, record.end_seconds)
    reader = FrameReader(videos / record.video, decode, segment=segment)
    try:
        return write_frames(path, reader, lambda: reader.facts or DecodeFacts(key=key), key=key)
    except VideoError as error:
        facts = replace(reader.facts or DecodeFacts(key=key), key=key, reason=error.reason)
        if not error.is_lasting:
            return DecodeFacts(key=key, reason=error.reason)
        write_quarantined(path, facts)
        return facts
    except UNEXPECTED_ERRORS as error:
        return _failed(key, describe(error))


def _start_worker(decode: DecodeSection) -> None:
    cv2.setNumThreads(1)  # the worker processes already use every core
    limit_memory(decode)


def _failed(key: str, reason: str) -> DecodeFacts:
    """Return the facts of a timeout, a crash or a defect, which are not stored."""
    return DecodeFacts(key=key, reason=f"decoding failed: {reason}")


def _read_stored(folder: Path, keys: Collection[str]) -> dict[str, DecodeFacts]:
    """Verify the stored videos with ``keys`` and return the facts of the intact ones."""
    stored = [key for key in sorted(set(keys)) if stored_path(folder, key).exists()]
    facts_by_key = {}
    for key in tqdm(stored, desc="verify", unit="video", disable=None):
        if facts := read_stored(stored_path(folder, key)):
            facts_by_key[key] = replace(facts, key=key)  # one string for both
    return facts_by_key


def _chunk_by_size(records: Sequence[VideoRecord], videos: Path) -> list[list[VideoRecord]]:
    """Group small files into chunks, largest files first, so that no core waits at the end."""
    sizes = [size_bytes(videos / record.video) for record in records]
    chunks: list[list[VideoRecord]] = []
    free_bytes = -1
    by_size = sorted(zip(sizes, records, strict=True), key=lambda pair: pair[0], reverse=True)
    for size, record in by_size:
        if free_bytes < size or len(chunks[-1]) == _CHUNK_VIDEOS:
            chunks.append([])
            free_bytes = _CHUNK_BYTES
        chunks[-1].append(record)
        free_bytes -= size
    return chunks
