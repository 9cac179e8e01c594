"""Train, validation and test clips of each fold of a cross-validation.

Computed folds test every clip once. The official folds of a data set may leave clips out, and test
some of them never or several times.
"""

import logging
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.clips.arrays import ClipArrays
from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file
from pipeline.common.records import FoldPart
from pipeline.common.tables import count_of
from pipeline.dataset.stratification import Groups, NoSplitError, divide_groups
from pipeline.model.settings import CnnSection
from pipeline.tasks.targets import targets_of

logger = logging.getLogger(__name__)

_PARTS = 3  # train, val and test


@dataclass(frozen=True)
class Fold:
    """Indices of clips, ascending. No group is in two of the three parts.

    An official fold may leave clips out of all parts.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def clips_identity(clips: ClipArrays) -> list[object]:
    """Return the content of ``clips`` as JSON values: names, targets, inputs and digests."""
    digests = [shard.digest() for _, shard in sorted(clips.shards().items())]
    return [clips.names, clips.targets, clips.groups, clips.side_cells, digests]


def weights_identity(cnn: CnnSection) -> str | None:
    """Return the SHA-256 of the file of ``model.cnn.weights``; None if it names no file."""
    path = Path(cnn.weights)
    return sha256_of_file(path) if path.is_file() else None


def folds_of_clips(
    clips: ClipArrays, task_type: str, *, n_folds: int, val_share: float, seed: int
) -> list[Fold]:
    """Draw the folds of ``clips`` as ``make_folds``."""
    targets = targets_of(task_type)
    return make_folds(
        targets.strata(clips.targets),
        targets.required_strata(clips.targets),
        clips.groups,
        n_folds=n_folds,
        val_share=val_share,
        seed=seed,
    )


def official_folds(
    clips: ClipArrays,
    parts_of_video: Mapping[str, Sequence[FoldPart]],
    task_type: str,
    *,
    val_share: float,
    seed: int,
) -> list[Fold]:
    """Return the official folds; validation clips are drawn from the training clips by group.

    Groups are drawn as for ``val`` of the catalog: near ``val_share`` of each stratum, and at least
    one group of it.

    Args:
        parts_of_video: name of a video -> its part in each fold.
        val_share: fraction of the clips of a fold for validation, above 0.
        seed: of the validation clips.

    Raises:
        PipelineError: a part lacks a required stratum.
    """
    targets = targets_of(task_type)
    required = targets.required_strata(clips.targets)
    strata = [targets.split_strata(clips.targets), required]
    parts = np.array([list(parts_of_video[name]) for name in clips.names])
    folds: list[Fold] = []
    for number, column in enumerate(parts.T, start=1):
        rest, test = np.flatnonzero(column == "train"), np.flatnonzero(column == "test")
        if not len(rest):
            raise PipelineError(
                f"Fold {number}: no train clip. Expected usable videos with train in the column "
                f"fold_{number} of the labels table. Repair the videos, or use --folds for "
                "computed folds."
            )
        share = val_share * (len(rest) + len(test)) / len(rest)
        try:
            val = _stratified_part(rest, strata, clips.groups, share=share, seed=seed)
        except PipelineError as error:
            raise PipelineError(
                f"Fold {number}: {error} Repair quarantined videos, correct the column "
                f"fold_{number} of the labels table, or use --folds for computed folds."
            ) from None
        train = np.setdiff1d(rest, val)
        folds.append(Fold(tuple(train.tolist()), tuple(val.tolist()), tuple(test.tolist())))
    _warn_of_sizes(folds, val_share)
    _check_parts(
        folds,
        required,
        "because official folds have too few of them, or their videos are quarantined. Repair "
        "them, try another --seed, or use --folds for computed folds.",
    )
    return folds


def make_folds(
    strata: Sequence[str],
    required: Sequence[tuple[str, ...]],
    groups: Sequence[str],
    *,
    n_folds: int,
    val_share: float,
    seed: int,
) -> list[Fold]:
    """Draw the folds: every clip is tested once, and groups are never split.

    The folds are scikit-learn's ``StratifiedGroupKFold``: of similar size, with a similar
    fraction of each stratum, as far as the groups allow. Strata with fewer groups than folds
    are joined to the largest one. The validation clips of a fold are drawn in the same way from
    the clips that it does not test.

    Args:
        strata: stratum of each clip, length N; for classes, the class.
        required: what every part must contain, of each clip, such as its labels; length N.
        groups: group of each clip, length N.
        n_folds: at least 2.
        val_share: fraction of all clips for validation, above 0.
        seed: equal clips and seeds give equal folds.

    Raises:
        PipelineError: there are too few groups, or a part lacks a required stratum.
    """
    needed = max(n_folds, _PARTS)
    for stratum, own_groups in _groups_by_stratum(required, groups).items():
        if len(own_groups) < needed:
            raise PipelineError(
                f"{stratum!r}: expected clips of at least {needed} groups for {n_folds} folds, "
                f"because clips of one group stay together. Received: {len(own_groups)} groups. "
                "Add videos of other groups, or use fewer --folds."
            )
    n_groups = {
        stratum: len(own_groups)
        for stratum, own_groups in _groups_by_stratum([(one,) for one in strata], groups).items()
    }
    most = max(n_groups, key=lambda stratum: n_groups[stratum])
    strata = [stratum if n_groups[stratum] >= needed else most for stratum in strata]
    everything = np.arange(len(strata))
    folds = []
    for test in _split(everything, strata, groups, n_parts=n_folds, seed=seed):
        rest = np.setdiff1d(everything, test)
        share = val_share * len(strata) / len(rest)
        val = _validation_part(rest, strata, required, groups, share=share, seed=seed)
        train = np.setdiff1d(rest, val)
        folds.append(Fold(tuple(train.tolist()), tuple(val.tolist()), tuple(test.tolist())))
    _warn_of_sizes(folds, val_share)
    _check_parts(
        folds,
        required,
        "because the groups are few or uneven. Try another --seed or fewer --folds.",
    )
    return folds


def _warn_of_sizes(folds: Sequence[Fold], val_share: float) -> None:
    for number, fold in enumerate(folds, start=1):
        share = len(fold.val) / (len(fold.train) + len(fold.val) + len(fold.test))
        if share > 2 * val_share:
            logger.warning(
                "Fold %d: validation has %.0f %% of the clips instead of %.0f %% "
                "(catalog.val_share): there are few groups, or their sizes differ.",
                number,
                100 * share,
                100 * val_share,
            )


def _check_parts(folds: Sequence[Fold], required: Sequence[tuple[str, ...]], remedy: str) -> None:
    """Refuse a part of a fold that lacks a required stratum."""
    names = {name for own in required for name in own}
    for number, fold in enumerate(folds, start=1):
        for name in ("train", "val", "test"):
            missing = names - {own for index in getattr(fold, name) for own in required[index]}
            if missing:
                raise PipelineError(
                    f"Fold {number} of {len(folds)}: no {name} clip of "
                    f"{', '.join(map(repr, sorted(missing)))}, {remedy}"
                )


def _split(
    indices: NDArray[np.int64],
    strata: Sequence[str],
    groups: Sequence[str],
    *,
    n_parts: int,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Split ``indices`` into parts that have no group in common."""
    splitter = StratifiedGroupKFold(n_parts, shuffle=True, random_state=seed)
    own_strata = [strata[index] for index in indices]
    own_groups = [groups[index] for index in indices]
    with warnings.catch_warnings():  # make_folds checks what every part must have
        warnings.filterwarnings("ignore", "The least populated class")
        return [indices[part] for _, part in splitter.split(indices, own_strata, own_groups)]


