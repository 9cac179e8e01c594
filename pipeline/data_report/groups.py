"""Propose groups of videos: copies, names with a common stem, and videos that look alike.

A group is a connected component of the links between videos. Only the links of a minimum spanning
forest are kept, so memory grows with the number of videos, not of pairs.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from pipeline.common.records import VideoRecord
from pipeline.data_report.names import find_name_families
from pipeline.evaluation.hash_search import HashSearch
from pipeline.evaluation.near_duplicates import (
    MAX_DISTANCE,
    HashedVideo,
    are_alike,
    colours_of,
)

Reason = Literal["copies", "name", "alike", "mirrored"]

REASONS: dict[Reason, str] = {
    "copies": "copies of one file",
    "name": "names with a common stem",
    "alike": "frames that look alike",
    "mirrored": "frames that look alike when mirrored",
}

_MAX_COMPARISONS = 1 << 24  # of videos without the index of hashes: some seconds
_MAX_PENDING = 1 << 20  # pairs in memory before they are reduced to a forest
# A group of videos that look alike is at most this large, in present groups. Above, the videos
# rather share a background, and a smaller distance is used.
_LARGEST_SHARE = 0.2
_LARGEST_COUNT = 20  # always allowed


@dataclass(frozen=True)
class Link:
    """Two videos, by index, that may belong to one group.

    Attributes:
        detail: for ``name``: the stem.
        distance: for ``alike`` and ``mirrored``: of the hashes, in bits of 64.
    """

    a: int
    b: int
    reason: Reason
    detail: str = ""
    distance: int = 0

    @property
    def sentence(self) -> str:
        """Return the reason in words."""
        match self.reason:
            case "copies":
                return "copies of one file"
            case "name":
                return f"the names share the stem {self.detail!r}"
            case "alike":
                return f"look alike: the hashes differ in {self.distance} of 64 bits"
            case "mirrored":
                return (
                    "look alike when one is mirrored: the hashes differ in "
                    f"{self.distance} of 64 bits"
                )


@dataclass(frozen=True)
class _Declined:
    """The pairs of videos that a user has separated: a cleared video and its previous group.

    Attributes:
        previous: int64 [N], number of the group of each video; a number of its own if it had none.
        is_cleared: bool [N].
    """

    previous: NDArray[np.int64]
    is_cleared: NDArray[np.bool_]

    def has(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return bool [P]: whether the videos a and b, int64 [P], are separated."""
        is_declined: NDArray[np.bool_] = self.previous[a] == self.previous[b]
        is_declined &= self.is_cleared[a] | self.is_cleared[b]
        return is_declined

    def other_pairs(self, members: Sequence[int]) -> list[tuple[int, int]]:
        """Return pairs, a < b, that connect the members, none of them separated."""
        kept = [member for member in members if not self.is_cleared[member]]
        pairs = list(pairwise(kept))
        cleared = [member for member in members if self.is_cleared[member]]
        for member in cleared:
            own = self.previous[member]
            others = (other for other in (*kept, *cleared) if self.previous[other] != own)
            if (other := next(others, None)) is not None:
                pairs.append((min(member, other), max(member, other)))
        return sorted(set(pairs))


@dataclass(frozen=True)
class ProposedGroup:
    """Videos that may show one source.

    Attributes:
        members: indices of the videos, at least two, ascending.
        links: between members; of each kind of reason, a forest.
    """

    members: tuple[int, ...]
    links: tuple[Link, ...]

    @property
    def reasons(self) -> list[Reason]:
        """Return the kinds of reasons, in the order of ``REASONS``."""
        kinds = {link.reason for link in self.links}
        return [reason for reason in REASONS if reason in kinds]


