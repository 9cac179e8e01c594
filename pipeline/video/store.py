"""The frame store: one file a video, lossless, that vouches for itself.

A file is a zip archive (stored, not deflated) that any unzip can list::

    video.json        what was decoded, from what, with what settings; or why it was refused
    00000000.zst      frames 0..31, raw uint8 [n, height, width, 3], RGB, compressed by zstd
    00000032.zst      frames 32..63, ...

It is named by a key over the source's content, the segment and the settings, so the name
alone says whether it is up to date, a renamed video keeps its frames, and two copies of a
video share them. The archive's comment is the SHA-256 of everything before it, so that a single
changed bit is noticed.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from pipeline.base.errors import PipelineError
from pipeline.base.files import replacing_file, sha256_of_json
from pipeline.video.picture import Picture
from pipeline.video.reading import FRAMES_VERSION, FrameReader, FrameSpec, Segment
from pipeline.video.source import Limits, VideoError

SUFFIX = ".frames.zip"
_HEADER = "video.json"
_BLOCK_FRAMES = 32
_ZSTD_LEVEL = 1
_DIGEST_LENGTH = 64  # hexadecimal SHA-256
_CHUNK_BYTES = 1 << 20
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows: the same frames, the same bytes
_DAMAGED_FILE_ERRORS = (
    zipfile.BadZipFile,
    zstandard.ZstdError,
    OSError,
    EOFError,
    KeyError,  # no header
    ValueError,  # a header that is no JSON
    TypeError,  # a header with other fields
)


@dataclass(frozen=True)
class StoredVideo:
    """What the store knows of one video: the row of the ledger."""

    key: str
    frames: int  # 0 when the video was refused
    reason: str = ""  # why it was refused, or what is wrong with one that was kept
    found: dict[str, Any] = field(default_factory=dict)  # VideoInfo, as far as it was read


def frames_key(source_sha256: str, segment: Segment, spec: FrameSpec, limits: Limits) -> str:
    """Name the frames that these settings give for ``segment`` of a file with this content."""
    identity = {
        "source_sha256": source_sha256,
        "segment": asdict(segment),
        "spec": asdict(spec),
        "limits": asdict(limits),
        "version": FRAMES_VERSION,
    }
    return sha256_of_json(identity)[:32]


def stored_path(folder: Path, key: str) -> Path:
    return folder / f"{key}{SUFFIX}"


def write_frames(path: Path, reader: FrameReader, *, key: str) -> StoredVideo:
    """Read every frame of ``reader`` into a new file at ``path``, a block at a time.

    Raises:
        VideoError: the video cannot be read; nothing is written then.
    """
    count = 0
    with _sealed_archive(path) as archive:
        for block in _blocks(reader):
            _add(archive, f"{count:08d}.zst", _compress(block))
            count += len(block)
        assert reader.info is not None  # the iteration has ended
        stored = StoredVideo(key, count, reader.info.damage, asdict(reader.info))
        _add(archive, _HEADER, _header(stored))
    return stored


def write_refusal(path: Path, error: VideoError, reader: FrameReader, *, key: str) -> StoredVideo:
    """Remember that this video was refused and why, so that it is not tried at every run."""
    found = asdict(reader.info) if reader.info else {}
    stored = StoredVideo(key, 0, error.reason, found)
    with _sealed_archive(path) as archive:
        _add(archive, _HEADER, _header(stored))
    return stored


def read_stored(path: Path) -> StoredVideo | None:
    """Check every byte of a stored video; return its ledger row, or None if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.comment != _digest(path):
                return None
            stored = StoredVideo(**json.loads(archive.read(_HEADER)))
    except _DAMAGED_FILE_ERRORS:
        return None
    return stored if path == stored_path(path.parent, stored.key) else None


def load_frames(
    path: Path, spec: FrameSpec, *, most_blocks: int | None = None
) -> NDArray[np.uint8]:
    """Return the stored frames: uint8 [N, spec.height, spec.width, 3], RGB.

    Args:
        most_blocks: only so many blocks of 32 frames, spread evenly over the video.

    Raises:
        PipelineError: the file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name != _HEADER)
            step = 1 if most_blocks is None else -(-len(names) // most_blocks) or 1
            raw = b"".join(zstandard.decompress(archive.read(name)) for name in names[::step])
    except _DAMAGED_FILE_ERRORS as error:
        raise PipelineError(
            f"{path}: the stored frames cannot be read ({error}). Run the decode stage again "
            "(dvc repro --force --single-item decode): it decodes what is damaged."
        ) from None
    return np.frombuffer(raw, np.uint8).reshape(-1, spec.height, spec.width, 3)


@contextmanager
def _sealed_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Write a new archive at ``path`` whose comment is the digest of all bytes before it."""
    with replacing_file(path) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.comment = bytes(_DIGEST_LENGTH)
            yield archive
        digest = _digest(temporary)
        with temporary.open("r+b") as file:
            file.seek(-_DIGEST_LENGTH, os.SEEK_END)
            file.write(digest)


def _digest(path: Path) -> bytes:
    """Return the SHA-256, in hex, of all bytes of the file but the last _DIGEST_LENGTH."""
    left = path.stat().st_size - _DIGEST_LENGTH
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest().encode("ascii")


def _blocks(frames: Iterable[Picture]) -> Iterator[list[Picture]]:
    iterator = iter(frames)
    while block := list(islice(iterator, _BLOCK_FRAMES)):
        yield block


def _compress(block: list[Picture]) -> bytes:
    return zstandard.compress(np.stack(block).tobytes(), _ZSTD_LEVEL)


def _header(stored: StoredVideo) -> bytes:
    return json.dumps(asdict(stored), sort_keys=True).encode("utf-8")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)
