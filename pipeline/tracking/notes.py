"""The note of a run, which the UI shows first: how good, what to look at, made from what."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from pipeline.tracking.markdown import plain, table
from pipeline.tracking.store import connect, mlflow_errors

_MADE_FROM = "### Made from"
_MOST_CLASSES = 20  # that are named
_LONGEST = 8000  # characters that MLflow takes


def start_note(client: MlflowClient, run_id: str, made_from: str) -> None:
    """Write the part of the note that does not change: what the model is made from."""
    _write(client, run_id, f"{_MADE_FROM}\n\n{made_from}")


def note_results(
    run_id: str,
    *,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    confidence: float,
    audits: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    clips: Mapping[str, int],
) -> None:
    """Write what was found in front of what the model is made from, in place of what stood there.

    Args:
        run_id: of the run.
        scores: of the test videos; ``accuracy`` and ``videos``, their number, among them.
        intervals: of some of them, the accuracy among them.
        confidence: of the intervals, such as 0.95.
        audits: each with ``ok`` and ``sentence``.
        class_names: of the model.
        clips: split -> number of clips.
    """
    sections = [
        [_headline(scores, intervals, confidence, audits)],
        _audit_lines(audits),
        _score_lines(scores, intervals, confidence),
        _data_lines(class_names, clips),
    ]
    found = "\n".join(line for lines in sections for line in (*lines, ""))
    client = connect()
    with mlflow_errors():
        note = client.get_run(run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
        _, heading, made_from = note.partition(_MADE_FROM)
        _write(client, run_id, f"{found}\n{heading}{made_from}")


def _headline(
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    confidence: float,
    audits: Sequence[Mapping[str, Any]],
) -> str:
    """Say the most in a line: the UI folds the rest away."""
    low, high = intervals["accuracy"]
    line = (
        f"**Accuracy {scores['accuracy']:.3f}**, {confidence:.0%} interval {low:.3f} to "
        f"{high:.3f}, on {scores['videos']:.0f} test videos."
    )
    if to_look_at := sum(not audit["ok"] for audit in audits):
        line += f" To look at: {to_look_at} {'audit' if to_look_at == 1 else 'audits'}."
    return line


def _score_lines(
    scores: Mapping[str, float], intervals: Mapping[str, tuple[float, float]], confidence: float
) -> list[str]:
    rows = []
    for name, value in scores.items():
        low_high = intervals.get(name)
        between = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else ""
        rows.append((name.replace("_", " ").replace("f1", "F1"), f"{value:.4g}", between))
    return ["### Scores", "", *table(("score", "value", f"{confidence:.0%} interval"), rows)]


def _audit_lines(audits: Sequence[Mapping[str, Any]]) -> list[str]:
    if not audits:
        return []
    # Those that want a look first.
    lines = [
        f"- {'fine' if audit['ok'] else '**look**'}: {plain(audit['sentence'])}"
        for audit in sorted(audits, key=lambda audit: bool(audit["ok"]))
    ]
    return ["### Audits", "", *lines]


def _data_lines(class_names: Sequence[str], clips: Mapping[str, int]) -> list[str]:
    names = ", ".join(plain(name) for name in class_names[:_MOST_CLASSES])
    if len(class_names) > _MOST_CLASSES:
        names += f" and {len(class_names) - _MOST_CLASSES} more"
    counts = ", ".join(f"{split} {count:,}" for split, count in clips.items())
    return ["### Data", "", f"{len(class_names)} classes: {names}", "", f"Clips: {counts}"]


def _write(client: MlflowClient, run_id: str, note: str) -> None:
    client.set_tag(run_id, MLFLOW_RUN_NOTE, note[:_LONGEST])
