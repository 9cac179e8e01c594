"""Real processes that really hang and die."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from pipeline.video.workers import Failure, run_isolated


def behave(task: str) -> str:
    """Do what the task says: return, hang, die, die the first time, or raise."""
    kind, _, path = task.partition(" ")
    match kind:
        case "hang":
            time.sleep(60)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die-once":
            if not Path(path).exists():
                Path(path).touch()
                os.kill(os.getpid(), signal.SIGSEGV)
        case "raise":
            raise RuntimeError(task)
    return task.upper()


def outcomes(*tasks: str, timeout_seconds: float = 30, workers: int = 2):
    chunks = [[task] for task in tasks]
    return dict(run_isolated(behave, chunks, workers=workers, timeout_seconds=timeout_seconds))


def test_every_task_gets_its_result():
    assert outcomes("a", "b", "c") == {"a": "A", "b": "B", "c": "C"}


def test_a_task_that_hangs_is_stopped_and_the_others_go_on():
    found = outcomes("hang", "a", "b", timeout_seconds=1, workers=1)
    assert found == {"hang": Failure("not done after 1 s"), "a": "A", "b": "B"}


def test_a_task_that_always_kills_its_process_fails_and_the_others_go_on():
    found = outcomes("die", "a", "b", workers=1)
    assert found == {"die": Failure("the process died (exit code -9)"), "a": "A", "b": "B"}


def test_a_task_whose_process_dies_once_is_tried_again(tmp_path):
    task = f"die-once {tmp_path / 'seen'}"
    assert outcomes(task) == {task: task.upper()}


@pytest.mark.parametrize("bad", ["hang", "die"])
def test_a_bad_task_does_not_spoil_its_chunk(bad):
    chunks = [["a", bad, "b"], ["c"]]
    found = dict(run_isolated(behave, chunks, workers=1, timeout_seconds=2))
    assert isinstance(found.pop(bad), Failure)
    assert found == {"a": "A", "b": "B", "c": "C"}


def test_an_exception_of_the_work_is_raised_and_no_process_is_left():
    before = set(psutil.Process().children())  # of other tests
    with pytest.raises(RuntimeError, match="raise"):
        outcomes("raise", "hang")
    left = set(psutil.Process().children()) - before
    assert not [child for child in left if "spawn_main" in " ".join(child.cmdline())]


def test_no_task_starts_no_process():
    assert outcomes() == {}
