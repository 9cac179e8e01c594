import csv
import re
from collections import Counter
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest

from data.demo import caption, frames, generate, multilabel, regression, side_inputs
from data.demo.drawing import FPS, SIZE
from data.demo.generate import LONGEST, SHORTEST, clip_lengths, write_demo_videos
from data.demo.scenes import MOTIONS, object_path, render_clip
from pipeline.clips.settings import ExtractSection
from pipeline.common.errors import PipelineError
from pipeline.params import load_params
from pipeline.setup.demo import use_demo
from pipeline.video.reading import read_frames
from pipeline.video.settings import DecodeSection

BACKWARDS = {"right": "left", "down": "up", "clockwise": "counter_clockwise"}


def paths_of(motion, *, count=4000, frames=9):
    """Object positions of many clips: [count, frames, 2]."""
    numbers = range(count)
    rngs = (np.random.default_rng([MOTIONS.index(motion), number]) for number in numbers)
    return np.stack([object_path(motion, frames=frames, rng=rng) for rng in rngs])


@pytest.fixture(scope="module")
def paths():
    return {motion: paths_of(motion) for motion in MOTIONS}


def distance(some, other):
    """Total variation distance of the positions, 0 to 1, over a 4 x 4 grid; chance gives 0.03."""
    edges = [np.linspace(0, SIZE, 5)] * 2
    shares = [np.histogram2d(*points.reshape(-1, 2).T, bins=edges)[0] for points in (some, other)]
    return 0.5 * np.abs(shares[0] / shares[0].sum() - shares[1] / shares[1].sum()).sum()


@pytest.mark.parametrize("motion", MOTIONS[1:])
def test_the_position_in_a_frame_is_independent_of_the_class(paths, motion):
    assert distance(paths[MOTIONS[0]], paths[motion]) < 0.05


@pytest.mark.parametrize(("motion", "reverse"), BACKWARDS.items())
def test_two_opposite_motions_are_each_other_played_backwards(paths, motion, reverse):
    backwards = paths[reverse][:, ::-1]
    for number in range(backwards.shape[1]):
        assert distance(paths[motion][:, number], backwards[:, number]) < 0.08
    steps, steps_backwards = (np.diff(path, axis=1) for path in (paths[motion], backwards))
    assert np.allclose(np.abs(steps).mean((0, 1)), np.abs(steps_backwards).mean((0, 1)), rtol=0.05)
    assert np.allclose(steps.mean((0, 1)), steps_backwards.mean((0, 1)), atol=0.2)


@pytest.mark.parametrize(
    ("motion", "heading"), [("right", (1, 0)), ("left", (-1, 0)), ("down", (0, 1)), ("up", (0, -1))]
)
@pytest.mark.parametrize("frames", [SHORTEST, LONGEST])
def test_a_straight_clip_crosses_more_than_a_quarter_of_the_picture(motion, heading, frames):
    path = object_path(motion, frames=frames, rng=np.random.default_rng(0))
    step = (path[-1] - path[0]) / (frames - 1)
    assert np.allclose(np.diff(path, axis=0), step)
    assert np.allclose(step / np.hypot(*step), heading)
    assert np.hypot(*(path[-1] - path[0])) > SIZE / 4


@pytest.mark.parametrize(("motion", "sign"), [("clockwise", 1), ("counter_clockwise", -1)])
@pytest.mark.parametrize("frames", [SHORTEST, LONGEST])
def test_a_circular_clip_turns_one_way_by_less_than_half_a_circle_per_frame(motion, sign, frames):
    path = object_path(motion, frames=frames, rng=np.random.default_rng(0))
    steps = np.diff(path, axis=0) @ [1, 1j]
    turns = np.degrees(np.angle(steps[1:] / steps[:-1])) * sign  # y points down
    assert np.allclose(turns, turns[0])
    assert 0 < turns[0] < 120
    assert turns[0] * frames > 360


def test_the_object_never_leaves_the_picture(paths):
    everywhere = np.concatenate(list(paths.values()))
    assert everywhere.min() >= 0
    assert everywhere.max() <= SIZE


