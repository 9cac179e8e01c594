"""Write a table of labels with proposed groups, for a person to look at and edit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import output_file, write_csv
from pipeline.common.paths import FRAMES
from pipeline.common.records import VideoRecord
from pipeline.common.tables import printable
from pipeline.compute.settings import ComputeSection
from pipeline.data_report.groups import ProposedGroup, join_segments, propose_groups
from pipeline.data_report.labels_summary import (
    cleared_lines,
    count_lines,
    failure_lines,
    group_lines,
    leak_lines,
    next_lines,
)
from pipeline.data_report.looks import look_at_videos
from pipeline.dataset.catalog import content_hashes
from pipeline.dataset.columns import PROPOSED_GROUP
from pipeline.dataset.layouts import LABELS_TABLE, labels_table, read_labels
from pipeline.dataset.names import clean_text
from pipeline.dataset.settings import DataSection
from pipeline.dataset.splits import with_groups
from pipeline.dataset.table import read_table_rows, relative_video
from pipeline.tasks.targets import Targets
from pipeline.video.settings import DecodeSection


@dataclass(frozen=True)
class _Table:
    """Columns and rows; the columns ``group`` and ``proposed_group`` are among them."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, str]]
    videos: Sequence[str]  # of each row, relative to ``data.videos``

    @property
    def groups(self) -> dict[str, str]:
        """Return the group of each video; empty if no row of the video gives one."""
        return self._first_cells("group")

    @property
    def proposed(self) -> dict[str, str]:
        """Return the earlier proposed group of each video; empty if there is none."""
        return self._first_cells(PROPOSED_GROUP)

    @property
    def cleared(self) -> dict[str, str]:
        """Return the proposed group of each video in whose rows only ``proposed_group`` is filled.

        The user has cleared the other cell, or a proposed group in several splits left it empty.
        """
        rows = zip(self.videos, self.rows, strict=True)
        others = {video for video, row in rows if row["group"] or not row[PROPOSED_GROUP]}
        return {video: group for video, group in self.proposed.items() if video not in others}

    def _first_cells(self, column: str) -> dict[str, str]:
        """Return the first cell of each video that is not empty."""
        cells = dict.fromkeys(self.videos, "")
        for video, row in zip(self.videos, self.rows, strict=True):
            cells[video] = cells[video] or row[column]
        return cells


def write_labels_table(
    data: DataSection,
    targets: Targets,
    *,
    decode: DecodeSection,
    compute: ComputeSection,
    folder: Path | None = None,
    output: Path | None = None,
) -> list[str]:
    """Write the labels of the videos, with a proposed group for those that have none.

    A video whose proposed group the user has cleared, so that only its cell ``proposed_group`` is
    filled, is not grouped with the videos of that group again. Of a proposed group in several
    given splits, which the catalog refuses, only ``proposed_group`` is filled.

    Args:
        data: of params.yaml.
        decode: limits of a video; rate and size of the frames of which some are compared.
        folder: of the videos, with its own labels; ``data.videos`` and ``data.labels`` by default.
        output: a new file; ``labels.csv`` in the folder by default.

    Returns:
        Lines that summarise the table.

    Raises:
        PipelineError: the output exists, or the labels are missing or not valid.
    """
    in_params = data
    source = {"videos": str(folder), "labels": ""} if folder else {}
    data = data.model_copy(update={**source, "side_inputs": {}})
    videos = Path(data.videos)
    output = output_file(output or videos / LABELS_TABLE)
    _check_new(output)
    records = read_labels(data, targets)
    table = _read_table(data, targets, records)
    files = sorted(set(table.videos))
    contents = dict(zip(files, content_hashes(videos, files), strict=True))
    # As the catalog does, so that the proposals are those of the report.
    grouped = with_groups([replace(record, sha256=contents[record.video]) for record in records])
    looks = look_at_videos(grouped, videos=videos, frames=FRAMES, decode=decode, compute=compute)
    given = table.groups
    parts = _parts_of(records)
    cleared = _without_several_splits(table.cleared, given, parts)
    previous = {video: given[video] or group for video, group in table.proposed.items()}
    numbers = {file: number for number, file in enumerate(files)}
    proposals = join_segments(
        propose_groups(
            grouped,
            [look.hashed for look in looks.values() if look.hashed],
            previous=[previous[record.video] for record in grouped],
            is_cleared=[record.video in cleared for record in grouped],
        ),
        [numbers[record.video] for record in grouped],
    )
    names = _name_groups(proposals.groups, files, given, cleared)
    leaks = {
        group: splits
        for group in proposals.groups
        if any(files[member] in names for member in group.members)
        and (splits := _several_splits([parts[files[member]] for member in group.members]))
    }
    unfilled = {files[member] for group in leaks for member in group.members}
    rows = [
        {
            **row,
            "group": row["group"] or ("" if video in unfilled else names.get(video, "")),
            PROPOSED_GROUP: names.get(video, row[PROPOSED_GROUP]),
        }
        for row, video in zip(table.rows, table.videos, strict=True)
    ]
    _check_new(output)
    write_csv(output, table.columns, rows)
    return [
        *count_lines(output, records, targets, files),
        *group_lines(proposals, files, given, names),
        *leak_lines(leaks, files),
        *cleared_lines(sorted(cleared.keys() - names.keys())),
        *failure_lines({file: look.failure for file, look in looks.items() if look.failure}),
        *next_lines(in_params, videos, output, has_groups=not names.keys() <= unfilled),
    ]


