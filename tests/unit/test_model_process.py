"""A process that answers, hangs or dies, played by a script without MLflow; and its answers."""

import textwrap
import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file
from pipeline.common.records import VideoRecord
from pipeline.registry.evidence import Answer, ModelProcess, UnusableVersionError, contender, gather
from pipeline.tasks.classification import Classification

ACTOR = """
    import json, os, sys, time
    from pathlib import Path
    if sys.argv[1] == "models:/none/1":
        sys.exit("no such model")
    print(json.dumps({"is_ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        name = Path(request["path"]).name
        if name == "crash.mp4":
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        if name == "hang.mp4":
            time.sleep(600)
        if name == "junk.mp4":
            print(json.dumps({"error": "not a video"}), flush=True)
        else:
            row = {"probabilities": {"left": 1.0}}
            answer = {"row": row, "milliseconds": request["start_seconds"]}
            print(json.dumps(answer), flush=True)
"""
VERSION = SimpleNamespace(name="m", version=4, run_id=None)
ROW = {"probabilities": {"left": 1.0}}


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A function that starts the script in place of the worker."""
    script = tmp_path / "actor.py"
    script.write_text(textwrap.dedent(ACTOR))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///unused.db")
    start = partial(ModelProcess, grace_seconds=0, worker=script)
    return lambda uri="models:/some/1", seconds=60: start(
        uri, folder=Path("videos"), timeout_seconds=seconds
    )


def video(name: str, target: str = "left", **fields) -> VideoRecord:
    return VideoRecord(name, target, "test", sha256="aaaa", **fields)


def test_a_segment_gets_an_answer_or_a_reason(process):
    with process() as model:
        assert model.answer(video("good.mp4", start_seconds=1.5)) == Answer(ROW, 1.5)
        assert model.answer(video("junk.mp4")) == Answer(error="not a video")


def test_a_process_that_dies_costs_one_video(process):
    with process() as model:
        assert model.answer(video("crash.mp4")).error == "the process died (exit code 7)"
        assert model.answer(video("good.mp4")).row == ROW


def test_a_process_that_hangs_costs_one_video(process):
    with process(seconds=0.5) as model:
        assert model.answer(video("hang.mp4")).error == "no answer after 0.5 s"
        assert model.answer(video("good.mp4")).row == ROW


def test_a_process_that_dies_again_and_again_is_an_error(process):
    with process() as model:
        for _ in range(4):
            model.answer(video("crash.mp4"))
        with pytest.raises(UnusableVersionError) as caught:
            model.answer(video("crash.mp4"))
    assert str(caught.value) == (
        "models:/some/1: its process was lost 5 times, the last time on crash.mp4: the process "
        "died (exit code 7). out of luck"
    )


def test_a_model_that_cannot_be_loaded_is_an_error_with_the_reason(process):
    with process("models:/none/1") as model, pytest.raises(UnusableVersionError) as caught:
        model.answer(video("good.mp4"))
    assert str(caught.value) == (
        "models:/none/1 cannot be loaded: the process died (exit code 1). no such model"
    )
    assert caught.value.uri == "models:/none/1"


# Answers become predictions


def test_answers_become_predictions_of_all_classes():
    """up is a class of the test videos that this version does not know."""
    answers = [
        (video("a.mp4"), Answer({"probabilities": {"right": 0.3, "left": 0.7}}, 10)),
        (
            video("u.mp4", "up", group="scene"),
            Answer({"probabilities": {"right": 0.6, "left": 0.4}}, 30),
        ),
        (video("junk.mp4"), Answer(error="not a video")),
    ]
    judged = contender(VERSION, answers, catalog=[], task=Classification)
    assert (judged.version, judged.latency_ms, judged.seen) == (4, 20, None)
    assert judged.unreadable == {"junk.mp4": "not a video"}
    assert judged.predictions.task.class_names == ("left", "right", "up")
    assert judged.predictions.videos == ("a.mp4", "u.mp4")
    assert judged.predictions.groups == ("", "scene")
    assert judged.predictions.targets == ("left", "up")
    np.testing.assert_array_equal(judged.predictions.outputs, [[0.7, 0.3, 0], [0.4, 0.6, 0]])


def test_answers_that_are_not_probabilities_name_the_version():
    answers = [(video("a.mp4"), Answer({"probabilities": {"left": float("nan")}}, 1))]
    with pytest.raises(UnusableVersionError, match=r"^models:/m/4: a\.mp4: expected probabilities"):
        contender(VERSION, answers, catalog=[], task=Classification)


def test_a_version_that_reads_nothing_has_no_predictions():
    answers = [(video("a.mp4"), Answer(error="no"))]
    assert contender(VERSION, answers, catalog=[], task=Classification).predictions is None


# Test videos


def record(path: Path, split: str = "test", start: float | None = None) -> VideoRecord:
    sha256 = sha256_of_file(path) if path.exists() else ""
    return VideoRecord(path.name, "left", split, "scene", start, sha256=sha256)


@pytest.fixture
def judge(tmp_path, process):
    """A function that judges the test videos of a catalog by one version."""

    def judge(*catalog: VideoRecord):
        (judged,) = gather(
            [VERSION],
            catalog,
            task=Classification,
            folder=tmp_path,
            timeout_seconds=1,
            start=lambda uri, **_: process(uri),
        )
        return judged

    return judge


def test_the_test_videos_of_the_catalog_are_judged(tmp_path, judge):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text(name)
    judged = judge(
        record(tmp_path / "a.mp4", "train"),
        record(tmp_path / "b.mp4"),
        record(tmp_path / "b.mp4", start=1.5),
    )
    assert judged.predictions.videos == ("b.mp4", "b.mp4#t=1.5")


def test_a_file_that_changed_since_the_catalog_is_an_error(tmp_path, judge):
    path = tmp_path / "a.mp4"
    path.write_text("old")
    before = record(path)
    for change in (lambda: path.write_text("new"), path.unlink):
        change()
        with pytest.raises(PipelineError) as caught:
            judge(before)
        assert str(caught.value).startswith(
            f"{path}: expected the file that the catalog was built from; it is missing or another "
            "one (1 of 1 test videos)."
        )


def test_a_file_that_was_added_after_the_catalog_is_an_error(tmp_path, judge):
    missing = record(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_text("a")
    with pytest.raises(PipelineError, match="expected the file that the catalog was built from"):
        judge(missing)


def test_a_video_that_was_missing_in_the_catalog_is_unreadable_for_all(tmp_path, judge):
    (tmp_path / "a.mp4").write_text("a")
    judged = judge(record(tmp_path / "a.mp4", start=1.5), record(tmp_path / "gone.mp4"))
    assert judged.predictions.videos == ("a.mp4#t=1.5",)
    assert judged.unreadable == {"gone.mp4": "there was no such file when the catalog was built"}


def test_a_catalog_without_test_videos_is_an_error(judge):
    with pytest.raises(PipelineError, match="Expected test videos in the catalog"):
        judge(replace(video("a.mp4"), split="train"))


# Many test videos


TIMED = 75  # of 150


class Recorded(AbstractContextManager):
    """A process that answers after both versions were asked, once the sample is timed."""

    together = threading.Barrier(2, timeout=30)

    def __init__(self, log: list[tuple[str, str]], uri: str, **_):
        self.log, self.uri = log, uri

    def __exit__(self, *_):
        pass

    def wait_until_ready(self):
        pass

    def answer(self, record: VideoRecord) -> Answer:
        self.log.append((self.uri, record.name))
        if len(self.log) > 2 * TIMED:
            self.together.wait()
        if record.target == "broken":
            raise PipelineError("lost again and again")
        return Answer(ROW, float(record.name[:3]))


def many_videos(folder: Path, *, broken: int | None = None) -> list[VideoRecord]:
    (folder / "videos").mkdir()
    catalog = []
    for number in range(150):
        path = folder / "videos" / f"{number:03d}.mp4"
        path.write_text(path.name)
        target = "broken" if number == broken else "left"
        sha256 = sha256_of_file(path)
        catalog.append(VideoRecord(path.name, target, "test", path.stem, sha256=sha256))
    return catalog


def judge_many(folder: Path, catalog: list[VideoRecord], log: list[tuple[str, str]]):
    versions = [SimpleNamespace(name="m", version=number, run_id=None) for number in (1, 2)]
    return gather(
        versions,
        catalog,
        task=Classification,
        folder=folder / "videos",
        timeout_seconds=1,
        start=partial(Recorded, log),
    )


def test_versions_take_turns_at_a_sample_and_answer_the_rest_at_the_same_time(tmp_path):
    log: list[tuple[str, str]] = []
    contenders = judge_many(tmp_path, many_videos(tmp_path), log)
    turns = log[: 2 * TIMED]
    assert [uri for uri, _ in turns] == ["models:/m/1", "models:/m/2"] * TIMED
    assert {name for _, name in turns} >= {"000.mp4", "148.mp4"}  # over the whole catalog
    for one in contenders:
        assert one.predictions.videos == tuple(f"{number:03d}.mp4" for number in range(150))
        assert list(one.milliseconds) == [float(name[:3]) for _, name in turns[::2]]


def test_an_error_among_many_videos_ends_all_versions(tmp_path):
    log: list[tuple[str, str]] = []
    with pytest.raises(PipelineError, match="lost again and again"):
        judge_many(tmp_path, many_videos(tmp_path, broken=101), log)
    assert len(log) < 300
