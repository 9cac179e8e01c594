"""Decoding many videos: only what is new, in processes that may block or die."""

import shutil
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import pebble.pool.process
import psutil
import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.compute.isolated import Failure, IsolatedPool, run_isolated
from pipeline.compute.settings import ComputeSection
from pipeline.video.batch import decode_records, prune_store
from pipeline.video.reading import read_frames
from pipeline.video.settings import DecodeSection
from pipeline.video.store import load_frames, stored_path
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames, numbers_in
from tests.deadly import DangerousFolder, behave
from tests.made_videos import encode_frames

DECODE = DecodeSection(fps=10, width=16, height=16)


class Project:
    """A folder of three videos, and a frame store."""

    def __init__(self, root: Path) -> None:
        self.videos = root / "videos"
        self.store = root / "store"
        self.videos.mkdir()
        for length in (3, 5, 40):
            mp4 = encode_mp4(numbered_frames(length) // 2, fps=10)
            (self.videos / f"{length} frames.mp4").write_bytes(mp4)

    def records(self) -> list[VideoRecord]:
        return [
            VideoRecord(video=path.name, target="", sha256=sha256_of_file(path))
            for path in sorted(self.videos.iterdir())
        ]

    def decode(self, records=None, *, decode=DECODE, workers=1) -> dict[str, DecodeFacts]:
        """Decode all videos, or these records, as the decode stage does."""
        chosen = self.records() if records is None else records
        decoded = decode_records(
            self.store,
            chosen,
            videos=self.videos,
            decode=decode,
            compute=ComputeSection(workers=workers),
        )
        assert [record.name for record in decoded] == [record.name for record in chosen]
        facts = {record.name: record.facts for record in decoded}
        prune_store(self.store, {each.key for each in facts.values()})
        return facts

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.store.iterdir()}

    def times(self) -> dict[str, int]:
        """When each stored video was written, in nanoseconds."""
        return {path.name: path.stat().st_mtime_ns for path in self.store.iterdir()}


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


