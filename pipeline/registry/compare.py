"""Compare two evaluated models on their common test videos: scores, params, changed videos."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.common.files import replacing_file
from pipeline.common.pages import render_page
from pipeline.common.tables import align_columns
from pipeline.evaluation.predictions import Predictions, on_same_videos
from pipeline.evaluation.scores import Difference, paired_differences
from pipeline.evaluation.settings import EvaluateSection
from pipeline.registry.gate import RIGHT
from pipeline.registry.sides import Side, find_side

Verdict = Literal["A is better", "B is better", "not sure", "the same"]

_SHOWN_VIDEOS = 20  # of a list in the terminal; the page has all
_TEMPLATE = Path(__file__).parent / "templates" / "compare.html"
_HALF_WIDTH = 100  # of the drawing of an interval, in CSS pixels


@dataclass(frozen=True)
class ChangedParam:
    """A param that differs; None where a side does not have it."""

    key: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class ChangedVideo:
    """A video that one side has right and the other wrong, with the answers as text."""

    video: str
    target: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True)
class Comparison:
    """Model B against model A on their common videos.

    Attributes:
        differences: by metric.
        lower_is_better: the metrics where less is better.
        confidence: of the intervals.
        params: that differ, of the sections that both sides have.
        became_right: wrong in A and right in B, where B is most confident first.
        became_wrong: right in A and wrong in B, in the same order.
        both_right, both_wrong: number of the other videos.
        remarks: sentences about what the sides do not have in common.
    """

    a: Side
    b: Side
    differences: dict[str, Difference]
    lower_is_better: frozenset[str]
    confidence: float
    params: tuple[ChangedParam, ...]
    became_right: tuple[ChangedVideo, ...]
    became_wrong: tuple[ChangedVideo, ...]
    both_right: int
    both_wrong: int
    remarks: tuple[str, ...]

    @property
    def n_videos(self) -> int:
        changed = len(self.became_right) + len(self.became_wrong)
        return changed + self.both_right + self.both_wrong

    def verdict(self, metric: str) -> Verdict:
        """Return which side is better, where the interval excludes zero."""
        difference = self.differences[metric]
        if difference.low == difference.high == difference.difference == 0:
            return "the same"
        if difference.low <= 0 <= difference.high:
            return "not sure"
        b_is_better = (difference.low > 0) != (metric in self.lower_is_better)
        return "B is better" if b_is_better else "A is better"


def compare_sides(a: str, b: str, *, name: str, section: EvaluateSection) -> Comparison:
    """Compare two evaluated models by their names: see ``sides.find_side``.

    Args:
        name: of the registered model.

    Raises:
        PipelineError: a side does not exist or has no predictions, or no video is in both.
    """
    return compare(find_side(a, name=name), find_side(b, name=name), section)


def compare(a: Side, b: Side, section: EvaluateSection) -> Comparison:
    """Compare two evaluated models.

    Raises:
        PipelineError: there is no common video.
    """
    common_a, common_b = on_same_videos(a.predictions, b.predictions)
    is_right_a, is_right_b = (side.video_scores >= RIGHT for side in (common_a, common_b))
    return Comparison(
        a=a,
        b=b,
        differences=paired_differences(common_a, common_b, section),
        lower_is_better=common_b.task.lower_is_better,
        confidence=section.confidence,
        params=tuple(_changed_params(a.params, b.params)),
        became_right=_changed_videos(common_a, common_b, ~is_right_a & is_right_b),
        became_wrong=_changed_videos(common_a, common_b, is_right_a & ~is_right_b),
        both_right=int((is_right_a & is_right_b).sum()),
        both_wrong=int((~is_right_a & ~is_right_b).sum()),
        remarks=tuple(_remarks(a.predictions, b.predictions, len(common_b.videos))),
    )


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return a comparison as text."""
    lines = [f"A  {comparison.a.title}", f"B  {comparison.b.title}", ""]
    lines.append(f"On the {comparison.n_videos} common videos:")
    rows = [("", "A", "B", "B - A", f"{comparison.confidence:.0%} interval", "")]
    for metric, difference in comparison.differences.items():
        rows.append(
            (
                _readable(metric),
                f"{difference.value_a:.4f}",
                f"{difference.value_b:.4f}",
                f"{difference.difference:+.4f}",
                f"{difference.low:+.4f} to {difference.high:+.4f}",
                comparison.verdict(metric),
            )
        )
    lines += [*align_columns(rows, "<>>>><"), *comparison.remarks, ""]
    if comparison.params:
        params = [(param.key, param.a or "-", param.b or "-") for param in comparison.params]
        lines += ["Params that differ:", *align_columns([("", "A", "B"), *params], "<<<")]
    else:
        lines.append("No param differs.")
    lines += [
        "",
        f"Right in both: {comparison.both_right}, wrong in both: {comparison.both_wrong}.",
    ]
    for title, videos in (
        ("Became wrong", comparison.became_wrong),
        ("Became right", comparison.became_right),
    ):
        lines.append(f"{title}: {len(videos)}")
        if not videos:
            continue
        cells = [
            (video.video, video.target, video.answer_a, video.answer_b)
            for video in videos[:_SHOWN_VIDEOS]
        ]
        lines += align_columns([("video", "target", "A", "B"), *cells], "<<<<")
        if len(videos) > _SHOWN_VIDEOS:
            lines.append(f"  and {len(videos) - _SHOWN_VIDEOS} more")
    return lines


