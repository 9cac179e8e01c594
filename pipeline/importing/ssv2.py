"""Something-Something v2: what hands do with objects, 174 templates.

An entry of ``train.json`` and ``validation.json`` has the ``id`` of ``<id>.webm``, the ``template``
of its class, such as ``Holding [something]``, and the ``label``, a sentence that names the objects:
``holding potato``. ``test.json`` has ids only; ``test-answers.csv`` has ``id;class``.
"""

from pathlib import Path
from typing import Any

from pipeline.common.errors import PipelineError
from pipeline.common.records import Split
from pipeline.importing.captions import caption_rows
from pipeline.importing.missing import MissingVideos
from pipeline.importing.source import Source, json_content, lines_of_key, numbered_lines
from pipeline.importing.table import Imported, Row

_PREFIX = r"(?:something-something-v2-)?"
_REMEDY = (
    "It is in the labels of https://www.qualcomm.com/developer/software/"
    "something-something-v-2-dataset."
)


def read_ssv2(source: Source, task: str | None) -> Imported:
    """Return the videos with their classes, or with their sentences as captions."""
    task = task or "classification"
    (names_file, *_) = source.require(rf"{_PREFIX}labels\.json", "labels.json", _REMEDY)
    classes = {str(name).casefold(): str(name) for name in _entries(names_file, dict)}
    source.require(rf"{_PREFIX}train\.json", "train.json", _REMEDY)
    missing = MissingVideos(source.folders[0], are_normal=False)
    rows: list[Row] = []
    kinds: tuple[tuple[str, Split], ...] = (("train", "train"), ("validation", "val"))
    for kind, split in kinds:
        for path in source.annotations(rf"{_PREFIX}{kind}\.json")[:1]:
            lines = lines_of_key(path, "id")
            for number, entry in enumerate(_entries(path, list), start=1):
                identity = str(_value(f"{path}, entry {number}", entry, "id"))
                where = f"{path}, line {lines.get(identity, 1)}"
                label = _class_of(where, str(_value(where, entry, "template")), classes)
                video = _video(source, missing, identity, where)
                if video is None:
                    continue
                cells = (
                    {"caption": str(_value(where, entry, "label"))}
                    if task == "caption"
                    else {"label": label}
                )
                rows.append(Row(video.name, video, where, cells, split))
    answers = source.annotations(r"test-answers\.csv") if task == "classification" else []
    for path in answers:
        for where, line in numbered_lines(path):
            identity, _, name = line.partition(";")
            video = _video(source, missing, identity, where)
            if video is not None:
                label = _class_of(where, name, classes)
                rows.append(Row(video.name, video, where, {"label": label}, "test"))
    notes = missing.notes()
    if task == "caption":
        rows, more = caption_rows(rows)
        notes += more
    return Imported(task, rows, notes)


def _entries(path: Path, kind: type) -> Any:
    content = json_content(path)
    if not isinstance(content, kind):
        raise PipelineError(
            f"{path}, line 1: expected a JSON {'list' if kind is list else 'object'}. Received: "
            f"{type(content).__name__}. Get the file again."
        )
    return content


def _value(where: object, entry: Any, key: str) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get(key), str | int):
        raise PipelineError(
            f"{where}: expected an entry with {key}. Received: {str(entry)[:80]}. Get the file "
            "again."
        )
    return entry[key]


def _class_of(where: str, template: str, classes: dict[str, str]) -> str:
    name = template.replace("[", "").replace("]", "")
    if name.casefold() not in classes:
        raise PipelineError(
            f"{where}: expected a class of labels.json. Received: {name!r}. Get both files again."
        )
    return classes[name.casefold()]


def _video(source: Source, missing: MissingVideos, number: str, where: str) -> Path | None:
    video = source.video_with_stem(number, where=where)
    return missing.check(video, f"{number}.webm", where=where)
