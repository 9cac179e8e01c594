"""Summarise the proposed groups of ``vidpipe labels`` for the terminal."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.common.records import VideoRecord
from pipeline.common.tables import align_columns, count_of, printable, shorten_list
from pipeline.data_report.groups import REASONS, Proposals, ProposedGroup
from pipeline.dataset.columns import PROPOSED_GROUP
from pipeline.dataset.layouts import LABELS_TABLE
from pipeline.dataset.settings import DataSection
from pipeline.tasks.targets import Targets

_SHOWN = 10  # groups, files or classes in the summary
_SHOWN_MEMBERS = 3


def count_lines(
    output: Path, records: Sequence[VideoRecord], targets: Targets, files: Sequence[str]
) -> Iterator[str]:
    rows = "" if len(records) == len(files) else f", {count_of(len(records), 'labelled part')}"
    yield f"Wrote {output}: {count_of(len(files), 'video')}{rows}."
    strata = Counter(targets.strata([record.target for record in records]))
    if len(strata) > 1:
        counts = [f"{name} {count:,}" for name, count in sorted(strata.items())]
        yield f"By {targets.stratum_name}: {shorten_list(counts, shown=_SHOWN)}"


def group_lines(
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
        lines = align_columns([shown(group) for group in contradictions], "><<")
        yield shorten_list(lines, shown=_SHOWN, separator="\n")
    yield from proposals.remarks


def leak_lines(leaks: Mapping[ProposedGroup, str], files: Sequence[str]) -> Iterator[str]:
    """Yield the proposed groups in several splits, and what to do."""
    if leaks:
        yield f"In several splits, so that only {PROPOSED_GROUP} is filled:"
        rows = [
            (shorten_list([files[one] for one in group.members], shown=_SHOWN_MEMBERS), splits)
            for group, splits in leaks.items()
        ]
        yield shorten_list(align_columns(rows, "<<"), shown=_SHOWN, separator="\n")
        yield (
            "  Test scores may be too good. Move the videos of such a group to one split, then "
            "fill their cells group."
        )


def cleared_lines(videos: Sequence[str]) -> Iterator[str]:
    if videos:
        names = shorten_list([printable(video) for video in videos], shown=_SHOWN)
        yield f"No group, because you cleared the proposed one: {names}"


def failure_lines(failures: Mapping[str, str]) -> Iterator[str]:
    if failures:
        yield f"Not readable, and kept in the table: {count_of(len(failures), 'video')}."
        lines = align_columns(sorted(failures.items()), "<<")
        yield shorten_list(lines, shown=_SHOWN, separator="\n")


def next_lines(data: DataSection, videos: Path, output: Path, *, has_groups: bool) -> Iterator[str]:
    """Yield what to do next; ``data`` is that of params.yaml."""
    yield ""
    yield "Next:"
    if has_groups:
        yield (
            f"  Look at the videos of each group in {output}. Clear the cell group of a video that "
            f"shows another scene: while its cell {PROPOSED_GROUP} is filled, it is not grouped "
            "with these videos again. Give one name to videos of one scene or person."
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
