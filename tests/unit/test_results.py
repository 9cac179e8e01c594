"""Results of an evaluation in the run of its model, in a real store."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.common.records import DecodeFacts, VideoRecord, write_catalog, write_decode_index
from pipeline.tracking.evaluations import (
    digest_of_test_data,
    evaluation_file,
    log_evaluation,
    recorded_evaluations,
)
from pipeline.tracking.notes import Results, note_results
from pipeline.tracking.results import CATALOG, has_data, log_data, log_results, log_scores
from pipeline.tracking.runs import ensure_run, training_run
from pipeline.tracking.store import connect

RESULTS = Results(
    scores={"accuracy": 0.75, "macro_f1": 0.5, "videos": 8},
    intervals={"accuracy": (0.5, 0.875)},
    audits=[
        {"name": "time", "status": "ok", "sentence": "Order matters."},
        {"name": "length", "status": "warn", "sentence": "Lengths | alone tell *much*."},
    ],
    settings={"confidence": 0.9},
    target_summary="2 classes: a_b, c",
    clips={"train": 1200, "test": 8},
    headline=("accuracy", "macro_f1"),
)
PROVENANCE = "### Provenance\n\nNo commit: not in a git repository."
NOTE = r"""**Accuracy 0.750** (90% interval 0.500 to 0.875), macro F1 0.500, on 8 test videos. 1 audit to look at.

### Audits

- **warn**: Lengths \| alone tell \*much\*.
- ok: Order matters.

### Scores

| score | value | 90% interval |
| --- | --- | --- |
| accuracy | 0.75 | 0.500 to 0.875 |
| macro F1 | 0.5 |  |
| videos | 8 |  |

### Data

2 classes: a\_b, c

Clips: train 1,200, test 8