def _check_new(output: Path) -> None:
    if output.exists():
        raise PipelineError(
            f"{output}: the file exists. Expected the path of a new file: this command overwrites "
            "none. Name another file with --output, or move this one away."
        )


def _read_table(data: DataSection, targets: Targets, records: Sequence[VideoRecord]) -> _Table:
    """Return the rows of the table of labels, or a row for each video of the class folders."""
    path = labels_table(data)
    if path is None:
        given = ["split"] if any(record.split for record in records) else []
        columns = ["video", targets.columns[0], *given, "group", PROPOSED_GROUP]
        videos = [record.video for record in records]
        for video in videos:
            if video != video.strip():
                raise PipelineError(
                    f"{Path(data.videos, video)}: expected a path without a space at its beginning "
                    f"or end, which a table cannot hold. Received: {video!r}. Rename the folder."
                )
        cells = [
            (one.video, one.target, *([one.split or ""] if given else []), "", "")
            for one in records
        ]
        return _Table(columns, [dict(zip(columns, row, strict=True)) for row in cells], videos)
    header, located = read_table_rows(path, targets)
    columns = [column for column in header if column]
    rows = [{column: row[column] for column in columns} for _, row in located]
    added = [column for column in ("group", PROPOSED_GROUP) if column not in columns]
    videos = [relative_video(where, row["video"], Path(data.videos)) for where, row in located]
    empty = dict.fromkeys(added, "")
    return _Table([*columns, *added], [row | empty for row in rows], videos)


def _parts_of(records: Sequence[VideoRecord]) -> dict[str, set[tuple[str, str]]]:
    """Return the given split and parts of official folds of each video, as (column, part)."""
    parts: dict[str, set[tuple[str, str]]] = {}
    for record in records:
        cells = [("split", record.split or "")]
        cells += [(f"fold_{number}", part) for number, part in enumerate(record.folds, start=1)]
        parts.setdefault(record.video, set()).update(cell for cell in cells if cell[1])
    return parts


def _several_splits(parts: Iterable[set[tuple[str, str]]]) -> str:
    """Return the first column in which videos have several parts, with these; or nothing.

    >>> _several_splits([{("split", "train")}, {("split", "test")}])
    'split: test, train'
    """
    by_column: dict[str, list[str]] = {}
    for column, part in sorted(set().union(*parts)):
        by_column.setdefault(column, []).append(part)
    several = [f"{column}: {', '.join(own)}" for column, own in by_column.items() if len(own) > 1]
    return several[-1] if several else ""  # the column split, if it is one of them


def _without_several_splits(
    cleared: Mapping[str, str],
    given: Mapping[str, str],
    parts: Mapping[str, set[tuple[str, str]]],
) -> dict[str, str]:
    """Return the cleared videos without those whose proposed group is in several splits."""
    own: dict[str, list[set[tuple[str, str]]]] = {}
    for video, group in given.items():
        own.setdefault(group or cleared.get(video, ""), []).append(parts[video])
    return {video: group for video, group in cleared.items() if not _several_splits(own[group])}


def _name_groups(
    groups: Sequence[ProposedGroup],
    files: Sequence[str],
    given: Mapping[str, str],
    cleared: Mapping[str, str],
) -> dict[str, str]:
    """Return the name of the group of each video that gets one.

    It is the group that the table gives to other members, or the path of the first member. If the
    table gives several groups to the members, the others get none. Nor does a member whose group
    of this name was cleared while other videos keep it.
    """
    taken = set(given.values())
    names: dict[str, str] = {}
    for group in groups:
        members = [files[member] for member in group.members]
        known = {given[member] for member in members} - {""}
        if len(known) > 1:
            continue
        if known:
            (name,) = known
        else:
            name = clean_text(printable(members[0]), where=members[0])
            while name in taken:
                name += "+"
            taken.add(name)
        names |= {
            member: name
            for member in members
            if not given[member] and not (known and cleared.get(member) == name)
        }
    return names
