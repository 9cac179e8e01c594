"""The champion and its history: as records, in a real registry, and with two processes at once."""

import multiprocessing
import os
import re
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.common.errors import PipelineError
from pipeline.registry.champions import (
    Record,
    champion_history,
    champion_number,
    history_lines,
    one_at_a_time,
    read_records,
    set_champion,
)
from pipeline.registry.promotion import roll_back
from pipeline.registry.versions import CHAMPION, existing_version
from pipeline.tracking.store import connect
from tests.registered import NAME, make_champion

ROUNDS = 4
PROMOTED = {"action": "promoted", "reason": "it is good"}

# Records


def records_of(*moves: str) -> list[Record]:
    """Records of moves such as "1>2" (promoted) and "2<3" (rolled back to 2)."""
    times = (f"2026-01-{day:02d}T00:00:00.000000Z" for day in count(1))
    records = []
    for time, move in zip(times, moves, strict=False):
        is_back = "<" in move
        left, right = (int(part) if part else None for part in move.replace("<", ">").split(">"))
        version, previous = (left, right) if is_back else (right, left)
        action = "rolled back" if is_back else "promoted"
        records.append(Record(time, action, version, previous, "c0ffee", f"why {move}"))
    return records


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
        ((">1", "1>2"), None, [1, 2]),
    ],
    ids=str,
)
def test_a_rollback_goes_back_through_the_champions(moves, champion, line):
    assert champion_history(records_of(*moves), champion).succession == line


@pytest.mark.parametrize(
    ("moves", "champion", "line"),
    [
        ((), 7, [7]),
        ((">1",), 7, [1, 7]),
        ((">1", "7>8"), 8, [1, 7, 8]),
    ],
    ids=str,
)
def test_a_champion_set_by_hand_counts(moves, champion, line):
    assert champion_history(records_of(*moves), champion).succession == line


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
def test_a_record_whose_move_did_not_happen_is_skipped(moves, champion, line):
    assert champion_history(records_of(*moves), champion).succession == line


def test_effective_records_are_those_whose_move_happened():
    records = records_of(">1", "1>2", "1>3", "1<3")
    assert champion_history(records, 1).records == [records[0], records[2], records[3]]


def test_a_version_was_rolled_back_for_a_reason():
    records = records_of(">1", "1>2", "1<2")
    assert champion_history(records, 1).rolled_back == {2: "on 2026-01-03: why 1<2"}
    assert champion_history(records, 2).rolled_back == {}  # the move back did not happen
    returned = [*records, *records_of(">", "1>2")[1:]]
    assert champion_history(returned, 2).rolled_back == {}


def test_a_rollback_over_several_champions_rolls_all_of_them_back():
    records = records_of(">1", "1>2", "2>3", "1<3")
    when_and_why = "on 2026-01-04: why 1<3"
    assert champion_history(records, 1).rolled_back == {2: when_and_why, 3: when_and_why}


# The registry


def test_records_are_read_by_time_among_other_tags(versions):
    first, second = records_of(">1", "1>2")
    for key, value in (second.to_tag(), ("owner", "us"), first.to_tag()):
        versions.set_registered_model_tag(NAME, key, value)
    assert read_records(NAME) == [first, second]


def test_a_change_of_champion_is_recorded(versions):  # noqa: ARG001
    make_champion(1)
    make_champion(2)
    first, second = read_records(NAME)
    assert (first.version, first.previous) == (1, None)
    assert (second.version, second.previous, second.action) == (2, 1, "promoted")
    assert (second.git_commit, second.reason) == (f"{2:040x}", "2 is good")
    assert first.time < second.time


def test_the_history_is_listed(versions):  # noqa: ARG001
    make_champion(1)
    make_champion(2)
    roll_back(NAME, reason="too slow")
    head, *lines = history_lines(NAME)
    assert head == f"{NAME}: version 1 is champion"
    assert [line.split("Z  ")[1] for line in lines] == [
        "version 1  promoted     commit 0000000000  after no version  1 is good",
        "version 2  promoted     commit 0000000000  after version 1   2 is good",
        "version 1  rolled back  commit 0000000000  after version 2   too slow",
    ]


def test_rollbacks_go_back_to_the_first_champion(versions):  # noqa: ARG001
    for number in (1, 2, 3):
        make_champion(number)
    record = roll_back(NAME, reason="too slow")
    assert (record.version, record.previous, record.reason) == (2, 3, "too slow")
    assert champion_number(NAME) == 2
    roll_back(NAME, reason="too slow as well")
    assert champion_number(NAME) == 1
    with pytest.raises(PipelineError, match=f"Version 1 of {NAME} is the first champion"):
        roll_back(NAME, reason="")
    make_champion(4)
    assert roll_back(NAME, reason="").version == 1


