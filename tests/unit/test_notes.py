"""The note of a run, in a store of its own."""

import pytest

from pipeline.tracking.notes import note_results
from pipeline.tracking.runs import training_run
from pipeline.tracking.store import connect

RESULTS = {
    "scores": {"accuracy": 0.75, "log_loss": 0.5},
    "intervals": {"accuracy": (0.5, 0.875)},
    "confidence": 0.9,
    "audits": [
        {"ok": True, "sentence": "Order matters."},
        {"ok": False, "sentence": "Lengths | alone tell *much*."},
    ],
    "class_names": ["a_b", "c"],
    "clips": {"train": 1200, "test": 8},
}


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("store"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


def note_of(run_id):
    return connect().get_run(run_id).data.tags["mlflow.note.content"]


def test_results_stand_before_what_the_model_is_made_from():
    with training_run(params={}, dataset="data") as run_id:
        assert note_of(run_id) == "### Made from\n\nNo commit: not in a git repository."
    note_results(run_id, **RESULTS)
    assert (
        note_of(run_id)
        == """### Test videos

| score | value | 90% interval |
| --- | --- | --- |
| accuracy | 0.75 | 0.500 to 0.875 |
| log loss | 0.5 |  |

### Audits

- **look**: Lengths \\| alone tell \\*much\\*.
- fine: Order matters.

### Data

2 classes: a\\_b, c

Clips: train 1,200, test 8

### Made from

No commit: not in a git repository."""
    )


def test_new_results_replace_the_old_and_leave_what_people_wrote_below():
    with training_run(params={}, dataset="data") as run_id:
        pass
    note_results(run_id, **RESULTS)
    connect().set_tag(run_id, "mlflow.note.content", note_of(run_id) + "\n\nMy words.")
    note_results(run_id, **(RESULTS | {"scores": {"accuracy": 0.25}, "audits": []}))
    note = note_of(run_id)
    assert note.count("accuracy") == note.count("### Made from") == 1
    assert "| accuracy | 0.25 |" in note
    assert "Audits" not in note
    assert note.endswith("My words.")


def test_of_many_classes_some_are_named():
    with training_run(params={}, dataset="data") as run_id:
        pass
    note_results(run_id, **(RESULTS | {"class_names": [f"c{n}" for n in range(700)]}))
    assert "700 classes: c0, c1," in note_of(run_id)
    assert "c19 and 680 more\n" in note_of(run_id)