@dataclass(frozen=True)
class Proposals:
    """Proposed groups, largest first.

    Attributes:
        distance: largest distance of videos that count as alike; less than the default if many
            videos share a background; -1: none do.
        is_complete: whether all pairs of videos were searched; otherwise there may be more.
    """

    groups: tuple[ProposedGroup, ...]
    distance: int = MAX_DISTANCE
    is_complete: bool = True

    @property
    def reason_counts(self) -> dict[Reason, int]:
        """Return the number of groups with each kind of reason."""
        counts = Counter(reason for group in self.groups for reason in group.reasons)
        return {reason: counts[reason] for reason in REASONS if counts[reason]}

    @property
    def remarks(self) -> list[str]:
        """Return what limits the proposals, a sentence each."""
        remarks = []
        if self.distance < MAX_DISTANCE:
            closeness = (
                "none are grouped for it."
                if self.distance < 0
                else f"only those whose hashes differ in at most {self.distance} of 64 bits are "
                "grouped for it."
            )
            remarks.append(f"Many videos look alike, as in front of one background: {closeness}")
        if not self.is_complete:
            remarks.append("So many videos look alike that not all pairs were compared.")
        return remarks


def propose_groups(
    records: Sequence[VideoRecord],
    hashed: Iterable[HashedVideo],
    *,
    previous: Sequence[str] = (),
    is_cleared: Sequence[bool] = (),
    max_comparisons: int = _MAX_COMPARISONS,
) -> Proposals:
    """Propose groups of videos, each with its reasons.

    Args:
        records: with their present groups; an empty one is a group of its own. The limit of videos
            that look alike counts present groups, because segments of one video and clips of one
            scene look alike.
        hashed: perceptual hashes of some of the records, by name; the others are not compared.
        previous: group of each record, given or proposed earlier; empty if there is none.
        is_cleared: of each record, whether its previous group was cleared. Then it is not linked
            to the records of that group.
        max_comparisons: as for ``find_near_duplicates``.
    """
    by_name = {video.name: video for video in hashed}
    looks = [by_name.get(record.name) for record in records]
    declined = _declined(previous or [""] * len(records), is_cleared or [False] * len(records))
    links = [*_copy_links([record.sha256 for record in records], declined)]
    links += _name_links([record.video for record in records], declined)
    known = [record.group for record in records]
    alike, distance, is_complete = _alike_links(looks, known, declined, max_comparisons)
    links += alike
    groups = [
        ProposedGroup(tuple(members), tuple(links[index] for index in own))
        for members, own in _components(links, len(records))
    ]
    return Proposals(_largest_first(groups), distance, is_complete)


def join_segments(proposals: Proposals, files: Sequence[int]) -> Proposals:
    """Return the groups of files instead of records, of which several may be parts of one file.

    Args:
        files: index of the file of each record.
    """
    groups = []
    for group in proposals.groups:
        members = sorted({files[member] for member in group.members})
        links = [replace(link, a=files[link.a], b=files[link.b]) for link in group.links]
        if len(members) > 1:
            between = tuple(link for link in links if link.a != link.b)
            groups.append(ProposedGroup(tuple(members), between))
    return replace(proposals, groups=_largest_first(groups))


def _largest_first(groups: Iterable[ProposedGroup]) -> tuple[ProposedGroup, ...]:
    return tuple(sorted(groups, key=lambda group: (-len(group.members), group.members)))


