"""Hash some frames of each video as the report does, from the frame store or decoded for this."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.common.records import VideoRecord
from pipeline.compute.isolated import Failure
from pipeline.compute.settings import ComputeSection
from pipeline.evaluation.near_duplicates import (
    HashedVideo,
    hash_chosen_frames,
    hash_stored_video,
    spread_frames,
)
from pipeline.video.batch import for_each_video, record_key
from pipeline.video.ffmpeg_errors import UNEXPECTED_ERRORS, describe
from pipeline.video.opening import VideoError
from pipeline.video.reading import FrameReader, Segment
from pipeline.video.settings import DecodeSection
from pipeline.video.store import read_stored, stored_path

_MAX_FRAMES = 64  # in memory, of a video whose frames cannot be selected


@dataclass(frozen=True)
class Look:
    """What a process reports about a video: its hashes, if it has contrast, or why it fails."""

    hashed: HashedVideo | None = None
    failure: str = ""


def look_at_videos(
    records: Sequence[VideoRecord],
    *,
    videos: Path,
    frames: Path,
    decode: DecodeSection,
    compute: ComputeSection,
) -> dict[str, Look]:
    """Hash some frames of each record, in separate processes; return the results by name.

    The frames are those of the frame store, or equal ones that are decoded where it has none. Then
    only the hashed frames are decoded, so damage between them is not found.

    Args:
        records: with content hashes.
        videos: the folder that ``VideoRecord.video`` is relative to.
        frames: the frame store.
    """
    results = for_each_video(
        partial(_look_at_video, videos=videos, frames=frames, decode=decode),
        records,
        videos=videos,
        decode=decode,
        compute=compute,
        title="compare",
    )
    return {
        record.name: Look(failure=result.reason) if isinstance(result, Failure) else result
        for record, result in results
    }


def _look_at_video(
    record: VideoRecord, *, videos: Path, frames: Path, decode: DecodeSection
) -> Look:
    stored = stored_path(frames, record_key(record, videos, decode))
    try:
        if facts := read_stored(stored):
            if not facts.frames:
                return Look(failure=facts.reason)
            return Look(hash_stored_video(stored, record, decode, n_frames=facts.frames))
        pictures, chosen = _decode_some(record, videos, decode)
    except VideoError as error:
        return Look(failure=error.reason)
    except UNEXPECTED_ERRORS as error:
        return Look(failure=describe(error))
    return Look(hash_chosen_frames(pictures, chosen, record, fps=decode.fps))


def _decode_some(
    record: VideoRecord, videos: Path, decode: DecodeSection
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return evenly spread frames uint8 [F, H, W, 3] and their numbers int64 [F].

    ``decode.on_damage: keep`` needs all frames, so an intact video is first read without it.
    """
    strict = decode.model_copy(update={"on_damage": "quarantine"})
    try:
        return _decode_spread(record, videos, strict)
    except VideoError:
        if decode.on_damage == "quarantine":
            raise
        return _decode_spread(record, videos, decode)


def _decode_spread(
    record: VideoRecord, videos: Path, decode: DecodeSection
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    segment = Segment(record.start_seconds, record.end_seconds)
    reader = FrameReader(videos / record.video, decode, segment=segment, select=_spread)
    kept: dict[int, NDArray[np.uint8]] = {}
    for number, picture in reader.numbered():
        if number == 0:  # all frames are needed after all, or these are the first
            kept = {}
        if len(kept) < _MAX_FRAMES:
            kept[number] = picture
    chosen = spread_frames(reader.count)
    wanted = set(chosen.tolist())
    if not wanted <= kept.keys():  # more frames, whose number was unknown
        again = FrameReader(videos / record.video, decode, segment=segment, select=_spread)
        kept = {number: picture for number, picture in again.numbered() if number in wanted}
    return np.stack([kept[number] for number in chosen.tolist()]), chosen


def _spread(n_frames: int) -> list[int]:
    chosen: list[int] = spread_frames(n_frames).tolist()
    return chosen
