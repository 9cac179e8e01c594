"""The HTML report of a run: one file that opens from disk without a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.evaluation.audits import Audit
from pipeline.evaluation.slices import Slice
from pipeline.page.rendering import data_uri, render_page
from pipeline.review.charts import Chart
from pipeline.review.clips import ShownChoice, ShownClip
from pipeline.review.findings import CLASS_SCORES, ClassRow, Estimate
from pipeline.review.previews import WEBP, lossless_webp, webp
from pipeline.review.suspects import ShownLabelIssue, ShownLeak

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"

# What a person compares, in the order in which they are read; other numbers follow them.
_MEANINGS = {
    "accuracy": "share of videos whose most probable class is right",
    "balanced_accuracy": "mean recall of the classes: each class counts the same",
    "macro_f1": "mean F1 of the classes",
    "mean_average_precision": "mean over classes of the area under precision and recall",
    "top_k_accuracy": "share of videos whose class is among the k most probable",
    "log_loss": "mean of -ln(probability of the actual class); lower is better",
    "calibration_error": "how far confidence is from accuracy; lower is better",
    "temperature": "what logits are divided by; fitted on the validation videos",
    "log_loss_uncalibrated": "log loss before that division",
    "calibration_error_uncalibrated": "calibration error before that division",
    "coverage": "share of videos with enough confidence not to abstain",
    "accuracy_covered": "accuracy on these",
}


@dataclass(frozen=True)
class Review:
    """Everything that the report shows.

    scores: by name, as in eval/metrics.json.
    confidence: of the intervals, such as 0.95.
    facts: of the run, as pairs of a name and a value.
    confusions: actual class, predicted class, videos; the commonest first.
    charts: by name.
    leaks, label_issues: the first of them; the counts are of all.
    """

    scores: Mapping[str, Estimate]
    confidence: float
    facts: Sequence[tuple[str, str]]
    classes: Sequence[ClassRow]
    confusions: Sequence[tuple[str, str, int]]
    slices: Sequence[Slice]
    audits: Sequence[Audit]
    leaks: Sequence[ShownLeak]
    n_leaks: int
    label_issues: Sequence[ShownLabelIssue]
    n_label_issues: int
    choices: Sequence[ShownChoice]
    charts: Mapping[str, Chart]


def render_report(review: Review) -> str:
    """Return the report as HTML, all pictures inside it."""
    shown = [clip for choice in review.choices for clip in choice.clips]
    moving = [
        *(clip.preview.moving for clip in shown),
        *(one.preview.moving for one in review.label_issues),
    ]
    return render_page(
        _TEMPLATE,
        review=review,
        videos=round(review.scores["videos"].value),
        scores=_score_rows(review.scores),
        score_names=CLASS_SCORES,
        chart_uris={name: _chart_uris(chart) for name, chart in review.charts.items()},
        strip_uri=_strip_uri,
        webp_uri=lambda content: data_uri(content, WEBP),
        any_moves=any(moving),
        has_heat=any("Grad-CAM" in clip.alt for clip in shown),
        has_attention=any("Attention" in clip.alt for clip in shown),
    )


def _score_rows(scores: Mapping[str, Estimate]) -> list[tuple[str, Estimate, str]]:
    """Return name, number and meaning; counts of videos are no score."""
    others = sorted(name for name in scores if name not in _MEANINGS and name != "videos")
    known = [name for name in _MEANINGS if name in scores]
    return [
        (name.replace("_", " "), scores[name], _MEANINGS.get(name, "")) for name in known + others
    ]


def _chart_uris(chart: Chart) -> dict[str, object]:
    light, dark = chart.image("light"), chart.image("dark")
    width, height = chart.css_size(light)
    return {
        "light": data_uri(lossless_webp(light), WEBP),
        "dark": data_uri(lossless_webp(dark), WEBP),
        "width": width,
        "height": height,
    }


def _strip_uri(clip: ShownClip) -> str:
    return data_uri(webp(clip.strip), WEBP)
