"""Every split has every stratum whenever the groups allow it."""

import random
import statistics
import time
from collections import Counter
from itertools import product

import pytest

from pipeline.dataset.stratification import Groups, NoSplitError, divide_groups

SHARES = {"test": 0.15, "val": 0.10}


def divide(videos, seed=0):
    """Return the split of each group of videos, which are pairs of a group and its strata."""
    groups = Groups.count([group for group, _ in videos], [strata for _, strata in videos])
    splits = divide_groups(groups, SHARES, rest="train", seed=seed)
    assert splits.keys() == groups.videos.keys()
    for members in groups.strata.values():
        assert {splits[group] for group in members} == {"train", "val", "test"}
    return splits


def shares(videos, splits):
    counts = Counter(splits[group] for group, _ in videos)
    return [counts[split] / len(videos) for split in SHARES]


def classes(n_classes, n_groups, n_videos=1):
    """Videos of groups that have one class each."""
    return [
        (f"{label}/{group}", (str(label),))
        for label, group, _ in product(range(n_classes), range(n_groups), range(n_videos))
    ]


def people(seed, *, n_videos=97, n_people=16, n_classes=6, least=1, most=6):
    """Videos of people who do several of the classes each, some of them more often."""
    draw = random.Random(seed)
    repertoire = [draw.sample(range(n_classes), draw.randint(least, most)) for _ in range(n_people)]
    weights = [draw.random() for _ in range(n_people)]
    everyone = [*range(n_people), *draw.choices(range(n_people), weights, k=n_videos - n_people)]
    return [(f"person {one}", (str(draw.choice(repertoire[one])),)) for one in everyone]


@pytest.mark.parametrize(
    ("n_classes", "n_groups"), [(101, 25), (1000, 20), (10, 20), (2, 3), (1, 400)]
)
@pytest.mark.parametrize("seed", range(3))
def test_groups_of_one_class_give_the_shares(n_classes, n_groups, seed):
    videos = classes(n_classes, n_groups)
    expected = [1 / 3, 1 / 3] if n_groups == 3 else list(SHARES.values())
    assert shares(videos, divide(videos, seed)) == pytest.approx(expected, abs=0.02)


def test_each_class_has_its_share():
    splits = divide(classes(50, 40))
    counts = Counter((group.split("/")[0], split) for group, split in splits.items())
    assert {counts[str(label), "test"] for label in range(50)} == {6}
    assert {counts[str(label), "val"] for label in range(50)} == {4}


def can_be_divided(videos):
    """Try all divisions among three splits."""
    names = sorted({group for group, _ in videos})
    bits = {group: 1 << number for number, group in enumerate(names)}
    strata = {}
    for group, own in videos:
        for stratum in own:
            strata[stratum] = strata.get(stratum, 0) | bits[group]
    everything = (1 << len(names)) - 1

    def has_all(chosen):
        return all(chosen & members for members in strata.values())

    sufficient = [chosen for chosen in range(1 << len(names)) if has_all(chosen)]
    smallest = [
        chosen
        for chosen in sufficient
        if not any(chosen & bit and has_all(chosen ^ bit) for bit in bits.values())
    ]
    return any(
        not test & val and has_all(everything ^ test ^ val) for test in smallest for val in smallest
    )


def test_a_division_is_found_if_and_only_if_there_is_one():
    outcomes = Counter()
    for seed in range(60):
        videos = people(seed, n_videos=30, n_people=9, n_classes=4, most=4)
        is_possible = can_be_divided(videos)
        outcomes[is_possible] += 1
        if is_possible:
            divide(videos, seed)
        else:
            with pytest.raises(NoSplitError) as error:
                divide(videos, seed)
            assert error.value.is_proven
            assert error.value.missing
    assert min(outcomes.values()) >= 10, outcomes


