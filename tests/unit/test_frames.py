import csv
import math
from dataclasses import replace
from itertools import pairwise

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.clips.sampling import clip_windows
from pipeline.clips.settings import ExtractSection
from pipeline.common.bootstrap import Resampling
from pipeline.common.errors import PipelineError
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.dataset.layouts import read_labels
from pipeline.dataset.settings import CatalogSection, DataSection
from pipeline.dataset.splits import assign_splits
from pipeline.evaluation.predictions import Predictions, on_same_videos, pool
from pipeline.model.network import build_model
from pipeline.model.prediction import restore_order
from pipeline.tasks.frame_scores import edit_score, match_segments, segments_of
from pipeline.tasks.frames import Frames
from pipeline.tasks.intervals import ClipFrames, read_intervals
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import targets_of
from pipeline.tasks.task import BaselineClips
from tests.architectures import inputs_of, tiny

TARGETS = targets_of("frames")
TASK = Frames(("run", "walk"), fps=10)
HEADER = "video,start_seconds,end_seconds,label"


def clip_target(text, start=0, stop=None, length=None, fps=10.0):
    frames = range(start, length if stop is None else stop)
    return TARGETS.of_clip(text, ClipFrames(frames, length or len(frames), fps))


def output_of(labels, *, sure=0.9, task=TASK):
    """Probabilities of a video whose predicted labels are r(un), w(alk) or . (padding)."""
    rows = {".": [0.0] * len(task.class_names)}
    for index, name in enumerate(task.class_names):
        rest = (1 - sure) / (len(task.class_names) - 1)
        rows[name[0]] = [sure if other == index else rest for other in range(len(task.class_names))]
    return np.array([rows[letter] for letter in labels])


def outputs_of_videos(*videos):
    longest = max(map(len, videos))
    return np.stack([output_of(labels.ljust(longest, ".")) for labels in videos])


def scores_of(targets, outputs):
    return {
        name: float(score)
        for name, score in TASK.scores(TASK.terms(targets, outputs).sum(axis=0)).items()
    }


