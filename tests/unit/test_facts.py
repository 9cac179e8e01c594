import numpy as np

from pipeline.evaluation.data_summary import DescribedVideo
from pipeline.stages.facts import named, video_facts


def video(**known):
    return DescribedVideo("cat", "test", "ok", 7, **known)


def facts_of(*videos, masks=None):
    return video_facts(videos, np.ones((len(videos), 4), bool) if masks is None else masks)


def test_what_is_known_of_a_video():
    known = video(codec="h264", size=(64, 48), fps=29.97, seconds=5.0, extra={"camera": "left"})
    assert facts_of(known) == {
        "clip_frames": [4.0],
        "padding_share": ["none"],
        "source_fps": [29.97],
        "resolution": ["64x48"],
        "duration_seconds": [5.0],
        "codec": ["h264"],
        "extra.camera": ["left"],
    }


def test_what_is_not_known_is_none():
    facts = facts_of(video(extra={"camera": ""}))
    unknown = ("source_fps", "resolution", "duration_seconds", "codec", "extra.camera")
    assert [facts[name] for name in unknown] == [[None]] * 5


def test_clips_by_their_frames_and_their_padding():
    masks = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], bool)
    facts = facts_of(video(), video(), video(), masks=masks)
    assert facts["clip_frames"] == [4, 2, 1]
    assert facts["padding_share"] == ["none", "up to half", "more than half"]


def test_many_picture_sizes_are_told_apart_by_their_pixels():
    facts = facts_of(*(video(size=(10 * side, 10)) for side in range(1, 10)), video())
    assert facts["resolution"] == [100.0 * side for side in range(1, 10)] + [None]


def test_a_column_is_numbers_where_all_of_its_cells_are():
    rows = [{"light": "1e3", "take": "1", "gain": "nan"}, {"light": "", "take": "b", "gain": "2"}]
    facts = facts_of(*(video(extra=row) for row in rows))
    assert facts["extra.light"] == [1000.0, None]
    assert facts["extra.take"] == ["1", "b"]
    assert facts["extra.gain"] == ["nan", "2"]


def test_videos_are_found_by_name():
    one, other = video(codec="h264"), video(codec="vp9")
    assert named({"a": one, "b": other}, ["b", "a"]) == [other, one]
