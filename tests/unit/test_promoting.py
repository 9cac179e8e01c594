"""Promotions in a real registry, with predictions made by hand in place of models and videos."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import promote as command
from pipeline.base.errors import PipelineError
from pipeline.base.files import write_json
from pipeline.base.paths import PROMOTION
from pipeline.evaluation.predictions import Predictions
from pipeline.params import load_params
from pipeline.promotion import promoting
from pipeline.promotion.champions import champion_number, read_records
from pipeline.promotion.contender import Contender
from pipeline.promotion.promoting import promote
from pipeline.promotion.report import Report
from pipeline.promotion.rollback import roll_back
from pipeline.tracking.store import connect
from tests.registered import NAME, make_champion

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
LABELS = np.repeat([0, 1], 10)
PREDICTIONS = Predictions(
    videos=tuple(f"{number:02d}.mp4" for number in range(20)),
    groups=("",) * 20,
    labels=LABELS,
    probabilities=np.eye(2)[LABELS],
    class_names=("left", "right"),
)


@pytest.fixture
def judged(versions, monkeypatch):  # noqa: ARG001
    """A function that lets every version be right about everything, and something happen then."""

    def judged(meanwhile=lambda: None):
        def gather(sides, *_, **__):
            meanwhile()
            return [Contender(int(side.version), PREDICTIONS, np.ones(20)) for side in sides]

        monkeypatch.setattr(promoting, "gather", gather)

    return judged


def try_to_promote(version: int, **options) -> Report:
    """Judge by what ``judged`` set; without it, judging is an error."""
    settings = {"again": False, "timeout_seconds": 1, "version": version}
    return promote(NAME, list, command.rules(PARAMS), **settings | options)


def outcome_on(version: int) -> str | None:
    return connect().get_model_version(NAME, str(version)).tags.get("gate.outcome")


def never() -> None:
    pytest.fail("there is nothing to judge")


def test_a_promotion_is_on_the_version_and_in_the_history(judged):
    judged()
    assert try_to_promote(1).decision.outcome == "first champion"
    report = try_to_promote(2)
    assert report.decision.outcome == outcome_on(2) == "promoted"
    assert report.lines()[-1].startswith("A server keeps the version that it started with")
    assert [record.version for record in read_records(NAME)] == [1, 2]


def test_to_judge_only_leaves_the_champion_as_it_is(judged):
    judged()
    make_champion(1)
    report = try_to_promote(2, judge_only=True)
    assert report.decision.outcome == outcome_on(2) == "passed"
    assert champion_number(NAME) == 1


def test_the_rules_that_a_version_was_judged_by_are_on_it(judged):
    judged()
    try_to_promote(1, judge_only=True)
    rules = command.rules(PARAMS)
    assert connect().get_model_version(NAME, "1").tags["gate.rules"] == rules.digest
    assert replace(rules, class_floor=0.1).digest != rules.digest


def test_a_promotion_that_ends_before_the_alias_moves_has_left_its_reasons(judged, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    judged()
    make_champion(1)
    monkeypatch.setattr(promoting, "crown", killed)
    with pytest.raises(KeyboardInterrupt):
        try_to_promote(2)
    tags = connect().get_model_version(NAME, "2").tags
    assert (tags["gate.outcome"], tags["gate.champion"], tags["gate.gain"]) == ("passed", "1", "0")


def test_a_rollback_does_not_wait_for_a_promotion_that_judges(judged):
    def goes_back():
        thread = threading.Thread(target=roll_back, args=(NAME,), kwargs={"reason": "slow"})
        thread.daemon = True
        thread.start()
        thread.join(60)
        assert not thread.is_alive()

    make_champion(1)
    make_champion(2)
    judged(goes_back)
    with pytest.raises(PipelineError, match=r"expected version 2 as the champion .*, found v"):
        try_to_promote(3)
    assert champion_number(NAME) == 1
    assert outcome_on(3) == "passed"


def test_a_version_that_was_rolled_back_is_refused_without_looking_at_a_video(judged):
    judged(never)
    make_champion(1)
    make_champion(2)
    roll_back(NAME, reason="too slow")
    report = try_to_promote(2)
    assert report.decision.outcome == outcome_on(2) == "refused"
    assert report.decision.reasons[0].startswith("Version 2 was champion and was rolled back on 20")
    assert champion_number(NAME) == 1
    judged()
    assert try_to_promote(2, again=True).decision.outcome == "promoted"


def test_the_champion_is_not_judged_again(judged):
    judged(never)
    make_champion(1)
    report = try_to_promote(1)
    assert report.sentence() == f"{NAME} version 1 is champion already. Nothing to do."


@pytest.fixture
def lost(versions, registry):
    """The number of a version whose files are gone."""
    (registry / "gone").mkdir(exist_ok=True)
    return int(versions.create_model_version(NAME, (registry / "gone").as_uri()).version)


def test_a_champion_whose_files_are_gone_is_an_error_with_a_way_out(judged, versions, lost):
    judged(never)
    versions.set_registered_model_alias(NAME, "champion", str(lost))
    with pytest.raises(PipelineError) as caught:
        try_to_promote(2)
    message = (
        f"version {lost} of {NAME} is champion, but its files are gone, so nothing can be "
        "compared with it. Bring them back, or "
    )
    assert str(caught.value).endswith(f"{message}take the alias champion from it: make ui")
    versions.set_registered_model_alias(NAME, "champion", "1")
    make_champion(2)
    versions.set_registered_model_alias(NAME, "champion", str(lost))
    with pytest.raises(PipelineError) as caught:
        try_to_promote(3)
    assert str(caught.value).endswith(
        f"{message}go back to the champion before with: make rollback"
    )
    assert roll_back(NAME, reason="").version == 2


def test_a_challenger_whose_files_are_gone_is_not_there(judged, versions, lost):
    judged(never)
    versions.set_registered_model_alias(NAME, "challenger", str(lost))
    with pytest.raises(PipelineError, match="expected a version with the alias challenger of"):
        try_to_promote(None)


def test_what_is_told_of_another_model_is_told_anew(judged):
    judged(never)
    make_champion(1)
    report = try_to_promote(1)
    told = {"name": NAME, "challenger": {"version": 1}, "outcome": "promoted"}
    for known, is_told in ((told, True), (told | {"name": "other"}, False)):
        write_json(PROMOTION, known)
        assert command._is_told_already(report) is is_told
