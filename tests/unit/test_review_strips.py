import io

import numpy as np
from PIL import Image

from pipeline.review.previews import preview
from pipeline.review.strips import Seen, drawn_frames, film_strip, strip_alt, strip_sheet


def seen(n_frames=12, real=11, *, heat=None, attention=None, side=36):
    """Red frames, padded with zeros."""
    frames = np.zeros((n_frames, side, side, 3), np.uint8)
    frames[:real, ..., 0] = 200
    return Seen(frames, np.arange(n_frames) < real, heat, attention)


def heat_of(n_frames, strengths):
    heat = np.zeros((n_frames, 2, 2), np.float32)
    heat[: len(strengths), 0, 0] = strengths
    return heat


def test_ten_frames_a_line_and_padding_is_crossed_not_black():
    strip = film_strip(seen())
    # 10 thumbs of 72 pixels with 3 between; two lines of 72 with 10 between.
    assert strip.size == (747, 154)
    pixels = np.asarray(strip)
    assert pixels[36, 36].tolist() == [200, 0, 0, 255]
    second = pixels[82 + 36]
    assert second[36].tolist() == [200, 0, 0, 255]
    assert second[75 + 20].tolist() == [0, 0, 0, 0], "transparent inside the frame of padding"
    assert pixels[82, 75 + 36, 3] == 255, "its outline"


def test_strength_of_grad_cam_and_attention_stand_below_each_frame():
    attention = np.array([0.75, 0.25, 0.0])
    strip = np.asarray(film_strip(seen(3, 2, heat=heat_of(3, [1.0, 0.5]), attention=attention)))
    bars = strip[150:, [36, 111], 3] > 0  # below two rows of 72, each with a gap of 3
    strength, attended = bars[:12].sum(axis=0), bars[15:41].sum(axis=0)
    assert strength.tolist() == [12, 6]
    assert attended.tolist() == [26, 9]  # 26 / 3


def test_colours_fill_each_frame_by_its_own_maximum_unless_it_is_nothing():
    strip = np.asarray(film_strip(seen(3, 3, heat=heat_of(3, [1.0, 0.02, 0.005]))), int)
    warmest = strip[75 + 2, [2, 77, 152], :3]
    assert warmest[0].tolist() == warmest[1].tolist()
    assert len(set(warmest[2].tolist())) == 1, "grey"


def test_long_clips_are_thinned_out_evenly():
    assert drawn_frames(3) == [0, 1, 2]
    assert drawn_frames(39) == list(range(0, 39, 2))
    assert len(drawn_frames(500)) == 20
    assert film_strip(seen(500, 400)).size[0] == 747


def test_the_alt_text_says_what_is_to_be_seen():
    assert strip_alt(seen(2, 1)) == "Film strip of 1 real frame and 1 frame of padding."
    attention = np.array([0.2, 0.8])
    alt = strip_alt(seen(2, 2, heat=heat_of(2, [1.0, 0.1]), attention=attention))
    assert alt == (
        "Film strip of 2 real frames. Grad-CAM is strongest in frame 1. "
        "Attention is largest at frame 2: 0.80."
    )


def test_a_sheet_holds_all_strips_and_headings():
    strips = [film_strip(seen(3, 3)), film_strip(seen(12, 5))]
    sheet = strip_sheet(strips, ["one", "two"])
    assert sheet.width == 747 + 28
    assert sheet.height == 72 + 154 + 2 * (30 + 14) + 14
    assert strip_sheet(strips[:1], ["long " * 100]).width > 747 + 28


def opened(content):
    return Image.open(io.BytesIO(content))


def test_a_preview_loops_at_the_speed_of_the_clip():
    made = preview(
        np.arange(5, dtype=np.uint8)[:, None, None, None]
        * np.ones((16, 24, 3)).astype(np.uint8)
        * 40,
        fps=8,
    )
    moving = opened(made.moving)
    assert (moving.n_frames, moving.info["loop"], moving.size) == (5, 0, (24, 16))
    durations = []
    for index in range(moving.n_frames):
        moving.seek(index)
        moving.load()
        durations.append(moving.info["duration"])
    assert durations == [125] * 4 + [600]
    assert np.asarray(opened(made.still)).mean() == 80


def test_a_long_preview_is_thinned_out_and_takes_as_long():
    frames = np.random.default_rng(0).integers(0, 255, (80, 300, 200, 3), dtype=np.uint8)
    made = preview(frames, fps=10)
    moving = opened(made.moving)
    assert moving.n_frames == 40
    moving.load()
    assert moving.info["duration"] == 200
    assert max(moving.size) == 128


def test_one_frame_does_not_move_and_nothing_does_when_off():
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    assert preview(frames[:1], fps=10).moving is None
    assert preview(frames, fps=10, moves=False).moving is None
