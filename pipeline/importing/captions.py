"""MSR-VTT and MSVD: clips of web videos, with several captions each.

The table has a row for each caption. MSR-VTT is a JSON file of ``videos`` and ``sentences``; MSVD a
text of lines such as ``-4wsuPCjDBc_5_15 a chipmunk is eating``.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.common.errors import PipelineError
from pipeline.common.records import Split
from pipeline.common.tables import count_of
from pipeline.dataset.names import split_named
from pipeline.importing.missing import MissingVideos
from pipeline.importing.source import Source, json_content, lines_of_key, numbered_lines
from pipeline.importing.table import Imported, Row
from pipeline.tasks.targets import targets_of

_YOUTUBE_ID = re.compile(r"[?&]v=([\w-]+)|youtu\.be/([\w-]+)")
_CLIP = re.compile(r"(?P<youtube_id>.+)_\d+_\d+")


def caption_rows(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows whose caption has a word, on one line, and notes on the others."""
    targets, kept, first = targets_of("caption"), [], ""
    for row in rows:
        text = row.cells["caption"]
        caption = " ".join("".join(one if one.isprintable() else " " for one in text).split())
        try:
            targets.read({"caption": caption}, where=row.where)
        except PipelineError:
            first = first or row.where
            continue
        kept.append(replace(row, cells={"caption": caption}))
    if len(kept) == len(rows):
        return kept, []
    left_out = count_of(len(rows) - len(kept), "caption")
    return kept, [f"Left out: {left_out} without a word, the first in {first}."]


def read_msrvtt(source: Source, task: str | None) -> Imported:  # noqa: ARG001
    """Return the videos with their captions and official splits; clips of one video are a group."""
    missing = MissingVideos(source.folders[0], are_normal=False)
    rows: list[Row] = []
    known: set[str] = set()
    for path in _videodatainfo_files(source):
        content = json_content(path)
        own: dict[str, Row] = {}
        absent: set[str] = set()
        lines = lines_of_key(path, "video_id")
        for entry in content["videos"]:
            name = _text(path, entry, "video_id")
            where = f"{path}, line {lines.get(name, 1)}"
            split = split_named(_text(where, entry, "split"))
            if split is None:
                raise PipelineError(
                    f"{where}: split of {name} must be train, validate or test. Received: "
                    f"{entry['split']!r}. Correct it."
                )
            if name in known:
                absent.add(name)  # an earlier file has its captions
                continue
            known.add(name)
            video = missing.check(source.video_with_stem(name, where=where), name, where=where)
            if video is None:
                absent.add(name)
                continue
            match = _YOUTUBE_ID.search(str(entry.get("url", "")))
            group = (match[1] or match[2]) if match else ""
            own[name] = Row(video.name, video, where, {}, split, group)
        lines = lines_of_key(path, "sen_id")
        for number, sentence in enumerate(content["sentences"], start=1):
            where = f"{path}, sentence {number}"
            name, caption = _text(where, sentence, "video_id"), _text(where, sentence, "caption")
            where = f"{path}, line {lines.get(str(sentence.get('sen_id')), 1)}"
            if name in own:
                rows.append(replace(own[name], where=where, cells={"caption": caption}))
            elif name not in absent:
                raise PipelineError(
                    f"{where}: expected a video_id of the videos of this file. Received: "
                    f"{name!r}. Correct it."
                )
    rows, notes = caption_rows(rows)
    return Imported("caption", rows, [*missing.notes(), *notes])


def _videodatainfo_files(source: Source) -> list[Path]:
    remedy = "It comes with the videos of MSR-VTT."
    paths = source.require(r".+\.json", "train_val_videodatainfo.json", remedy)
    fitting = []
    for path in paths:
        content = json_content(path)
        lists = content if isinstance(content, dict) else {}
        if all(isinstance(lists.get(key), list) for key in ("videos", "sentences")):
            fitting.append(path)
    if not fitting:
        raise PipelineError(
            f"{paths[0]}, line 1: expected a JSON object with the lists videos and sentences, in "
            f"this or another file of {source.folders[0]}. {remedy}"
        )
    return fitting


def _text(where: object, entry: Any, key: str) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
        raise PipelineError(
            f"{where}: expected an entry with {key}. Received: {str(entry)[:80]}. Correct it."
        )
    return str(entry[key])


def read_msvd(source: Source, task: str | None) -> Imported:  # noqa: ARG001
    """Return the clips that are there with their captions; clips of one video are a group.

    The files ``train_list.txt``, ``val_list.txt`` and ``test_list.txt``, with a clip a line, give
    the splits. Without them the catalog stage computes splits.
    """
    paths = source.require(
        r"AllVideoDescriptions\.txt",
        "AllVideoDescriptions.txt",
        "Get it from https://www.cs.utexas.edu/~ml/clamp/videoDescription/.",
    )
    missing = MissingVideos(source.folders[0], are_normal=True)
    videos: dict[str, Path | None] = {}
    rows: list[Row] = []
    for where, line in numbered_lines(paths[0]):
        if line.startswith("#"):
            continue
        name, _, caption = line.partition(" ")
        match = _CLIP.fullmatch(name)
        if match is None:
            raise PipelineError(
                f"{where}: expected <id>_<start>_<end> and a caption. Received: {line[:80]!r}. "
                "Correct the line."
            )
        if name not in videos:
            video = source.video_with_stem(name, where=where)
            videos[name] = missing.check(video, name, where=where)
        if (video := videos[name]) is not None:
            cells = {"caption": caption}
            rows.append(Row(video.name, video, where, cells, group=match["youtube_id"]))
    if splits := _msvd_splits(source, videos):
        rows = [
            replace(row, split=splits[row.source.stem]) for row in rows if row.source.stem in splits
        ]
    rows, notes = caption_rows(rows)
    return Imported("caption", rows, [*missing.notes(), *notes])


def _msvd_splits(source: Source, videos: dict[str, Path | None]) -> dict[str, Split | None]:
    splits: dict[str, Split | None] = {}
    for path in source.annotations(r"(train|val|test)_list\.txt"):
        for where, name in numbered_lines(path):
            if name not in videos:
                raise PipelineError(
                    f"{where}: expected a clip of AllVideoDescriptions.txt. Received: {name!r}. "
                    "Correct the line, or remove the three lists for computed splits."
                )
            splits[name] = split_named(path.name.split("_")[0])
    return splits
