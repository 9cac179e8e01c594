"""The HTML page of the data: counts, charts, film strips, damaged files, proposed groups."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from pipeline.common.charts import Chart
from pipeline.common.files import replacing_file
from pipeline.common.pages import chart_image, data_uri, render_page
from pipeline.common.paths import DATA_SUMMARY, DECODE_INDEX
from pipeline.common.pictures import WEBP, side_by_side, thumbnail, webp
from pipeline.common.records import SPLITS, VideoRecord
from pipeline.common.tables import count_of, duration, size_text
from pipeline.common.video_files import size_bytes
from pipeline.data_report.groups import REASONS, Link, Proposals
from pipeline.data_report.summary import SplitSummary
from pipeline.evaluation.near_duplicates import ALIKE_RULE, spread_frames
from pipeline.tasks.targets import Targets
from pipeline.video.settings import DecodeSection
from pipeline.video.store import load_record, stored_path

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"

# The page stays below about 2 MB.
_MAX_STRIPS = 48
_MAX_STRIPS_OF_STRATUM = 4
_MAX_PROBLEMS = 200
_MAX_PAIRS = 200
_MAX_PAIRS_WITH_FRAMES = 12
_FRAME_SIDE = 72  # pixels of a frame in a strip, the longer side
_PAIR_SIDE = 144


@dataclass(frozen=True)
class Pair:
    """Two videos of one proposed group that are in different groups of the catalog."""

    a: VideoRecord
    b: VideoRecord
    link: Link

    @property
    def is_across_splits(self) -> bool:
        return self.a.split != self.b.split


@dataclass(frozen=True)
class Strip:
    """Some frames of a video side by side."""

    record: VideoRecord
    target: str
    image: Image.Image


@dataclass(frozen=True)
class ShownStratum:
    """A stratum of the targets, such as a class, with the strips of some of its videos."""

    name: str
    videos: int
    strips: Sequence[Strip]


@dataclass(frozen=True)
class SplitCounts:
    """The counts of a split, or of all."""

    name: str
    videos: int
    groups: int
    seconds: float  # of the videos that are used
    damaged: int
    quarantined: int


@dataclass(frozen=True)
class DataSet:
    """The records of a data set, and what the page says about them.

    Attributes:
        source: ``data.videos``.
        records: decoded.
        strata: ``Targets.strata`` of their targets.
        proposals: for ``records``, by index.
        frames: the frame store.
        decode: its settings.
    """

    source: str
    task: str
    records: Sequence[VideoRecord]
    targets: Targets
    strata: Sequence[str]
    summary: Sequence[SplitSummary]
    proposals: Proposals
    frames: Path
    decode: DecodeSection


def write_page(path: Path, data: DataSet, picture: Figure, png: bytes) -> None:
    """Write the page.

    Args:
        picture: result of ``data_picture``.
        png: the same, encoded.
    """
    chart = _chart(data, picture)
    pairs = pairs_to_check(data.records, data.proposals)
    problems = [record for record in data.records if record.facts and record.facts.reason]
    problems.sort(key=lambda record: (record.is_usable, record.name))
    shown, n_left_out = _shown_strata(data)
    text = render_page(
        _TEMPLATE,
        data=data,
        noun=data.targets.stratum_name,
        n_strata=len(set(data.strata)),
        splits=_split_counts(data.records),
        sizes=_sizes(data),
        chart=chart,
        chart_images={chart.name: chart_image(png, *picture.get_size_inches())},
        strata=shown,
        n_strata_left_out=n_left_out,
        problems=problems[:_MAX_PROBLEMS],
        n_problems=len(problems),
        index=DECODE_INDEX,
        pairs=pairs[:_MAX_PAIRS],
        alike_rule=ALIKE_RULE,
        pair_frames=_pair_frames(data, pairs[:_MAX_PAIRS_WITH_FRAMES]),
        n_pairs=len(pairs),
        n_across=sum(pair.is_across_splits for pair in pairs),
        count_of=count_of,
        duration=duration,
        webp_uri=lambda image: data_uri(webp(image), WEBP),
    )
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def pairs_to_check(records: Sequence[VideoRecord], proposals: Proposals) -> list[Pair]:
    """Return the links between different groups of the catalog, those across splits first.

    Of links of one kind, the closest videos come first.
    """
    pairs = [
        Pair(records[link.a], records[link.b], link)
        for group in proposals.groups
        for link in group.links
        if records[link.a].group != records[link.b].group
    ]
    order = list(REASONS)
    pairs.sort(
        key=lambda pair: (
            not pair.is_across_splits,
            order.index(pair.link.reason),
            pair.link.distance,
            pair.a.name,
            pair.b.name,
        )
    )
    return pairs


def _sizes(data: DataSet) -> list[tuple[str, str]]:
    """Return the disk space of the videos and of their frames; videos may be on another disk."""
    sources = [Path(data.source) / video for video in sorted({one.video for one in data.records})]
    keys = {record.facts.key for record in data.records if record.facts is not None}
    stored = [stored_path(data.frames, key) for key in sorted(keys)]
    return [
        (name, size_text(size))
        for name, paths in (("videos", sources), ("frames", stored))
        if (size := sum(map(size_bytes, paths)))
    ]


def _split_counts(records: Sequence[VideoRecord]) -> list[SplitCounts]:
    def counts(name: str, own: Sequence[VideoRecord]) -> SplitCounts:
        status = Counter(record.facts.status for record in own if record.facts is not None)
        return SplitCounts(
            name,
            videos=len(own),
            groups=len({record.group for record in own}),
            seconds=math.fsum(one.seconds or 0 for one in own if one.is_usable),
            damaged=status["damaged"],
            quarantined=status["quarantined"],
        )

    by_split = [counts(name, [one for one in records if one.split == name]) for name in SPLITS]
    return [*by_split, counts("all", records)]


def _chart(data: DataSet, picture: Figure) -> Chart:
    noun = data.targets.stratum_name
    videos: dict[str, Counter[str]] = defaultdict(Counter)
    for row in data.summary:
        videos[row.target][row.split] += row.videos
    largest = sorted(videos.items(), key=lambda item: -item[1].total())[:10]
    counts = [
        f"{name} {', '.join(f'{split} {count}' for split, count in own.items())}"
        for name, own in largest
    ]
    return Chart(
        name="videos",
        title="Charts",
        alt="Histograms of duration and frame rate, bars of picture sizes, and videos by "
        f"{noun} and split: {'; '.join(counts)}",
        caption=f"{DATA_SUMMARY} has the numbers of the lowest chart.",
        draw=lambda: picture,
    )


def _shown_strata(data: DataSet) -> tuple[list[ShownStratum], int]:
    """Return the strata with strips, largest first, and the number of those left out."""
    members: dict[str, list[VideoRecord]] = defaultdict(list)
    for record, stratum in zip(data.records, data.strata, strict=True):
        members[stratum].append(record)
    ordered = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    most = max(1, min(_MAX_STRIPS_OF_STRATUM, _MAX_STRIPS // len(ordered)))
    shown = [
        ShownStratum(name, len(own), [_strip(data, record) for record in _some(own, most)])
        for name, own in ordered[:_MAX_STRIPS]
    ]
    return shown, len(ordered) - len(shown)


def _some(records: Sequence[VideoRecord], most: int) -> list[VideoRecord]:
    """Return some usable videos, evenly spread over the names."""
    usable = sorted((one for one in records if one.is_usable), key=lambda one: one.name)
    count = min(most, len(usable))
    return [usable[(2 * number + 1) * len(usable) // (2 * count)] for number in range(count)]


def _strip(data: DataSet, record: VideoRecord) -> Strip:
    assert record.facts is not None
    indices = sorted(set(spread_frames(record.facts.frames).tolist()))
    frames = load_record(record, indices, folder=data.frames, decode=data.decode)
    images = [thumbnail(frame, _FRAME_SIDE) for frame in frames]
    return Strip(record, data.targets.text(record.target), side_by_side(images))


def _pair_frames(data: DataSet, pairs: Sequence[Pair]) -> list[tuple[Pair, list[Image.Image]]]:
    """Return the pairs whose videos both have frames, with the middle frame of each."""
    shown = []
    for pair in pairs:
        images = [
            thumbnail(frame, _PAIR_SIDE)
            for record in (pair.a, pair.b)
            if record.facts is not None and record.is_usable
            for frame in load_record(
                record, [record.facts.frames // 2], folder=data.frames, decode=data.decode
            )
        ]
        if len(images) == 2:
            shown.append((pair, images))
    return shown