def _stratified_part(
    indices: NDArray[np.int64],
    strata: Sequence[Sequence[tuple[str, ...]]],
    groups: Sequence[str],
    *,
    share: float,
    seed: int,
) -> NDArray[np.int64]:
    """Return about ``share`` of ``indices``, with at least one group of every stratum.

    Args:
        strata: strata of each clip, by preference: the first that can be divided are used.
    """
    own_groups = [groups[index] for index in indices]
    missing: Sequence[tuple[str, str]] = ()
    for one in strata:
        own = Groups.count(own_groups, [one[index] for index in indices])
        try:
            splits = divide_groups(own, {"val": share}, rest="train", seed=seed)
        except NoSplitError as error:
            missing = error.missing
            continue
        is_val = np.array([splits[group] == "val" for group in own_groups])
        part: NDArray[np.int64] = indices[is_val]
        return part
    names = sorted({stratum for stratum, _ in missing})
    raise PipelineError(
        f"no division of the training groups has {', '.join(map(repr, names))} in both train and "
        "val. Expected at least 2 groups of each."
    )


def _validation_part(
    indices: NDArray[np.int64],
    strata: Sequence[str],
    required: Sequence[tuple[str, ...]],
    groups: Sequence[str],
    *,
    share: float,
    seed: int,
) -> NDArray[np.int64]:
    """Return the part with most required strata, and of these the nearest to ``share`` in size."""
    groups_by_stratum = _groups_by_stratum(
        [required[index] for index in indices], [groups[index] for index in indices]
    )
    stratum, own_groups = min(groups_by_stratum.items(), key=lambda item: len(item[1]))
    if len(own_groups) < 2:
        raise PipelineError(
            f"{stratum!r}: a fold leaves {count_of(len(own_groups), 'group')} for training and "
            "validation. Expected at least 2. Try another --seed or another number of --folds."
        )
    n_parts = max(2, min(round(1 / share), len(own_groups)))
    parts = _split(indices, strata, groups, n_parts=n_parts, seed=seed)

    def fitness(part: NDArray[np.int64]) -> tuple[int, float]:
        n_strata = len({name for index in part for name in required[index]})
        return n_strata, -abs(len(part) - share * len(indices))

    return max(parts, key=fitness)


def _groups_by_stratum(
    strata: Sequence[tuple[str, ...]], groups: Sequence[str]
) -> dict[str, set[str]]:
    by_stratum: dict[str, set[str]] = defaultdict(set)
    for own, group in zip(strata, groups, strict=True):
        for stratum in own:
            by_stratum[stratum].add(group)
    return dict(sorted(by_stratum.items()))
