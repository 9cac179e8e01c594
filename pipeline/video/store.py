"""The frame store: one file a video, lossless, with a checksum.

A file is a zip archive (stored, not deflated) that any unzip can list::

    video.json        the facts about the video, or why it is quarantined
    00000000.zst      frames 0..31, raw uint8 [n, height, width, 3], RGB, compressed by zstd
    00000032.zst      frames 32..63, ...

Its name is a hash of the content of the source, the segment and the settings. So a file is up to
date if it exists, a renamed video keeps its frames, and copies of a video share them. The
archive's comment is the SHA-256 of everything before it, so that a changed bit is noticed.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json, replacing_file, sha256_of_json, write_json
from pipeline.common.records import FACTS_VERSION, DecodeFacts, VideoRecord
from pipeline.common.versions import FRAMES_VERSION
from pipeline.video.settings import DecodeSection

SUFFIX = ".frames.zip"

_SETTINGS = "settings.json"
_HEADER = "video.json"
_FACT_NAMES = {column.name for column in fields(DecodeFacts)}
_BLOCK_FRAMES = 32
_ZSTD_LEVEL = 1
_DIGEST_LENGTH = 64  # hexadecimal SHA-256
_CHUNK_BYTES = 1 << 20
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # constant: the same frames give the same bytes
_BRIGHTNESS_DIGITS = 4
_DAMAGED_FILE_ERRORS = (
    zipfile.BadZipFile,
    zstandard.ZstdError,
    OSError,
    EOFError,
    KeyError,  # no header, or not every block
    IndexError,  # a block has fewer frames
    ValueError,  # the header is not JSON, or the frames have another size
    TypeError,  # the header has other fields
)


def frames_key(
    sha256_or_path: str,
    start_seconds: float | None,
    end_seconds: float | None,
    decode: DecodeSection,
    *,
    is_folder: bool = False,
) -> str:
    """Return the name of the frames of a segment of a video, 32 hexadecimal digits.

    Args:
        sha256_or_path: SHA-256 of the source; its path if the hash is unknown.
        is_folder: whether the source is a folder of pictures, so that ``image_fps`` counts.
    """
    settings = decode.frames_identity()
    if not is_folder:
        del settings["image_fps"]
    identity = {
        "source": sha256_or_path,
        "segment": [start_seconds, end_seconds],
        "decode": settings,
        "version": FRAMES_VERSION,
    }
    return sha256_of_json(identity)[:32]


def stored_path(folder: Path, key: str) -> Path:
    """Return the path of a stored video."""
    return folder / f"{key}{SUFFIX}"


def write_frames(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    facts: Callable[[], DecodeFacts],
    *,
    key: str,
) -> DecodeFacts:
    """Write frames to a new file at ``path``, with one block of frames in memory at a time.

    Args:
        frames: at least one, each uint8 [height, width, 3], RGB. If the iteration raises an
            error, no file is written.
        facts: returns the facts; called after the iteration.

    Returns:
        The facts with key, frames and brightness.
    """
    count = n_values = total = 0
    with _sealed_archive(path) as archive:
        for block in _blocks(frames):
            _add(archive, _block_name(count), zstandard.compress(block.data, _ZSTD_LEVEL))
            count += len(block)
            n_values += block.size
            total += int(block.sum(dtype=np.uint64))
        brightness = round(total / n_values / 255, _BRIGHTNESS_DIGITS)
        stored = replace(facts(), key=key, frames=count, brightness=brightness)
        _add(archive, _HEADER, _header(stored))
    return stored


def write_quarantined(path: Path, facts: DecodeFacts) -> None:
    """Write the facts of a video without frames, so that later runs do not decode it again."""
    with _sealed_archive(path) as archive:
        _add(archive, _HEADER, _header(facts))


def read_stored(path: Path) -> DecodeFacts | None:
    """Verify every byte of a stored video and return its facts.

    Returns:
        None if the file is damaged, misnamed, or has other facts than this code records.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.comment != _digest(path):
                return None
            header = json.loads(archive.read(_HEADER))
            is_current = header["facts_version"] == FACTS_VERSION
            if not is_current or header["facts"].keys() != _FACT_NAMES:
                return None
            facts = DecodeFacts(**header["facts"])
    except _DAMAGED_FILE_ERRORS:
        return None
    return facts if path == stored_path(path.parent, facts.key) else None


