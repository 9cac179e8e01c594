"""Assign groups and splits. All videos of a group are in one split.

A hash of the group's name decides the split of the group, so a video does not move to another
split when other videos are added.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from pipeline.common.errors import PipelineError
from pipeline.common.records import Split, VideoRecord
from pipeline.dataset.settings import CatalogSection
from pipeline.tasks.targets import Targets

logger = logging.getLogger(__name__)


def assign_splits(
    records: Sequence[VideoRecord], catalog: CatalogSection, targets: Targets
) -> list[VideoRecord]:
    """Return the records with a group and a split each.

    A video without a group is grouped with its copies and its other segments. Splits that the
    labels give are kept; if they give no ``val``, it is taken from ``train``.

    Raises:
        PipelineError: copies of one video have different targets, a group lies in two given
            splits, or ``targets.check_splits`` refuses the splits.
    """
    _check_copies(records)
    hashes = [record.sha256 for record in records]
    groups = merge_groups(
        [record.group or record.sha256[:16] or record.video for record in records], hashes
    )
    grouped = [replace(record, group=group) for record, group in zip(records, groups, strict=True)]
    given = {record.split for record in records}
    if None in given:
        assigned = [replace(record, split=split_of(record.group, catalog)) for record in grouped]
        _warn_of_small_splits(assigned, catalog)
    else:
        _check_given_splits(grouped)
        assigned = grouped if "val" in given else [_train_or_val(one, catalog) for one in grouped]
    targets.check_splits(assigned)
    return assigned


def merge_groups(groups: Sequence[str], hashes: Sequence[str]) -> list[str]:
    """Join groups that contain copies of one video; the alphabetically first name is kept.

    Args:
        groups: name of the group of each video.
        hashes: content hash of each video; an empty hash is not compared.

    >>> merge_groups(["a", "b", "c"], ["1", "2", "2"])
    ['a', 'b', 'b']
    """
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    first_with: dict[str, str] = {}
    for group, sha256 in zip(groups, hashes, strict=True):
        if not sha256:
            continue
        kept, joined = sorted((root(group), root(first_with.setdefault(sha256, group))))
        parent[joined] = kept
    return [root(group) for group in groups]


def split_of(group: str, catalog: CatalogSection) -> Split:
    """Return the computed split of a group; it depends on the name and the seed only."""
    draw = _uniform_hash(group, catalog.seed)
    if draw < catalog.test_share:
        return "test"
    return "val" if draw < catalog.test_share + catalog.val_share else "train"


def _uniform_hash(group: str, seed: int) -> float:
    """Return a number from 0 to 1, uniformly distributed over groups."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _train_or_val(record: VideoRecord, catalog: CatalogSection) -> VideoRecord:
    """Return the record with split ``val`` for a share of the groups of a given train split."""
    share = catalog.val_share / (1 - catalog.test_share)
    if record.split == "train" and _uniform_hash(record.group, catalog.seed) < share:
        return replace(record, split="val")
    return record


def _check_copies(records: Sequence[VideoRecord]) -> None:
    first: dict[tuple[str, float | None, float | None], VideoRecord] = {}
    for record in records:
        if not record.sha256:
            continue
        other = first.setdefault(record.content, record)
        if other.target != record.target:
            raise PipelineError(
                f"{other.name} ({other.target}) and {record.name} ({record.target}) have the "
                "same content but different targets. Delete the wrong one or correct its target."
            )


def _check_given_splits(records: Sequence[VideoRecord]) -> None:
    first: dict[str, VideoRecord] = {}
    for record in records:
        other = first.setdefault(record.group, record)
        if other.split != record.split:
            raise PipelineError(
                f"{other.name} ({other.split}) and {record.name} ({record.split}) are in one "
                f"group, {record.group} (the same group in the labels, the same file, or copies "
                "of a file), but in two splits. Give them the same split."
            )


def _warn_of_small_splits(records: Sequence[VideoRecord], catalog: CatalogSection) -> None:
    counts = Counter(record.split for record in records)
    wanted: dict[Split, float] = {"val": catalog.val_share, "test": catalog.test_share}
    for split, share in wanted.items():
        received = counts[split] / len(records)
        if received < share / 2:
            logger.warning(
                "The %s split has %.0f %% of the videos, but catalog.%s_share is %.0f %%: there "
                "are few groups, or their sizes differ. Another catalog.seed gives other splits.",
                split,
                100 * received,
                split,
                100 * share,
            )
