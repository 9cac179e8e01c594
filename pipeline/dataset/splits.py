"""Assign groups and splits. All videos of a group are in one split."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.common.errors import PipelineError
from pipeline.common.records import SPLITS, Split, VideoRecord
from pipeline.dataset.official_folds import check_fold_groups
from pipeline.dataset.settings import CatalogSection
from pipeline.dataset.stratification import Groups, NoSplitError, divide_groups
from pipeline.tasks.targets import Targets

logger = logging.getLogger(__name__)


def assign_splits(
    records: Sequence[VideoRecord], catalog: CatalogSection, targets: Targets
) -> list[VideoRecord]:
    """Return the records with a group and a split each.

    A video without a group is grouped with its copies and its other segments. Splits that the
    labels give are kept; if they give no ``val``, it is taken from ``train``, and a video that has
    none, because only other official folds use it, stays without. Computed splits are
    stratified: every split has every stratum of the targets.

    Raises:
        PipelineError: copies of one video have different targets, a group lies in two given
            splits, the given splits lack train, no division of the groups has every stratum in
            every split, or ``targets.check_splits`` refuses the splits.
    """
    _check_copies(records)
    records = with_groups(records)
    given = {record.split for record in records}
    check_fold_groups(records)
    divided: dict[str, Split] = {}
    if given == {None}:
        shares: dict[Split, float] = {"test": catalog.test_share, "val": catalog.val_share}
        divided = _divide(records, shares, catalog.seed, targets)
    else:
        _check_given_splits(records)
        if "val" not in given:
            train = [record for record in records if record.split == "train"]
            shares = {"val": catalog.val_share / (1 - catalog.test_share)}
            divided = _divide(train, shares, catalog.seed, targets)
    for number, record in enumerate(records):  # in place: a second list needs memory
        records[number] = replace(record, split=divided.get(record.group, record.split))
    targets.check_splits(records)
    return records


def with_groups(records: Sequence[VideoRecord]) -> list[VideoRecord]:
    """Return the records with a group each: that of the labels, or of its copies and segments."""
    groups = merge_groups(
        [record.group or record.sha256[:16] or record.video for record in records],
        [record.sha256 for record in records],
    )
    return [replace(record, group=group) for record, group in zip(records, groups, strict=True)]


def _divide(
    records: Sequence[VideoRecord], shares: Mapping[Split, float], seed: int, targets: Targets
) -> dict[str, Split]:
    """Return the split of each group, by shares; the rest is train."""
    texts = [record.target for record in records]
    for strata_of in (targets.split_strata, targets.required_strata):
        groups = Groups.count([record.group for record in records], strata_of(texts))
        try:
            _check_group_counts(groups, shares, targets.stratum_name)
            divided = divide_groups(groups, shares, rest="train", seed=seed)
            break
        except (PipelineError, NoSplitError) as error:
            if strata_of(texts) == targets.required_strata(texts):
                if isinstance(error, NoSplitError):
                    raise _no_split(error, shares, targets.stratum_name) from None
                raise
    _warn_of_sizes(groups, divided, shares)
    return divided


def _check_group_counts(groups: Groups, shares: Mapping[Split, float], noun: str) -> None:
    """Refuse strata with fewer groups than splits, all at once."""
    splits = [split for split in SPLITS if split == "train" or split in shares]
    few = [
        f"{noun} {stratum!r} ({len(own)})"
        for stratum, own in sorted(groups.strata.items())
        if len(own) < len(splits)
    ]
    if few:
        raise PipelineError(
            f"Splits: too few groups of videos of {', '.join(few)}. Expected at least "
            f"{len(splits)} groups of each {noun}, one for each of {', '.join(splits)}. Copies and "
            "segments of one file are one group, whatever the column group says. Add videos, "
            "divide other groups in that column, cut a long file into several, or remove the "
            f"{noun}."
        )


def _no_split(error: NoSplitError, shares: Mapping[Split, float], noun: str) -> PipelineError:
    splits = [split for split in SPLITS if split == "train" or split in shares]
    missing = "; ".join(f"{noun} {stratum!r} in {split}" for stratum, split in error.missing)
    finding = (
        f"no division of the groups has every {noun} in each of {', '.join(splits)}"
        if error.is_proven
        else f"the search for a division of the groups with every {noun} in each of "
        f"{', '.join(splits)} ended at its limit, without a proof that there is none"
    )
    return PipelineError(
        f"Splits: {finding}. Missing in the nearest division: {missing}. Add videos of other "
        "groups, or divide groups in the column group of the labels table."
    )


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
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first_with: dict[str, str] = {}
    for group, sha256 in zip(groups, hashes, strict=True):
        if not sha256:
            continue
        kept, joined = sorted((root(group), root(first_with.setdefault(sha256, group))))
        parent[joined] = kept
    return [root(group) for group in groups]


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
    given = sorted({record.split for record in records if record.split})
    if "train" not in given:
        raise PipelineError(
            "Splits: no video has the split train. Expected train and test, or train, val and "
            f"test, in the column split of the labels table. Received: {' and '.join(given)}. "
            "Correct the column, or delete it for computed splits."
        )
    first: dict[str, VideoRecord] = {}
    for record in records:
        if record.split is None:
            continue
        other = first.setdefault(record.group, record)
        if other.split != record.split:
            raise PipelineError(
                f"{other.name} ({other.split}) and {record.name} ({record.split}) are in one "
                f"group, {record.group} (the same group in the labels, the same file, or copies "
                "of a file), but in two splits. Give them the same split."
            )


def _warn_of_sizes(
    groups: Groups, divided: Mapping[str, Split], shares: Mapping[Split, float]
) -> None:
    counts: Counter[Split] = Counter()
    for group, split in divided.items():
        counts[split] += groups.videos[group]
    for split, share in shares.items():
        received = counts[split] / counts.total()
        if not share / 2 <= received <= 2 * share:
            logger.warning(
                "The %s split has %.0f %% of the videos instead of %.0f %% (catalog.%s_share): "
                "there are few groups, or their sizes differ.",
                split,
                100 * received,
                100 * share,
                split,
            )
