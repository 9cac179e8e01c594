"""A comparison as text for a terminal."""

from collections.abc import Iterator, Sequence

from pipeline.compare.comparison import ChangedVideo, Comparison, readable, verdict

_MOST_VIDEOS = 20  # of a list; the page has all


def table(found: Comparison) -> str:
    """Return what differs, a paragraph a subject."""
    return "\n".join(_lines(found))


def _lines(found: Comparison) -> Iterator[str]:
    yield f"A  {found.a.title}"
    yield f"B  {found.b.title}"
    yield ""
    yield f"On the {found.videos} videos that both have:"
    rows = [("", "A", "B", "B - A", f"{found.confidence:.0%} interval", "")]
    for metric, difference in found.differences.items():
        rows.append(
            (
                readable(metric),
                f"{difference.value_a:.4f}",
                f"{difference.value_b:.4f}",
                f"{difference.difference:+.4f}",
                f"{difference.low:+.4f} to {difference.high:+.4f}",
                verdict(metric, difference),
            )
        )
    yield from _columns(rows, "<>>>><")
    yield from found.remarks
    yield ""
    if found.params:
        yield "Params that differ:"
        shown = [(param.key, param.a or "-", param.b or "-") for param in found.params]
        yield from _columns([("", "A", "B"), *shown], "<<<")
    else:
        yield "No param differs."
    yield ""
    yield f"Right in both: {found.both_right}, wrong in both: {found.both_wrong}."
    yield from _video_lines("Became wrong", found.became_wrong)
    yield from _video_lines("Became right", found.became_right)


def _video_lines(title: str, videos: Sequence[ChangedVideo]) -> Iterator[str]:
    yield f"{title}: {len(videos)}"
    if not videos:
        return
    rows = [
        (
            video.video,
            video.label,
            f"{video.predicted_a} {video.probability_a:.2f}",
            f"{video.predicted_b} {video.probability_b:.2f}",
        )
        for video in videos[:_MOST_VIDEOS]
    ]
    yield from _columns([("video", "is", "A says", "B says"), *rows], "<<<<")
    if len(videos) > _MOST_VIDEOS:
        yield f"  and {len(videos) - _MOST_VIDEOS} more"


def _columns(rows: Sequence[Sequence[str]], sides: str) -> Iterator[str]:
    """Align the columns; ``sides`` has < for left and > for right, one a column."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, sides, widths, strict=True)
        yield "  " + "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip()