def _declined(previous: Sequence[str], is_cleared: Sequence[bool]) -> _Declined:
    keys = [group or index for index, group in enumerate(previous)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return _Declined(np.array([numbers[key] for key in keys], np.int64), np.array(is_cleared, bool))


def _copy_links(contents: Sequence[str], declined: _Declined) -> Iterator[Link]:
    copies: dict[str, list[int]] = {}
    for index, content in enumerate(contents):
        if content:
            copies.setdefault(content, []).append(index)
    for members in copies.values():
        for a, b in declined.other_pairs(members):
            yield Link(a, b, "copies")


def _name_links(videos: Sequence[str], declined: _Declined) -> Iterator[Link]:
    for family in find_name_families(videos):
        for a, b in declined.other_pairs(family.members):
            yield Link(a, b, "name", family.stem)


def _alike_links(
    looks: Sequence[HashedVideo | None],
    known: Sequence[str],
    declined: _Declined,
    max_comparisons: int,
) -> tuple[list[Link], int, bool]:
    """Return links of videos that look alike, the distance limit, and whether all were searched."""
    indices = np.array([index for index, look in enumerate(looks) if look is not None], np.int64)
    hashed = [look for look in looks if look is not None]
    if len(hashed) < 2:
        return [], MAX_DISTANCE, True
    hashes = np.stack([look.hashes for look in hashed])
    mirrored = np.stack([look.mirrored for look in hashed])
    colours = colours_of(hashed)
    search = HashSearch(hashes, mirrored, hashes, max_distance=MAX_DISTANCE)
    crowded = search.crowded_rows
    n_affordable = max(1, max_comparisons // len(hashed))
    is_complete = len(crowded) <= n_affordable
    if not is_complete:
        crowded = crowded[np.arange(n_affordable) * len(crowded) // n_affordable]
    forest = np.empty((3, 0), np.int64)  # videos a and b, distance
    pending: list[NDArray[np.int64]] = []
    for pairs in chain(search.indexed_pairs(), search.compared_pairs(crowded)):
        is_link = pairs.rows != pairs.columns
        is_link &= ~declined.has(indices[pairs.rows], indices[pairs.columns])
        is_link &= are_alike(pairs.distances, colours, pairs.rows, pairs.columns)
        ends = np.sort(np.stack([pairs.rows[is_link], pairs.columns[is_link]]), axis=0)
        pending.append(np.vstack([ends, pairs.distances[is_link].astype(np.int64)]))
        if sum(part.shape[1] for part in pending) > _MAX_PENDING:
            forest = _spanning_forest(np.hstack([forest, *pending]), len(hashed))
            pending = []
    forest = _spanning_forest(np.hstack([forest, *pending]), len(hashed))
    distance = _distance_limit(forest, [(known[index] or index) for index in indices.tolist()])
    links = [
        _alike_link(indices[a], indices[b], hashed[a], hashed[b], bits)
        for a, b, bits in forest.T.tolist()
        if bits <= distance
    ]
    return links, distance, is_complete


def _spanning_forest(edges: NDArray[np.int64], n_videos: int) -> NDArray[np.int64]:
    """Return the edges int64 [3, E] of a minimum spanning forest: videos a < b, and distance."""
    edges = edges[:, np.lexsort(edges[::-1])]  # by a, b, distance
    is_first = np.ones(edges.shape[1], bool)
    is_first[1:] = (np.diff(edges[:2], axis=1) != 0).any(axis=0)
    a, b, distances = edges[:, is_first]
    weights = coo_array((distances + 1, (a, b)), shape=(n_videos, n_videos))  # 0 is no edge
    tree = minimum_spanning_tree(weights.tocsr()).tocoo()
    return np.stack([tree.row, tree.col, tree.data - 1]).astype(np.int64)


def _distance_limit(forest: NDArray[np.int64], known: Sequence[Hashable]) -> int:
    """Return the largest distance at which no group has too many present groups; or -1."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(known))}
    own = [numbers[group] for group in known]
    largest = max(_LARGEST_COUNT, int(_LARGEST_SHARE * len(numbers)))
    for limit in range(MAX_DISTANCE, -1, -1):
        a, b, _ = forest[:, forest[2] <= limit]
        ones = np.ones(len(a), np.int8)
        graph = coo_array((ones, (a, b)), shape=(len(own), len(own)))
        _, labels = connected_components(graph, directed=False)
        members = np.unique(np.stack([labels, own]), axis=1)
        if np.bincount(members[0]).max() <= largest:
            return limit
    return -1


def _alike_link(index_a: int, index_b: int, a: HashedVideo, b: HashedVideo, distance: int) -> Link:
    """Return a link with the orientation in which the frames are closer."""
    as_is, mirrored = (
        int(np.bitwise_count(hashes[:, None] ^ b.hashes).min(axis=1).sum())
        for hashes in (a.hashes, a.mirrored)
    )
    reason: Reason = "mirrored" if mirrored < as_is else "alike"
    return Link(int(index_a), int(index_b), reason, distance=distance)


def _components(links: Sequence[Link], n_videos: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the videos and the links, by index, of each component with links."""
    ends = np.array([(link.a, link.b) for link in links], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), ends.T), shape=(n_videos, n_videos))
    _, labels = connected_components(graph, directed=False)
    own_links: dict[int, list[int]] = {}
    for index, (a, _) in enumerate(ends.tolist()):
        own_links.setdefault(int(labels[a]), []).append(index)
    own_videos: dict[int, list[int]] = {}
    for video, label in enumerate(labels.tolist()):
        own_videos.setdefault(label, []).append(video)
    for label, own in own_links.items():
        yield own_videos[label], own
