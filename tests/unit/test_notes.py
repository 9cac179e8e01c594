"""The note of a run, in a store of its own."""

import pytest

from pipeline.tracking.notes import note_results
from pipeline.tracking.runs import training_run
from pipeline.tracking.store import connect

RESULTS = {
    "scores": {"accuracy": 0.75, "macro_f1": 0.5, "videos": 8},
    "intervals": {"accuracy": (0.5, 0.875)},
    "confidence": 0.9,
    "audits": [
        {"ok": True, "sentence": "Order matters."},
        {"ok": False, "sentence": "Lengths | alone tell *much*."},
    ],
    "class_names": ["a_b", "c"],
    "clips": {"train": 1200, "test": 8},
}
MADE_FROM = "### Made from\n\nNo commit: not in a git repository."
NOTE = r"""**Accuracy 0.750**, 90% interval 0.500 to 0.875, on 8 test videos. To look at: 1 audit.

### Audits

- **look**: Lengths \| alone tell \*much\*.
- fine: Order matters.

### Scores

| score | value | 90% interval |
| --- | --- | --- |
| accuracy | 0.75 | 0.500 to 0.875 |
| macro F1 | 0.5 |  |
| videos | 8 |  |

### Data

2 classes: a\_b, c

Clips: train 1,200, test 8

"""


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("store"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture
def run_id():
    with training_run(params={}, dataset="data") as started:
        pass
    return started


def note_of(run_id):
    return connect().get_run(run_id).data.tags["mlflow.note.content"]


def test_results_stand_before_what_the_model_is_made_from(run_id):
    assert note_of(run_id) == MADE_FROM
    note_results(run_id, **RESULTS)
    assert note_of(run_id) == NOTE + MADE_FROM


def test_new_results_replace_the_old_and_leave_what_people_wrote_below(run_id):
    note_results(run_id, **RESULTS)
    connect().set_tag(run_id, "mlflow.note.content", f"{note_of(run_id)}\n\nMy words.")
    note_results(run_id, **RESULTS)
    assert note_of(run_id) == f"{NOTE}{MADE_FROM}\n\nMy words."


def test_without_audits_there_is_no_word_of_them(run_id):
    note_results(run_id, **(RESULTS | {"audits": []}))
    assert "udit" not in note_of(run_id)


def test_of_many_classes_some_are_named(run_id):
    note_results(run_id, **(RESULTS | {"class_names": [f"c{n}" for n in range(700)]}))
    assert "700 classes: c0, c1," in note_of(run_id)
    assert "c19 and 680 more\n" in note_of(run_id)