def load_frames(path: Path, decode: DecodeSection, indices: Sequence[int]) -> NDArray[np.uint8]:
    """Return stored frames, without reading the blocks of the others.

    Args:
        indices: each from 0 to ``DecodeFacts.frames`` - 1; in any order, repeated or not.

    Returns:
        uint8 [len(indices), decode.height, decode.width, 3], RGB, in the order of ``indices``.

    Raises:
        PipelineError: the file is missing or damaged, or has no frame with one of the indices.
    """
    frames = np.empty((len(indices), decode.height, decode.width, 3), np.uint8)
    blocks: dict[int, list[int]] = {}  # first frame of a block, positions in ``indices``
    for position, index in enumerate(indices):
        blocks.setdefault(index - index % _BLOCK_FRAMES, []).append(position)
    with _open_stored(path) as archive:
        for start, positions in blocks.items():
            within = [indices[position] - start for position in positions]
            frames[positions] = _read_block(archive, start, decode)[within]
    return frames


def load_record(
    record: VideoRecord, indices: Sequence[int], *, folder: Path, decode: DecodeSection
) -> NDArray[np.uint8]:
    """Return stored frames of a decoded video, as ``load_frames``.

    Args:
        folder: the frame store.
    """
    assert record.facts is not None
    return load_frames(stored_path(folder, record.facts.key), decode, indices)


def write_frame_settings(folder: Path, decode: DecodeSection) -> None:
    """Write the settings that decide the frames to ``settings.json`` of the store."""
    write_json(folder / _SETTINGS, decode.frames_identity())


def read_frame_settings(folder: Path) -> DecodeSection:
    """Read the settings of the stored frames; settings that change no frame have defaults.

    Raises:
        PipelineError: the decode stage has not finished.
    """
    path = folder / _SETTINGS
    if not path.exists():
        raise PipelineError(f"{path}: no such file. Decode the videos with: dvc repro decode")
    return DecodeSection.model_validate(read_json(path))


@contextmanager
def _open_stored(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a stored video; an error within the block means that the file is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGED_FILE_ERRORS as error:
        raise PipelineError(
            f"{path}: the stored frames cannot be read ({error}). Run: dvc repro --force "
            "--single-item decode. It decodes the missing and damaged videos again."
        ) from None


def _block_name(start: int) -> str:
    return f"{start:08d}.zst"


def _read_block(archive: zipfile.ZipFile, start: int, decode: DecodeSection) -> NDArray[np.uint8]:
    """Return the block that begins with frame ``start``: uint8 [n, height, width, 3]."""
    raw = zstandard.decompress(archive.read(_block_name(start)))
    return np.frombuffer(raw, np.uint8).reshape(-1, decode.height, decode.width, 3)


def _blocks(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Yield blocks of frames, uint8 [n, height, width, 3]; each one overwrites the last."""
    block = None
    n_filled = 0
    for frame in frames:
        if block is None:
            block = np.empty((_BLOCK_FRAMES, *frame.shape), np.uint8)
        block[n_filled] = frame
        n_filled += 1
        if n_filled == _BLOCK_FRAMES:
            yield block
            n_filled = 0
    if block is not None and n_filled:
        yield block[:n_filled]


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
    """Return the SHA-256, in hex, of the file without its last _DIGEST_LENGTH bytes."""
    left = path.stat().st_size - _DIGEST_LENGTH
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest().encode("ascii")


def _header(facts: DecodeFacts) -> bytes:
    header = {"facts_version": FACTS_VERSION, "facts": asdict(facts)}
    return json.dumps(header, sort_keys=True).encode("utf-8")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)
