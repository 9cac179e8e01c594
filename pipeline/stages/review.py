"""review: charts, film strips and one HTML report of what evaluate found."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.base.command import run_command
from pipeline.base.files import read_json, replacing_folder
from pipeline.base.paths import (
    AUDITS,
    CATALOG,
    CLIPS,
    FRAMES,
    FRAMES_INDEX,
    INTERVALS,
    LABEL_ISSUES,
    LEAKS,
    METRICS,
    MODEL,
    MODEL_METADATA,
    PER_CLASS,
    PREDICTIONS,
    REVIEW,
    REVIEW_REPORT,
    SLICES,
    TRAINING,
)
from pipeline.catalog.records import read_catalog
from pipeline.clips.sampling import Clip
from pipeline.clips.shards import ClipArrays
from pipeline.evaluation.metrics import confusion
from pipeline.evaluation.plots import confusion_picture, save_png, training_curves_picture
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.slices import Slice
from pipeline.model.grad_cam import grad_cam
from pipeline.model.prediction import attention_weights, has_attention, predict_clips
from pipeline.model.saving import load_classifier, model_digest
from pipeline.params import Params, load_params
from pipeline.review import findings
from pipeline.review.charts import Chart
from pipeline.review.clips import ShownChoice, shown_choices
from pipeline.review.curves import precision_recall_chart, reliability_chart
from pipeline.review.report import Review, render_report
from pipeline.review.selection import choose
from pipeline.review.slices_chart import slices_chart
from pipeline.review.splits_chart import splits_chart
from pipeline.review.stored import StoredFrames
from pipeline.review.strips import Seen
from pipeline.review.suspects import shown_label_issues, shown_leaks
from pipeline.stages.described import read_described
from pipeline.stages.results import read_history

if TYPE_CHECKING:  # pipeline.model sets up TensorFlow before it is imported
    import keras

logger = logging.getLogger(__name__)

_MOST_CONFUSIONS = 10


def main() -> None:
    params = load_params()
    review = gather(params)
    with replacing_folder(REVIEW) as folder:
        write(review, folder)
    size = REVIEW_REPORT.stat().st_size
    logger.info("%s: %.1f MB", REVIEW_REPORT, size / 1e6)


def gather(params: Params) -> Review:
    """Read what evaluate, train and decode left on disk, and look at some clips with the model."""
    predictions = Predictions.read_csv(PREDICTIONS)
    scores = findings.read_scores(METRICS, INTERVALS)
    slices = findings.read_slices(SLICES)
    leaks = findings.read_leaks(LEAKS)
    issues = findings.read_label_issues(LABEL_ISSUES)
    starts = {entry.name: entry.start_seconds or 0.0 for entry in read_catalog(CATALOG)}
    frames = StoredFrames(FRAMES, starts)
    shown, moves = params.review.suspects, params.review.previews
    return Review(
        scores=scores,
        confidence=params.evaluate.confidence,
        facts=_facts(params, predictions),
        classes=findings.read_classes(PER_CLASS),
        confusions=_confusions(predictions),
        slices=slices,
        audits=findings.read_audits(AUDITS),
        leaks=shown_leaks(leaks[:shown], frames),
        n_leaks=len(leaks),
        label_issues=shown_label_issues(issues[:shown], frames, moves=moves),
        n_label_issues=len(issues),
        choices=_choices(predictions, params, fps=frames.fps),
        charts=_charts(predictions, scores, slices, params),
    )


def write(review: Review, folder: Path) -> None:
    """Write report.html, charts/*.png and strips/*.png into an empty folder."""
    (folder / REVIEW_REPORT.name).write_text(render_report(review), encoding="utf-8")
    for chart in review.charts.values():
        save_png(chart.figure(), folder / "charts" / f"{chart.name}.png")
    strips = folder / "strips"
    strips.mkdir()
    for choice in review.choices:
        if choice.clips:
            choice.sheet().save(strips / f"{choice.kind}.png", optimize=True)


def _facts(params: Params, predictions: Predictions) -> list[tuple[str, str]]:
    return [
        ("Data", params.data.videos),
        ("Classes", f"{len(predictions.class_names)}"),
        ("Test videos", f"{len(predictions.videos)}"),
        ("Model", model_digest(MODEL, MODEL_METADATA)[:12]),
    ]


def _confusions(predictions: Predictions) -> list[tuple[str, str, int]]:
    names = predictions.class_names
    pairs = zip(predictions.labels.tolist(), predictions.predicted.tolist(), strict=True)
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CONFUSIONS]
    return [(names[actual], names[predicted], count) for (actual, predicted), count in common]


def _choices(predictions: Predictions, params: Params, *, fps: float) -> list[ShownChoice]:
    clips, model = ClipArrays(CLIPS / "test"), load_classifier(MODEL)

    def look(rows: Sequence[int]) -> list[Seen]:
        classes = predictions.predicted[list(rows)].tolist()
        of_videos = [_clips_of(clips, predictions.videos[row]) for row in rows]
        shown = [
            _most_typical(model, candidates, number)
            for candidates, number in zip(of_videos, classes, strict=True)
        ]
        return _seen(model, shown, classes)

    chosen = choose(predictions, each=params.review.clips)
    return shown_choices(predictions, chosen, look, fps=fps, moves=params.review.previews)


def _clips_of(clips: ClipArrays, video: str) -> list[Clip]:
    indices = [index for index, name in enumerate(clips.names) if name == video]
    return [Clip(np.array(clips.frames(index)), clips.mask(index)) for index in indices]


def _most_typical(model: "keras.Model", clips: Sequence[Clip], number: int) -> Clip:
    """Return the clip of a video that speaks most for the class predicted for the video."""
    if len(clips) == 1:
        return clips[0]
    return clips[int(predict_clips(model, clips)[:, number].argmax())]


def _seen(model: "keras.Model", clips: Sequence[Clip], classes: Sequence[int]) -> list[Seen]:
    """Look at clips with the model: what in them speaks for a class, one class a clip."""
    heat = grad_cam(model, clips, classes)
    attention = attention_weights(model, clips) if has_attention(model) else None
    return [
        Seen(
            frames=clip.frames,
            mask=clip.mask,
            heat=None if heat is None else heat[index],
            attention=None if attention is None else attention[index],
        )
        for index, clip in enumerate(clips)
    ]


def _charts(
    predictions: Predictions,
    scores: Mapping[str, findings.Estimate],
    slices: Sequence[Slice],
    params: Params,
) -> dict[str, Chart]:
    charts = [
        precision_recall_chart(predictions),
        _confusion_chart(predictions),
        reliability_chart(predictions, bins=params.evaluate.calibration_bins),
        _training_chart(),
        splits_chart(list(read_described(CATALOG, FRAMES_INDEX).values())),
    ]
    if slices:
        charts.append(slices_chart(slices, overall=scores["accuracy"]))
    return {chart.name: chart for chart in charts}


def _confusion_chart(predictions: Predictions) -> Chart:
    names = predictions.class_names
    matrix = confusion(predictions.labels, predictions.predicted, len(names))
    right, total = int(matrix.trace()), int(matrix.sum())
    return Chart(
        name="confusion",
        title="Confusion matrix",
        alt=f"Confusion matrix of {len(names)} classes: {right} of {total} test videos are on the "
        "diagonal, which is right. The commonest confusions are in the table below.",
        caption="Left: videos by actual and predicted class. Right: as percent of each actual "
        "class.",
        draw=lambda: confusion_picture(matrix, names),
    )


def _training_chart() -> Chart:
    history, best = read_history(), read_json(TRAINING)["best_epoch"]
    kept = next(row for row in history if row["epoch"] == best)
    return Chart(
        name="training",
        title="Training curves",
        alt=f"Loss and accuracy over {len(history)} epochs. The weights of epoch {best} were "
        f"kept, with a validation loss of {kept['val_loss']:.3f} and a validation accuracy of "
        f"{kept['val_accuracy']:.3f}.",
        caption="The dotted line is the epoch whose weights were kept. Where the validation loss "
        "rises while the training loss falls, the model learns the training videos by heart.",
        draw=lambda: training_curves_picture(history, restored_epoch=best),
    )


if __name__ == "__main__":
    run_command(main)
