"""The alias and its history in a real registry, and two processes that want to move it at once."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from pipeline import rollback
from pipeline.base.errors import PipelineError
from pipeline.params import load_params
from pipeline.promote import rules
from pipeline.promotion.champions import (
    champion_number,
    crown,
    existing_version,
    one_at_a_time,
    read_records,
)
from pipeline.promotion.history import effective, succession
from pipeline.promotion.promoting import promote
from pipeline.promotion.rollback import roll_back
from pipeline.tracking.aliases import CHAMPION
from pipeline.tracking.store import connect

REPOSITORY = Path(__file__).parents[2]
NAME = "test-classifier"
ROUNDS = 4


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store, and a folder that passes for the files of a model."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "files").mkdir()
    (folder / "files/MLmodel").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        connect().search_experiments()
        yield folder


@pytest.fixture
def versions(store, monkeypatch):
    """A model of four versions that was never promoted."""
    client = connect()
    if client.search_registered_models(f"name = '{NAME}'"):
        client.delete_registered_model(NAME)
    client.create_registered_model(NAME)
    for number in range(1, 5):
        tags = {"git.commit": f"{number:040x}"}
        client.create_model_version(NAME, (store / "files").as_uri(), tags=tags)
    monkeypatch.chdir(store)
    return client


def make_champion(number: int) -> None:
    crown(
        NAME,
        existing_version(NAME, number),
        expected=champion_number(NAME),
        action="promoted",
        reason=f"{number} is good",
    )


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


def test_a_model_that_does_not_exist_has_no_champion(store):  # noqa: ARG001
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


def test_a_version_that_was_rolled_back_is_refused_without_looking_at_a_video(versions):
    make_champion(1)
    make_champion(2)
    roll_back(NAME, reason="too slow")
    report = promote(
        NAME,
        lambda: pytest.fail("there is nothing to judge"),
        rules(load_params(REPOSITORY / "params.yaml")),
        version=2,
        again=False,
        timeout_seconds=1,
    )
    assert report.decision.outcome == "refused"
    assert report.sentence() == f"{NAME} version 2 is refused; version 1 stays champion."
    assert "was rolled back on 20" in versions.get_model_version(NAME, "2").tags["gate.reasons"]
    assert champion_number(NAME) == 1


def test_the_champion_is_not_judged_again(versions):  # noqa: ARG001
    make_champion(1)
    report = promote(
        NAME,
        lambda: pytest.fail("there is nothing to judge"),
        rules(load_params(REPOSITORY / "params.yaml")),
        version=1,
        again=False,
        timeout_seconds=1,
    )
    assert report.sentence() == f"{NAME} version 1 is champion already. Nothing to do."


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
        with one_at_a_time(NAME):
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
