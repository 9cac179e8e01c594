"""The alias and its history in a real registry, and two processes that want to move it at once."""

import multiprocessing
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline import rollback
from pipeline.base.errors import PipelineError
from pipeline.promotion.champions import champion_number, crown, existing_version, read_records
from pipeline.promotion.history import effective, succession, tag_key
from pipeline.promotion.locks import one_at_a_time
from pipeline.promotion.rollback import roll_back
from pipeline.tracking.aliases import CHAMPION
from pipeline.tracking.store import connect
from tests.registered import NAME, make_champion

REPOSITORY = Path(__file__).parents[2]
ROUNDS = 4
PROMOTED = {"action": "promoted", "reason": "it is good"}


def test_what_is_recorded_of_a_champion(versions):  # noqa: ARG001
    make_champion(1)
    make_champion(2)
    first, second = read_records(NAME)
    assert (first.version, first.previous) == (1, None)
    assert (second.version, second.previous, second.action) == (2, 1, "promoted")
    assert (second.git_commit, second.reason) == (f"{2:040x}", "2 is good")
    assert first.time < second.time


def test_back_and_further_back_and_no_further(versions):  # noqa: ARG001
    for number in (1, 2, 3):
        make_champion(number)
    record = roll_back(NAME, reason="too slow")
    assert (record.version, record.previous, record.reason) == (2, 3, "too slow")
    assert champion_number(NAME) == 2
    roll_back(NAME, reason="too slow as well")
    assert champion_number(NAME) == 1
    with pytest.raises(PipelineError, match=f"version 1 of {NAME} is the first champion"):
        roll_back(NAME, reason="")
    make_champion(4)
    assert roll_back(NAME, reason="").version == 1


def test_back_to_a_version_by_its_number(versions):  # noqa: ARG001
    for number in (1, 2, 3):
        make_champion(number)
    assert roll_back(NAME, reason="", version=1).version == 1
    make_champion(2)
    with pytest.raises(PipelineError) as caught:
        roll_back(NAME, reason="", version=4)
    assert str(caught.value) == (
        f"expected a version of {NAME} that was champion before version 2. Received: 4. "
        "Others that were champion: 1; go to one with: make rollback VERSION=1"
    )


def test_without_any_champion_there_is_nothing_to_roll_back_to(versions):  # noqa: ARG001
    with pytest.raises(PipelineError, match=f"nothing to roll back to, {NAME} never had a"):
        roll_back(NAME, reason="")


def test_a_model_that_does_not_exist_has_no_champion(registry):  # noqa: ARG001
    assert champion_number("other") is None
    assert read_records("other") == []


def test_a_former_champion_that_was_deleted_is_named_with_what_is_left(versions):
    for number in (1, 2, 3):
        make_champion(number)
    versions.delete_model_version(NAME, "2")
    with pytest.raises(PipelineError) as caught:
        roll_back(NAME, reason="")
    assert str(caught.value) == (
        f"{NAME} version 2 was champion before, but it was deleted, or its files were. Others "
        "that were champion: 1; go to one with: make rollback VERSION=1"
    )
    assert champion_number(NAME) == 3
    versions.delete_model_version(NAME, "1")
    with pytest.raises(PipelineError, match="VERSION=2"):
        roll_back(NAME, reason="", version=1)


def test_a_champion_whose_version_was_deleted_gives_way(versions):
    for number in (1, 2):
        make_champion(number)
    versions.delete_model_version(NAME, "2")
    assert champion_number(NAME) is None
    assert roll_back(NAME, reason="", version=1).previous is None
    assert champion_number(NAME) == 1


def test_a_champion_set_by_hand_is_what_it_is(versions):
    make_champion(1)
    versions.set_registered_model_alias(NAME, CHAMPION, "3")
    assert roll_back(NAME, reason="").version == 1


def test_a_decision_against_another_champion_changes_nothing(versions):  # noqa: ARG001
    make_champion(1)
    make_champion(2)
    with pytest.raises(PipelineError) as caught:
        crown(NAME, existing_version(NAME, 3), expected=1, action="promoted", reason="")
    assert (
        f"expected version 1 as the champion of {NAME}, found version 2: it was changed while "
        "version 3 was to become champion. Nothing was changed here."
    ) in str(caught.value)
    assert champion_number(NAME) == 2
    assert len(read_records(NAME)) == 2


def test_a_long_reason_is_cut(versions):  # noqa: ARG001
    make_champion(1)
    make_champion(2)
    roll_back(NAME, reason="x" * 9000)
    assert read_records(NAME)[-1].reason == "x" * 1000