class TestIncremental:
    def test_stored_frames_are_the_decoded_ones(self, project):
        for name, facts in project.decode().items():
            frames = load_frames(stored_path(project.store, facts.key), DECODE, range(facts.frames))
            np.testing.assert_array_equal(frames, read_frames(project.videos / name, DECODE))
            assert (facts.frames, facts.codec, facts.reason) == (len(frames), "h264", "")

    def test_a_second_run_decodes_nothing(self, project):
        facts, times = project.decode(), project.times()
        assert project.decode() == facts
        assert project.times() == times

    def test_one_more_video_decodes_one(self, project):
        project.decode(project.records()[:2])
        before = project.times()
        project.decode()
        assert len(project.times()) == 3
        assert before.items() <= project.times().items()

    def test_a_renamed_video_is_kept_and_a_removed_one_is_deleted(self, project):
        project.decode()
        before = project.times()
        (project.videos / "3 frames.mp4").rename(project.videos / "renamed.mp4")
        (project.videos / "40 frames.mp4").unlink()
        assert set(project.decode()) == {"5 frames.mp4", "renamed.mp4"}
        assert len(project.times()) == 2
        assert project.times().items() <= before.items()

    def test_copies_of_a_video_share_their_frames(self, project):
        shutil.copy(project.videos / "3 frames.mp4", project.videos / "copy.mp4")
        facts = project.decode()
        assert facts["copy.mp4"] == facts["3 frames.mp4"]
        assert len(project.times()) == 3

    def test_a_damaged_file_of_the_store_is_decoded_again(self, project):
        project.decode()
        contents, times = project.contents(), project.times()
        victim = min(project.store.iterdir())
        damaged = bytearray(victim.read_bytes())
        damaged[len(damaged) // 2] ^= 0x10
        victim.write_bytes(damaged)
        project.decode()
        assert project.contents() == contents
        assert {name for name, when in project.times().items() if when != times[name]} == {
            victim.name
        }

    def test_other_settings_replace_every_file(self, project):
        project.decode()
        before = set(project.contents())
        project.decode(decode=DecodeSection(fps=5, width=16, height=16))
        after = set(project.contents())
        assert len(after) == 3
        assert not before & after

    def test_an_interrupted_run_continues(self, project):
        project.decode()
        contents = project.contents()
        for path in sorted(project.store.iterdir())[1:]:
            path.unlink()
        (project.store / ".in-progress-1").write_text("half of a file")
        kept = min(contents)
        written_at = project.times()[kept]
        project.decode()
        assert project.contents() == contents
        assert project.times()[kept] == written_at

    def test_two_processes_give_the_same_bytes_as_one(self, project):
        project.decode()
        contents = project.contents()
        shutil.rmtree(project.store)
        project.decode(workers=2)
        assert project.contents() == contents

    def test_segments_of_one_video_are_stored_separately(self, project):
        sha256 = sha256_of_file(project.videos / "40 frames.mp4")
        records = [
            VideoRecord("40 frames.mp4", "", start_seconds=start, end_seconds=end, sha256=sha256)
            for start, end in ((0.0, 1.0), (2.0, 3.0))
        ]
        facts = project.decode(records)["40 frames.mp4#t=2,3"]
        frames = load_frames(stored_path(project.store, facts.key), DECODE, range(facts.frames))
        assert len(frames) == 10
        assert numbers_in(2 * frames.astype(int))[0] == 20
        assert len(project.contents()) == 2


class TestQuarantine:
    def test_videos_in_4k_are_within_the_limit_of_memory(self, project):
        """With 10 bits and 16 reference frames, more than any level of H.264 allows."""
        frames = [av.VideoFrame(3840, 2160, "yuv420p10le") for _ in range(20)]
        for number, frame in enumerate(frames):
            for plane in frame.planes:
                plane.update(bytes([number, 1]) * (plane.buffer_size // 2))
        options = {"preset": "ultrafast", "refs": "16", "bf": "3"}
        (project.videos / "4k.mp4").write_bytes(encode_frames(frames, options=options))
        facts = project.decode(decode=DECODE.model_copy(update={"max_pixels": 3840 * 2160}))
        assert (facts["4k.mp4"].reason, facts["4k.mp4"].source_frames) == ("", 20)

    def test_a_quarantined_video_is_stored_with_its_reason(self, project):
        (project.videos / "3 frames.mp4").write_text("not a video")
        facts, times = project.decode(), project.times()
        assert facts["3 frames.mp4"].status == "quarantined"
        assert facts["3 frames.mp4"].reason.startswith("not a video that can be opened")
        assert project.decode() == facts
        assert project.times() == times

    def test_only_an_empty_file(self, project):
        shutil.rmtree(project.videos)
        project.videos.mkdir()
        (project.videos / "empty.mp4").touch()
        assert project.decode()["empty.mp4"].reason == "the file is empty"

    def test_a_file_that_could_not_be_read_is_decoded_in_the_next_run(self, project):
        records = project.records()
        away = (project.videos / "3 frames.mp4").rename(project.store.with_name("away.mp4"))
        facts = project.decode(records)["3 frames.mp4"]
        assert facts.reason == "cannot be read (No such file or directory)"
        away.rename(project.videos / "3 frames.mp4")
        assert project.decode(records)["3 frames.mp4"].frames == 3

    def test_a_video_that_blocks_kills_its_process_or_needs_too_much_memory_is_not_stored(
        self, tmp_path
    ):
        records = [
            VideoRecord(video=name, target="", sha256=name)
            for name in ("deadly.mp4", "blocking.mp4", "greedy.mp4")
        ]
        decoded = decode_records(
            tmp_path,
            records,
            videos=DangerousFolder(),
            decode=DecodeSection(timeout_seconds=1),
            compute=ComputeSection(workers=2),
        )
        assert [record.facts.reason for record in decoded] == [
            "decoding failed: the process died (exit code -9)",
            "decoding failed: not finished after 1 s",
            "decoding it needs too much memory (the limit of a decoder process is 3.3 GB, from "
            "decode.max_pixels)",
        ]
        assert not list(tmp_path.iterdir())  # the next run decodes them again


def run(*chunks: list[str], timeout_seconds: float = 30, workers: int = 1):
    return dict(run_isolated(behave, chunks, workers=workers, timeout_seconds=timeout_seconds))


def is_spawned(process: psutil.Process) -> bool:
    return "spawn_main" in " ".join(process.cmdline())


class TestIsolation:
    def test_every_task_gets_its_result(self):
        assert run(["a"], ["b"], ["c"], workers=2) == {"a": "A", "b": "B", "c": "C"}

    def test_a_blocking_task_is_stopped_and_the_others_continue(self):
        results = run(["block"], ["a"], ["b"], timeout_seconds=1)
        assert results == {"block": Failure("not finished after 1 s"), "a": "A", "b": "B"}

    def test_a_task_that_kills_its_process_twice_fails_and_the_others_continue(self):
        results = run(["die"], ["a"], ["b"])
        assert results == {"die": Failure("the process died (exit code -9)"), "a": "A", "b": "B"}

    def test_a_task_whose_process_dies_once_is_run_again(self, tmp_path):
        task = f"die-once {tmp_path / 'seen'}"
        assert run([task]) == {task: task.upper()}

    def test_a_process_that_dies_before_the_pool_knows_its_task_is_replaced(
        self, tmp_path, monkeypatch
    ):
        late = iter([1.0])  # seconds: the death is seen before the message of the start

        def task_start(self, *args, original=pebble.pool.process.TaskManager.task_start):
            time.sleep(next(late, 0))
            original(self, *args)

        monkeypatch.setattr(pebble.pool.process.TaskManager, "task_start", task_start)
        task = f"die-once {tmp_path / 'seen'}"
        assert run(["a", task], ["b"]) == {"a": "A", task: task.upper(), "b": "B"}
        assert next(late, None) is None

    def test_an_idle_process_that_dies_is_replaced(self):
        before = set(psutil.Process().children())
        with IsolatedPool(1, timeout_seconds=30) as pool:
            assert dict(pool.run(behave, [["a"]])) == {"a": "A"}
            new = set(psutil.Process().children()) - before
            (child,) = [one for one in new if is_spawned(one)]
            child.kill()  # without waiting for it: the pool does
            time.sleep(1)
            assert dict(pool.run(behave, [["b"]])) == {"b": "B"}

    def test_processes_that_cannot_start_are_an_error(self):
        with (
            pytest.raises(PipelineError, match="a process died before its first task"),
            IsolatedPool(1, timeout_seconds=30, initializer=partial(behave, "die")) as pool,
        ):
            list(pool.run(behave, [["a"]]))

    @pytest.mark.parametrize("bad", ["block", "die"])
    def test_the_other_tasks_of_a_chunk_get_their_results(self, bad):
        results = run(["a", bad, "b"], ["c"], timeout_seconds=1)
        assert isinstance(results.pop(bad), Failure)
        assert results == {"a": "A", "b": "B", "c": "C"}

    def test_an_error_of_a_task_is_raised_and_no_process_is_left(self):
        before = set(psutil.Process().children())
        with pytest.raises(RuntimeError, match="raise"):
            run(["raise"], ["block"], workers=2)
        left = set(psutil.Process().children()) - before
        assert not [child for child in left if is_spawned(child)]

    def test_no_task_starts_no_process(self):
        assert run() == {}
