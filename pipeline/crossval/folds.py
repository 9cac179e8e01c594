"""Which clips are tested, watched for early stopping and trained on in each fold."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.base.errors import PipelineError

_PARTS = 3  # train, val and test


@dataclass(frozen=True)
class Fold:
    """Indices of clips, ascending. The three parts have no group in common."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def make_folds(
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    n_folds: int,
    val_share: float,
    seed: int,
) -> list[Fold]:
    """Draw the folds. Every clip is tested once; groups are never split.

    The folds are scikit-learn's ``StratifiedGroupKFold``: about equal in size, with about the
    same share of every class, as far as the groups allow. The validation clips of a fold are
    drawn in the same way from those that it does not test.

    Args:
        labels: class of each clip, length N.
        groups: group of each clip, length N.
        n_folds: at least 2.
        val_share: of all clips, for validation, above 0.
        seed: the same clips and seed give the same folds.

    Raises:
        PipelineError: there are too few groups, or a part would be without some class.
    """
    _check_enough_groups(labels, groups, n_folds)
    everything = np.arange(len(labels))
    folds = []
    for test in _parts(everything, labels, groups, n_parts=n_folds, seed=seed):
        rest = np.setdiff1d(everything, test)
        share = val_share * len(labels) / len(rest)
        val = _validation(rest, labels, groups, share=share, seed=seed)
        folds.append(Fold(_indices(np.setdiff1d(rest, val)), _indices(val), _indices(test)))
    _check_every_class_everywhere(folds, labels)
    return folds


def _parts(
    indices: NDArray[np.int64],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    n_parts: int,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Share ``indices`` out to parts that have no group in common."""
    splitter = StratifiedGroupKFold(n_parts, shuffle=True, random_state=seed)
    own_labels = [labels[index] for index in indices]
    own_groups = [groups[index] for index in indices]
    return [indices[part] for _, part in splitter.split(indices, own_labels, own_groups)]


def _validation(
    indices: NDArray[np.int64],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    share: float,
    seed: int,
) -> NDArray[np.int64]:
    """Take the part whose size is nearest to the share, of those that have most classes."""
    groups_by_class = _groups_by_class(
        [labels[index] for index in indices], [groups[index] for index in indices]
    )
    label, own = min(groups_by_class.items(), key=lambda item: len(item[1]))
    if len(own) < 2:
        raise PipelineError(
            f"Class {label!r}: a fold tests all of its groups but {len(own)}, expected 2 or more "
            "that are left, to train on and to watch. Try another --seed or other --folds."
        )
    n_parts = max(2, min(round(1 / share), len(own)))
    parts = _parts(indices, labels, groups, n_parts=n_parts, seed=seed)

    def fitness(part: NDArray[np.int64]) -> tuple[int, float]:
        n_classes = len({labels[index] for index in part})
        return n_classes, -abs(len(part) - share * len(indices))

    return max(parts, key=fitness)


def _groups_by_class(labels: Sequence[str], groups: Sequence[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        found[label].add(group)
    return dict(sorted(found.items()))


def _check_enough_groups(labels: Sequence[str], groups: Sequence[str], n_folds: int) -> None:
    """Every class needs a group in each of the folds, and one more to train on or to watch."""
    needed = max(n_folds, _PARTS)
    for label, own in _groups_by_class(labels, groups).items():
        if len(own) < needed:
            raise PipelineError(
                f"Class {label!r}: expected clips of at least {needed} groups for {n_folds} folds, "
                f"because clips of one group stay together. Received: {len(own)} groups. Add "
                "videos of other groups, or ask for fewer folds."
            )


def _check_every_class_everywhere(folds: Sequence[Fold], labels: Sequence[str]) -> None:
    for number, fold in enumerate(folds, start=1):
        for name in ("train", "val", "test"):
            missing = set(labels) - {labels[index] for index in getattr(fold, name)}
            if missing:
                raise PipelineError(
                    f"Fold {number} of {len(folds)}: no {name} clip of class "
                    f"{', '.join(map(repr, sorted(missing)))}, because the groups are few or "
                    "uneven. Try another --seed or fewer folds."
                )


def _indices(indices: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(index) for index in indices)
