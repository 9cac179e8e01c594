"""The note of a run, which the MLflow UI shows first: scores, audits, data, provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from pipeline.common.tables import count_of, markdown_escape, markdown_table
from pipeline.tracking.store import connect, mlflow_errors

_PROVENANCE = "### Provenance"
_LONGEST_SUMMARY = 600  # characters
_LONGEST = 8000  # characters that MLflow accepts


@dataclass(frozen=True)
class Results:
    """The results of an evaluation.

    Attributes:
        scores: content of eval/metrics.json; ``videos`` is the number of test videos.
        intervals: content of eval/intervals.json; some scores have none.
        audits: content of eval/audits.json: dicts with ``name``, ``status``, ``sentence``.
        settings: the section ``evaluate`` as a dict.
        target_summary: ``Task.summary()``, such as ``4 classes: left, right, up, down``.
        clips: split -> number of clips.
        headline: ``Task.headline_metrics``, the scores that the note shows first.
    """

    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    audits: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    target_summary: str
    clips: Mapping[str, int]
    headline: Sequence[str]

    @property
    def confidence(self) -> float:
        return float(self.settings["confidence"])


def start_note(client: MlflowClient, run_id: str, provenance: str) -> None:
    """Write the part of the note that does not change: commit, params and data."""
    _write(client, run_id, f"{_PROVENANCE}\n\n{provenance}")


def note_results(run_id: str, results: Results) -> None:
    """Write results before the provenance, in place of those of an earlier evaluation."""
    summary = results.target_summary
    if len(summary) > _LONGEST_SUMMARY:
        summary = f"{summary[: _LONGEST_SUMMARY - 1]}…"
    clip_counts = ", ".join(f"{split} {count:,}" for split, count in results.clips.items())
    sections = [
        [_headline(results)],
        _audit_lines(results.audits),
        _score_lines(results),
        ["### Data", "", markdown_escape(summary), "", f"Clips: {clip_counts}"],
    ]
    text = "\n".join(line for lines in sections if lines for line in (*lines, ""))
    client = connect()
    with mlflow_errors():
        note = client.get_run(run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
        _, heading, provenance = note.partition(_PROVENANCE)
        _write(client, run_id, f"{text}\n{heading}{provenance}")


def _headline(results: Results) -> str:
    """Return the line that the UI shows when the note is folded."""
    parts: list[str] = []
    for name in results.headline:
        if name in results.scores:
            shown = f"{_score_name(name)} {results.scores[name]:.3f}"
            parts.append(shown if parts else f"**{shown[0].upper()}{shown[1:]}**")
            if name in results.intervals:
                low, high = results.intervals[name]
                parts[-1] += f" ({results.confidence:.0%} interval {low:.3f} to {high:.3f})"
    videos = count_of(int(results.scores["videos"]), "test video")
    line = f"{', '.join(parts)}, on {videos}."
    if warnings := sum(audit["status"] != "ok" for audit in results.audits):
        line += f" {count_of(warnings, 'audit')} to look at."
    return line


def _audit_lines(audits: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for audit in sorted(audits, key=lambda audit: audit["status"] == "ok"):  # warnings first
        status = audit["status"] if audit["status"] == "ok" else f"**{audit['status']}**"
        lines.append(f"- {status}: {markdown_escape(audit['sentence'])}")
    return ["### Audits", "", *lines] if lines else []


def _score_lines(results: Results) -> list[str]:
    rows = []
    for name, value in results.scores.items():
        interval = results.intervals.get(name)
        shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        rows.append((_score_name(name), f"{value:.4g}", shown))
    header = ("score", "value", f"{results.confidence:.0%} interval")
    return ["### Scores", "", *markdown_table(header, rows)]


def _score_name(name: str) -> str:
    return markdown_escape(name.replace("_", " ").replace("f1", "F1"))


def _write(client: MlflowClient, run_id: str, note: str) -> None:
    client.set_tag(run_id, MLFLOW_RUN_NOTE, note[:_LONGEST])
