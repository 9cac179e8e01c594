import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.clips.sampling import ClipSpec, make_clip
from pipeline.clips.shards import ClipArrays, ClipSource, write_clips
from pipeline.video.batch import DecodeTask, update_store
from pipeline.video.reading import WHOLE_VIDEO, FrameSpec
from pipeline.video.source import Limits
from pipeline.video.store import load_frames, stored_path
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames, numbers_in

SPEC = FrameSpec(fps=10, width=8, height=8, fit="crop")
CLIP = ClipSpec(frames=4, sampling="uniform")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Six videos of 1 to 6 numbered frames in a frame store."""
    folder = tmp_path_factory.mktemp("store")
    made = []
    for length in range(1, 7):
        path = folder / f"{length}.mp4"
        path.write_bytes(encode_mp4(numbered_frames(length), fps=10))
        task = DecodeTask(path, f"hash {length}", WHOLE_VIDEO, SPEC, Limits(9, 10_000))
        label = "odd" if length % 2 else "even"
        stored = stored_path(folder, task.key)
        source = ClipSource(f"{length}.mp4", label, f"g{length}", task.key, stored, length)
        made.append((task, source))
    update_store(folder, [task for task, _ in made], workers=1, timeout_seconds=60)
    return [source for _, source in made]


def write(folder, sources, n_shards=3):
    write_clips(folder, sources, frame_spec=SPEC, clip_spec=CLIP, n_shards=n_shards)
    return ClipArrays(folder)


def test_clips_read_back_with_labels_groups_and_masks(tmp_path, sources):
    clips = write(tmp_path / "train", sources)
    assert clips.names == [f"{length}.mp4" for length in range(1, 7)]
    assert clips.labels == ["odd", "even"] * 3
    assert clips.groups == [f"g{length}" for length in range(1, 7)]
    assert clips.masks().sum(axis=1).tolist() == [1, 2, 3, 4, 4, 4]
    assert clips.mask(1).tolist() == [True, True, False, False]
    assert numbers_in(clips.frames(1)[:2]) == [0, 1]
    assert (clips.frames(1)[2:] == 0).all()
    # Five frames into four parts: the middles of 1.25 frames each are frames 0, 1, 3 and 4.
    assert numbers_in(clips.frames(4)) == [0, 1, 3, 4]


def test_clips_are_memory_mapped(tmp_path, sources):
    clips = write(tmp_path / "train", sources)
    assert isinstance(clips.frames(0).base, np.memmap)


def test_clips_of_several_splits_are_read_as_one(tmp_path, sources):
    write(tmp_path / "train", sources[:4])
    write(tmp_path / "test", sources[4:])
    clips = ClipArrays(tmp_path / "test", tmp_path / "train")
    assert clips.names == ["5.mp4", "6.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4"]
    assert clips.masks().sum(axis=1).tolist() == [4, 4, 1, 2, 3, 4]
    assert numbers_in(clips.frames(0)) == [0, 1, 3, 4]
    assert numbers_in(clips.frames(3)[:2]) == [0, 1]


def test_chosen_clips_come_in_the_order_asked_for(tmp_path, sources):
    clips = write(tmp_path / "train", sources)
    chosen = clips.chosen([4, 1])
    assert (chosen.names, chosen.labels) == (["5.mp4", "2.mp4"], ["odd", "even"])
    assert chosen.groups == ["g5", "g2"]
    assert chosen.masks().sum(axis=1).tolist() == [4, 2]
    assert numbers_in(chosen.frames(0)) == [0, 1, 3, 4]
    assert len(clips) == 6


def test_one_more_video_rewrites_one_shard(tmp_path, sources):
    write(tmp_path / "before", sources[:5])
    write(tmp_path / "after", sources)
    before = {path.name: path.read_bytes() for path in (tmp_path / "before").glob("*.npy")}
    after = {path.name: path.read_bytes() for path in (tmp_path / "after").glob("*.npy")}
    changed = {name.split(".")[0] for name in after if before.get(name) != after[name]}
    assert changed == {f"{sources[5].shard(3):02d}"}


def test_the_same_videos_give_the_same_bytes_in_any_order(tmp_path, sources):
    write(tmp_path / "one", sources)
    write(tmp_path / "other", sources[::-1])
    one = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert one == {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}


def test_missing_clips_name_the_remedy(tmp_path):
    with pytest.raises(PipelineError, match=r"no clips there\. Run the extract stage"):
        ClipArrays(tmp_path / "train")


def test_several_clips_of_a_longer_video_stand_together(tmp_path, sources):
    spec = ClipSpec(frames=2, sampling="uniform", clips_per_video=2)
    write_clips(tmp_path / "train", sources, frame_spec=SPEC, clip_spec=spec, n_shards=3)
    clips = ClipArrays(tmp_path / "train")
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
    assert clips.labels[2:4] == ["odd", "odd"]
    assert clips.groups[2:4] == ["g3", "g3"]


def test_one_clip_a_video_is_what_it_was_without_a_choice(tmp_path, sources):
    clips = write(tmp_path / "train", sources)
    assert len(set(clips.names)) == len(clips)
    for index, source in enumerate(sources):
        expected = make_clip(load_frames(source.stored, SPEC), CLIP)
        assert (clips.frames(index) == expected.frames).all()
        assert (clips.mask(index) == expected.mask).all()
