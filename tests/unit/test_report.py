import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import PipelineError
from pipeline.base.paths import CATALOG, DATA_SUMMARY, FRAMES, FRAMES_INDEX, VIDEOS_PICTURE
from pipeline.catalog.records import CatalogEntry, write_catalog
from pipeline.evaluation.data_summary import DescribedVideo
from pipeline.stages import report
from pipeline.stages.described import read_described
from pipeline.video.ledger import Ledger, LedgerRow
from pipeline.video.reading import FrameSpec
from pipeline.video.source import Limits
from pipeline.video.store import StoredVideo

SPEC = FrameSpec(fps=10, width=16, height=16, fit="crop")
LIMITS = Limits(max_seconds=60, max_pixels=1_000_000)
FOUND = {
    "codec": "h264",
    "width": 64,
    "height": 48,
    "rotation": 0,
    "source_fps": 29.97,
    "is_variable_rate": False,
    "source_seconds": 5.0,
}


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    """An empty repository with the committed parameters."""
    shutil.copy("params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)


def entry(name, start=None, end=None, split="train"):
    return CatalogEntry(name, "cat", split, name, start, end, sha256="")


def decoded(*rows):
    """Write what the catalog and decode stages would: (entry, frames, reason, what was found)."""
    write_catalog(CATALOG, [entry for entry, *_ in rows])
    stored = [LedgerRow(entry.name, StoredVideo("key", *found)) for entry, *found in rows]
    Ledger(stored, SPEC, LIMITS).write(FRAMES)


def described(found, frames=7, reason="", start=None, end=None):
    decoded((entry("a.mp4", start, end), frames, reason, found))
    (video,) = read_described(CATALOG, FRAMES_INDEX).values()
    return video


def test_a_video_is_described_by_the_catalog_and_the_ledger():
    assert described(FOUND) == DescribedVideo(
        "cat", "train", "ok", 7, "h264", (64, 48), 29.97, False, 5.0
    )


def test_a_video_refused_before_anything_was_found():
    video = described({}, frames=0, reason="no video stream")
    assert video == DescribedVideo("cat", "train", "quarantined", 0)


def test_a_damaged_video_of_one_frame():
    nothing_told = {"rotation": None, "source_fps": None, "is_variable_rate": None}
    video = described(FOUND | nothing_told, frames=1, reason="truncated after 0.1 s")
    assert video == DescribedVideo("cat", "train", "damaged", 1, "h264", (64, 48), None, None, 5.0)


@pytest.mark.parametrize(
    ("rotation", "size"), [(90, (48, 64)), (-90, (48, 64)), (180, (64, 48)), (-1, (64, 48))]
)
def test_sizes_are_those_of_the_upright_picture(rotation, size):
    assert described(FOUND | {"rotation": rotation}).size == size


def test_a_size_that_the_header_leaves_open_is_not_known():
    assert described(FOUND | {"width": 0, "height": 0}).size is None


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [(1.5, None, 3.5), (None, 2.0, 2.0), (1.0, 2.5, 1.5), (4.0, 9.0, 1.0), (6.0, 9.0, 0.0)],
)
def test_the_duration_of_a_segment_is_its_own(start, end, seconds):
    assert described(FOUND, start=start, end=end).seconds == seconds


def test_the_stage_writes_a_picture_and_a_table():
    decoded(
        (entry("a.mp4"), 7, "", FOUND),
        (entry("b.mp4", split="test"), 0, "no video stream", {}),
    )
    report.main()
    assert DATA_SUMMARY.read_text().splitlines()[1:] == [
        "cat,train,1,0,0,5.000,7",
        "cat,val,0,0,0,0.000,0",
        "cat,test,1,1,0,0.000,0",
    ]
    assert VIDEOS_PICTURE.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path("data/report").iterdir()) == [
        "summary.csv",
        "videos.png",
    ]


def test_a_video_that_was_not_decoded_is_named():
    decoded((entry("a.mp4"), 7, "", FOUND))
    write_catalog(CATALOG, [entry("a.mp4"), entry("b.mp4")])
    with pytest.raises(PipelineError) as error:
        read_described(CATALOG, FRAMES_INDEX)
    assert str(error.value) == (
        "data/frames/index.csv: expected a row for each of the 2 rows of "
        "data/catalog/catalog.csv, 1 missing, the first b.mp4. Run the decode stage (dvc repro)."
    )
