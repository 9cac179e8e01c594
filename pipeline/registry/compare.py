"""Compare two evaluated models on their common test videos: scores, params, changed videos."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import MIN_GROUPS
from pipeline.common.files import replacing_file
from pipeline.common.pages import render_page, words
from pipeline.common.tables import align_columns
from pipeline.evaluation.predictions import Predictions, on_same_videos
from pipeline.evaluation.scores import Difference, paired_differences
from pipeline.evaluation.settings import EvaluateSection
from pipeline.registry.sides import Side, find_side

_SHOWN_VIDEOS = 20  # of a list in the terminal; the page has all
_TEMPLATE = Path(__file__).parent / "templates" / "compare.html"


class ChangedParam(NamedTuple):
    """A param that differs; None where a side does not have it."""

    key: str
    a: str | None
    b: str | None


class ChangedVideo(NamedTuple):
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
        params: that differ, of the sections that both sides have.
        became_right: wrong in A and right in B, where B is most confident first.
        became_wrong: right in A and wrong in B, in the same order.
        both_right, both_wrong: number of the other videos.
        n_groups: number of resampling groups of the common videos.
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
    n_groups: int
    remarks: tuple[str, ...]

    @property
    def n_videos(self) -> int:
        changed = len(self.became_right) + len(self.became_wrong)
        return changed + self.both_right + self.both_wrong

    def verdict(self, metric: str) -> str:
        """Return which side is better: its interval excludes zero and has enough groups."""
        difference = self.differences[metric]
        if difference.low == difference.high == difference.difference == 0:
            return "the same"
        if self.n_groups < MIN_GROUPS or difference.low <= 0 <= difference.high:
            return "not sure"
        b_is_better = (difference.low > 0) != (metric in self.lower_is_better)
        return "B is better" if b_is_better else "A is better"


def compare_sides(a: str, b: str, *, name: str, section: EvaluateSection) -> Comparison:
    """Compare two evaluated models by their names, as ``find_side`` and ``compare``.

    A run that was evaluated more than once is compared by an evaluation on the test videos of the
    other side, if it has one.
    """
    side_a, side_b = find_side(a, name=name), find_side(b, name=name)
    if side_a.test_data != side_b.test_data:
        side_a = find_side(a, name=name, test_data=side_b.test_data)
    if side_a.test_data != side_b.test_data:
        side_b = find_side(b, name=name, test_data=side_a.test_data)
    return compare(side_a, side_b, section)


def compare(a: Side, b: Side, section: EvaluateSection) -> Comparison:
    """Compare two evaluated models.

    Raises:
        PipelineError: there is no common video.
    """
    common_a, common_b = on_same_videos(a.predictions, b.predictions)
    is_right_a, is_right_b = common_a.is_right, common_b.is_right
    resampling = section.resampling(common_b.resampling_groups)
    resampling.warn_if_few_groups()
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
        n_groups=resampling.n_groups,
        remarks=tuple(_remarks(a.predictions, b.predictions, len(common_b.videos))),
    )


def _changed_params(a: dict[str, str], b: dict[str, str]) -> Iterator[ChangedParam]:
    """Yield the params that differ; 10 in params.yaml equals 10.0 of a run."""
    sections_a, sections_b = ({key.split(".")[0] for key in params} for params in (a, b))
    for key in dict.fromkeys((*b, *a)):
        change = ChangedParam(key, a.get(key), b.get(key))
        try:
            is_same = float(change.a or "") == float(change.b or "")
        except ValueError:
            is_same = change.a == change.b
        if key.split(".")[0] in sections_a & sections_b and not is_same:
            yield change


def _changed_videos(
    a: Predictions, b: Predictions, is_changed: NDArray[np.bool_]
) -> tuple[ChangedVideo, ...]:
    rows = np.flatnonzero(is_changed).tolist()
    confidence = b.task.confidence(b.outputs)
    rows.sort(key=lambda row: (-confidence[row], b.videos[row]))

    def answer(side: Predictions, row: int) -> str:
        return side.task.answer_line(side.task.answer(side.outputs[row], top_k=1), shown=1)[0]

    return tuple(
        ChangedVideo(b.videos[row], b.targets[row], answer(a, row), answer(b, row)) for row in rows
    )


def _remarks(a: Predictions, b: Predictions, n_common: int) -> Iterator[str]:
    targets_a: defaultdict[str, list[str]] = defaultdict(list)
    targets_b: defaultdict[str, list[str]] = defaultdict(list)
    for name, side, targets in (("A", a, targets_a), ("B", b, targets_b)):
        if others := len(side.videos) - n_common:
            yield f"Not compared, because only {name} has them: {others} of its videos."
        for video, target in zip(side.videos, side.targets, strict=True):
            targets[video].append(target)
    if a.task.summary() != b.task.summary():
        yield f"A knows {a.task.summary()}. B knows {b.task.summary()}."
    common = targets_a.keys() & targets_b.keys()
    if changed := sum(targets_a[video] != targets_b[video] for video in common):
        yield f"Videos with another target in B, which counts for both: {changed}."


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return a comparison as text."""
    rows = [("", "A", "B", "B - A", f"{comparison.confidence:.0%} interval", "")]
    rows += [
        (
            words(metric),
            f"{difference.value_a:.4f}",
            f"{difference.value_b:.4f}",
            f"{difference.difference:+.4f}",
            f"{difference.low:+.4f} to {difference.high:+.4f}",
            comparison.verdict(metric),
        )
        for metric, difference in comparison.differences.items()
    ]
    lines = [
        f"A  {comparison.a.title}",
        f"B  {comparison.b.title}",
        "",
        f"On the {comparison.n_videos} common videos:",
        *align_columns(rows, "<>>>><"),
        *comparison.remarks,
        "",
    ]
    if comparison.params:
        params = [(key, a or "-", b or "-") for key, a, b in comparison.params]
        lines += ["Params that differ:", *align_columns([("", "A", "B"), *params], "<<<")]
    else:
        lines.append("No param differs.")
    both_right, both_wrong = comparison.both_right, comparison.both_wrong
    lines += ["", f"Right in both: {both_right}, wrong in both: {both_wrong}."]
    for title, videos in (
        ("Became wrong", comparison.became_wrong),
        ("Became right", comparison.became_right),
    ):
        lines.append(f"{title}: {len(videos)}")
        if videos:
            shown = [("video", "target", "A", "B"), *videos[:_SHOWN_VIDEOS]]
            lines += align_columns(shown, "<<<<")
        if len(videos) > _SHOWN_VIDEOS:
            lines.append(f"  and {len(videos) - _SHOWN_VIDEOS} more")
    return lines


def write_comparison_page(comparison: Comparison, path: Path) -> None:
    """Write a comparison as one HTML file."""
    with replacing_file(path) as temporary:
        temporary.write_text(render_page(_TEMPLATE, comparison=comparison), encoding="utf-8")
