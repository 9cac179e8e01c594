import pytest

from pipeline.base.errors import PipelineError
from pipeline.evaluation.audits import Audit, write_audits
from pipeline.evaluation.leaks import Leak
from pipeline.review import findings
from pipeline.review.findings import Estimate


def test_scores_have_the_intervals_that_there_are(tmp_path):
    metrics, intervals = tmp_path / "metrics.json", tmp_path / "intervals.json"
    metrics.write_text('{"accuracy": 0.5, "videos": 4}')
    intervals.write_text('{"accuracy": [0.25, 0.75]}')
    assert findings.read_scores(metrics, intervals) == {
        "accuracy": Estimate(0.5, 0.25, 0.75),
        "videos": Estimate(4.0),
    }


def test_classes_keep_their_order_and_an_open_interval_is_open(tmp_path):
    path = tmp_path / "per_class.csv"
    ends = [f"{name}_{end}" for name in findings.CLASS_SCORES for end in ("low", "high")]
    path.write_text(
        f"class,precision,recall,f1,average_precision,support,{','.join(ends)}\n"
        "b,0.5,0.4,0.3,0.2,7,,,0.1,0.9,0.1,0.9,0.1,0.9\n"
        "a,1,1,1,1,1,1,1,1,1,1,1,1,1\n"
    )
    first, second = findings.read_classes(path)
    assert (first.name, first.videos, second.name) == ("b", 7, "a")
    assert first.scores["precision"] == Estimate(0.5, None, None)
    assert first.scores["average_precision"] == Estimate(0.2, 0.1, 0.9)


def test_the_closest_leak_and_the_worst_label_come_first(tmp_path):
    leaks, issues = tmp_path / "leaks.csv", tmp_path / "label_issues.csv"
    leaks.write_text(
        "video_a,split_a,seconds_a,video_b,split_b,seconds_b,distance\n"
        "a.mp4,train,0.5,b.mp4,test,1.5,4\nc.mp4,train,0,d.mp4,val,0,2\n"
    )
    first, second = findings.read_leaks(leaks)
    assert first == Leak("c.mp4", "train", 0.0, "d.mp4", "val", 0.0, 2)
    assert (second.video_b, second.seconds_b) == ("b.mp4", 1.5)
    issues.write_text(
        "video,split,label,suggested,quality\na.mp4,train,x,y,0.2\nb.mp4,train,x,y,0.1\n"
    )
    assert [issue.video for issue in findings.read_label_issues(issues)] == ["b.mp4", "a.mp4"]


def test_audits_come_back_as_they_were_written(tmp_path):
    audit = Audit("time", 0.1, 0.05, False, "So.", {"reversed": 0.2})
    write_audits(tmp_path / "audits.json", [audit])
    assert findings.read_audits(tmp_path / "audits.json") == [audit]


def test_a_missing_or_broken_file_names_the_remedy(tmp_path):
    path = tmp_path / "slices.csv"
    with pytest.raises(PipelineError, match=r"slices.csv: no such file. Run dvc repro evaluate."):
        findings.read_slices(path)
    path.write_text("slice_by,slice,videos,accuracy,low,high\ncodec,h264,many,1,1,1\n")
    with pytest.raises(PipelineError, match=r"slices.csv: not as evaluate writes it \(ValueError"):
        findings.read_slices(path)
    broken = tmp_path / "audits.json"
    broken.write_text("[")
    with pytest.raises(PipelineError, match=r"audits.json: not JSON"):
        findings.read_audits(broken)