"""  # noqa: E501


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("store")
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


@pytest.fixture
def run_id():
    with training_run(params={}, dataset="data") as started:
        pass
    return started.id


def the_run(run_id):
    return connect().get_run(run_id)


def artifacts_of(run_id) -> Path:
    return Path(the_run(run_id).info.artifact_uri.removeprefix("file://"))


def note_of(run_id):
    return the_run(run_id).data.tags["mlflow.note.content"]


# The note


def test_the_note_has_results_before_the_provenance(run_id):
    assert note_of(run_id) == PROVENANCE
    note_results(run_id, RESULTS)
    assert note_of(run_id) == NOTE + PROVENANCE


def test_new_results_replace_the_old_ones_and_keep_text_added_below(run_id):
    note_results(run_id, RESULTS)
    connect().set_tag(run_id, "mlflow.note.content", f"{note_of(run_id)}\n\nMy words.")
    note_results(run_id, RESULTS)
    assert note_of(run_id) == f"{NOTE}{PROVENANCE}\n\nMy words."


def test_names_do_not_become_markdown_in_the_note(run_id):
    name, shown = "[a](b)|<html>\n# `c`\u202e", r"\[a\](b)\|\<html\> \# \`c\`\\u202e"
    audits = [{"name": "time", "status": "ok", "sentence": name}]
    scores = {**RESULTS.scores, name: 0.5}
    note_results(run_id, replace(RESULTS, audits=audits, target_summary=name, scores=scores))
    lines = note_of(run_id).split("\n")
    assert {f"- ok: {shown}", f"| {shown} | 0.5 |  |", shown} <= set(lines)
    assert note_of(run_id).splitlines() == lines


def test_without_audits_the_note_has_no_section_for_them(run_id):
    note_results(run_id, replace(RESULTS, audits=[]))
    assert "udit" not in note_of(run_id)


# Scores and files


def test_scores_and_intervals_of_the_run_are_the_last_ones(run_id):
    connect().log_metric(run_id, "loss", 1.0, step=1)
    ended = the_run(run_id).info.end_time
    for accuracy in (0.75, 0.5, 0.5):
        intervals = {"accuracy": (accuracy - 0.25, accuracy + 0.125)}
        log_scores(run_id, {"accuracy": accuracy, "videos": 8}, intervals)
    run = the_run(run_id)
    assert run.data.metrics == {
        "loss": 1.0,
        "test/accuracy": 0.5,
        "test_interval/accuracy_low": 0.25,
        "test_interval/accuracy_high": 0.625,
        "test/videos": 8,
    }
    assert (run.info.status, run.info.end_time) == ("FINISHED", ended)


@pytest.fixture
def evaluate(run_id, tmp_path):
    """A function that logs an evaluation of the run, with a table and a picture."""

    def log(accuracy, *, test_data="t" * 64, confidence=0.95):
        (tmp_path / "plots").mkdir(exist_ok=True)
        (tmp_path / "plots/confusion.png").write_text(f"picture at {accuracy}")
        (tmp_path / "audits.json").write_text(f"table at {accuracy}")
        return log_evaluation(
            run_id,
            test_data=test_data,
            scores={"accuracy": accuracy, "videos": 8},
            settings={"confidence": confidence},
            files=[tmp_path / "plots", tmp_path / "audits.json", tmp_path / "missing.csv"],
        )

    return log


def test_an_evaluation_on_other_test_videos_or_settings_replaces_none(run_id, evaluate, tmp_path):
    evaluations = [
        evaluate(0.75),
        evaluate(0.5, test_data="u" * 64),
        evaluate(0.75, confidence=0.9),
        evaluate(0.7),  # by corrected code
    ]
    assert recorded_evaluations(run_id) == evaluations[::-1]
    for evaluation, accuracy in zip(evaluations, (0.75, 0.5, 0.75, 0.7), strict=True):
        picture = evaluation_file(run_id, evaluation, "plots/confusion.png", tmp_path)
        assert picture.read_text() == f"picture at {accuracy}"
        assert evaluation_file(run_id, evaluation, "audits.json", tmp_path).exists()
    run = the_run(run_id)
    assert run.data.tags["evaluation"] == evaluations[-1].folder
    assert run.data.tags["evaluate.confidence"] == "0.95"
    assert not any(key.startswith("evaluate") for key in run.data.params)


def test_the_same_evaluation_again_is_the_last_one_and_no_other(run_id, evaluate):
    first = evaluate(0.75)
    evaluate(0.5)
    again = evaluate(0.75)
    assert again.folder == first.folder
    assert [one.scores["accuracy"] for one in recorded_evaluations(run_id)] == [0.75, 0.5]


def test_an_evaluation_that_was_not_logged_to_its_end_does_not_count(run_id, evaluate):
    evaluation = evaluate(0.75)
    (artifacts_of(run_id) / evaluation.folder / "evaluation.json").unlink()
    assert recorded_evaluations(run_id) == []
    assert recorded_evaluations("0" * 32) == recorded_evaluations(None) == []


def test_the_digest_of_test_data_is_of_the_decoded_test_videos(tmp_path):
    train = VideoRecord("a.mp4", "left", "train", sha256="aa", facts=DecodeFacts("a", 3))
    test = VideoRecord("b.mp4", "left", "test", "g", sha256="bb", facts=DecodeFacts("b", 3))
    other = VideoRecord("c.mp4", "left", "test", "g", sha256="cc", facts=DecodeFacts("c", 3))

    def digest(*records):
        write_catalog(tmp_path / "catalog.csv", records)
        write_decode_index(tmp_path / "index.csv", records)
        return digest_of_test_data(tmp_path / "catalog.csv", tmp_path / "index.csv")

    base = digest(train, test, other)
    assert digest(replace(train, target="right"), other, test) == base
    changed = [
        replace(test, **change)
        for change in ({"sha256": "dd"}, {"target": "right"}, {"group": "h"}, {"end_seconds": 1.0})
    ]
    quarantined = replace(test, facts=DecodeFacts("b", 0, "damaged"))
    digests = {digest(train, one, other) for one in (*changed, quarantined)}
    assert len(digests | {base}) == 6


def test_results_are_logged_with_the_tables_of_their_data(run_id, tmp_path):
    catalog, index = tmp_path / "catalog.csv", tmp_path / "index.csv"
    catalog.write_text("video,split\n")
    index.write_text("name,status\n")
    log_results(run_id, RESULTS, catalog=catalog, decode_index=index, files=[])
    assert the_run(run_id).data.metrics["test/accuracy"] == 0.75
    assert the_run(run_id).data.tags["evaluate.confidence"] == "0.9"
    assert note_of(run_id).startswith("**Accuracy 0.750**")
    assert (artifacts_of(run_id) / "data/catalog.csv").read_text() == "video,split\n"
    assert (artifacts_of(run_id) / "data/index.csv").read_text() == "name,status\n"


# Tables of the data


def test_the_first_table_of_a_run_is_kept(tmp_path):
    run_id = ensure_run("two", params={}, dataset="data", history=[])
    assert not has_data(run_id, CATALOG)
    for content in ("first", "second"):
        (tmp_path / "today.csv").write_text(content)
        log_data(run_id, tmp_path / "today.csv", name=CATALOG)
    assert has_data(run_id, CATALOG)
    assert (artifacts_of(run_id) / "data/catalog.csv").read_text() == "first"


def test_a_missing_table_is_a_warning(tmp_path, caplog):
    run_id = ensure_run("three", params={}, dataset="data", history=[])
    log_data(run_id, tmp_path / "none.csv", name=CATALOG)
    assert f"{tmp_path}/none.csv: no such file" in caplog.text
    assert not has_data(run_id, CATALOG)