def test_the_object_is_drawn_on_its_path():
    clip = render_clip("right", frames=8, rng=np.random.default_rng(7))
    path = object_path("right", frames=8, rng=np.random.default_rng(7))
    assert (clip.shape, clip.dtype) == ((8, SIZE, SIZE, 3), np.uint8)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for picture, (x, y) in zip(clip, path, strict=True):
        bright = picture.mean(axis=2) > 140
        assert np.allclose((columns[bright].mean(), rows[bright].mean()), (x, y), atol=1.5)


def test_the_background_moves_too():
    clip = render_clip("left", frames=2, rng=np.random.default_rng(3)).astype(int)
    x, y = object_path("left", frames=1, rng=np.random.default_rng(3))[0]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    far_away = np.hypot(columns - x, rows - y) > SIZE / 2
    assert np.abs(clip[1] - clip[0])[far_away].mean() > 1


def test_lengths_range_from_less_than_a_third_of_t_to_more_than_t():
    clip_frames = ExtractSection().frames
    assert clip_frames / 3 > SHORTEST
    assert clip_frames < LONGEST
    assert clip_lengths(1) == [6]
    assert clip_lengths(6) == [6, 10, 13, 17, 20, 24]
    assert Counter(clip_lengths(110)).keys() == set(range(6, 25))


def test_every_class_has_videos_of_the_same_names_and_lengths(tmp_path):
    write_demo_videos(tmp_path, videos_per_class=3, seed=0)
    expected = {"000.mp4": 6, "001.mp4": 15, "002.mp4": 24}
    assert {
        folder.name: {video.name: len(frames_of(video)) for video in folder.iterdir()}
        for folder in tmp_path.iterdir()
    } == dict.fromkeys(MOTIONS, expected)


def test_no_two_videos_have_the_same_look(tmp_path):
    write_demo_videos(tmp_path, videos_per_class=2, seed=0)
    colours = np.stack([frames_of(video)[0].mean((0, 1)) for video in tmp_path.rglob("*.mp4")])
    distances = np.linalg.norm(colours[:, None] - colours, axis=2)
    assert distances[~np.eye(12, dtype=bool)].min() > 3


def frames_of(video):
    return read_frames(video, DecodeSection(fps=FPS, width=SIZE, height=SIZE))


def test_a_seed_gives_the_same_bytes(tmp_path):
    write_demo_videos(tmp_path / "one", videos_per_class=2, seed=5)
    write_demo_videos(tmp_path / "two", videos_per_class=2, seed=5)
    write_demo_videos(tmp_path / "other", videos_per_class=2, seed=6)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert not set(one.values()) & set(other.values())
    assert len(set(one.values())) == len(one) == 12


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.mp4")}


