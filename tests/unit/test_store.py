import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.base.files import sha256_of_file
from pipeline.video import batch
from pipeline.video.batch import DecodeTask, prune_store, update_store
from pipeline.video.reading import WHOLE_VIDEO, FrameSpec, Segment, read_frames
from pipeline.video.source import Limits
from pipeline.video.store import load_frames, read_stored, stored_path
from pipeline.video.workers import Failure
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames, numbers_in

SPEC = FrameSpec(fps=10, width=16, height=16, fit="crop")
LIMITS = Limits(max_seconds=60, max_pixels=10_000)


@pytest.fixture
def sources(tmp_path) -> list[Path]:
    paths = []
    for length in (3, 5, 40):
        paths.append(tmp_path / f"{length} frames.mp4")
        paths[-1].write_bytes(encode_mp4(numbered_frames(length) // 2, fps=10))
    return paths


def task(path: Path, **changes) -> DecodeTask:
    sha256 = sha256_of_file(path) if path.is_file() else ""
    return replace(DecodeTask(path, sha256, WHOLE_VIDEO, SPEC, LIMITS), **changes)


def update(folder: Path, paths, **changes):
    tasks = [task(path, **changes) for path in paths]
    stored = update_store(folder, tasks, workers=1, timeout_seconds=60)
    prune_store(folder, stored.keys())
    return stored


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def written_at(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_stored_frames_are_the_decoded_ones_bit_for_bit(tmp_path, sources):
    stored = update(tmp_path / "store", sources)
    for path in sources:
        key = task(path).key
        loaded = load_frames(stored_path(tmp_path / "store", key), SPEC)
        np.testing.assert_array_equal(loaded, read_frames(path, SPEC, limits=LIMITS))
        assert stored[key].frames == len(loaded)
        assert stored[key].found["codec"] == "h264"


def test_a_second_run_decodes_nothing(tmp_path, sources):
    update(tmp_path / "store", sources)
    before = written_at(tmp_path / "store")
    update(tmp_path / "store", sources)
    assert written_at(tmp_path / "store") == before


def test_one_more_video_decodes_one(tmp_path, sources):
    update(tmp_path / "store", sources[:2])
    before = written_at(tmp_path / "store")
    update(tmp_path / "store", sources)
    after = written_at(tmp_path / "store")
    assert len(after) == 3
    assert {name: after[name] for name in before} == before


def test_a_renamed_video_decodes_nothing_and_a_removed_one_goes(tmp_path, sources):
    update(tmp_path / "store", sources)
    before = written_at(tmp_path / "store")
    renamed = tmp_path / "other name.mp4"
    shutil.move(sources[0], renamed)
    stored = update(tmp_path / "store", [renamed, sources[1]])
    after = written_at(tmp_path / "store")
    assert len(after) == len(stored) == 2
    assert all(before[name] == when for name, when in after.items())


@pytest.mark.parametrize("where", [0.0, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_damaged_file_is_decoded_again(tmp_path, sources, where):
    update(tmp_path / "store", sources)
    before, times = contents(tmp_path / "store"), written_at(tmp_path / "store")
    victim = sorted((tmp_path / "store").iterdir())[1]
    damaged = bytearray(victim.read_bytes())
    damaged[int(where * len(damaged))] ^= 0x10
    victim.write_bytes(damaged)
    assert read_stored(victim) is None
    update(tmp_path / "store", sources)
    assert contents(tmp_path / "store") == before
    after = written_at(tmp_path / "store")
    assert [name for name in times if times[name] != after[name]] == [victim.name]


def test_other_settings_replace_every_file(tmp_path, sources):
    update(tmp_path / "store", sources)
    before = set(contents(tmp_path / "store"))
    update(tmp_path / "store", sources, spec=FrameSpec(fps=5, width=16, height=16, fit="crop"))
    after = set(contents(tmp_path / "store"))
    assert len(after) == 3
    assert not before & after


def test_two_processes_give_the_same_bytes_as_one(tmp_path, sources):
    update(tmp_path / "one", sources)
    tasks = [task(path) for path in sources]
    update_store(tmp_path / "two", tasks, workers=2, timeout_seconds=60)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_nothing_but_empty_files(tmp_path):
    path = tmp_path / "empty.mp4"
    path.touch()
    (refused,) = update(tmp_path / "store", [path]).values()
    assert refused.reason == "the file is empty"


def test_segments_of_one_video_are_stored_apart(tmp_path, sources):
    tasks = [task(sources[2], segment=Segment(start, start + 1)) for start in (0.0, 2.0)]
    stored = update_store(tmp_path / "store", tasks, workers=1, timeout_seconds=60)
    frames = [load_frames(stored_path(tmp_path / "store", each.key), SPEC) for each in tasks]
    assert len(stored) == 2
    assert [len(each) for each in frames] == [10, 10]
    assert numbers_in(2 * frames[1].astype(int))[0] == 20


def test_a_refused_video_is_remembered_with_its_reason(tmp_path, sources):
    sources[0].write_text("not a video")
    stored = update(tmp_path / "store", sources)
    refused = stored[task(sources[0]).key]
    assert refused.frames == 0
    assert refused.reason.startswith("not a video that can be opened")
    before = written_at(tmp_path / "store")
    assert update(tmp_path / "store", sources) == stored
    assert written_at(tmp_path / "store") == before


def test_a_video_that_hangs_or_crashes_is_refused_and_tried_again(tmp_path, sources, monkeypatch):
    def all_fail(_work, chunks, **_options):  # test_workers.py has real hangs and crashes
        return [(each, Failure("not done after 60 s")) for chunk in chunks for each in chunk]

    with monkeypatch.context() as patched:
        patched.setattr(batch, "run_isolated", all_fail)
        stored = update(tmp_path / "store", sources)
    assert {each.reason for each in stored.values()} == {"decoding failed: not done after 60 s"}
    assert {each.frames for each in update(tmp_path / "store", sources).values()} == {3, 5, 40}


def test_what_a_killed_worker_left_half_written_is_removed(tmp_path, sources):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".in-progress-1").write_text("half")
    update(tmp_path / "store", sources)
    assert len(list((tmp_path / "store").iterdir())) == 3


def test_a_run_that_was_cut_short_is_taken_up_where_it_stopped(tmp_path, sources):
    update(tmp_path / "whole", sources)
    update(tmp_path / "store", sources[:1])
    before = written_at(tmp_path / "store")
    update(tmp_path / "store", sources)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
    assert written_at(tmp_path / "store").items() >= before.items()


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(PipelineError, match=r"cannot be read .* Run the decode stage again"):
        load_frames(tmp_path / "no.frames.zip", SPEC)
