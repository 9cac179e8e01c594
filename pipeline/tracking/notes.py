"""The note of a run, which the MLflow UI shows first: scores, audits, data, provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from pipeline.common.tables import count_of, markdown_escape, markdown_table
from pipeline.tracking.store import connect, mlflow_errors

_PROVENANCE = "### Provenance"
_LONGEST_SUMMARY = 600  # characters
_LONGEST = 8000  # characters that MLflow accepts


def start_note(client: MlflowClient, run_id: str, provenance: str) -> None:
    """Write the part of the note that does not change: commit, params and data."""
    _write(client, run_id, f"{_PROVENANCE}\n\n{provenance}")


def note_results(
    run_id: str,
    *,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    confidence: float,
    audits: Sequence[Mapping[str, Any]],
    target_summary: str,
    clips: Mapping[str, int],
    headline: Sequence[str],
) -> None:
    """Write results before the provenance, in place of the results of an earlier evaluation.

    The parameters are those of ``results.log_results``.
    """
    summary = markdown_escape(target_summary)
    if len(summary) > _LONGEST_SUMMARY:
        summary = f"{summary[: _LONGEST_SUMMARY - 1]}…"
    clip_counts = ", ".join(f"{split} {count:,}" for split, count in clips.items())
    sections = [
        [_headline(scores, intervals, confidence, audits, headline)],
        _audit_lines(audits),
        _score_lines(scores, intervals, confidence),
        ["### Data", "", summary, "", f"Clips: {clip_counts}"],
    ]
    results = "\n".join(line for lines in sections if lines for line in (*lines, ""))
    client = connect()
    with mlflow_errors():
        note = client.get_run(run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
        _, heading, provenance = note.partition(_PROVENANCE)
        _write(client, run_id, f"{results}\n{heading}{provenance}")


def _headline(
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    confidence: float,
    audits: Sequence[Mapping[str, Any]],
    headline: Sequence[str],
) -> str:
    """Return the line that the UI shows when the note is folded."""
    parts: list[str] = []
    for name in headline:
        if name in scores:
            shown = f"{_score_name(name)} {scores[name]:.3f}"
            parts.append(shown if parts else f"**{shown[0].upper()}{shown[1:]}**")
            if name in intervals:
                low, high = intervals[name]
                parts[-1] += f" ({confidence:.0%} interval {low:.3f} to {high:.3f})"
    line = f"{', '.join(parts)}, on {count_of(int(scores['videos']), 'test video')}."
    if warnings := sum(audit["status"] != "ok" for audit in audits):
        line += f" {count_of(warnings, 'audit')} to look at."
    return line


def _audit_lines(audits: Sequence[Mapping[str, Any]]) -> list[str]:
    if not audits:
        return []
    warnings_first = sorted(audits, key=lambda audit: audit["status"] == "ok")
    lines = [
        f"- {'ok' if audit['status'] == 'ok' else '**' + audit['status'] + '**'}: "
        f"{markdown_escape(audit['sentence'])}"
        for audit in warnings_first
    ]
    return ["### Audits", "", *lines]


def _score_lines(
    scores: Mapping[str, float], intervals: Mapping[str, tuple[float, float]], confidence: float
) -> list[str]:
    rows = []
    for name, value in scores.items():
        interval = intervals.get(name)
        shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        rows.append((_score_name(name), f"{value:.4g}", shown))
    header = ("score", "value", f"{confidence:.0%} interval")
    return ["### Scores", "", *markdown_table(header, rows)]


def _score_name(name: str) -> str:
    return name.replace("_", " ").replace("f1", "F1")


def _write(client: MlflowClient, run_id: str, note: str) -> None:
    client.set_tag(run_id, MLFLOW_RUN_NOTE, note[:_LONGEST])