def write_comparison_page(comparison: Comparison, path: Path) -> None:
    """Write a comparison as one HTML file."""
    rows = []
    for metric, difference in comparison.differences.items():
        # Each metric has its own scale: a log loss has no upper end.
        ends = (difference.low, difference.difference, difference.high)
        scale = (_HALF_WIDTH - 8) / (max(map(abs, ends)) or 1)
        low_x, x, high_x = (round(_HALF_WIDTH + scale * end, 1) for end in ends)
        rows.append(
            {
                "name": _readable(metric),
                "difference": difference,
                "verdict": comparison.verdict(metric),
                "is_lower_better": metric in comparison.lower_is_better,
                "low_x": low_x,
                "x": x,
                "high_x": high_x,
            }
        )
    page = render_page(_TEMPLATE, comparison=comparison, rows=rows, middle=_HALF_WIDTH)
    with replacing_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _readable(metric: str) -> str:
    return metric.replace("_", " ").replace("f1", "F1")


def _changed_params(a: dict[str, str], b: dict[str, str]) -> Iterator[ChangedParam]:
    def sections(params: dict[str, str]) -> set[str]:
        return {key.split(".")[0] for key in params}

    common = sections(a) & sections(b)
    for key in dict.fromkeys((*b, *a)):
        if key.split(".")[0] in common and not _is_same_value(a.get(key), b.get(key)):
            yield ChangedParam(key, a.get(key), b.get(key))


def _is_same_value(a: str | None, b: str | None) -> bool:
    """Whether two values are equal; params.yaml may have 10 where a run has 10.0."""
    if a is None or b is None:
        return a is b
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b


def _changed_videos(
    a: Predictions, b: Predictions, is_changed: NDArray[np.bool_]
) -> tuple[ChangedVideo, ...]:
    rows = np.flatnonzero(is_changed).tolist()
    confidence = b.task.confidence(b.outputs)
    rows.sort(key=lambda row: (-confidence[row], b.videos[row]))
    return tuple(
        ChangedVideo(
            b.videos[row],
            b.targets[row],
            *(
                side.task.answer_line(side.task.answer(side.outputs[row], top_k=1), shown=1)[0]
                for side in (a, b)
            ),
        )
        for row in rows
    )


def _remarks(a: Predictions, b: Predictions, n_common: int) -> Iterator[str]:
    for name, side in (("A", a), ("B", b)):
        if others := len(side.videos) - n_common:
            yield f"Not compared, because only {name} has them: {others} of its videos."
    if a.task.summary() != b.task.summary():
        yield f"A knows {a.task.summary()}. B knows {b.task.summary()}."
    targets_a, targets_b = _targets_by_video(a), _targets_by_video(b)
    common = targets_a.keys() & targets_b.keys()
    if changed := sum(targets_a[video] != targets_b[video] for video in common):
        yield f"Videos with another target in B, which counts for both: {changed}."


def _targets_by_video(predictions: Predictions) -> dict[str, list[str]]:
    targets = defaultdict(list)
    for video, target in zip(predictions.videos, predictions.targets, strict=True):
        targets[video].append(target)
    return dict(targets)
