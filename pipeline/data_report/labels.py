"""Write a table of labels with proposed groups, for a person to look at and edit."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import output_file, write_csv
from pipeline.common.paths import FRAMES
from pipeline.common.records import VideoRecord
from pipeline.common.tables import align_columns, count_of, printable, shorten_list
from pipeline.compute.settings import ComputeSection
from pipeline.data_report.groups import (
    REASONS,
    Proposals,
    ProposedGroup,
    join_segments,
    propose_groups,
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

_SHOWN = 10  # groups, files or classes in the summary
_SHOWN_MEMBERS = 3


@dataclass(frozen=True)
class _Table:
    """Columns and rows; the columns ``group`` and ``proposed_group`` are among them."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, str]]
    videos: Sequence[str]  # of each row, relative to ``data.videos``

    @property
    def groups(self) -> dict[str, str]:
        """Return the group of each video; empty if the table gives none."""
        return {video: row["group"] for video, row in zip(self.videos, self.rows, strict=True)}

    @property
    def declined(self) -> set[str]:
        """Return the videos whose proposed group the user has cleared."""
        given = self.groups
        rows = zip(self.videos, self.rows, strict=True)
        return {video for video, row in rows if row[PROPOSED_GROUP] and not given[video]}


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
    filled, gets none.

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
    contents = dict(zip(files, content_hashes([videos / file for file in files]), strict=True))
    # As the catalog does, so that the proposals are those of the report.
    grouped = with_groups([replace(record, sha256=contents[record.video]) for record in records])
    declined = table.declined
    grouped = [record for record in grouped if record.video not in declined]
    looks = look_at_videos(grouped, videos=videos, frames=FRAMES, decode=decode, compute=compute)
    given = table.groups
    numbers = {file: number for number, file in enumerate(files)}
    proposals = join_segments(
        propose_groups(grouped, [look.hashed for look in looks.values() if look.hashed]),
        [numbers[record.video] for record in grouped],
    )
    names = _name_groups(proposals.groups, files, given)
    rows = [
        {
            **row,
            "group": row["group"] or names.get(video, ""),
            PROPOSED_GROUP: names.get(video, row[PROPOSED_GROUP]),
        }
        for row, video in zip(table.rows, table.videos, strict=True)
    ]
    _check_new(output)
    write_csv(output, table.columns, rows)
    return [
        *_count_lines(output, records, targets, files),
        *_group_lines(proposals, files, given, names),
        *_declined_lines(sorted(declined)),
        *_failure_lines({file: look.failure for file, look in looks.items() if look.failure}),
        *_next_lines(in_params, videos, output, has_groups=bool(names)),
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


def _name_groups(
    groups: Sequence[ProposedGroup], files: Sequence[str], given: Mapping[str, str]
) -> dict[str, str]:
    """Return the name of the group of each video that gets one.

    It is the group that the table gives to other members, or the path of the first member. If the
    table gives several groups to the members, the others get none.
    """
    taken = set(given.values())
    names: dict[str, str] = {}
    for group in groups:
        members = [files[member] for member in group.members]
        known = {given[member] for member in members} - {""}
        if len(known) > 1:
            continue
        if known:
            name = known.pop()
        else:
            name = clean_text(printable(members[0]), where=members[0])
            while name in taken:
                name += "+"
            taken.add(name)
        names |= {member: name for member in members if not given[member]}
    return names


def _count_lines(
    output: Path, records: Sequence[VideoRecord], targets: Targets, files: Sequence[str]
) -> Iterator[str]:
    rows = "" if len(records) == len(files) else f", {count_of(len(records), 'labelled part')}"
    yield f"Wrote {output}: {count_of(len(files), 'video')}{rows}."
    strata = Counter(targets.strata([record.target for record in records]))
    if len(strata) > 1:
        counts = [f"{name} {count:,}" for name, count in sorted(strata.items())]
        yield f"By {targets.stratum_name}: {shorten_list(counts, shown=_SHOWN)}"


def _group_lines(
    proposals: Proposals, files: Sequence[str], given: Mapping[str, str], names: Mapping[str, str]
) -> Iterator[str]:
    """Yield the number of proposed groups by reason, the largest, and contradictions."""

    def shown(group: ProposedGroup) -> tuple[str, str, str]:
        members = [files[member] for member in group.members]
        return (
            str(len(members)),
            shorten_list(members, shown=_SHOWN_MEMBERS),
            ", ".join(REASONS[reason] for reason in group.reasons),
        )

    new = replace(
        proposals,
        groups=tuple(
            group
            for group in proposals.groups
            if any(files[member] in names for member in group.members)
        ),
    )
    if not new.groups:
        yield "Proposed groups: none."
    else:
        n_videos = sum(len(group.members) for group in new.groups)
        yield f"Proposed groups: {len(new.groups):,} of {count_of(n_videos, 'video')}, by reason:"
        counts = [(REASONS[kind], f"{count:,}") for kind, count in new.reason_counts.items()]
        yield from align_columns(counts, "<>")
        yield "Largest groups:"
        yield from align_columns([shown(group) for group in new.groups[:_SHOWN]], "><<")
    contradictions = [
        group
        for group in proposals.groups
        if len({given[files[member]] for member in group.members} - {""}) > 1
    ]
    if contradictions:
        yield "Several groups of the table may be one; they are unchanged:"
        yield from align_columns([shown(group) for group in contradictions[:_SHOWN]], "><<")
        if len(contradictions) > _SHOWN:
            yield f"  and {len(contradictions) - _SHOWN:,} more"
    yield from proposals.remarks


def _declined_lines(videos: Sequence[str]) -> Iterator[str]:
    if videos:
        names = shorten_list([printable(video) for video in videos], shown=_SHOWN)
        yield f"No group, because you cleared the proposed one: {names}"


def _failure_lines(failures: Mapping[str, str]) -> Iterator[str]:
    if failures:
        yield f"Not readable, and kept in the table: {count_of(len(failures), 'video')}."
        rows = sorted(failures.items())[:_SHOWN]
        yield from align_columns(rows, "<<")
        if len(failures) > _SHOWN:
            yield f"  and {len(failures) - _SHOWN:,} more"


def _next_lines(
    data: DataSection, videos: Path, output: Path, *, has_groups: bool
) -> Iterator[str]:
    """Yield what to do next; ``data`` is that of params.yaml."""
    yield ""
    yield "Next:"
    if has_groups:
        yield (
            f"  Look at the videos of each group in {output}. Clear the cell group of a video that "
            f"shows another scene: while its cell {PROPOSED_GROUP} is filled, it is not proposed "
            "again. Give one name to videos of one scene or person."
        )
    settings = []
    if videos != Path(data.videos):
        settings.append(f"data.videos: {videos}")
    used = videos / (data.labels or LABELS_TABLE)
    if not used.exists() or not output.samefile(used):
        relative = os.path.relpath(output.absolute(), videos.absolute())
        settings.append(f"data.labels: {relative}")
    if settings:
        yield f"  Set in params.yaml: {', '.join(settings)}"
    yield "  vidpipe repro report   # shows the data before training"