@pytest.fixture
def params_file(tmp_path, monkeypatch):
    """data/demo/params.yaml in a repository of its own, the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data/demo/params.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("seed: 0\nvideos_per_class: 1\nvideos: 3\n")
    monkeypatch.setattr("sys.argv", ["generate", "classification"])
    return path


def test_the_command_replaces_the_videos_and_leaves_nothing_else(params_file):
    stale = params_file.parent / "videos/sideways/000.mp4"
    stale.parent.mkdir(parents=True)
    stale.touch()
    generate.main()
    assert sorted(path.name for path in params_file.parent.iterdir()) == ["params.yaml", "videos"]
    assert sorted(contents(params_file.parent)) == [f"videos/{name}/000.mp4" for name in MOTIONS]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "seed: 0\nvideos_per_class: 1\nvideos: 3\ncolour: red\n",
            "colour: unknown key. Remove it or correct its spelling",
        ),
        ("seed: 0\nvideos: 3\n", "videos_per_class: missing. Add this key"),
        (
            "seed: -1\nvideos_per_class: many\nvideos: 3\n",
            "seed: Input should be greater than or equal to 0. Received: -1; "
            "videos_per_class: Input should be a valid integer. Received: 'many'",
        ),
        (
            "videos: 3\n",
            "seed: missing. Add this key; videos_per_class: missing. Add this key",
        ),
    ],
)
def test_bad_params_are_named_and_the_videos_stay(params_file, content, message):
    generate.main()
    before = contents(params_file.parent)
    params_file.write_text(content)
    with pytest.raises(PipelineError) as refused:
        generate.main()
    assert str(refused.value) == f"data/demo/params.yaml: {message}"
    assert contents(params_file.parent) == before


@pytest.mark.parametrize(
    ("name", "columns", "videos"),
    [
        ("caption", ["caption", "split", "combination"], 3),
        ("multilabel", ["labels"], 3),
        ("regression", ["value"], 3),
        ("frames", ["start_seconds", "end_seconds", "label"], 1),
        ("side_inputs", ["label", "camera_metres", "site"], 3),
    ],
)
def test_another_demo_set_has_a_labels_table(params_file, monkeypatch, name, columns, videos):
    monkeypatch.setattr("sys.argv", ["generate", name])
    generate.main()
    folder = params_file.parent / f"videos_{name}"
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    assert list(rows[0]) == ["video", *columns]
    assert {row["video"] for row in rows} == {path.name for path in folder.glob("*.mp4")}
    assert len({row["video"] for row in rows}) == videos


def test_the_motion_of_the_demo_for_frames_changes_and_rests_without_a_label():
    rng = np.random.default_rng(0)
    videos = [frames.draw_stretches(60, rng) for _ in range(200)]
    for stretches in videos:
        assert [stretch.start for stretch in stretches] == [
            0,
            *(stretch.stop for stretch in stretches[:-1]),
        ]
        assert stretches[-1].stop == 60
        motions = [stretch.label for stretch in stretches if stretch.label]
        assert all(one != other for one, other in pairwise(motions))
    labels = Counter(stretch.label for stretches in videos for stretch in stretches)
    assert labels.keys() == {"", *frames.LABELS}
    assert min(labels.values()) > 50


def test_an_object_of_the_demo_for_frames_moves_unless_it_rests():
    stretches = [
        frames.Stretch(0, 4, "swing"),
        frames.Stretch(4, 8, ""),
        frames.Stretch(8, 12, "clockwise"),
    ]
    angles = np.degrees(frames.object_angles(stretches, np.random.default_rng(0)))
    steps = np.diff(angles)
    assert (np.sign(steps) == [1, -1, 1, 0, 0, 0, 0, 1, 1, 1, 1]).all()
    assert 35 <= np.abs(steps).max() <= 50


def test_an_object_of_the_demo_for_regression_keeps_its_speed_between_the_walls():
    path = regression.bouncing_path(30.0, frames=60, rng=np.random.default_rng(0))
    assert path.min() >= 10
    assert path.max() <= SIZE - 10
    steps = np.hypot(*np.diff(path, axis=0).T)
    assert np.isclose(steps, 3).mean() > 0.8  # a frame in which it bounces has a shorter one


def test_the_demo_for_side_inputs_needs_both_the_video_and_the_number():
    def clip(label, metres):
        rng = np.random.default_rng(0)
        return side_inputs.render_clip(label, metres, frames=8, rng=rng)

    assert (clip("eastwards", 5.0) == clip("westwards", -5.0)).all()
    assert (clip("eastwards", 5.0) != clip("westwards", 5.0)).any()
    rng = np.random.default_rng(0)
    rows = [side_inputs.draw_cells(rng) for _ in range(400)]
    far = [row["label"] for row in rows if float(row["camera_metres"]) > 0]
    assert 0.4 < far.count("eastwards") / len(far) < 0.6


def test_a_label_of_the_demo_for_labels_changes_the_order_of_the_frames_only():
    """Without a background, the frames with and without the labels are the same set."""
    clips = [
        multilabel.render_clip(labels, frames=8, rng=np.random.default_rng(4))
        for labels in (frozenset(multilabel.LABELS), frozenset())
    ]
    red = [np.sort((clip[..., 0] > 190).sum(axis=(1, 2))) for clip in clips]
    assert np.allclose(red[0], red[1], atol=12)


def test_params_that_cannot_be_read_are_named(params_file):
    params_file.write_text("seed: [")
    with pytest.raises(PipelineError, match=r"^data/demo/params\.yaml, line 1, column 8: "):
        generate.main()
    params_file.unlink()
    with pytest.raises(PipelineError, match=r"^data/demo/params\.yaml: no such file in .*Run the"):
        generate.main()


DEMOS = ("regression", "multilabel", "frames", "caption", "side_inputs", "classification")


@pytest.mark.parametrize("name", DEMOS)
def test_params_point_at_a_demo_set_and_keep_everything_else(tmp_path, name):
    committed = Path("params.yaml").read_text()
    changed = tmp_path / "params.yaml"
    changed.write_text(committed)
    for other in DEMOS:
        use_demo(other, changed)
    use_demo(name, changed)
    params = load_params(changed)
    has_side_inputs = name == "side_inputs"
    task = "classification" if has_side_inputs else name
    assert (params.data.videos, params.task.type) == (str(generate.demo_folder(name)), task)
    assert params.task.unit == ("pixels/s" if name == "regression" else "")
    assert params.data.side_inputs == (side_inputs.SIDE_INPUTS if has_side_inputs else {})
    lines = zip(committed.splitlines(), changed.read_text().splitlines(), strict=True)
    different = [after.split(":")[0].strip() for before, after in lines if before != after]
    changes = {
        "frames": {"frames": 40, "bidirectional": True, "pooling": "flatten"},
        "caption": {"frames": 14, "bidirectional": True, "pooling": "flatten"},
    }.get(name, {})
    assert set(different) <= {"videos", "labels", "side_inputs", "type", "unit", "name", *changes}
    is_default = name == "classification"
    assert (params.register_.name == load_params(Path("params.yaml")).register_.name) == is_default
    assert params.extract.frames == changes.get("frames", 20)
    assert params.model.cnn.pooling == changes.get("pooling", "average")
    assert params.model.temporal.bidirectional == changes.get("bidirectional", False)
    assert [line.partition("#")[2] for line in changed.read_text().splitlines()] == [
        line.partition("#")[2] for line in committed.splitlines()
    ]


def test_half_of_the_captions_of_the_test_videos_are_not_in_training(tmp_path):
    generate.write_labelled_videos(tmp_path / "a", generate.DRAWN["caption"], videos=60, seed=0)
    rows = list(csv.DictReader((tmp_path / "a" / "labels.csv").open()))
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    captions = {
        split: {row["caption"] for row in rows if row["split"] == split}
        for split in ("train", "val", "test")
    }
    assert {row["combination"] for row in rows if row["split"] != "test"} == {"seen"}
    unseen = {row["caption"] for row in rows if row["combination"] == "unseen"}
    assert unseen < captions["test"]
    assert not unseen & (captions["train"] | captions["val"])
    for row in rows:
        assert re.fullmatch(
            r"a (red|green|blue|yellow) (circle|square|triangle) moves (left|right|up|down) and "
            r"then (left|right|up|down)",
            row["caption"],
        )


def test_training_holds_each_part_of_the_held_out_captions():
    held_out = [each for each in caption.COMBINATIONS if caption.is_held_out(each)]
    others = [each for each in caption.COMBINATIONS if not caption.is_held_out(each)]
    assert len(held_out) * 6 == len(caption.COMBINATIONS) == 4 * 3 * 4 * 3
    for parts in (itemgetter(0, 1), itemgetter(0, 2, 3), itemgetter(1, 2, 3)):
        assert set(map(parts, held_out)) <= set(map(parts, others))


@pytest.mark.parametrize("combination", caption.COMBINATIONS[::7])
def test_the_object_moves_as_its_caption_says(combination):
    colour, _, first, second = combination
    rng = np.random.default_rng(3)
    frames = caption.render_clip(combination, frames=20, rng=rng).astype(int)
    distance_of_colour = np.abs(frames - caption.COLOURS[colour]).sum(axis=-1)
    centres = np.array([np.argwhere(each < 90).mean(axis=0)[::-1] for each in distance_of_colour])
    steps = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    for name, (start, end) in {first: (0, 7), second: (-8, -1)}.items():
        moved = centres[end] - centres[start]
        assert np.dot(moved, steps[name]) > 8
        assert np.abs(moved).min() < 3


def test_a_task_without_a_demo_set_and_a_missing_key_are_named(tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text(
        "data:\n  videos: a\n  labels: b\n  side_inputs: {}\ntask:\n  type: classification\n"
    )
    with pytest.raises(PipelineError, match=r"NAME must be one of classification, .* counting"):
        use_demo("counting", params)
    with pytest.raises(PipelineError, match=r"params\.yaml: expected the key task\.unit"):
        use_demo("regression", params)
    assert "videos: a" in params.read_text()
