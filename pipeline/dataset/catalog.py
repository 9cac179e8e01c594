"""Build the catalog: the labels, the content hash, the group and the split of each video."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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


def build_catalog(
    data: DataSection, catalog: CatalogSection, targets: Targets
) -> list[VideoRecord]:
    """Read the labels, hash the videos and assign groups and splits.

    Raises:
        PipelineError: as ``read_labels`` and ``assign_splits``.
    """
    records = read_labels(data, targets)
    for remark in spelling_remarks(records, targets):
        logger.warning("%s.", remark)
    videos = sorted({record.video for record in records})
    paths = [Path(data.videos) / video for video in videos]
    hashes = dict(zip(videos, content_hashes(paths), strict=True))
    hashed = [replace(record, sha256=hashes[record.video]) for record in records]
    return assign_splits(hashed, catalog, targets)


def content_hashes(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file or folder of pictures, in order; empty for other paths.

    The decode stage reports such a path. Threads use all cores, because hashing releases the GIL.

    Raises:
        PipelineError: a file cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(_content_hash, paths)
        return list(tqdm(hashes, total=len(paths), desc="hash", unit="video", disable=None))


def _content_hash(path: Path) -> str:
    try:
        if path.is_dir():
            return sha256_of_pictures(path)
        return sha256_of_file(path) if path.is_file() else ""
    except OSError as error:
        raise PipelineError(
            f"{path}: the file cannot be read ({error.strerror}). Make it readable or remove it."
        ) from error
