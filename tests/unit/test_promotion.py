"""Promotions in a real registry, with predictions made by hand in place of models and videos."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json
from pipeline.common.paths import PROMOTION, PROMOTION_REPORT
from pipeline.evaluation.predictions import Predictions
from pipeline.params import parse_params
from pipeline.registry.champions import champion_number, read_records
from pipeline.registry.contenders import Contender
from pipeline.registry.evidence import UnusableVersionError
from pipeline.registry.gate_report import GateReport
from pipeline.registry.promotion import gate_rules, promote, roll_back
from pipeline.registry.versions import version_uri
from pipeline.tasks.classification import Classification
from pipeline.tracking.store import connect
from tests.registered import NAME, make_champion

PARAMS = parse_params({"data": {"videos": "videos"}, "register": {"name": NAME}})
LABELS = np.repeat([0, 1], 10)
CLASSES = ("left", "right")
PREDICTIONS = Predictions(
    videos=tuple(f"{number:02d}.mp4" for number in range(20)),
    groups=("",) * 20,
    targets=tuple(CLASSES[label] for label in LABELS),
    outputs=np.eye(2)[LABELS],
    task=Classification(CLASSES, target_accuracy=0.9),
)


def all_right(versions):
    return [Contender(int(version.version), PREDICTIONS, np.ones(20)) for version in versions]


def never(_):
    pytest.fail("there is nothing to judge")


def try_to_promote(version: int | None, judge=all_right, **options) -> GateReport:
    text = None if version is None else str(version)
    return promote(PARAMS, version=text, judge=judge, **options)


def tags_of(version: int) -> dict[str, str]:
    return connect().get_model_version(NAME, str(version)).tags


@pytest.fixture(autouse=True)
def _no_report(versions):  # noqa: ARG001
    PROMOTION.unlink(missing_ok=True)


def test_a_promotion_is_recorded_on_the_version_and_in_the_history():
    assert try_to_promote(1).decision.outcome == "first champion"
    report = try_to_promote(2)
    assert report.decision.outcome == tags_of(2)["gate.outcome"] == "promoted"
    assert report.lines()[-1].startswith("A server keeps the version that it started with")
    assert [record.version for record in read_records(NAME)] == [1, 2]


def test_a_dry_run_leaves_the_champion():
    make_champion(1)
    report = try_to_promote(2, dry_run=True)
    assert report.decision.outcome == tags_of(2)["gate.outcome"] == "passed"
    assert champion_number(NAME) == 1


def test_the_digest_of_the_rules_is_on_the_version():
    try_to_promote(1, dry_run=True)
    assert tags_of(1)["gate.rules"] == gate_rules(PARAMS).digest


def test_a_promotion_that_ends_before_the_alias_moves_leaves_its_reasons(monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    make_champion(1)
    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", killed)
    with pytest.raises(KeyboardInterrupt):
        try_to_promote(2)
    tags = tags_of(2)
    assert (tags["gate.outcome"], tags["gate.champion"], tags["gate.gain"]) == ("passed", "1", "0")
    assert "gate.rules" not in tags


def test_a_rollback_does_not_wait_for_a_promotion_that_judges():
    def goes_back(versions):
        thread = threading.Thread(target=roll_back, args=(NAME,), kwargs={"reason": "slow"})
        thread.daemon = True
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        return all_right(versions)

    make_champion(1)
    make_champion(2)
    with pytest.raises(PipelineError, match=r"expected version 2 as the .* Received: version 1"):
        try_to_promote(3, goes_back)
    assert champion_number(NAME) == 1
    assert tags_of(3)["gate.outcome"] == "passed"


def test_a_version_that_was_rolled_back_is_refused_without_reading_a_video():
    make_champion(1)
    make_champion(2)
    roll_back(NAME, reason="too slow")
    report = try_to_promote(2, never)
    assert report.decision.outcome == tags_of(2)["gate.outcome"] == "refused"
    (reason,) = report.decision.reasons
    assert reason.startswith("Version 2 was champion and was rolled back on 20")
    assert reason.endswith(": too slow. Judge it anyway with: vidpipe promote 2 --again")
    assert champion_number(NAME) == 1
    assert try_to_promote(2, again=True).decision.outcome == "promoted"


@pytest.fixture
def same_model_with_other_code(versions, registry) -> int:
    """The number of a version with the weights and metadata of version 2."""
    tags = {"model.sha256": f"{2:064x}"}
    version = versions.create_model_version(NAME, (registry / "files").as_uri(), tags=tags)
    return int(version.version)


@pytest.mark.parametrize("how", ["promoted", "promoted, then deleted", "by hand"])
def test_a_model_that_was_rolled_back_is_refused_under_another_number(
    versions, same_model_with_other_code, how
):
    make_champion(1)
    if how == "by hand":
        versions.set_registered_model_alias(NAME, "champion", "2")
    else:
        make_champion(2)
    roll_back(NAME, reason="too slow")
    if how == "promoted, then deleted":
        versions.delete_model_version(NAME, "2")
    number = same_model_with_other_code
    (reason,) = try_to_promote(number, never).decision.reasons
    assert reason.startswith(
        f"Version {number} has the weights and metadata of version 2, which was champion and was "
        "rolled back on 20"
    )
    assert reason.endswith(f"vidpipe promote {number} --again")
    assert try_to_promote(3).decision.outcome == "promoted"


def test_a_model_that_is_champion_again_is_not_refused_under_its_old_number(
    same_model_with_other_code,
):
    make_champion(1)
    make_champion(2)
    roll_back(NAME, reason="too slow")
    assert try_to_promote(same_model_with_other_code, again=True).decision.outcome == "promoted"
    assert try_to_promote(2).decision.outcome == "promoted"


def test_the_champion_is_not_judged_again():
    make_champion(1)
    report = try_to_promote(1, never)
    assert report.sentence() == f"{NAME} version 1 is champion already. Nothing to do."


def with_mistakes(mistakes: dict[int, int], asked: list[list[int]]):
    """A judge of 400 videos: version -> number of its mistakes; records whom it was asked about."""
    labels = np.repeat([0, 1], 200)
    many = replace(
        PREDICTIONS,
        videos=tuple(f"{number:03d}.mp4" for number in range(400)),
        groups=("",) * 400,
        targets=tuple(CLASSES[label] for label in labels),
        outputs=np.eye(2)[labels],
    )

    def judge(versions):
        numbers = [int(version.version) for version in versions]
        asked.append(numbers)
        contenders = []
        for number in numbers:
            outputs = many.outputs.copy()
            outputs[: mistakes[number]] = outputs[: mistakes[number], ::-1]
            one = Contender(number, replace(many, outputs=outputs), np.ones(400))
            contenders.append(one)
        return contenders

    return judge


def test_small_losses_of_a_series_of_promotions_do_not_add_up():
    """Each version loses 1 or 2 of 400 videos to the one before, which min_gain permits."""
    asked: list[list[int]] = []
    judge = with_mistakes({1: 0, 2: 1, 3: 2, 4: 4}, asked)
    reports = [try_to_promote(number, judge) for number in (1, 2, 3)]
    assert [report.decision.outcome for report in reports] == [
        "first champion", "promoted", "promoted",
    ]  # fmt: skip
    last = try_to_promote(4, judge)
    assert last.decision.outcome == "refused"
    assert last.decision.gain.low > -0.02 > last.decision.gain_over_best.low
    (reason,) = last.decision.reasons
    assert "(version 1, the best of its line)" in reason
    assert asked == [[1], [1, 2], [1, 2, 3], [1, 3, 4]]
    assert read_json(PROMOTION)["gain_over_best"]["version"] == 1


def test_the_best_champion_changes_with_a_better_one_and_with_a_rollback():
    asked: list[list[int]] = []
    judge = with_mistakes({1: 4, 2: 5, 3: 3, 4: 4}, asked)
    for number in (1, 2, 3, 4):
        assert try_to_promote(number, judge).decision.outcome != "refused"
    roll_back(NAME, reason="too slow", version="2")
    try_to_promote(4, judge, again=True)
    assert asked == [[1], [1, 2], [1, 2, 3], [3, 4], [1, 2, 4]]


def test_without_the_files_of_the_best_champion_only_the_champion_is_compared_with(versions):
    asked: list[list[int]] = []
    judge = with_mistakes({1: 0, 2: 2, 3: 4}, asked)
    for number in (1, 2):
        try_to_promote(number, judge)
    versions.delete_model_version(NAME, "1")
    report = try_to_promote(3, judge)
    assert asked[-1] == [2, 3]
    assert report.decision.notes[-1].startswith("Version 1 was the best champion of this line")


def broken(version: int, judge):
    """A judge for whom this version cannot be loaded."""

    def judge_others(versions):
        for one in versions:
            if int(one.version) == version:
                uri = version_uri(one)
                raise UnusableVersionError(uri, f"{uri} cannot be loaded: no layer X.")
        return judge(versions)

    return judge_others


def test_a_best_champion_that_cannot_be_loaded_is_not_compared_with():
    asked: list[list[int]] = []
    judge = with_mistakes({1: 0, 2: 2, 3: 4}, asked)
    for number in (1, 2):
        try_to_promote(number, judge)
    report = try_to_promote(3, broken(1, judge))
    assert asked[-1] == [2, 3]
    assert report.decision.outcome == "promoted"
    assert report.decision.gain_over_best is None
    assert report.decision.notes[-1] == (
        "Version 1 was the best champion of this line, and it is unusable "
        f"(models:/{NAME}/1 cannot be loaded: no layer X.): the challenger is compared with the "
        "champion only."
    )
    assert "cannot be loaded: no layer X." in PROMOTION_REPORT.read_text()


@pytest.mark.parametrize("number", [2, 3])
def test_a_champion_or_challenger_that_cannot_be_loaded_is_an_error(number):
    judge = with_mistakes({1: 0, 2: 2, 3: 4}, [])
    for earlier in (1, 2):
        try_to_promote(earlier, judge)
    with pytest.raises(PipelineError, match=f"models:/{NAME}/{number} cannot be loaded"):
        try_to_promote(3, broken(number, judge))
    assert champion_number(NAME) == 2


@pytest.fixture
def lost(versions, registry):
    """The number of a version whose files are gone."""
    (registry / "gone").mkdir(exist_ok=True)
    return int(versions.create_model_version(NAME, (registry / "gone").as_uri()).version)


def test_a_champion_without_files_is_an_error_with_a_remedy(versions, lost):
    versions.set_registered_model_alias(NAME, "champion", str(lost))
    with pytest.raises(PipelineError) as caught:
        try_to_promote(2, never)
    message = (
        f"version {lost} of {NAME} is champion, but its files are gone, so nothing can be "
        "compared with it. Restore them, or "
    )
    assert str(caught.value).endswith(f"{message}remove the alias champion from it with: make ui")
    versions.set_registered_model_alias(NAME, "champion", "1")
    make_champion(2)
    versions.set_registered_model_alias(NAME, "champion", str(lost))
    with pytest.raises(PipelineError) as caught:
        try_to_promote(3, never)
    assert str(caught.value).endswith(
        f"{message}go back to the champion before with: vidpipe rollback"
    )
    assert roll_back(NAME, reason="").version == 2


def test_a_challenger_without_files_does_not_exist(versions, lost):
    versions.set_registered_model_alias(NAME, "challenger", str(lost))
    with pytest.raises(PipelineError, match="has no version @challenger, or its files were"):
        try_to_promote(None, never)


def test_a_limit_that_the_task_does_not_have_is_an_error():
    section = PARAMS.promote.model_copy(update={"limits": {"height": 1}})
    with pytest.raises(PipelineError, match=r"promote\.limits\.height"):
        promote(PARAMS.model_copy(update={"promote": section}), judge=never)


# The report


def test_the_report_has_findings_changed_videos_and_tables():
    outputs = PREDICTIONS.outputs.copy()
    outputs[0] = outputs[0, ::-1]
    make_champion(1)

    def one_wrong(versions):
        champion, challenger = all_right(versions)
        return [replace(champion, predictions=replace(PREDICTIONS, outputs=outputs)), challenger]

    report = try_to_promote(2, one_wrong)
    content = read_json(PROMOTION)
    assert content["outcome"] == "promoted"
    assert content["gain"]["fixed"] == ["00.mp4"]
    assert {finding["name"]: finding["status"] for finding in content["findings"]} == dict.fromkeys(
        ["lineage", "class_recall", "calibration_error", "latency", "reading", "gain", "groups"],
        "ok",
    )
    assert content["latency_ms"] == {"1": 1.0, "2": 1.0}
    assert content["left_out"]["1"] == {"seen": 0, "unreadable": 0}
    text = PROMOTION_REPORT.read_text()
    assert text == report.markdown()
    assert text.startswith(f"# {NAME} version 2 is promoted: it replaces version 1 as champion.\n")
    assert "| passed | latency | The median latency of a video is 1 ms" in text
    assert "## Became right: 1\n\n- `00.mp4`" in text
    assert "## Each class against all others, version 1" in text


def test_names_do_not_become_markdown_or_break_a_line_of_the_report():
    video, label = "!`a`|\n# <b>.mp4", "[x](y)|<html>\u202e"
    named = replace(
        PREDICTIONS,
        videos=(video, *PREDICTIONS.videos[1:]),
        targets=tuple(label if target == "left" else target for target in PREDICTIONS.targets),
        task=Classification((label, "right"), target_accuracy=0.9),
    )
    outputs = named.outputs.copy()
    outputs[0] = outputs[0, ::-1]
    make_champion(1)
    report = try_to_promote(
        2,
        lambda versions: [
            replace(contender, predictions=predictions)
            for contender, predictions in zip(
                all_right(versions), (replace(named, outputs=outputs), named), strict=True
            )
        ],
    )
    text = report.markdown()
    assert text.splitlines() == text.split("\n")[:-1]
    assert "\n- `!'a'¦ # <b>.mp4`\n" in text
    assert "\n| \\[x\\](y)\\|\\<html\\>\\\\u202e | " in text
    assert "| class | precision | recall | f1 | average\\_precision | support |" in text
    assert all("\n" not in line for line in report.lines())


def test_a_report_of_how_the_champion_was_promoted_is_kept():
    try_to_promote(1)
    try_to_promote(1, never)
    assert read_json(PROMOTION)["outcome"] == "first champion"
    make_champion(2)
    try_to_promote(2, never)
    assert read_json(PROMOTION)["outcome"] == "already champion"


def test_a_long_list_of_videos_is_shortened():
    make_champion(1)

    def all_wrong(versions):
        champion, challenger = all_right(versions)
        wrong = replace(PREDICTIONS, outputs=1 - PREDICTIONS.outputs)
        more = replace(wrong, videos=tuple(f"x{name}" for name in wrong.videos))
        double = replace(
            wrong,
            videos=wrong.videos + more.videos,
            groups=wrong.groups * 2,
            targets=wrong.targets * 2,
            outputs=np.concatenate([wrong.outputs] * 2),
        )
        right = replace(double, outputs=1 - double.outputs)
        return [replace(champion, predictions=double), replace(challenger, predictions=right)]

    text = try_to_promote(2, all_wrong).markdown()
    assert "## Became right: 40" in text
    assert "- `19.mp4` and 20 more" in text


def test_a_version_of_another_task_is_refused():
    client = connect()
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "task.type", "frames")
    source = client.get_model_version(NAME, "1").source
    client.create_model_version(NAME, source, run_id=run_id)
    expected = r"version 5: expected a model for classification.*a model for frames.*register\.name"
    with pytest.raises(PipelineError, match=expected):
        try_to_promote(5)
