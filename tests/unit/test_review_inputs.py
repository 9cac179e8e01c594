from dataclasses import asdict

import numpy as np
import pytest

from pipeline.common.bootstrap import Score
from pipeline.common.errors import PipelineError
from pipeline.common.files import write_json
from pipeline.common.findings import Finding
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.evaluation.doubtful_labels import DoubtfulLabel
from pipeline.evaluation.near_duplicates import NearDuplicate
from pipeline.evaluation.slices import Slice
from pipeline.review import inputs
from pipeline.review.film_strips import frames_in_preview, preview
from pipeline.review.report import show_doubtful_labels
from pipeline.video.settings import DecodeSection
from pipeline.video.store import stored_path, write_frame_settings, write_frames


def test_scores_have_their_intervals(tmp_path):
    metrics, intervals = tmp_path / "metrics.json", tmp_path / "intervals.json"
    metrics.write_text('{"accuracy": 0.5, "videos": 4}')
    intervals.write_text('{"accuracy": [0.25, 0.75]}')
    assert inputs.read_scores(metrics, intervals) == {
        "accuracy": Score(0.5, (0.25, 0.75)),
        "videos": Score(4.0),
    }


def test_a_table_joins_intervals_with_their_columns(tmp_path):
    path = tmp_path / "per_class.csv"
    path.write_text(
        "class,precision,recall,support,precision_low,precision_high,recall_low,recall_high\n"
        "b,0.512345,0.4,7,,,0.100000,0.900000\n0.5,1,1,1,1,1,1,1\n"
    )
    table = inputs.read_table(path, title="Each class", shown=10)
    assert table.columns == ["class", "precision", "recall", "support"]
    assert [(cell.text, cell.interval) for cell in table.rows[0]] == [
        ("b", ""),
        ("0.512", ""),
        ("0.4", "0.100 to 0.900"),
        ("7", ""),
    ]
    assert table.rows[1][0].text == "0.5"
    assert [cell.is_number for cell in table.rows[0]] == [False, True, True, True]


def test_an_empty_table_has_no_rows(tmp_path):
    path = tmp_path / "confusions.csv"
    path.write_text("actual,predicted,videos\n")
    assert inputs.read_table(path, title="Confusions", shown=10).rows == []


def test_of_a_long_table_the_first_rows_are_shown(tmp_path):
    path = tmp_path / "confusions.csv"
    path.write_text("actual\n" + "a\n" * 30)
    table = inputs.read_table(path, title="Confusions", shown=10)
    assert (len(table.rows), table.n_rows, table.path) == (10, 30, path)


def test_pairs_and_doubtful_labels_keep_their_order(tmp_path):
    pairs, issues = tmp_path / "near_duplicates.csv", tmp_path / "label_issues.csv"
    pairs.write_text(
        "video_a,split_a,seconds_a,video_b,split_b,seconds_b,distance\n"
        "c.mp4,train,0,d.mp4,val,0,2\na.mp4,train,0.5,b.mp4,test,1.5,4\n"
    )
    first, second = inputs.read_rows(pairs, NearDuplicate)
    assert first == NearDuplicate("c.mp4", "train", 0.0, "d.mp4", "val", 0.0, 2)
    assert (second.video_b, second.seconds_b) == ("b.mp4", 1.5)
    issues.write_text(
        "video,split,target,suggested,quality\nb.mp4,train,x,y,0.1\na.mp4,train,x,y,0.2\n"
    )
    assert [label.quality for label in inputs.read_rows(issues, DoubtfulLabel)] == [0.1, 0.2]


def test_audits_are_findings(tmp_path):
    audit = Finding("time", "warn", "So.", 0.1, 0.05, {"reversed": 0.2})
    write_json(tmp_path / "audits.json", [asdict(audit)])
    assert inputs.read_audits(tmp_path / "audits.json") == [audit]


def test_a_missing_or_invalid_file_is_named_with_the_stage_to_run(tmp_path):
    path = tmp_path / "slices.csv"
    with pytest.raises(PipelineError, match=r"slices.csv: no such file. Run: dvc repro evaluate"):
        inputs.read_rows(path, Slice)
    path.write_text("slice_by,slice,videos,score,low,high\ncodec,h264,many,1,1,1\n")
    with pytest.raises(PipelineError, match=r"slices.csv: expected the format .*ValueError"):
        inputs.read_rows(path, Slice)
    invalid = tmp_path / "audits.json"
    invalid.write_text("[")
    with pytest.raises(PipelineError, match=r"audits.json: expected the format .*JSON"):
        inputs.read_audits(invalid)


def test_a_doubtful_label_shows_the_preview_of_the_whole_video_from_forty_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
    write_frame_settings(tmp_path, DecodeSection(width=8, height=8, fps=10))
    facts = write_frames(
        stored_path(tmp_path, "a" * 32), frames, lambda: DecodeFacts(key=""), key="a" * 32
    )
    stored = inputs.StoredFrames(tmp_path, [VideoRecord("a.mp4", "x", facts=facts)])
    chosen, fps = stored.frames("a.mp4", frames_in_preview)
    assert (len(chosen), fps) == (40, 4)
    (shown,) = show_doubtful_labels([DoubtfulLabel("a.mp4", "train", "x", "y", 0.1)], stored)
    assert shown.preview == preview(frames, fps=10)
