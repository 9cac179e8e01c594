"""Divide groups of videos among splits, so that every split has every stratum.

A stratum is a set of videos that every split must have, such as a class. A group may have videos of
several strata, and goes to one split as a whole.

Groups are ordered by a hash: the lowest go to test until it has its share, the next to val, all
others to train. So a new video moves few others. Groups of several strata are divided first, by
their number, so that a new video in one of them moves none; then the groups of each stratum alone,
by their videos. Where a split lacks a stratum, an integer program moves the fewest videos such that
every split has every stratum (``scipy.optimize.milp``). Sizes may be far from the shares: only
sizes outside a wide tolerance cost anything, because near sizes would move many videos.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.common.records import Split

# Limits of one integer program. Most programs end after a few nodes, in a second. Only the limit of
# nodes gives the same result on every machine.
_MAX_NODES = 2_000
_MAX_SECONDS = 30.0
_MAX_SMALL = 300  # groups of a set in which every group may move at once
_TOLERANCE = 0.65  # deviation of a split from its number of videos that costs nothing
_DEVIATION_COST = 4.0  # of each video outside the tolerance; a moved video costs about 1
_OPTIMAL, _INFEASIBLE = 0, 2  # status of scipy.optimize.milp


class NoSplitError(Exception):
    """No division of the groups gives every split every stratum, or none was found.

    Attributes:
        missing: pairs of a stratum and a split that lacks it, in the best division.
        is_proven: whether no division exists; False when the search reached its limit.
    """

    def __init__(self, missing: Sequence[tuple[str, Split]], *, is_proven: bool) -> None:
        super().__init__(missing)
        self.missing, self.is_proven = missing, is_proven


@dataclass(frozen=True)
class Groups:
    """The groups of a data set and their strata.

    Attributes:
        videos: number of videos of each group.
        strata: for each stratum, the number of its videos in each group that has some.
    """

    videos: Mapping[str, int]
    strata: Mapping[str, Mapping[str, int]]

    @classmethod
    def count(cls, groups: Sequence[str], strata: Sequence[Collection[str]]) -> "Groups":
        """Count from the group and the strata of each video."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for group, own in zip(groups, strata, strict=True):
            for stratum in own:
                counts[stratum][group] += 1
        return cls(Counter(groups), counts)


def divide_groups(
    groups: Groups, shares: Mapping[Split, float], *, rest: Split, seed: int
) -> dict[str, Split]:
    """Return the split of each group.

    Args:
        shares: fraction of the videos of each split except ``rest``.
        seed: of the hash.

    Raises:
        NoSplitError: no division with every stratum in every split was found.
    """
    position = {group: uniform_hash(group, seed) for group in groups.videos}
    splits: dict[str, Split] = {}
    n_strata = Counter(group for members in groups.strata.values() for group in members)
    several = {group: 1 for group, number in n_strata.items() if number > 1}
    _divide_stratum(several, splits, shares, rest, position=position, rounding=0.5)
    for stratum, members in sorted(groups.strata.items()):
        # Rounds a share up or down by chance, so that the shares hold over all strata.
        rounding = uniform_hash(f"stratum {stratum}", seed)
        _divide_stratum(members, splits, shares, rest, position=position, rounding=rounding)
    others = {group: count for group, count in groups.videos.items() if group not in splits}
    _divide_stratum(others, splits, shares, rest, position=position, rounding=0.5)
    return _repair(groups, splits, shares, rest, position)


