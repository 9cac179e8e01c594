"""Who a rollback goes back to, from records made by hand."""

from itertools import count

import pytest

from pipeline.promotion.history import Record, effective, records_in, rolled_back, succession


def story(*moves: str) -> list[Record]:
    """Records of moves such as "1>2" (promoted) and "2<3" (rolled back to 2)."""
    times = (f"2026-01-{day:02d}T00:00:00.000000Z" for day in count(1))
    found = []
    for time, move in zip(times, moves, strict=False):
        is_back = "<" in move
        left, right = (int(part) if part else None for part in move.replace("<", ">").split(">"))
        version, previous = (left, right) if is_back else (right, left)
        action = "rolled back" if is_back else "promoted"
        found.append(Record(time, action, version, previous, "c0ffee", f"why {move}"))
    return found


@pytest.mark.parametrize(
    ("moves", "champion", "line"),
    [
        ((), None, []),
        ((">1",), 1, [1]),
        ((">1", "1>2", "2>3"), 3, [1, 2, 3]),
        ((">1", "1>2", "2>3", "2<3"), 2, [1, 2]),
        ((">1", "1>2", "2>3", "2<3", "1<2"), 1, [1]),
        ((">1", "1>2", "1<2", "1>3"), 3, [1, 3]),
        ((">1", "1>2", "2>3", "1<3"), 1, [1]),  # further back at once
        ((">1", "1>2", "2>1"), 1, [1, 2, 1]),
    ],
    ids=str,
)
def test_a_rollback_walks_back_through_the_champions(moves, champion, line):
    assert succession(story(*moves), champion) == line


@pytest.mark.parametrize(
    ("moves", "champion", "line"),
    [
        ((), 7, [7]),
        ((">1",), 7, [1, 7]),
        ((">1", "7>8"), 8, [1, 7, 8]),
    ],
    ids=str,
)
def test_a_champion_set_by_hand_is_in_the_line(moves, champion, line):
    assert succession(story(*moves), champion) == line


@pytest.mark.parametrize(
    ("moves", "champion", "line"),
    [
        ((">1",), None, []),
        ((">1", "1>2"), 1, [1]),
        ((">1", "1>2", "1>3"), 3, [1, 3]),
        ((">1", "1>2", "1>3", "1>4"), 1, [1]),
        ((">1", "1>2", "1<2"), 2, [1, 2]),
        ((">1", "1>2", "2>3", "2<3", "2<3"), 2, [1, 2]),
    ],
    ids=str,
)
def test_a_record_whose_move_never_came_is_passed_over(moves, champion, line):
    assert succession(story(*moves), champion) == line


def test_without_a_champion_the_line_ends_with_the_last_one():
    assert succession(story(">1", "1>2"), None) == [1, 2]


def test_what_came_to_pass():
    records = story(">1", "1>2", "1>3", "1<3")
    assert effective(records, 1) == [records[0], records[2], records[3]]


def test_a_version_knows_why_it_was_rolled_back():
    records = story(">1", "1>2", "1<2")
    assert rolled_back(records, 1, 2) == "on 2026-01-03: why 1<2"
    assert rolled_back(records, 1, 1) == ""
    assert rolled_back(records, 2, 2) == ""  # the move back did not come to pass
    assert rolled_back([*records, *story(">", "1>2")[1:]], 2, 2) == ""  # it came back


def test_a_rollback_over_several_champions_rolls_all_of_them_back():
    records = story(">1", "1>2", "2>3", "1<3")
    assert [rolled_back(records, 1, version) for version in (1, 2, 3)] == [
        "",
        "on 2026-01-04: why 1<3",
        "on 2026-01-04: why 1<3",
    ]


def test_records_are_read_by_time_and_other_tags_are_left_alone():
    first, second = story(">1", "1>2")
    tags = {
        f"champion.{second.time}.aaaaaaaa": second.to_json(),
        "owner": "us",
        f"champion.{first.time}.ffffffff": first.to_json(),
    }
    assert records_in(tags) == [first, second]