@pytest.mark.parametrize("seed", range(8))
def test_people_who_do_several_classes(seed):
    videos = people(seed)
    assert can_be_divided(videos)
    test, val = shares(videos, divide(videos, seed))
    assert 0.08 <= test <= 0.25
    assert 0.05 <= val <= 0.20


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_hold_every_class(seed):
    videos = [(f"person {n % 20}", (str(n // 20 % 6),)) for n in range(480)]
    test, val = shares(videos, divide(videos, seed))
    assert test == pytest.approx(0.15, abs=0.031)
    assert val == pytest.approx(0.10, abs=0.021)


def test_a_video_may_have_several_strata_or_none():
    draw = random.Random(0)
    labels = "abcdefgh"
    videos = [(str(n), tuple(draw.sample(labels, draw.randint(0, 3)))) for n in range(400)]
    splits = divide(videos)
    assert shares(videos, splits) == pytest.approx(list(SHARES.values()), abs=0.03)
    without = [splits[group] for group, own in videos if not own]
    assert without.count("test") / len(without) == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_one_large_group_does_not_distort_the_shares(seed):
    videos = [("crowd", (label,)) for label in "ab" * 60]
    videos += [(f"{label}{n}", (label,)) for label in "ab" for n in range(60)]
    assert divide(videos, seed)["crowd"] == "train"
    assert shares(videos, divide(videos, seed)) == pytest.approx(list(SHARES.values()), abs=0.03)


def test_equal_groups_and_seeds_give_equal_splits_in_any_order():
    videos = people(3)
    assert divide(videos) == divide(videos[::-1])
    assert divide(classes(10, 20)) == divide(classes(10, 20)[::-1])
    assert divide(classes(10, 20), 0) != divide(classes(10, 20), 1)


@pytest.mark.parametrize(
    ("make", "most_moved"),
    [
        (lambda seed: classes(101, 25), 0.01),  # noqa: ARG005
        (lambda seed: [(str(n), ("all",)) for n in range(2000)], 0.01),  # noqa: ARG005
        (lambda seed: people(seed, n_videos=3000, n_people=1500, n_classes=10, most=3), 0.02),
    ],
)
def test_one_percent_of_new_videos_moves_few_groups(make, most_moved):
    for seed in range(4):
        videos = make(seed)
        random.Random(seed).shuffle(videos)
        groups = list(dict.fromkeys(group for group, _ in videos))
        old = set(groups[len(groups) // 100 :])
        before = divide([video for video in videos if video[0] in old], seed)
        after = divide(videos, seed)
        assert sum(after[group] != before[group] for group in old) <= most_moved * len(old)


def test_a_new_video_moves_few_people():
    moved = []
    for seed in range(12):
        videos = people(seed, least=3)
        before, after = divide(videos[:-1], seed), divide(videos, seed)
        moved.append(sum(after[group] != before[group] for group in before))
    assert sum(moved) / len(moved) <= 2
    assert sorted(moved)[len(moved) // 2] == 0


@pytest.mark.long
def test_any_single_new_video_moves_few_others():
    moved = []
    for seed in (*range(8), *range(9, 13)):  # the people of seed 8 cannot be divided
        videos = people(seed)
        before = divide(videos, seed)
        for new in product(before, [(str(label),) for label in range(6)]):
            after = divide([*videos, new], seed)
            moved.append(sum(after[group] != before[group] for group, _ in videos))
    assert statistics.median(moved) == 0
    assert statistics.mean(moved) <= 5


@pytest.mark.parametrize("seed", range(4))
def test_one_percent_of_new_videos_moves_few_of_people_who_do_everything(seed):
    draw = random.Random(seed)
    videos = [(f"{draw.randrange(290)}", (f"{draw.randrange(20)}",)) for _ in range(3000)]
    people_of_new = [*(f"new {n}" for n in range(15)), *(f"{n}" for n in range(15))]
    new = [(one, (f"{draw.randrange(20)}",)) for one in people_of_new]
    before, after = divide(videos, seed), divide(videos + new, seed)
    assert sum(after[group] != before[group] for group, _ in videos) <= 0.02 * len(videos)


def test_many_groups_take_seconds():
    videos = people(0, n_videos=40_000, n_people=20_000, n_classes=500, most=3)
    start = time.perf_counter()
    divide(videos)
    assert time.perf_counter() - start < 20  # 1 s on a machine with nothing else to do
