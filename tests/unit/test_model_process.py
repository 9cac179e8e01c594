"""A process that answers, hangs or dies, played by a script without MLflow; and its answers."""

import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.base.files import sha256_of_file
from pipeline.catalog.records import CatalogEntry
from pipeline.promotion import evidence, model_process
from pipeline.promotion.evidence import contender, gather
from pipeline.promotion.model_process import Answer, ModelProcess
from pipeline.promotion.videos import GateVideo, videos_to_judge_by

ACTOR = """
    import json, os, sys, time
    if sys.argv[1] == "models:/none/1":
        sys.exit("no such model")
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if question["path"] == "crash.mp4":
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        if question["path"] == "hang.mp4":
            time.sleep(600)
        if question["path"] == "junk.mp4":
            print(json.dumps({"error": "not a video"}), flush=True)
        else:
            answer = {"probabilities": {"left": 1.0}, "milliseconds": question["start_seconds"]}
            print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A function that starts the script in place of the worker."""
    script = tmp_path / "actor.py"
    script.write_text(textwrap.dedent(ACTOR))
    monkeypatch.setattr(model_process, "_WORKER", script)
    monkeypatch.setattr(model_process, "_GRACE_SECONDS", 0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///unused.db")
    return lambda uri="models:/some/1", seconds=60: ModelProcess(uri, timeout_seconds=seconds)


def video(name: str, **changes) -> GateVideo:
    return GateVideo(name, Path(name), "left", "", "aaaa", **changes)


def test_it_is_asked_for_a_part_and_answers_or_says_why_not(process):
    with process() as model:
        found = model.ask(video("good.mp4", start_seconds=1.5))
        assert found == Answer({"left": 1.0}, 1.5)
        assert model.ask(video("junk.mp4")) == Answer(None, None, "not a video")


def test_a_process_that_dies_costs_one_video(process):
    with process() as model:
        assert model.ask(video("crash.mp4")).error == "the process died (exit code 7)"
        assert model.ask(video("good.mp4")).probabilities == {"left": 1.0}


def test_a_process_that_hangs_costs_one_video(process):
    with process(seconds=0.5) as model:
        assert model.ask(video("hang.mp4")).error == "not done after 0.5 s"
        assert model._process is None


def test_a_process_that_dies_again_and_again_is_an_error(process):
    with process() as model:
        for _ in range(4):
            model.ask(video("crash.mp4"))
        with pytest.raises(PipelineError) as caught:
            model.ask(video("crash.mp4"))
    assert str(caught.value) == (
        "models:/some/1: its process was lost 5 times, the last time on crash.mp4: the process "
        "died (exit code 7). out of luck"
    )


def test_a_model_that_cannot_be_loaded_says_why(process):
    with process("models:/none/1") as model, pytest.raises(PipelineError) as caught:
        model.ask(video("good.mp4"))
    assert str(caught.value) == (
        "models:/none/1 cannot be loaded: the process died (exit code 1). no such model"
    )


# What becomes of the answers


def test_answers_become_predictions_of_all_classes():
    """up is a class of today's videos that this version does not know."""
    version = SimpleNamespace(name="m", version=4, run_id=None)
    up = GateVideo("u.mp4", Path("u.mp4"), "up", "scene", "bbbb")
    found = contender(
        version,
        {
            video("a.mp4"): Answer({"right": 0.3, "left": 0.7}, 10),
            up: Answer({"right": 0.6, "left": 0.4}, 30),
            video("junk.mp4"): Answer(None, None, "not a video"),
        },
    )
    assert (found.version, found.latency_ms, found.seen) == (4, 20, None)
    assert found.unreadable == {"junk.mp4": "not a video"}
    assert found.predictions.class_names == ("left", "right", "up")
    assert found.predictions.videos == ("a.mp4", "u.mp4")
    assert found.predictions.groups == ("", "scene")
    np.testing.assert_array_equal(found.predictions.labels, [0, 2])
    np.testing.assert_array_equal(found.predictions.probabilities, [[0.7, 0.3, 0], [0.4, 0.6, 0]])


def test_a_version_that_reads_nothing_has_no_predictions():
    version = SimpleNamespace(name="m", version=4, run_id=None)
    assert contender(version, {video("a.mp4"): Answer(None, None, "no")}).predictions is None


# Which videos are judged by


def entry(path: Path, split: str, start: float | None = None) -> CatalogEntry:
    sha256 = sha256_of_file(path) if path.exists() else "cccc"
    return CatalogEntry(path.name, "left", split, "scene", start, None, sha256)


def test_the_test_videos_of_the_catalog_are_judged_by(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text(name)
    catalog = [
        entry(tmp_path / "a.mp4", "train"),
        entry(tmp_path / "b.mp4", "test"),
        entry(tmp_path / "b.mp4", "test", 1.5),
    ]
    whole, part = videos_to_judge_by(catalog, tmp_path)
    assert (whole.name, whole.path, whole.group) == ("b.mp4", tmp_path / "b.mp4", "scene")
    assert (part.name, part.path, part.start_seconds) == ("b.mp4#t=1.5", tmp_path / "b.mp4", 1.5)


def test_a_file_that_changed_since_the_catalog_is_an_error(tmp_path):
    (tmp_path / "a.mp4").write_text("old")
    catalog = [entry(tmp_path / "a.mp4", "test")]
    for change in (lambda path: path.write_text("new"), lambda path: path.unlink()):
        change(tmp_path / "a.mp4")
        with pytest.raises(PipelineError) as caught:
            videos_to_judge_by(catalog, tmp_path)
        assert str(caught.value).startswith(
            f"{tmp_path}/a.mp4: missing, or not the file that the catalog was made from "
            "(1 of 1 test videos)."
        )


def test_a_video_that_was_missing_already_is_unreadable_for_all(tmp_path, monkeypatch, process):
    (tmp_path / "a.mp4").write_text("a")
    catalog = [
        replace(entry(tmp_path / "a.mp4", "test"), start_seconds=1.5),
        replace(entry(tmp_path / "gone.mp4", "test"), sha256=""),
    ]
    videos = videos_to_judge_by(catalog, tmp_path)
    monkeypatch.setattr(evidence, "ModelProcess", lambda uri, **_: process(uri))
    version = SimpleNamespace(name="m", version=4, run_id=None)
    (found,) = gather([version], videos, timeout_seconds=1)
    assert found.predictions.videos == ("a.mp4#t=1.5",)
    assert found.unreadable == {"gone.mp4": "there was no such file when the catalog was made"}


def test_a_video_that_came_after_the_catalog_is_an_error(tmp_path):
    missing = replace(entry(tmp_path / "a.mp4", "test"), sha256="")
    (tmp_path / "a.mp4").write_text("a")
    with pytest.raises(PipelineError, match=r"not the file that the catalog was made from"):
        videos_to_judge_by([missing], tmp_path)


def test_a_catalog_without_test_videos_is_an_error(tmp_path):
    with pytest.raises(PipelineError, match="expected test videos in the catalog, found none"):
        videos_to_judge_by([], tmp_path)
