"""The review of a model: one HTML page that opens from disk without a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from pipeline.common.bootstrap import Score
from pipeline.common.charts import Chart, png_bytes
from pipeline.common.findings import Finding
from pipeline.common.pages import chart_image, data_uri, render_page
from pipeline.common.pictures import WEBP, thumbnail, webp
from pipeline.evaluation.doubtful_labels import DoubtfulLabel
from pipeline.evaluation.near_duplicates import NearDuplicate
from pipeline.evaluation.slices import Slice
from pipeline.review.film_strips import Preview, frames_in_preview, preview
from pipeline.review.inputs import ShownTable, StoredFrames
from pipeline.review.selection import ShownSelection
from pipeline.tasks.task import Task

PAGE = "report.html"

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"
_MAX_SUSPECTS = 6  # near-duplicates and doubtful labels shown, each
_PAIR_SIDE = 144  # pixels of a near-duplicate, the longer side


@dataclass(frozen=True)
class ShownPair:
    """Two near-duplicates and their most similar frames, as WebP."""

    pair: NearDuplicate
    frames: tuple[bytes, bytes]


@dataclass(frozen=True)
class ShownLabel:
    """A video with a doubtful label."""

    label: DoubtfulLabel
    preview: Preview


class ScoreRow(NamedTuple):
    """A row of the table of scores; ``baselines`` are the scores of ``Task.baselines``."""

    name: str
    score: Score
    description: str
    baselines: Sequence[Score | None]


@dataclass(frozen=True)
class Review:
    """The content of the page.

    Attributes:
        facts: pairs of name and value, shown below the heading.
        scores: by name, as in ``eval/metrics.json``.
        confidence: coverage probability of the intervals.
        tables, charts: of the task.
        near_duplicates, doubtful_labels: the first ones, which the page shows.
        n_doubtful_labels: number of all; the audit ``leaks`` counts the near-duplicates.
        slices_chart: None without slices.
    """

    task: Task
    facts: Sequence[tuple[str, str]]
    scores: Mapping[str, Score]
    confidence: float
    tables: Sequence[ShownTable]
    charts: Sequence[Chart]
    slices: Sequence[Slice]
    slices_chart: Chart | None
    audits: Sequence[Finding]
    near_duplicates: Sequence[ShownPair]
    doubtful_labels: Sequence[ShownLabel]
    n_doubtful_labels: int
    selections: Sequence[ShownSelection]
    training_chart: Chart
    splits_chart: Chart


def show_near_duplicates(pairs: Sequence[NearDuplicate], frames: StoredFrames) -> list[ShownPair]:
    """Add frames to the first pairs."""

    def encoded(video: str, seconds: float) -> bytes:
        return webp(thumbnail(frames.frame_at(video, seconds), _PAIR_SIDE))

    return [
        ShownPair(
            pair, (encoded(pair.video_a, pair.seconds_a), encoded(pair.video_b, pair.seconds_b))
        )
        for pair in pairs[:_MAX_SUSPECTS]
    ]


def show_doubtful_labels(labels: Sequence[DoubtfulLabel], frames: StoredFrames) -> list[ShownLabel]:
    """Add previews to the first doubtful labels."""

    def encoded(video: str) -> Preview:
        chosen, fps = frames.frames(video, frames_in_preview)
        return preview(chosen, fps=fps)

    return [ShownLabel(label, encoded(label.video)) for label in labels[:_MAX_SUSPECTS]]


def write_review(review: Review, folder: Path) -> None:
    """Write ``report.html``, ``charts/<name>.png`` and ``strips/<kind>.png`` to an empty folder."""
    charts = [*review.charts, review.slices_chart, review.training_chart, review.splits_chart]
    figures = {chart.name: chart.draw() for chart in charts if chart is not None}
    pngs = {name: png_bytes(figure) for name, figure in figures.items()}
    (folder / PAGE).write_text(_render(review, figures, pngs), encoding="utf-8")
    (folder / "charts").mkdir()
    for name, png in pngs.items():
        (folder / "charts" / f"{name}.png").write_bytes(png)
    (folder / "strips").mkdir()
    for selection in review.selections:
        if selection.videos:
            selection.sheet().save(folder / "strips" / f"{selection.kind}.png", optimize=True)


def _render(review: Review, figures: Mapping[str, Figure], pngs: Mapping[str, bytes]) -> str:
    shown = [video for selection in review.selections for video in selection.videos]
    previews = [video.preview for video in shown] + [one.preview for one in review.doubtful_labels]
    return render_page(
        _TEMPLATE,
        review=review,
        videos=round(review.scores["videos"].value),
        headlines=[
            (name, review.scores[name])
            for name in review.task.headline_metrics
            if name in review.scores and name != review.task.video_score
        ],
        score_rows=_score_rows(review),
        chart_images={
            name: chart_image(png, *figures[name].get_size_inches()) for name, png in pngs.items()
        },
        strip_uri=lambda strip: data_uri(webp(strip), WEBP),
        webp_uri=lambda content: data_uri(content, WEBP),
        has_animations=any(one.animation for one in previews),
        has_heat=any("Grad-CAM" in video.alt for video in shown),
        has_attention=any("Attention" in video.alt for video in shown),
        has_labels=any("labelled frame" in video.alt for video in shown),
    )


def _score_rows(review: Review) -> list[ScoreRow]:
    """Return the scores in the order of the task, then other scores by name."""
    task, scores = review.task, review.scores
    of_baselines = {f"{name}_{baseline}" for name in scores for baseline in task.baselines}
    known = [name for name in task.metric_descriptions if name in scores]
    others = sorted(scores.keys() - {*known, *of_baselines, "videos"})
    return [
        ScoreRow(
            name,
            scores[name],
            task.metric_descriptions.get(name, ""),
            [scores.get(f"{name}_{baseline}") for baseline in task.baselines],
        )
        for name in known + others
    ]
