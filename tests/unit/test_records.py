"""The record of a video, and its tables: the catalog and the decode index."""

from dataclasses import replace

import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.records import (
    DecodeFacts,
    VideoRecord,
    read_catalog,
    read_decoded,
    write_catalog,
    write_decode_index,
)

FACTS = DecodeFacts(
    key="0123",
    frames=7,
    container="mov,mp4",
    codec="h264",
    width=64,
    height=48,
    rotation=0,
    is_hdr=False,
    source_fps=29.97,
    is_variable_rate=False,
    source_seconds=5.0,
    source_frames=150,
    claimed_seconds=5.1,
    claimed_frames=151,
    brightness=0.5,
)


def record(video="a.mp4", split="train", **fields):
    return VideoRecord(video, "cat", split, group=video, **fields)


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [
        (None, None, "a.mp4"),
        (2.0, 3.0, "a.mp4#t=2,3"),
        (10.5, None, "a.mp4#t=10.5"),
        (None, 4.0, "a.mp4#t=,4"),
    ],
)
def test_a_segment_is_named_as_a_media_fragment(start, end, name):
    assert record(start_seconds=start, end_seconds=end).name == name


def test_the_catalog_is_sorted_and_reads_back(tmp_path):
    records = [
        VideoRecord("b.mp4", "dog", "test", "g", sha256="2"),
        VideoRecord("a.mp4", "cat", "train", "g,1", 10.5, None, "1"),
        VideoRecord("a.mp4", "cat", "train", "g,1", 2.0, 3.0, "1"),
    ]
    path = tmp_path / "catalog.csv"
    write_catalog(path, records)
    assert read_catalog(path) == [records[2], records[1], records[0]]


@pytest.mark.parametrize("character", [*"\r\n\t,;\"'=+-@#| ", "\x85", "\u2028", "\x00", "e\u0301"])
def test_every_name_of_a_video_reads_back(tmp_path, character):
    """A file may have any name. Labels and groups have no control characters."""
    videos = [f"{character}.mp4", f"a/{character}b{character}{character}c.mp4", "last.mp4"]
    records = [record(video, facts=FACTS) for video in videos]
    read = decoded_again(tmp_path, *records)
    assert sorted(read, key=str) == sorted(records, key=str)


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "null", "1", " a", "a,b", 'a"b', "#"])
def test_every_label_and_group_reads_back(tmp_path, name):
    records = [VideoRecord("a.mp4", name, "train", name, extra={name: name})]
    write_catalog(tmp_path / "catalog.csv", records)
    assert read_catalog(tmp_path / "catalog.csv") == records


def test_extra_columns_are_last_in_the_catalog(tmp_path):
    records = [VideoRecord("a.mp4", "cat", "test", "g", sha256="1", extra={"camera": "left"})]
    path = tmp_path / "catalog.csv"
    write_catalog(path, records)
    assert path.read_text() == (
        "video,target,split,group,start_seconds,end_seconds,sha256,extra.camera\n"
        "a.mp4,cat,test,g,,,1,left\n"
    )
    assert read_catalog(path) == records


def decoded_again(tmp_path, *records):
    """The records after writing and reading both tables."""
    write_catalog(tmp_path / "catalog.csv", records)
    write_decode_index(tmp_path / "index.csv", records)
    return read_decoded(tmp_path / "catalog.csv", tmp_path / "index.csv")


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (FACTS, "ok"),
        (DecodeFacts(key="0123", reason="no video stream"), "quarantined"),
        (
            replace(FACTS, frames=1, reason="truncated", source_fps=None, is_variable_rate=None),
            "damaged",
        ),
        (replace(FACTS, is_hdr=True, is_variable_rate=True, rotation=-90), "ok"),
    ],
)
def test_facts_read_back_from_the_decode_index(tmp_path, facts, status):
    (read,) = decoded_again(tmp_path, record(facts=facts))
    assert read.facts == facts
    assert read.facts.status == status
    assert read.is_usable == (status != "quarantined")


def test_facts_that_an_earlier_index_lacks_are_unknown(tmp_path):
    write_catalog(tmp_path / "catalog.csv", [record()])
    (tmp_path / "index.csv").write_text("name,status,key,frames,reason\na.mp4,ok,0123,7,\n")
    (read,) = read_decoded(tmp_path / "catalog.csv", tmp_path / "index.csv")
    assert read.facts == DecodeFacts(key="0123", frames=7)


def test_a_video_that_the_index_lacks_is_named(tmp_path):
    decoded_again(tmp_path, record(facts=FACTS))
    write_catalog(tmp_path / "catalog.csv", [record(), record("b.mp4")])
    with pytest.raises(PipelineError) as error:
        read_decoded(tmp_path / "catalog.csv", tmp_path / "index.csv")
    assert f"{tmp_path}/index.csv: expected a row for each of the 2 rows" in str(error.value)
    assert "1 are missing, the first is b.mp4. Run: dvc repro decode" in str(error.value)


def test_a_missing_catalog_names_the_command(tmp_path):
    with pytest.raises(PipelineError, match=r"no\.csv: no such file\. .* dvc repro catalog"):
        read_catalog(tmp_path / "no.csv")


@pytest.mark.parametrize(
    ("rotation", "size"),
    [(90, (48, 64)), (-90, (48, 64)), (180, (64, 48)), (-1, (64, 48)), (None, (64, 48))],
)
def test_the_size_is_that_of_the_upright_picture(rotation, size):
    assert replace(FACTS, rotation=rotation).upright_size == size


@pytest.mark.parametrize("width", [0, None])
def test_a_size_that_the_header_lacks_is_unknown(width):
    assert replace(FACTS, width=width).upright_size is None


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        (None, None, 5.0),
        (1.5, None, 3.5),
        (None, 2.0, 2.0),
        (1.0, 2.5, 1.5),
        (4.0, 9.0, 1.0),
        (6.0, 9.0, 0.0),
    ],
)
def test_a_segment_has_its_own_duration(start, end, seconds):
    segment = record(start_seconds=start, end_seconds=end)
    assert replace(segment, facts=FACTS).seconds == seconds
    assert segment.seconds is None
