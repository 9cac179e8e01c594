"""Which steps a retraining takes, and in which order; the steps themselves are not run here."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.base.errors import PipelineError
from pipeline.base.files import write_json
from pipeline.base.paths import CATALOG, DATA_CHECK, METRICS, PROMOTION_REPORT, REGISTRATION
from pipeline.catalog.records import CatalogEntry, write_catalog
from pipeline.params import load_params
from pipeline.promote import rules
from pipeline.promotion.decision import Rules
from pipeline.retraining import retraining, standing, transfer
from pipeline.retraining.progress import begin, last_state
from pipeline.retraining.retraining import Retrained, retrain

RULES = rules(load_params())
OTHER_RULES = replace(RULES, class_floor=0.25)
CHECK, GATE, PUSH = "pipeline.data_check", "pipeline.promote --version 3", "push"
REGISTER = "dvc repro --force --single-item evaluate register"


@dataclass
class Scene:
    """What the steps meet, and what was done."""

    outdated: list[str] = field(default_factory=list)
    tags: dict[str, str] | None = None  # of version 3 in the registry; None: it is not there
    champion: int = 2
    unfit: bool = False
    steps: list[str] = field(default_factory=list)

    def run(self, *arguments: str, **_: object) -> int:
        self.steps.append(" ".join(arguments))
        if arguments[0] == CHECK:
            write_json(DATA_CHECK, {"checks": []})
            return int(self.unfit)
        return 0

    def judged(self, outcome: str, by: Rules = RULES) -> None:
        self.tags = {"model.sha256": "m", "gate.outcome": outcome, "gate.rules": by.digest}

    def retrain(self, *, promote: bool = True) -> Retrained:
        self.steps.clear()
        return retrain(promote=promote, rules=RULES, was_cut_short=begin())


@pytest.fixture
def scene(tmp_path, monkeypatch) -> Scene:
    """A folder in which a retraining was, with a remote; version 3 was registered there."""
    monkeypatch.chdir(tmp_path)
    write_json(REGISTRATION, {"name": "m", "version": 3, "model_sha256": "m"})
    write_json(METRICS, {})
    write_json(DATA_CHECK, {"checks": [{"status": "fail", "name": "old", "sentence": ""}]})
    PROMOTION_REPORT.write_text("# Gate\n")
    CATALOG.parent.mkdir(parents=True)
    write_catalog(CATALOG, [CatalogEntry("a.mp4", "left", "train", "a", None, None, "a")])
    scene = Scene()

    def version(*_):
        return None if scene.tags is None else SimpleNamespace(tags=scene.tags)

    monkeypatch.setattr(retraining, "run_python", scene.run)
    monkeypatch.setattr(retraining, "outdated_stages", lambda: scene.outdated)
    monkeypatch.setattr(retraining, "has_remote", lambda: True)
    monkeypatch.setattr(transfer, "pull", lambda: scene.steps.append("pull"))
    monkeypatch.setattr(transfer, "push", lambda: scene.steps.append(PUSH))
    monkeypatch.setattr(standing, "existing_version", version)
    monkeypatch.setattr(standing, "champion_number", lambda _: scene.champion)
    return scene


def test_everything_in_its_order(scene):
    scene.outdated = ["train"]
    assert scene.retrain() == Retrained("passed", "m version 3 is champion. See eval/retrain.md.")
    assert scene.steps == [
        "pull", "pipeline.check", "dvc repro decode", CHECK, "dvc repro", REGISTER, PUSH, GATE,
    ]  # fmt: skip
    assert last_state() == "reported"


@pytest.mark.parametrize(
    ("outcome", "champion", "said"),
    [
        ("refused", 2, "m version 3 was refused by the gate."),
        ("promoted", 3, "m version 3 is champion."),
        ("promoted", 4, "m version 3 was champion, and another version is."),
    ],
)
def test_a_settled_model_is_left_alone(scene, outcome, champion, said):
    scene.judged(outcome)
    scene.champion = champion
    done = scene.retrain()
    assert done.outcome == "nothing to do"
    assert done.sentence == f"Nothing has changed since this model was trained and judged. {said}"
    assert scene.steps == []
    assert last_state() == "nothing"


def test_a_model_that_waits_is_promoted_only_where_that_is_wanted(scene):
    scene.judged("passed")
    assert "waits for: make promote VERSION=3" in scene.retrain(promote=False).sentence
    assert scene.retrain().outcome == "passed"
    assert GATE in scene.steps


def test_a_model_that_other_rules_refused_is_judged_again(scene):
    scene.judged("refused", by=OTHER_RULES)
    assert scene.retrain().outcome == "passed"
    assert scene.steps[-1] == GATE


def test_data_is_checked_also_where_the_model_was_trained_by_hand(scene):
    scene.tags = {"model.sha256": "m"}  # make repro trained and registered it
    scene.unfit = True
    done = scene.retrain()
    assert done.sentence.startswith("The data check failed: nothing is trained or judged.")
    assert scene.steps[-1] == CHECK
    assert "| old |" not in Path("eval/retrain.md").read_text()


def test_a_store_that_lacks_the_model_gets_it_whatever_else_is_outdated(scene):
    scene.outdated = ["report"]
    scene.retrain()
    assert scene.steps.index("dvc repro") < scene.steps.index(REGISTER) < scene.steps.index(GATE)
    scene.judged("refused")
    scene.retrain()
    assert REGISTER not in scene.steps


def test_a_failed_push_stops_before_the_gate_and_is_made_up_for(scene, monkeypatch):
    def refuse():
        raise PipelineError("the remote is full")

    scene.outdated = ["train"]
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "push", refuse)
        with pytest.raises(PipelineError, match="the remote is full"):
            scene.retrain()
    assert GATE not in scene.steps
    assert last_state() == "working"
    scene.outdated = []
    scene.judged("refused")  # nothing seems to be left to do
    scene.retrain()
    assert scene.steps[-2:] == [PUSH, GATE]
    assert scene.retrain().outcome == "nothing to do"


def test_an_error_while_it_looks_leaves_nothing_to_make_up_for(scene):
    scene.judged("refused")
    assert not begin()  # and a typo in params.yaml ends it
    assert last_state() == "looking"
    assert scene.retrain().outcome == "nothing to do"


def test_without_a_remote_nothing_is_pulled_or_pushed(scene, monkeypatch):
    monkeypatch.setattr(retraining, "has_remote", lambda: False)
    scene.outdated = ["train"]
    scene.retrain()
    assert not {"pull", PUSH} & {*scene.steps}
    assert "DVC has no remote: nothing was pushed." in Path("eval/retrain.md").read_text()