@pytest.mark.parametrize("text", ["1", f"{NAME}/1", f"models:/{NAME}/1"])
def test_a_rollback_to_a_named_version(versions, text):  # noqa: ARG001
    for number in (1, 2, 3):
        make_champion(number)
    assert roll_back(NAME, reason="", version=text).version == 1
    make_champion(2)
    with pytest.raises(PipelineError) as caught:
        roll_back(NAME, reason="", version="4")
    assert str(caught.value) == (
        f"Expected a version of {NAME} that was champion before version 2 and whose files exist. "
        "Received: 4. Other earlier champions: 1. Go back to one with: vidpipe rollback 1"
    )


def test_without_a_champion_there_is_nothing_to_roll_back_to(versions):  # noqa: ARG001
    with pytest.raises(PipelineError, match=f"nothing to roll back to. {NAME} never had a"):
        roll_back(NAME, reason="")


def test_a_model_that_does_not_exist_has_no_champion(registry):  # noqa: ARG001
    assert champion_number("other") is None
    assert read_records("other") == []


def test_a_deleted_champion_is_named_with_the_others(versions):
    for number in (1, 2, 3):
        make_champion(number)
    versions.delete_model_version(NAME, "2")
    with pytest.raises(PipelineError) as caught:
        roll_back(NAME, reason="")
    assert str(caught.value) == (
        f"Expected a version of {NAME} that was champion before version 3 and whose files exist. "
        "Received: 2. Other earlier champions: 1. Go back to one with: vidpipe rollback 1"
    )
    assert champion_number(NAME) == 3
    versions.delete_model_version(NAME, "1")
    with pytest.raises(PipelineError, match="vidpipe rollback 2"):
        roll_back(NAME, reason="", version="1")


def test_a_champion_whose_version_was_deleted_can_be_replaced(versions):
    for number in (1, 2):
        make_champion(number)
    versions.delete_model_version(NAME, "2")
    assert champion_number(NAME) is None
    assert roll_back(NAME, reason="", version="1").previous is None
    assert champion_number(NAME) == 1


def test_a_rollback_leaves_a_champion_that_was_set_by_hand(versions):
    make_champion(1)
    versions.set_registered_model_alias(NAME, CHAMPION, "3")
    assert roll_back(NAME, reason="").version == 1


def test_a_decision_against_another_champion_changes_nothing(versions):  # noqa: ARG001
    make_champion(1)
    make_champion(2)
    with pytest.raises(PipelineError) as caught:
        set_champion(NAME, existing_version(NAME, 3), expected=1, action="promoted", reason="")
    assert (
        f"expected version 1 as the champion of {NAME}. Received: version 2, because it changed "
        "while version 3 was to become champion. Nothing was changed here."
    ) in str(caught.value)
    assert champion_number(NAME) == 2
    assert len(read_records(NAME)) == 2


def test_a_long_reason_is_shortened(versions):  # noqa: ARG001
    make_champion(1)
    make_champion(2)
    roll_back(NAME, reason="x" * 9000)
    assert read_records(NAME)[-1].reason == "x" * 1000


# Two machines


@pytest.fixture
def elsewhere(monkeypatch):
    """A function that makes something happen right after the next call of a method of MLflow."""

    def after(method: str, happens) -> None:
        real = getattr(MlflowClient, method)

        def once(client, *arguments, **named):
            monkeypatch.setattr(MlflowClient, method, real)
            result = real(client, *arguments, **named)
            happens(client)
            return result

        monkeypatch.setattr(MlflowClient, method, once)

    return after


def fail(*_):
    raise MlflowException("connection reset")


def test_another_machine_that_moves_the_alias_later_wins(versions, elsewhere):  # noqa: ARG001
    make_champion(1)
    elsewhere(
        "set_registered_model_alias",
        lambda client: client.set_registered_model_alias(NAME, CHAMPION, "3"),
    )
    with pytest.raises(PipelineError, match=r"expected version 2 as the .* Received: version 3"):
        make_champion(2)
    assert champion_number(NAME) == 3
    assert [record.version for record in read_records(NAME)] == [1]


