"""Content hashes of many files at once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from pipeline.base.files import sha256_of_file


def content_hashes(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file, in order; empty for what is no regular file.

    The decode stage says what is wrong with those. Hashing lets go of the interpreter's
    lock, so threads use every core.
    """
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(_hash_if_regular, paths)
        return list(tqdm(hashes, total=len(paths), desc="hash", unit="video", disable=None))


def _hash_if_regular(path: Path) -> str:
    return sha256_of_file(path) if path.is_file() else ""
