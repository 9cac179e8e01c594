"""Build the catalog: the labels, the content hash, the group and the split of each video."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path

from tqdm import tqdm

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file
from pipeline.common.records import VideoRecord
from pipeline.common.video_files import sha256_of_pictures
from pipeline.dataset.layouts import read_labels
from pipeline.dataset.names import spelling_remarks
from pipeline.dataset.settings import CatalogSection, DataSection
from pipeline.dataset.splits import assign_splits
from pipeline.tasks.targets import Targets

logger = logging.getLogger(__name__)

_BATCH = 1024  # videos; each waits in more than a kilobyte


def build_catalog(
    data: DataSection, catalog: CatalogSection, targets: Targets
) -> list[VideoRecord]:
    """Read the labels, hash the videos and assign groups and splits.

    Raises:
        PipelineError: as ``read_labels`` and ``assign_splits``.
    """
    return assign_splits(_read_hashed(data, targets), catalog, targets)


def _read_hashed(data: DataSection, targets: Targets) -> list[VideoRecord]:
    """Read the labels and hash the videos."""
    records = read_labels(data, targets)
    for remark in spelling_remarks(records, targets):
        logger.warning("%s.", remark)
    videos = sorted({record.video for record in records})
    hashes = dict(zip(videos, content_hashes(Path(data.videos), videos), strict=True))
    for number, record in enumerate(records):  # in place: a second list needs memory
        records[number] = replace(record, sha256=hashes[record.video])
    return records


def content_hashes(folder: Path, videos: Sequence[str]) -> list[str]:
    """Return the SHA-256 of each file or folder of pictures, in order; empty for other paths.

    The decode stage reports such a path. Threads use all cores, because hashing releases the GIL.

    Args:
        videos: paths relative to ``folder``.

    Raises:
        PipelineError: a file cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        hashes = _hash_in_batches(pool, folder, videos)
        return list(tqdm(hashes, total=len(videos), desc="hash", unit="video", disable=None))


def _hash_in_batches(
    pool: ThreadPoolExecutor, folder: Path, videos: Sequence[str]
) -> Iterator[str]:
    """Yield the hashes in order; the threads have the next batch while one is awaited."""
    awaited: Iterator[str] = iter(())
    for start in range(0, len(videos), _BATCH):
        batch = videos[start : start + _BATCH]
        following = pool.map(_content_hash, repeat(folder), batch)
        yield from awaited
        awaited = following
    yield from awaited


def _content_hash(folder: Path, video: str) -> str:
    path = folder / video
    try:
        if path.is_dir():
            return sha256_of_pictures(path)
        return sha256_of_file(path) if path.is_file() else ""
    except OSError as error:
        raise PipelineError(
            f"{path}: the file cannot be read ({error.strerror}). Make it readable or remove it."
        ) from error
