import io
import logging
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.clips.sampling import Clip
from pipeline.common.tables import printable
from pipeline.review.film_strips import (
    SeenClip,
    film_strip,
    frames_in_strip,
    preview,
    strip_alt,
    strip_sheet,
    write_preview,
)


def red_clip(n_frames=12, real=11, *, heat=None, attention=None, side=36):
    """Red frames, padded with zeros."""
    frames = np.zeros((n_frames, side, side, 3), np.uint8)
    frames[:real, ..., 0] = 200
    return SeenClip(
        frames,
        np.arange(n_frames) < real,
        {} if heat is None else {"frames": heat},
        {} if attention is None else {"frames": attention},
    )


def heat_with(n_frames, strengths):
    heat = np.zeros((n_frames, 2, 2), np.float32)
    heat[: len(strengths), 0, 0] = strengths
    return heat


def test_a_line_has_ten_frames_and_padding_is_crossed():
    strip = film_strip(red_clip())
    # 10 frames of 72 pixels with 3 between them; two lines of 72 with 10 between them.
    assert strip.size == (747, 154)
    pixels = np.asarray(strip)
    assert pixels[36, 36].tolist() == [200, 0, 0, 255]
    second = pixels[82 + 36]
    assert second[36].tolist() == [200, 0, 0, 255]
    assert second[75 + 20].tolist() == [0, 0, 0, 0], "transparent inside the padding"
    assert pixels[82, 75 + 36, 3] == 255, "its outline"


def test_bars_below_each_frame_show_grad_cam_and_attention():
    attention = np.array([0.75, 0.25, 0.0])
    clip = red_clip(3, 2, heat=heat_with(3, [1.0, 0.5]), attention=attention)
    strip = np.asarray(film_strip(clip))
    bars = strip[150:, [36, 111], 3] > 0  # below two rows of 72, each with a gap of 3
    strength, attended = bars[:12].sum(axis=0), bars[15:41].sum(axis=0)
    assert strength.tolist() == [12, 6]
    assert attended.tolist() == [26, 9]  # 26 / 3


def test_colours_are_scaled_within_each_frame_and_a_frame_without_heat_is_grey():
    strip = np.asarray(film_strip(red_clip(3, 3, heat=heat_with(3, [1.0, 0.02, 0.005]))), int)
    warmest = strip[75 + 2, [2, 77, 152], :3]
    assert warmest[0].tolist() == warmest[1].tolist()
    assert len(set(warmest[2].tolist())) == 1, "grey"


def test_of_a_long_clip_twenty_frames_are_drawn():
    assert frames_in_strip(3) == [0, 1, 2]
    assert frames_in_strip(39) == list(range(0, 39, 2))
    assert len(frames_in_strip(500)) == 20
    assert film_strip(red_clip(500, 400)).size[0] == 747


def test_each_stream_has_a_row_with_its_name():
    heat = heat_with(3, [1.0, 0.5, 0.2])
    one = red_clip(3, 3, heat=heat)
    two = replace(one, heat={"frames": heat, "differences": heat})
    first, both = film_strip(one), film_strip(two)
    row = both.height - first.height
    assert row > 0
    rows = np.array(both)[-2 * row :].reshape(2, row, both.width, 4)
    assert (rows[0] != rows[1]).any(), "the names differ"
    assert "Grad-CAM of differences is strongest" in strip_alt(two)


def test_the_alt_text_counts_frames_and_names_the_strongest():
    assert strip_alt(red_clip(2, 1)) == "Film strip of 1 real frame and 1 frame of padding."
    clip = red_clip(2, 2, heat=heat_with(2, [1.0, 0.1]), attention=np.array([0.2, 0.8]))
    assert strip_alt(clip) == (
        "Film strip of 2 real frames. Grad-CAM of frames is strongest in frame 1. "
        "Attention of frames is largest at frame 2: 0.80."
    )


def test_a_sheet_holds_all_strips_with_headings():
    strips = [film_strip(red_clip(3, 3)), film_strip(red_clip(12, 5))]
    sheet = strip_sheet(strips, ["one", "two"])
    assert sheet.width == 747 + 28
    assert sheet.height == 72 + 154 + 2 * (30 + 14) + 14
    assert strip_sheet(strips[:1], ["long " * 100]).width > 747 + 28


@pytest.mark.parametrize("name", ["a\nb.mp4", "a\x85b.mp4", "a\u2028\tb.mp4", "\x1b[31m\u202e.mp4"])
def test_a_heading_is_one_line_whatever_the_name(name):
    strips = [film_strip(red_clip(3, 3))]
    sheet, plain = strip_sheet(strips, [name]), strip_sheet(strips, [printable(name)])
    assert sheet.tobytes() == plain.tobytes()


def test_the_picture_of_predictions_has_the_strips_of_fifty_clips(tmp_path, caplog):
    clip = Clip(np.zeros((3, 8, 8, 3), np.uint8), np.ones(3, bool))
    path = tmp_path / "out.png"
    with caplog.at_level(logging.WARNING):
        write_preview(path, [("a.mp4: left 0.900", [clip, clip])] + [("b.mp4", [clip])] * 59)
    assert Image.open(path).height == 50 * (72 + 30 + 14) + 14
    assert "first 50 of 61 clips" in caplog.text


def test_long_names_are_shortened_in_the_picture_of_predictions(tmp_path):
    clip = Clip(np.zeros((3, 8, 8, 3), np.uint8), np.ones(3, bool))
    write_preview(tmp_path / "out.png", [("folder/" * 500 + "a.mp4: left 0.900", [clip])])
    assert Image.open(tmp_path / "out.png").width < 1500


def test_without_a_classified_video_no_picture_is_written(tmp_path, caplog):
    write_preview(tmp_path / "out.png", [])
    assert not (tmp_path / "out.png").exists()
    assert "out.png is not written" in caplog.text


def opened(content):
    return Image.open(io.BytesIO(content))


def test_an_animation_loops_at_the_speed_of_the_clip():
    levels = 40 * np.arange(5, dtype=np.uint8)
    shown = preview(np.broadcast_to(levels[:, None, None, None], (5, 16, 24, 3)), fps=8)
    animation = opened(shown.animation)
    assert (animation.n_frames, animation.info["loop"], animation.size) == (5, 0, (24, 16))
    durations = []
    for index in range(animation.n_frames):
        animation.seek(index)
        animation.load()
        durations.append(animation.info["duration"])
    assert durations == [125] * 4 + [600]
    assert np.asarray(opened(shown.still)).mean() == 80


def test_of_a_long_animation_forty_frames_are_kept_with_the_same_duration():
    frames = np.random.default_rng(0).integers(0, 255, (80, 300, 200, 3), dtype=np.uint8)
    animation = opened(preview(frames, fps=10).animation)
    assert animation.n_frames == 40
    animation.load()
    assert animation.info["duration"] == 200
    assert max(animation.size) == 128


def test_a_single_frame_has_no_animation():
    assert preview(np.zeros((1, 8, 8, 3), np.uint8), fps=10).animation is None