class TestLabelsTable:
    def read(self, tmp_path, rows, background="", header=HEADER):
        for name in ("a.mp4", "b.mp4"):
            (tmp_path / name).touch()
        (tmp_path / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
        targets = TARGETS.configured(TaskSection(background=background))
        records = read_labels(DataSection(videos=str(tmp_path)), targets)
        return [(record.video, record.target) for record in records]

    def test_the_rows_of_a_video_are_its_intervals_in_order(self, tmp_path):
        rows = ["a.mp4,1.5,2,run", "b.mp4,0,1,walk", "a.mp4,0.25,1.5,walk"]
        assert self.read(tmp_path, rows) == [
            ("a.mp4", "0.25 to 1.5 walk|1.5 to 2 run"),
            ("b.mp4", "0 to 1 walk"),
        ]

    def test_empty_seconds_are_the_start_and_the_end_of_the_video(self, tmp_path):
        rows = ["a.mp4,,1,walk", "a.mp4,1,,run", "b.mp4,,,walk"]
        assert [target for _, target in self.read(tmp_path, rows)] == [
            "0 to 1 walk|1 to end run",
            "0 to end walk",
        ]

    def test_a_background_fills_gaps_and_videos_without_intervals(self, tmp_path):
        records = self.read(tmp_path, ["a.mp4,1,2,run", "b.mp4,,,"], background="stand")
        assert records == [("a.mp4", "1 to 2 run|else stand"), ("b.mp4", "else stand")]
        labels = read_intervals(records[0][1]).frame_labels(2, range(5))
        assert labels == ["stand", "stand", "run", "run", "stand"]

    def test_the_background_is_a_label(self):
        assert TaskSection(background=" mu\u0308de ").background == "m\u00fcde"
        for text in ("sit|stand", "sit\nstand", "sit\u2028stand"):
            with pytest.raises(ValidationError, match=r"without \|, line breaks"):
                TaskSection(background=text)

    @pytest.mark.parametrize(
        ("rows", "place", "problem"),
        [
            (
                ["a.mp4,0,2,run", "b.mp4,0,1,run", "a.mp4,1,3,walk"],
                "line 4",
                "overlaps '0 to 2 run'",
            ),
            (["a.mp4,2,1,run"], "line 2", "end_seconds must be greater than start_seconds"),
            (["a.mp4,1,1,run"], "line 2", "end_seconds must be greater than start_seconds"),
            (["a.mp4,0,1,"], "line 2", "the column label is empty"),
            (["a.mp4,,,"], "line 2", "or name it in task.background"),
            (["a.mp4,0,1,run|walk"], "line 2", "label must be a name without |"),
            (["a.mp4,soon,1,run"], "line 2", "start_seconds must be a number, 0 or more"),
            (["a.mp4,0,-1,run"], "line 2", "end_seconds must be a number, 0 or more"),
            (["a.mp4,0,inf,run"], "line 2", "end_seconds must be a number, 0 or more"),
            (["a.mp4,nan,1,run"], "line 2", "start_seconds must be a number, 0 or more"),
        ],
    )
    def test_a_wrong_row_is_named(self, tmp_path, rows, place, problem):
        with pytest.raises(PipelineError) as error:
            self.read(tmp_path, rows)
        assert str(error.value).startswith(f"{tmp_path}/labels.csv, {place}: ")
        assert problem in str(error.value)

    def test_intervals_may_touch_and_may_be_in_any_order(self, tmp_path):
        assert self.read(tmp_path, ["a.mp4,1,2,run", "a.mp4,0,1,run"]) == [
            ("a.mp4", "0 to 1 run|1 to 2 run")
        ]

    def test_a_table_without_the_columns_is_refused(self, tmp_path):
        with pytest.raises(PipelineError, match="missing start_seconds, end_seconds"):
            self.read(tmp_path, ["a.mp4,walk"], header="video,label")

    def test_a_label_that_is_only_in_test_is_refused(self):
        records = [
            VideoRecord(f"{split}.mp4", target, split=split)
            for split, target in (
                ("train", "0 to 1 walk"),
                ("val", "0 to 1 walk"),
                ("test", "0 to 1 walk|1 to 2 run"),
            )
        ]
        with pytest.raises(PipelineError, match="label 'run' in train; label 'run' in val"):
            assign_splits(records, CatalogSection(), TARGETS)

    def test_one_label_is_too_few(self):
        records = [VideoRecord("a.mp4", "0 to 1 walk", split="train")]
        with pytest.raises(PipelineError, match=r"at least two labels\. Received: walk\."):
            TARGETS.check_splits(records)

    def test_computed_splits_have_every_label(self):
        targets = ["0 to 1 walk"] * 40 + ["0 to 1 walk|1 to 2 run"] * 3
        records = [
            VideoRecord(f"{number}.mp4", target, sha256=f"{number:016d}" + 48 * "0")
            for number, target in enumerate(targets)
        ]
        split = assign_splits(records, CatalogSection(), TARGETS)
        with_run = [record.split for record in split if "run" in record.target]
        assert sorted(with_run) == ["test", "train", "val"]


class TestDecodedVideos:
    def check(self, target, *, seconds=2.0, reason="", more=()):
        facts = DecodeFacts("k", frames=20, source_seconds=seconds, reason=reason)
        records = [
            VideoRecord(f"{split}.mp4", target, split=split, facts=facts)
            for split in ("train", "val", "test")
        ]
        TARGETS.check_decoded([*records, *more], fps=10)

    def test_an_interval_beyond_the_video_is_refused(self):
        with pytest.raises(PipelineError, match=r"train.mp4: the interval '1 to 3 run' is beyond"):
            self.check("0 to 1 walk|1 to 3 run")
        with pytest.raises(PipelineError, match=r"'2\.5 to end run' is beyond the end"):
            self.check("0 to 1 walk|2.5 to end run")

    def test_an_interval_may_end_up_to_one_frame_after_the_video(self):
        self.check("0 to 1 walk|1 to 2.1 run")

    def test_a_damaged_video_may_be_shorter_than_its_intervals(self):
        self.check("0 to 1 walk|1 to 3 run", reason="ends early")

    def test_damage_before_the_labels_leaves_a_video_without_a_target(self):
        cut = VideoRecord(
            "cut.mp4", "2 to 3 run", split="train", facts=DecodeFacts("k", 5, "ends early")
        )
        self.check("0 to 1 walk|1 to 2 run", more=[cut])
        assert not TARGETS.has_target(cut, fps=10)
        assert TARGETS.has_target(replace(cut, target="0 to 1 run"), fps=10)

    def test_a_video_without_a_labelled_frame_is_refused(self):
        with pytest.raises(PipelineError, match="no frame is labelled"):
            self.check("0.11 to 0.19 walk|0.31 to 0.39 run")

    def test_a_label_without_a_frame_in_a_split_is_refused(self):
        with pytest.raises(
            PipelineError, match=r"no frame of label 'run' in train; .* at 10 frames"
        ):
            self.check("0 to 1 walk|1.01 to 1.04 run")


class TestFrameLabels:
    def test_a_frame_has_the_label_of_its_time_and_ends_are_exclusive(self):
        labels = read_intervals("0 to 0.3 walk|0.3 to 0.5 run").frame_labels(10, range(6))
        assert labels == ["walk", "walk", "walk", "run", "run", ""]

    @pytest.mark.parametrize("fps", [7, 10, 12.5, 29.97, 30])
    def test_an_interval_from_frame_to_frame_has_exactly_these_frames(self, fps):
        for first, stop in ((0, 3), (3, 11), (29, 30)):
            text = f"{first / fps!r} to {stop / fps!r} run"
            labels = read_intervals(text).frame_labels(fps, range(40))
            assert [index for index, label in enumerate(labels) if label] == list(
                range(first, stop)
            )

    def test_windows_cover_every_frame_once_and_keep_its_label(self):
        text = "0.2 to 1.1 walk|1.3 to end run"
        extract = ExtractSection(frames=8, sampling="consecutive")
        whole = TASK.encode([clip_target(text, 0, 23)])[0]
        parts = []
        for window in clip_windows(23, extract):
            row = TASK.encode([clip_target(text, *window, length=8)])[0]
            real = window.stop - window.start
            assert (row[real:] == -1).all()
            parts.append(row[:real])
        assert np.concatenate(parts).tolist() == whole.tolist()

    def test_text_of_intervals_is_read_back(self):
        for text in ("0 to 1.5 walk up|2 to end run", "0.1 to 0.2 x|else idle", "else idle", ""):
            assert read_intervals(text).text == text
            assert TARGETS.of_video(clip_target(text, 3, 9, length=12)) == text

    def test_names_and_frame_rate_are_learnt_from_training_clips(self):
        task = Frames.learn([clip_target("0 to 1 walk|1 to 2 run", 0, 20, fps=12.5)], TaskSection())
        assert task == Frames(("run", "walk"), 12.5)
        assert Frames.from_json(task.to_json()) == task

    def test_a_mirrored_clip_swaps_labels_and_keeps_unlabelled_frames(self):
        target = TASK.encode([clip_target("0 to 0.2 walk|0.3 to 0.4 run", 0, 4)])[0]
        assert target.tolist() == [1, 1, -1, 0]
        assert np.array(TASK.mirrored(target, [["walk", "run"]])).tolist() == [0, 0, -1, 1]
        assert np.array(TASK.mirrored(target, [])).tolist() == target.tolist()


class TestLoss:
    LABELS = np.array([[0, 1, -1, -1]])

    def loss(self, labels, probabilities, **options):
        loss = TASK.loss(**{"label_smoothing": 0.0, **options})
        logits = np.log(np.maximum(probabilities, 1e-9))
        return float(loss(np.asarray(labels), keras.ops.convert_to_tensor(logits, "float32")))

    def test_is_the_mean_over_labelled_frames(self):
        outputs = np.array([[[0.8, 0.2], [0.5, 0.5], [0.1, 0.9], [0.0, 0.0]]])
        expected = -(math.log(0.8) + math.log(0.5)) / 2
        assert self.loss(self.LABELS, outputs) == pytest.approx(expected, rel=1e-5)

    def test_weights_and_label_smoothing_apply_to_labelled_frames(self):
        outputs = np.array([[[0.8, 0.2], [0.5, 0.5], [0.1, 0.9], [0.0, 0.0]]])
        balanced = np.array([[0, 0, 0, 1], [-1, -1, -1, -1]])  # weights 4 / (2 x 3), 4 / (2 x 1)
        expected = -(2 / 3 * math.log(0.8) + 2 * math.log(0.5)) / 2
        assert self.loss(self.LABELS, outputs, balanced_on=balanced) == pytest.approx(expected)
        smooth = -(0.9 * math.log(0.8) + 0.1 * math.log(0.2) + math.log(0.5)) / 2
        assert self.loss(self.LABELS, outputs, label_smoothing=0.2) == pytest.approx(smooth)

    def test_unlabelled_frames_change_neither_loss_nor_gradient_nor_metric(self):
        import tensorflow as tf

        def results(outputs):
            outputs = tf.constant(outputs, tf.float32)
            metric = TASK.metrics()[0]
            with tf.GradientTape() as tape:
                tape.watch(outputs)
                loss = TASK.loss(label_smoothing=0.0)(self.LABELS, outputs)
            metric.update_state(self.LABELS, outputs)
            return float(loss), np.array(tape.gradient(loss, outputs)), float(metric.result())

        first = results([[[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.0, 0.0]]])
        second = results([[[0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [1.0, 0.0]]])
        assert first[0] == second[0]
        assert np.array_equal(first[1], second[1])
        assert (first[1][0, 2:] == 0).all()
        assert first[2] == second[2] == 0.5

    def test_a_batch_without_a_labelled_frame_has_loss_zero(self):
        assert self.loss(np.full((1, 4), -1), np.full((1, 4, 2), 0.5)) == 0


class TestSegmentalScores:
    """Hand-computed cases. a = 0, b = 1, c = 2; a dot is an unlabelled frame."""

    def sides(self, actual, predicted):
        is_labelled = np.array([letter != "." for letter in actual])
        return [
            segments_of(np.array(["abc".find(letter) for letter in side]), is_labelled)
            for side in (actual, predicted)
        ]

    @pytest.mark.parametrize(
        ("actual", "predicted", "at_10", "at_50"),
        [
            ("aaaabbbb", "aaaabbbb", (2, 0, 0), (2, 0, 0)),
            ("aaaabbbb", "aaaaaaaa", (1, 0, 1), (1, 0, 1)),  # a: 4 of 8 frames, exactly 0.5
            ("aaaabbbb", "bbbbaaaa", (0, 2, 2), (0, 2, 2)),
            ("aaaabbbb", "abababab", (2, 6, 0), (0, 8, 2)),  # over-segmented: 1 of 4 frames each
            ("aaaaaaaa", "aaabbaaa", (1, 2, 0), (0, 3, 1)),  # 3 of 8 frames
            ("aaaabbbb", "aaaaaabb", (2, 0, 0), (2, 0, 0)),  # a: 4 of 6, b: 2 of 4
            ("aaaabbbb", "aaaaaaab", (2, 0, 0), (1, 1, 1)),  # b: 1 of 4
            ("aa....aa", "aabbccaa", (2, 0, 0), (2, 0, 0)),  # unlabelled frames do not count
            ("aa....bb", "aaaaaaaa", (1, 1, 1), (1, 1, 1)),  # one segment on each side
        ],
    )
    def test_matches(self, actual, predicted, at_10, at_50):
        sides = self.sides(actual, predicted)
        assert match_segments(*sides, 0.1) == at_10
        assert match_segments(*sides, 0.5) == at_50

    @pytest.mark.parametrize(
        ("actual", "predicted", "score"),
        [
            ("aabbcc", "abbbbc", 1.0),  # the same order
            ("aabbcc", "aaaacc", 2 / 3),  # b is missing
            ("aabb", "ababab"[:4], 0.5),  # a b a b against a b
            ("aabbcc", "ccbbaa", 1 / 3),
            ("aaaa", "bbbb", 0.0),
            ("aa..aa", "aabbaa", 1.0),
        ],
    )
    def test_edit_score(self, actual, predicted, score):
        assert edit_score(*self.sides(actual, predicted)) == pytest.approx(score)

    def test_f1_sums_the_segments_of_all_videos(self):
        targets = ["0 to 0.4 run|0.4 to 0.8 walk", "0 to 0.4 run"]
        outputs = outputs_of_videos("rrrrrrrr", "rrrr")
        scores = scores_of(targets, outputs)
        assert scores["f1_50"] == pytest.approx(2 * 2 / (2 * 2 + 0 + 1))
        assert scores["edit"] == pytest.approx((0.5 + 1) / 2)
        assert scores["frame_accuracy"] == pytest.approx(8 / 12)
        assert scores["video_accuracy"] == pytest.approx((0.5 + 1) / 2)
        run, walk = 2 * 8 / (8 + 12), 0.0
        assert scores["macro_f1"] == pytest.approx((run + walk) / 2)
        assert scores["log_loss"] == pytest.approx(-(8 * math.log(0.9) + 4 * math.log(0.1)) / 12)

    def test_unlabelled_frames_change_no_score(self):
        targets = ["0 to 0.3 run|0.5 to 0.8 walk"]
        one, other = (outputs_of_videos(labels) for labels in ("rrrrrwwr", "rrrwwwwr"))
        assert scores_of(targets, one) == scores_of(targets, other)

    def test_a_video_without_a_labelled_frame_changes_no_score(self):
        targets = ["0 to 0.4 run|0.4 to 0.8 walk", "0.01 to 0.04 run"]
        outputs = outputs_of_videos("rrrrrrrr", "rrrr")
        assert scores_of(targets, outputs) == scores_of(targets[:1], outputs[:1])

    def test_scores_have_intervals_and_perfect_answers_have_perfect_scores(self):
        targets = ["0 to 0.4 run|0.4 to 0.8 walk"] * 12
        outputs = outputs_of_videos(*["rrrrwwww"] * 12)
        resampling = Resampling([str(n) for n in range(12)], samples=50, confidence=0.95, seed=0)
        scores = TASK.scores_with_intervals(targets, outputs, resampling)
        for name in ("f1_10", "f1_25", "f1_50", "edit", "frame_accuracy", "macro_f1"):
            assert scores[name].value == 1
            assert scores[name].interval[0] < 1 == scores[name].interval[1]


def test_tables_limits_and_charts_count_labelled_frames():
    targets = ["0 to 0.3 run|0.5 to 0.8 walk", "0 to 0.2 run"]
    outputs = outputs_of_videos("rrwwwwww", "rr")
    resampling = Resampling(["a", "b"], samples=10, confidence=0.95, seed=0)
    (table,) = TASK.tables(targets, outputs, resampling)
    cells = [(row["class"], row["support"], row["recall"]) for row in table.rows]
    assert cells == [("run", "5", "0.800000"), ("walk", "3", "1.000000")]
    lowest, highest = TASK.limited_values(targets, outputs, resampling)["class_recall"]
    assert (lowest.name, lowest.value, lowest.videos) == ("recall of run", 0.8, 2)
    assert (highest.name, highest.videos) == ("recall of walk", 1)
    (chart,) = TASK.charts(targets, outputs, ["a.mp4", "b.mp4"])
    assert "Accuracies range from 0.833 to 1.000" in chart.alt
    axes = chart.draw().axes[0]
    assert [len(bars.get_paths()) for bars in axes.collections] == [3, 2, 1, 1]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["a.mp4\naccuracy 0.83", "b.mp4\naccuracy 1.00"]


class TestVideos:
    def test_clips_are_stitched_without_their_padding(self):
        clips = np.stack([output_of(labels) for labels in ("rrr.", "ww..", "r...")])
        outputs = TASK.combine_clips(clips, np.array([0, 0, 1]))
        assert outputs.tolist() == outputs_of_videos("rrrww", "r").tolist()

    def test_invalid_frames_are_found(self):
        outputs = outputs_of_videos("rrww", "rr")
        assert TASK.find_invalid(outputs) is None
        for value in (np.nan, 0.5, -0.1):
            wrong = outputs.copy()
            wrong[1, 1, 0] = value
            index, reason = TASK.find_invalid(wrong)
            assert (index, "frame 1" in reason) == (1, True)
        assert TASK.find_invalid(np.zeros((1, 3, 2)))[0] == 0

    def test_predictions_of_videos_of_different_lengths_are_pooled(self):
        parts = [
            Predictions((name,), ("",), ("0 to 0.2 run",), outputs_of_videos(labels), TASK)
            for name, labels in (("b.mp4", "rw"), ("a.mp4", "rrww"))
        ]
        pooled = pool(parts)
        assert pooled.videos == ("a.mp4", "b.mp4")
        assert pooled.outputs.tolist() == outputs_of_videos("rrww", "rw").tolist()

    def test_predictions_are_read_back_from_csv(self, tmp_path):
        rng = np.random.default_rng(0)
        outputs = np.zeros((2, 15_000, 2))  # 25 minutes
        for video, length in enumerate((15_000, 7)):
            run = rng.uniform(0.01, 0.99, length).astype(np.float32)
            outputs[video, :length] = np.stack([run, 1 - run], axis=1)
        targets = ("0 to 3 run|4 to end walk", "0.1 to 0.3 walk|else run")
        written = Predictions(("a.mp4", "b.mp4"), ("g", ""), targets, outputs, TASK)
        written.write_csv(tmp_path / "predictions.csv")
        read = Predictions.read_csv(tmp_path / "predictions.csv", task_type="frames")
        assert (read.task, read.targets, read.videos) == (TASK, targets, written.videos)
        assert np.allclose(read.outputs, outputs, rtol=0, atol=1e-9)
        row = next(csv.DictReader((tmp_path / "predictions.csv").open()))
        assert read_intervals(row["predicted"]).labels == ["run", "walk"]

    @pytest.mark.parametrize("fps", [25 / 3, 30_000 / 1001])
    def test_the_frame_rate_is_exact_in_csv_and_to_the_last_frame_in_answers(self, tmp_path, fps):
        task = replace(TASK, fps=fps)
        written = Predictions(("a",), ("",), ("0 to 1 run",), outputs_of_videos("rr"), task)
        written.write_csv(tmp_path / "predictions.csv")
        assert Predictions.read_csv(tmp_path / "predictions.csv", task_type="frames").task == task
        n_frames = 100_000
        seconds = [3.7 + frame / fps for frame in range(n_frames + 1)]  # of a segment
        timeline = [
            {"start_seconds": start, "end_seconds": end, "probabilities": {"run": 1.0}}
            for start, end in pairwise(seconds)
        ]
        last = f"{(n_frames - 1) / fps!r} to end run"
        task, outputs = Frames.outputs_from_answers([{"timeline": timeline}], [last])
        assert task.frame_labels(last, outputs[0])[0][-2:] == ["", "run"]

    def test_predictions_without_probabilities_are_refused(self, tmp_path):
        path = tmp_path / "predictions.csv"
        path.write_text(
            "video,group,actual,predicted,accuracy,fps\na,,0 to 1 run,0 to 1 run,1,10\n"
        )
        with pytest.raises(PipelineError, match="p_<class> for every class"):
            Predictions.read_csv(path, task_type="frames")
        path.write_text("video,group,actual,predicted,accuracy,fps,p_run\na,,1 run,,1,10,1\n")
        with pytest.raises(PipelineError, match="line 2: expected intervals"):
            Predictions.read_csv(path, task_type="frames")
        for fps in ("x", "0", "nan"):
            path.write_text(
                f"video,group,actual,predicted,accuracy,fps,p_run\na,,0 to 1 run,,1,{fps},1\n"
            )
            with pytest.raises(PipelineError, match=r"line 2: expected .* fps"):
                Predictions.read_csv(path, task_type="frames")

    def test_models_of_other_classes_and_frame_rates_are_compared(self):
        names = ("a.mp4",)
        target = ("0 to 0.4 run|0.4 to 0.8 walk",)
        slow = Frames(("jump", "run", "walk"), fps=5)
        old = Predictions(names, ("",), target, output_of("rrjw", task=slow)[None], slow)
        new = Predictions(names, ("",), target, outputs_of_videos("rrrrwwww"), TASK)
        old, new = on_same_videos(old, new)
        assert old.task == new.task == Frames(("run", "walk", "jump"), 10)
        assert old.outputs[0].argmax(axis=1).tolist() == [0, 0, 0, 0, 2, 2, 1, 1]
        assert new.outputs[0].argmax(axis=1).tolist() == [0] * 4 + [1] * 4
        assert old.video_scores.tolist() == [0.75]

    def test_outputs_of_reordered_frames_return_to_their_frames(self):
        outputs = np.arange(10.0).reshape(1, 5, 2)
        order = np.array([2, 0, 3, 1])
        shuffled = outputs.copy()
        shuffled[0, :4] = outputs[0, order]
        mask = np.array([[True, True, True, True, False]])
        assert np.array_equal(restore_order(shuffled, mask, lambda *_: order), outputs)
        still = restore_order(outputs, mask, lambda _, frames: np.full(frames, frames // 2))
        assert np.array_equal(still, outputs)

    def test_a_target_that_the_model_does_not_know_is_refused(self):
        with pytest.raises(PipelineError, match="Label 'jump' is unknown to the model"):
            Predictions(("a",), ("",), ("0 to 1 jump",), outputs_of_videos("rr"), TASK)


class TestAnswers:
    def test_segments_cover_the_video(self):
        answer = TASK.answer(output_of("rrrww."), top_k=0)
        keys = ("start_seconds", "end_seconds", "label", "confidence")
        expected = [(0.0, 0.3, "run", pytest.approx(0.9)), (0.3, 0.5, "walk", pytest.approx(0.9))]
        assert answer["segments"] == [dict(zip(keys, row, strict=True)) for row in expected]
        assert answer["probabilities"] == pytest.approx({"run": 0.58, "walk": 0.42})
        assert list(TASK.answer(output_of("rww"), top_k=1)["probabilities"]) == ["walk"]

    def test_the_answer_for_a_part_of_a_video_has_the_seconds_of_the_video(self):
        shifted = TASK.shift_seconds(TASK.answer(output_of("rw"), top_k=0), 2.0)
        assert [segment["start_seconds"] for segment in shifted["segments"]] == [2.0, 2.1]
        assert shifted["segments"][-1]["end_seconds"] == pytest.approx(2.2)

    def test_outputs_are_read_back_from_the_timeline(self):
        outputs = outputs_of_videos("rrrww", "wr")
        answers = [
            {
                "timeline": [
                    {
                        "start_seconds": frame / 10,
                        "end_seconds": (frame + 1) / 10,
                        "probabilities": TASK.answer(output[frame : frame + 1], top_k=0)[
                            "probabilities"
                        ],
                    }
                    for frame in range(length)
                ]
            }
            for output, length in zip(outputs, (5, 2), strict=True)
        ]
        task, read = Frames.outputs_from_answers(answers, ["0 to 1 walk", "0 to 1 jump"])
        assert task == Frames(("jump", "run", "walk"), 10)
        assert read[:, :, 1:].tolist() == outputs.tolist()

    def test_answers_as_text(self):
        line = TASK.answer_line(TASK.answer(output_of("rrrwwr"), top_k=0), shown=2)
        assert line == ["0.0-0.3 s run 0.90", "0.3-0.5 s walk 0.90", "and 1 more"]
        answer = TASK.answer(output_of("rrrww"), top_k=0)
        assert TASK.answer_line(answer, shown=1) == ["0 to 0.3 run|0.3 to 0.5 walk"]
        assert TASK.answer_cells(answer)["predicted"] == "0 to 0.3 run|0.3 to 0.5 walk"
        frame = {"probabilities": answer["probabilities"]}
        assert TASK.answer_line(frame, shown=2) == ["run 0.5800", "walk 0.4200"]
        assert TASK.answer_cells(frame).keys() == {"p_run", "p_walk"}


class TestBaselines:
    def test_the_linear_model_reads_single_frames_and_the_constant_reads_none(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, (20, 8))
        targets = [
            clip_target("|".join(f"{n / 10:g} to {(n + 1) / 10:g} {TASK.class_names[label]}"
                                 for n, label in enumerate(row)), 0, 8, length=10)
            for row in labels
        ]  # fmt: skip
        mask = np.arange(10) < np.full((20, 1), 8)
        features = np.zeros((20, 10, 3), np.float32)
        features[:, :8] = rng.normal(size=(20, 8, 3)) * 0.1 + labels[:, :, None]
        clips = BaselineClips(targets, mask, lambda: features, targets)
        outputs = TASK.baseline_outputs(clips, clips)
        assert outputs.keys() == set(TASK.baselines)
        for output in outputs.values():
            assert TASK.find_invalid(output) is None
            assert (output[:, 8:] == 0).all()
        texts = [TARGETS.of_video(target) for target in targets]
        assert TASK.video_scores(texts, outputs["cnn_alone"]).mean() > 0.95
        assert TASK.video_scores(texts, outputs["most_frequent"]).mean() < 0.7

    def test_one_class_in_the_training_frames_makes_both_baselines_constant(self):
        targets = [clip_target("0 to 0.2 run|0.21 to 0.24 walk", 0, 3)]
        features = np.zeros((1, 3, 2), np.float32)
        clips = BaselineClips(targets, np.ones((1, 3), bool), lambda: features, targets)
        for output in TASK.baseline_outputs(clips, clips).values():
            assert output.tolist() == [[[1, 0]] * 3]

    def test_the_constant_baseline_is_the_share_of_the_most_frequent_class(self):
        targets = [clip_target("0 to 0.3 run|0.3 to 0.4 walk", 0, 5)] * 3
        assert TASK.constant_baseline(targets) == pytest.approx(0.75)
        scores = TASK.length_baseline(np.array([5, 5, 5]), targets, ["a", "b", "c"])
        assert scores.tolist() == [0.75] * 3

    def test_clips_without_a_label_are_neither_fitted_nor_scored_by_length(self):
        targets = [
            clip_target("0 to 0.5 walk", *frames, length=5) for frames in 3 * [(0, 5), (5, 8)]
        ]
        groups = [group for group in "abc" for _ in range(2)]
        scores = TASK.length_baseline(np.array([5, 3] * 3), targets, groups)
        assert [str(score) for score in scores] == ["1.0", "nan"] * 3
        assert TASK.constant_baseline(targets) == 1


@pytest.mark.parametrize("name", ["lstm", "none"])
def test_a_model_is_calibrated_on_labelled_frames_and_keeps_its_segments(name):
    section = tiny(recurrent=name, summary="last" if name == "lstm" else "mean")
    keras.utils.set_random_seed(0)
    model = build_model(section, TASK, frame_shape=(8, 8, 3))
    inputs = inputs_of(section, lengths=(4, 3), n_frames=4)
    with TASK.uncalibrated(model):
        before = np.array(model(inputs), np.float64)
    TASK.calibrate(model, before, ["0 to 0.2 run", "0 to 0.1 walk"], np.array([0, 1]))
    after = np.array(model(inputs), np.float64)
    assert TASK.calibration(model)["temperature"] != 1
    assert (after[1, 3] == 0).all()
    assert (after.argmax(axis=2) == before.argmax(axis=2)).all()
