"""Clips are written and read back; preprocessing.json beside them too."""

import hashlib
import json

import numpy as np
import pytest

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.sampling import make_clip, make_clips
from pipeline.clips.settings import ExtractSection
from pipeline.clips.shards import shard_count, shard_of, write_clips
from pipeline.common.errors import PipelineError
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.video.settings import DecodeSection
from tests.conftest import numbered_frames, numbers_in

EXTRACT = ExtractSection(frames=4)


def record(length):
    """A decoded video of so many frames."""
    key = hashlib.sha256(str(length).encode()).hexdigest()
    return VideoRecord(
        video=f"{length}.mp4",
        target="odd" if length % 2 else "even",
        split="train",
        group=f"g{length}",
        facts=DecodeFacts(key=key, frames=length),
    )


RECORDS = [record(length) for length in range(1, 7)]


def frames_of(record):
    return numbered_frames(record.facts.frames, height=8, width=6)


def load(record, indices):
    return frames_of(record)[indices]


def write(folder, records, extract=EXTRACT):
    write_clips(folder, records, load=load, extract=extract, frame_size=(8, 6))
    return ClipArrays(folder)


def test_clips_read_back_with_targets_groups_and_masks(tmp_path):
    clips = write(tmp_path / "train", RECORDS)
    assert clips.names == [f"{length}.mp4" for length in range(1, 7)]
    assert clips.targets == ["odd", "even"] * 3
    assert clips.groups == [f"g{length}" for length in range(1, 7)]
    assert clips.masks().sum(axis=1).tolist() == [1, 2, 3, 4, 4, 4]
    assert clips.mask(1).tolist() == [True, True, False, False]
    assert clips.frames(1).shape == (4, 8, 6, 3)
    assert numbers_in(clips.frames(1)[:2]) == [0, 1]
    assert (clips.frames(1)[2:] == 0).all()
    # Five frames into four parts: the middles of 1.25 frames each are frames 0, 1, 3 and 4.
    assert numbers_in(clips.frames(4)) == [0, 1, 3, 4]
    for index, video in enumerate(RECORDS):
        expected = make_clip(frames_of(video), EXTRACT)
        assert (clips.frames(index) == expected.frames).all()


def test_clips_are_memory_mapped(tmp_path):
    clips = write(tmp_path / "train", RECORDS)
    assert isinstance(clips.frames(0).base, np.memmap)


def test_clips_of_several_splits_are_read_as_one(tmp_path):
    write(tmp_path / "train", RECORDS[:4])
    write(tmp_path / "test", RECORDS[4:])
    clips = ClipArrays(tmp_path / "test", tmp_path / "train")
    assert clips.names == ["5.mp4", "6.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4"]
    assert clips.masks().sum(axis=1).tolist() == [4, 4, 1, 2, 3, 4]
    assert numbers_in(clips.frames(0)) == [0, 1, 3, 4]
    assert numbers_in(clips.frames(3)[:2]) == [0, 1]


def test_chosen_clips_have_the_given_order(tmp_path):
    clips = write(tmp_path / "train", RECORDS)
    chosen = clips.chosen([4, 1])
    assert (chosen.names, chosen.targets) == (["5.mp4", "2.mp4"], ["odd", "even"])
    assert chosen.groups == ["g5", "g2"]
    assert chosen.masks().sum(axis=1).tolist() == [4, 2]
    assert numbers_in(chosen.frames(0)) == [0, 1, 3, 4]
    assert len(clips) == 6


def test_one_more_video_rewrites_one_shard(tmp_path):
    write(tmp_path / "before", RECORDS[:5])
    write(tmp_path / "after", RECORDS)
    before = {path.name: path.read_bytes() for path in (tmp_path / "before").glob("*.npy")}
    after = {path.name: path.read_bytes() for path in (tmp_path / "after").glob("*.npy")}
    changed = {name.split(".")[0] for name in after if before.get(name) != after[name]}
    assert changed == {f"{shard_of(RECORDS[5], 8):02d}"}


@pytest.mark.parametrize(
    ("n_videos", "n_shards"),
    [(0, 8), (512, 8), (513, 16), (1024, 16), (1025, 32), (16_384, 256), (10**6, 256)],
)
def test_a_larger_split_has_more_shards(n_videos, n_shards):
    assert shard_count(n_videos) == n_shards


def test_the_same_videos_give_the_same_bytes_in_any_order(tmp_path):
    write(tmp_path / "one", RECORDS)
    write(tmp_path / "other", RECORDS[::-1])
    one = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert one == {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}


def test_a_shard_is_identified_by_its_content(tmp_path):
    one, same = write(tmp_path / "one", RECORDS), write(tmp_path / "same", RECORDS)
    digests = [[shard.digest() for shard in clips.shards().values()] for clips in (one, same)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == len(one.shards())
    key, row = one.position(3)
    assert (one.shards()[key].frames[row] == one.frames(3)).all()


def test_several_clips_of_a_longer_video_are_neighbours(tmp_path):
    clips = write(tmp_path / "train", RECORDS, ExtractSection(frames=2, clips_per_video=2))
    # Videos of one and two frames give one clip; three frames give two that overlap.
    assert clips.names == [
        f"{length}.mp4" for length in range(1, 7) for _ in range(1 if length <= 2 else 2)
    ]
    assert [numbers_in(clips.frames(index)) for index in (2, 3, 4, 5)] == [
        [0, 1], [1, 2],  # of three frames
        [0, 1], [2, 3],  # of four
    ]  # fmt: skip
    assert clips.video_numbers().tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert clips.first_of_videos() == [0, 1, 2, 4, 6, 8]
    assert clips.targets[2:4] == ["odd", "odd"]
    assert clips.video_targets() == ["odd", "even"] * 3
    assert clips.groups[2:4] == ["g3", "g3"]


@pytest.mark.parametrize("sampling", ["uniform", "head", "stride"])
def test_only_the_frames_of_one_clip_are_read_at_a_time(tmp_path, sampling):
    extract = ExtractSection(frames=4, clips_per_video=3, sampling=sampling, stride=2)
    reads = []

    def noted(record, indices):
        reads.append(indices)
        return load(record, indices)

    video = record(1000)
    write_clips(tmp_path / "train", [video], load=noted, extract=extract, frame_size=(8, 6))
    clips, expected = ClipArrays(tmp_path / "train"), make_clips(frames_of(video), extract)
    assert [len(indices) for indices in reads] == [4, 4, 4]
    for index, clip in enumerate(expected):
        assert (clips.frames(index) == clip.frames).all()
        assert (clips.mask(index) == clip.mask).all()


def test_missing_clips_name_the_command(tmp_path):
    with pytest.raises(PipelineError, match=r"no clips\. Build them with: dvc repro extract"):
        ClipArrays(tmp_path / "train")


def test_preprocessing_reads_back_without_settings_that_change_no_frame(tmp_path):
    decode = DecodeSection(fps=5, width=32, fit="letterbox")
    path = tmp_path / "preprocessing.json"
    Preprocessing(decode.model_copy(update={"timeout_seconds": 1.0}), EXTRACT).write(path)
    assert Preprocessing.read(path) == Preprocessing(decode, EXTRACT)


def test_preprocessing_of_another_frames_version_is_refused(tmp_path):
    path = tmp_path / "preprocessing.json"
    Preprocessing(DecodeSection(), EXTRACT).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"frames_version": 1}))
    with pytest.raises(PipelineError, match=r"frames of version 1, .* decodes version \d"):
        Preprocessing.read(path)
    with pytest.raises(PipelineError, match=r"no\.json: no such file"):
        Preprocessing.read(tmp_path / "no.json")