def test_the_command_rolls_back_and_lists(versions, monkeypatch, capsys):  # noqa: ARG001
    make_champion(1)
    make_champion(2)
    params = (REPOSITORY / "params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("video-classifier", NAME))
    monkeypatch.setattr(sys, "argv", ["rollback", "--reason", "too slow"])
    rollback.main()
    assert capsys.readouterr().out == (
        f"{NAME}: version 1 is champion again, version 2 was. Reason: too slow\n"
        "A server keeps the version that it started with: start make serve and containers again.\n"
    )
    monkeypatch.setattr(sys, "argv", ["rollback", "--list"])
    rollback.main()
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{NAME}: version 1 is champion"
    assert [line.split("  ", 2)[2] for line in lines] == [
        "version 1    promoted    commit 0000000000  after no version  1 is good",
        "version 2    promoted    commit 0000000000  after version 1  2 is good",
        "version 1    rolled back commit 0000000000  after version 2  too slow",
    ]


@pytest.fixture
def elsewhere(monkeypatch):
    """A function that lets something happen right after the next call of a method of MLflow."""

    def after(method: str, happens) -> None:
        real = getattr(MlflowClient, method)

        def once(client, *arguments, **named):
            monkeypatch.setattr(MlflowClient, method, real)
            done = real(client, *arguments, **named)
            happens(client)
            return done

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
    with pytest.raises(PipelineError, match=r"expected version 2 as the champion .*, found v"):
        make_champion(2)
    assert champion_number(NAME) == 3
    assert [record.version for record in read_records(NAME)] == [1]


def test_a_move_that_came_to_pass_keeps_its_record_whatever_fails_then(
    versions, elsewhere, monkeypatch
):
    make_champion(1)
    with monkeypatch.context() as patch:
        elsewhere(
            "set_registered_model_alias",
            lambda _: patch.setattr(MlflowClient, "get_model_version_by_alias", fail),
        )
        with pytest.raises(PipelineError, match="connection reset"):
            crown(NAME, versions.get_model_version(NAME, "2"), expected=1, **PROMOTED)
    assert champion_number(NAME) == 2
    assert [record.version for record in effective(read_records(NAME), 2)] == [1, 2]


def test_a_record_that_cannot_be_taken_back_does_not_hide_who_is_champion(
    versions, elsewhere, monkeypatch, caplog
):
    make_champion(1)
    monkeypatch.setattr(MlflowClient, "delete_registered_model_tag", fail)
    elsewhere(
        "set_registered_model_tag",
        lambda client: client.set_registered_model_alias(NAME, CHAMPION, "3"),
    )
    with pytest.raises(PipelineError, match=r"expected version 1 as the champion .*, found v"):
        crown(NAME, versions.get_model_version(NAME, "2"), expected=1, **PROMOTED)
    assert re.search(rf"The tag champion\.\S+ of {NAME} should be deleted: ", caplog.text)


def test_the_champion_is_recorded_last_although_another_record_came_after_its_own(
    versions, elsewhere
):
    """Another machine writes a record between the record and the move."""
    make_champion(1)
    time = "2999-01-01T00:00:00.000000Z"
    other = replace(read_records(NAME)[0], time=time, version=3, previous=1)
    elsewhere(
        "set_registered_model_tag",
        lambda client: client.set_registered_model_tag(
            NAME, tag_key(other, "aaaaaaaa"), other.to_json()
        ),
    )
    record = crown(NAME, versions.get_model_version(NAME, "2"), expected=1, **PROMOTED)
    assert (record.version, record.previous) == (2, 3)
    assert record.time == "2999-01-01T00:00:00.000001Z"
    records = read_records(NAME)
    assert effective(records, 2)[-1] == record
    assert succession(records, 2)[-1] == 2


def test_a_champion_that_has_successors_already_is_not_recorded_again(versions, elsewhere):
    """Another machine promotes twice after the last look at the champion."""
    make_champion(1)
    last_look = ("get_model_version_by_alias", lambda _: [make_champion(3), make_champion(4)])
    elsewhere("set_registered_model_alias", lambda _: elsewhere(*last_look))
    crown(NAME, versions.get_model_version(NAME, "2"), expected=1, **PROMOTED)
    assert champion_number(NAME) == 4
    assert [record.version for record in read_records(NAME)] == [1, 2, 3, 4]


def race(number: int, barrier, results) -> None:
    """Try, in every round at the same time as another process, to follow version 1."""
    version = existing_version(NAME, number)
    for turn in range(ROUNDS):
        barrier.wait(60)
        try:
            crown(NAME, version, expected=1, action="promoted", reason="race")
            results.put((turn, "won", number))
        except PipelineError:
            pass
        barrier.wait(60)
        if number == 2:  # one of the two looks at what came of it
            champion = champion_number(NAME)
            records = read_records(NAME)
            results.put((turn, "champion", champion))
            results.put((turn, "last of the line", succession(records, champion)[-1]))
            results.put((turn, "last record", effective(records, champion)[-1].version))
            connect().set_registered_model_alias(NAME, CHAMPION, "1")


def hold(folder: Path, times: int) -> None:
    """Do something that must not be done by two at once."""
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
    barrier, results = context.Barrier(2), context.SimpleQueue()
    run_both(race, (2, barrier, results), (3, barrier, results))
    told = []
    while not results.empty():
        told.append(results.get())
    for turn in range(ROUNDS):
        winners = {number for round_, what, number in told if (round_, what) == (turn, "won")}
        found = {what: number for round_, what, number in told if round_ == turn and what != "won"}
        assert found["champion"] in winners
        assert found["last of the line"] == found["last record"] == found["champion"]


def test_on_one_machine_only_one_is_inside(versions, tmp_path):  # noqa: ARG001
    run_both(hold, (tmp_path, 5), (tmp_path, 5))