def test_a_move_that_happened_keeps_its_record_when_a_later_step_fails(
    versions, elsewhere, monkeypatch
):
    make_champion(1)
    with monkeypatch.context() as patch:
        elsewhere(
            "set_registered_model_alias",
            lambda _: patch.setattr(MlflowClient, "get_model_version_by_alias", fail),
        )
        with pytest.raises(PipelineError, match="connection reset"):
            set_champion(NAME, versions.get_model_version(NAME, "2"), expected=1, **PROMOTED)
    assert champion_number(NAME) == 2
    assert [record.version for record in champion_history(read_records(NAME), 2).records] == [1, 2]


def test_a_record_that_cannot_be_deleted_does_not_hide_the_champion(
    versions, elsewhere, monkeypatch, caplog
):
    make_champion(1)
    monkeypatch.setattr(MlflowClient, "delete_registered_model_tag", fail)
    elsewhere(
        "set_registered_model_tag",
        lambda client: client.set_registered_model_alias(NAME, CHAMPION, "3"),
    )
    with pytest.raises(PipelineError, match=r"expected version 1 as the .* Received: version 3"):
        set_champion(NAME, versions.get_model_version(NAME, "2"), expected=1, **PROMOTED)
    assert re.search(rf"Delete the tag champion\.\S+ of {NAME}: ", caplog.text)


def test_the_champion_has_the_last_record_although_another_machine_recorded_later(
    versions, elsewhere
):
    """Another machine writes a record between the record and the move."""
    make_champion(1)
    time = "2999-01-01T00:00:00.000000Z"
    other = replace(read_records(NAME)[0], time=time, version=3, previous=1)
    elsewhere(
        "set_registered_model_tag",
        lambda client: client.set_registered_model_tag(NAME, *other.to_tag()),
    )
    record = set_champion(NAME, versions.get_model_version(NAME, "2"), expected=1, **PROMOTED)
    assert (record.version, record.previous) == (2, 3)
    assert record.time == "2999-01-01T00:00:00.000001Z"
    history = champion_history(read_records(NAME), 2)
    assert history.records[-1] == record
    assert history.succession[-1] == 2


def test_a_champion_that_has_a_successor_is_not_recorded_again(versions, elsewhere):
    """Another machine promotes twice after the last comparison with the champion."""
    make_champion(1)
    last_comparison = (
        "get_model_version_by_alias",
        lambda _: [make_champion(3), make_champion(4)],
    )
    elsewhere("set_registered_model_alias", lambda _: elsewhere(*last_comparison))
    set_champion(NAME, versions.get_model_version(NAME, "2"), expected=1, **PROMOTED)
    assert champion_number(NAME) == 4
    assert [record.version for record in read_records(NAME)] == [1, 2, 3, 4]


def race(number: int, barrier, results) -> None:
    """Try, in every round at the same time as another process, to follow version 1."""
    version = existing_version(NAME, number)
    for turn in range(ROUNDS):
        barrier.wait(60)
        try:
            set_champion(NAME, version, expected=1, action="promoted", reason="race")
            results.put((turn, "won", number))
        except PipelineError:
            pass
        barrier.wait(60)
        if number == 2:  # one of the two reads the result
            champion = champion_number(NAME)
            history = champion_history(read_records(NAME), champion)
            results.put((turn, "champion", champion))
            results.put((turn, "last of the line", history.succession[-1]))
            results.put((turn, "last record", history.records[-1].version))
            connect().set_registered_model_alias(NAME, CHAMPION, "1")


def hold(folder: Path, times: int) -> None:
    """Do something that two processes must not do at once."""
    for _ in range(times):
        with one_at_a_time(NAME, "champion"):
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
            read_records(NAME)
            (folder / "inside").unlink()


def run_both(target, one, other) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=target, args=arguments) for arguments in (one, other)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]


def test_two_machines_that_promote_at_once_leave_one_champion_and_its_record(versions):  # noqa: ARG001
    """Without the lock, which does not reach another machine."""
    make_champion(1)
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.SimpleQueue()
    run_both(race, (2, barrier, queue), (3, barrier, queue))
    results = []
    while not queue.empty():
        results.append(queue.get())
    for turn in range(ROUNDS):
        winners = {number for round_, event, number in results if (round_, event) == (turn, "won")}
        after = {event: number for round_, event, number in results if round_ == turn}
        assert after["champion"] in winners
        assert after["last of the line"] == after["last record"] == after["champion"]


def test_one_process_at_a_time_is_inside_on_one_machine(versions, tmp_path):  # noqa: ARG001
    run_both(hold, (tmp_path, 5), (tmp_path, 5))
