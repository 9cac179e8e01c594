"""HMDB51: 51 actions, 6,766 clips of films and web videos, three official splits.

``<class>_test_split1.txt`` has a clip and a number in each line: 0 unused, 1 train, 2 test. The
name of a clip is the name of its source video, the class, five tags and a number:
``April_09_brush_hair_u_nm_np1_ba_goo_0.avi``. Clips of one source video and class are a group.
"""

import re

from pipeline.common.errors import PipelineError
from pipeline.common.records import FoldPart
from pipeline.importing.missing import MissingVideos
from pipeline.importing.official_splits import OfficialSplits
from pipeline.importing.source import Source, numbered_lines
from pipeline.importing.table import Imported, Row

_FILE = re.compile(r"(?P<label>.+)_test_split(?P<number>\d)\.txt")
# Visible body parts, camera motion, number of people, point of view, quality, number of the clip.
_TAGS = r"_[fuhl]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:goo|med|bad)_\d+\.\w+"
_PARTS: dict[str, FoldPart] = {"0": "", "1": "train", "2": "test"}


def read_hmdb51(source: Source, task: str | None) -> Imported:  # noqa: ARG001
    """Return the videos that a split uses, with their classes, groups and official splits."""
    paths = source.require(
        _FILE.pattern,
        "brush_hair_test_split1.txt",
        "It is in test_train_splits.rar, from "
        "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/.",
    )
    splits = OfficialSplits()
    missing = MissingVideos(source.folders[0], are_normal=False)
    rows: dict[str, Row] = {}
    for path in paths:
        file = _FILE.fullmatch(path.name)
        assert file is not None
        label = file["label"]
        for where, line in numbered_lines(path):
            name, _, number = line.rpartition(" ")
            if number not in _PARTS or not name.strip():
                raise PipelineError(
                    f"{where}: expected a file and 0, 1 or 2. Received: {line!r}. Correct the line."
                )
            if not _PARTS[number]:
                continue
            video = source.video_named(name.strip(), where=where, parent=label)
            if missing.check(video, name.strip(), where=where) is None:
                continue
            assert video is not None
            match = re.fullmatch(f"(.+)_{re.escape(label)}{_TAGS}", video.name)
            row = Row(
                f"{label}/{video.name}",
                video,
                where,
                {"label": label},
                group=f"{label}/{match[1]}" if match else "",
            )
            splits.add(row.video, file["number"], _PARTS[number], where=where)
            rows.setdefault(row.video, row)
    return Imported("classification", splits.complete(rows), missing.notes())
