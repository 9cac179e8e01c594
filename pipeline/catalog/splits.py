"""Splitting videos so that nothing is seen in training and met again in the test.

Groups are split, not videos: by a hash of the group's name, so that a video never moves
from one split to another because others arrived.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.base.errors import PipelineError
from pipeline.catalog.records import SPLITS, CatalogEntry, LabelledVideo, Split


@dataclass(frozen=True)
class SplitRule:
    """Shares of val and test; the rest is for training. Another seed gives another split."""

    val_share: float
    test_share: float
    seed: int


def build_entries(
    videos: Sequence[LabelledVideo], hashes: Sequence[str], rule: SplitRule
) -> list[CatalogEntry]:
    """Give every video a group and a split.

    Args:
        hashes: SHA-256 of each video's content, in the same order; empty where there is none.

    Raises:
        PipelineError: copies of one video have different labels, a group lies in two given
            splits, there are fewer than two classes, or a class is missing from a split.
    """
    _check_copies_agree(videos, hashes)
    groups = merge_groups(_own_groups(videos, hashes), hashes)
    splits = _splits(videos, groups, rule)
    entries = [
        CatalogEntry(
            video=video.video,
            label=video.label,
            split=split,
            group=group,
            start_seconds=video.start_seconds,
            end_seconds=video.end_seconds,
            sha256=sha256,
            extra=video.extra,
        )
        for video, sha256, group, split in zip(videos, hashes, groups, splits, strict=True)
    ]
    check_every_class_everywhere(entries)
    return entries


def merge_groups(groups: Sequence[str], hashes: Sequence[str]) -> list[str]:
    """Join groups that share a video with the same content; the joined one takes the first name.

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
        one, other = sorted((root(group), root(first_with.setdefault(sha256, group))))
        parent[other] = one
    return [root(group) for group in groups]


def split_of(group: str, rule: SplitRule) -> Split:
    """Draw the split of ``group`` from its name alone: it stays when other groups come or go."""
    digest = hashlib.sha256(f"{rule.seed}:{group}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    if draw < rule.test_share:
        return "test"
    return "val" if draw < rule.test_share + rule.val_share else "train"


def check_every_class_everywhere(entries: Sequence[CatalogEntry]) -> None:
    """Refuse a data set in which some split has no video of some class.

    Raises:
        PipelineError: naming the class, the split and what to do.
    """
    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    for entry in entries:
        counts[entry.label][entry.split] += 1
    if len(counts) < 2:
        raise PipelineError(
            f"A classifier needs at least two classes, found {', '.join(counts) or 'none'}."
        )
    for label, by_split in sorted(counts.items()):
        for split, count in by_split.items():
            if count == 0:
                raise PipelineError(
                    f"Class {label!r} has no video in the {split} split ("
                    + ", ".join(f"{by_split[name]} in {name}" for name in SPLITS)
                    + "). Add videos or groups of this class, raise catalog.val_share or "
                    "catalog.test_share, try another catalog.seed, or give the splits in a "
                    "csv column."
                )


def _own_groups(videos: Sequence[LabelledVideo], hashes: Sequence[str]) -> list[str]:
    """Without a group of its own, a video is grouped with its copies and its other segments."""
    return [
        video.group or sha256[:16] or video.video
        for video, sha256 in zip(videos, hashes, strict=True)
    ]


def _splits(videos: Sequence[LabelledVideo], groups: Sequence[str], rule: SplitRule) -> list[Split]:
    given = [video.split for video in videos]
    if None in given:
        return [split_of(group, rule) for group in groups]
    _check_groups_in_one_split(videos, groups)
    if "val" in given:
        return [split for split in given if split is not None]
    return [
        "test" if split == "test" else _train_or_val(group, rule)
        for split, group in zip(given, groups, strict=True)
    ]


def _train_or_val(group: str, rule: SplitRule) -> Split:
    """Take val out of a given train split: published splits often have train and test only."""
    share = rule.val_share / (1 - rule.test_share)
    return split_of(group, SplitRule(val_share=share, test_share=0.0, seed=rule.seed))


def _check_groups_in_one_split(videos: Sequence[LabelledVideo], groups: Sequence[str]) -> None:
    first: dict[str, LabelledVideo] = {}
    for video, group in zip(videos, groups, strict=True):
        other = first.setdefault(group, video)
        if other.split != video.split:
            raise PipelineError(
                f"{other.name} ({other.split}) and {video.name} ({video.split}) belong together "
                f"(group {group}: the same group, the same file, or copies of one), but "
                "their given splits differ. Give them the same split."
            )


def _check_copies_agree(videos: Sequence[LabelledVideo], hashes: Sequence[str]) -> None:
    first: dict[tuple[str, float | None, float | None], LabelledVideo] = {}
    for video, sha256 in zip(videos, hashes, strict=True):
        if not sha256:
            continue
        other = first.setdefault((sha256, video.start_seconds, video.end_seconds), video)
        if other.label != video.label:
            raise PipelineError(
                f"{other.name} ({other.label}) and {video.name} ({video.label}) have the same "
                "content but different labels. Keep the one that is right."
            )