def uniform_hash(name: str, seed: int) -> float:
    """Return a number from 0 to 1, uniformly distributed over names."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _divide_stratum(
    members: Mapping[str, int],
    splits: dict[str, Split],
    shares: Mapping[Split, float],
    rest: Split,
    *,
    position: Mapping[str, float],
    rounding: float,
) -> None:
    """Add to ``splits`` the groups of a stratum that have none yet.

    Args:
        members: size of each group: its videos of the stratum, or 1 to count groups.
        position: of each group in the order, 0 to 1.
        rounding: 0 to 1.
    """
    videos: Counter[Split] = Counter()
    for group in members.keys() & splits.keys():
        videos[splits[group]] += members[group]
    free = sorted(members.keys() - splits.keys(), key=lambda group: position[group])
    order = list(shares)
    for number, split in enumerate(order):
        wanted = shares[split] * sum(members.values()) - videos[split]
        kept_for_others = sum(not videos[other] for other in [*order[number + 1 :], rest])
        most = len(free) - kept_for_others
        fewest = min(most, 0 if videos[split] else 1)
        # A group with far more videos than wanted would distort the shares.
        largest = 2 * max(wanted, min((members[group] for group in free), default=0))
        n_chosen, n_videos = 0, 0
        for group in free:
            count = members[group]
            is_enough = n_chosen >= fewest and n_videos + rounding * count >= wanted
            if is_enough or n_chosen >= most:
                break
            if count <= largest:
                splits[group] = split
                n_chosen, n_videos = n_chosen + 1, n_videos + count
        videos[split] += n_videos
        free = [group for group in free if group not in splits]
    splits.update(dict.fromkeys(free, rest))


def _repair(
    groups: Groups,
    splits: dict[str, Split],
    shares: Mapping[Split, float],
    rest: Split,
    position: Mapping[str, float],
) -> dict[str, Split]:
    """Move the fewest videos such that every split has every stratum.

    In a small set every group may move. Otherwise only groups of the strata that a split lacks may
    at first, then those of all strata that share groups with them, and so on.
    """
    order = [*shares, rest]
    missing = _missing(groups.strata, splits, order)
    if not missing:
        return splits
    strata_of: dict[str, list[str]] = defaultdict(list)
    for stratum, members in sorted(groups.strata.items()):
        for group in members:
            strata_of[group].append(stratum)
    free = {group for stratum, _ in missing for group in groups.strata[stratum]}
    if len(groups.videos) <= _MAX_SMALL:
        free = set(groups.videos)
    while True:
        cost = {group: groups.videos[group] + position[group] for group in sorted(free)}
        moved, is_proven = _solve(groups, splits, shares, rest, cost)
        if moved is not None:
            return moved
        touched = {stratum for group in free for stratum in strata_of[group]}
        wider = {group for stratum in touched for group in groups.strata[stratum]}
        if wider <= free:
            nearest, _ = _solve(groups, splits, shares, rest, cost, may_miss=True)
            nearest = nearest or splits
            missing = _missing(groups.strata, nearest, order)
            if missing:
                raise NoSplitError(missing, is_proven=is_proven)
            return nearest
        free = wider


def _missing(
    strata: Mapping[str, Iterable[str]], splits: Mapping[str, Split], order: Sequence[Split]
) -> list[tuple[str, Split]]:
    missing = []
    for stratum in sorted(strata):
        present = {splits[group] for group in strata[stratum]}
        missing += [(stratum, split) for split in order if split not in present]
    return missing


def _solve(
    groups: Groups,
    splits: Mapping[str, Split],
    shares: Mapping[Split, float],
    rest: Split,
    cost: Mapping[str, float],
    *,
    may_miss: bool = False,
) -> tuple[dict[str, Split] | None, bool]:
    """Move groups such that every split has every stratum, at the lowest cost.

    The cost is that of the moved groups, and ``_DEVIATION_COST`` for each video by which the size
    of a split is outside the tolerance.

    Args:
        cost: of moving a group; groups that are not in it stay.
        may_miss: the cost is instead the number of pairs of a stratum and a split that lacks it.

    Returns:
        The splits or None, and whether the result is proven: optimal, or impossible.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    order = [*shares, rest]
    total = sum(groups.videos.values())
    # Variables, 0 or 1: is group g in split p, for each g that may move.
    first = {group: len(order) * number for number, group in enumerate(cost)}
    objective = [
        0.0 if splits[group] == split or may_miss else cost[group]
        for group in cost
        for split in order
    ]
    constraints: list[tuple[float, dict[int, float], float]] = [
        (1, dict.fromkeys(range(start, start + len(order)), 1.0), 1) for start in first.values()
    ]
    for _, members in sorted(groups.strata.items()):
        fixed = {splits[group] for group in members if group not in first}
        own = [first[group] for group in members if group in first]
        for number, split in enumerate(order):
            if not own or split in fixed:
                continue
            terms = dict.fromkeys((start + number for start in own), 1.0)
            if may_miss:  # variable, 0 or 1: the split lacks the stratum
                terms[len(objective)] = 1.0
                objective.append(1.0)
            constraints.append((1, terms, np.inf))
    n_binary = len(objective)
    for number, (split, share) in enumerate(shares.items()):
        fixed_videos = sum(
            count
            for group, count in groups.videos.items()
            if group not in first and splits[group] == split
        )
        terms = {start + number: float(groups.videos[group]) for group, start in first.items()}
        excess = len(objective)  # variable: the number of videos outside the tolerance
        low, high = ((1 + side * _TOLERANCE) * share * total - fixed_videos for side in (-1, 1))
        constraints.append((low, terms | {excess: 1.0}, np.inf))
        constraints.append((-np.inf, terms | {excess: -1.0}, high))
        objective.append(0.0 if may_miss else _DEVIATION_COST)
    rows = [row for row, (_, terms, _) in enumerate(constraints) for _ in terms]
    columns = [column for _, terms, _ in constraints for column in terms]
    values = [value for _, terms, _ in constraints for value in terms.values()]
    matrix = coo_array((values, (rows, columns)), (len(constraints), len(objective)))
    lower, _, upper = zip(*constraints, strict=True)
    is_binary = np.arange(len(objective)) < n_binary
    result = milp(
        objective,
        integrality=is_binary,
        bounds=Bounds(0, np.where(is_binary, 1, np.inf)),
        constraints=LinearConstraint(matrix.tocsr(), lower, upper),
        options={"node_limit": _MAX_NODES, "time_limit": _MAX_SECONDS, "mip_rel_gap": 0},
    )
    is_proven = result.status in (_OPTIMAL, _INFEASIBLE)
    if result.x is None:
        return None, is_proven
    chosen = result.x[: len(order) * len(first)].reshape(-1, len(order)).argmax(axis=1)
    moved = {group: order[number] for group, number in zip(first, chosen, strict=True)}
    return {**splits, **moved}, is_proven
