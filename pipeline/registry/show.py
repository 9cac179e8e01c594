"""What a registered version was trained from: commit, params, scores, and data to the file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from pipeline.common.records import SPLITS
from pipeline.common.tables import align_columns, count_of, shorten_list
from pipeline.registry.dvc_objects import DataFile, DvcObjects, open_objects
from pipeline.registry.versions import recorded_records, version_title
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import targets_of
from pipeline.tracking.evaluations import SETTINGS, Evaluation, recorded_evaluations
from pipeline.tracking.provenance import UNKNOWN
from pipeline.tracking.results import SCORES
from pipeline.tracking.runs import MODEL_SHA256, RECREATED, existing_run

# The data of a training: name -> stage of dvc.yaml.
DATA_STAGES = {"catalog": "catalog", "frames": "decode", "clips": "extract"}

_SHOWN_FILES = 5
_SHOWN_STRATA = 20


@dataclass(frozen=True)
class TracedData:
    """An output of a stage, as it was when the model was trained.

    Attributes:
        files: None when the list is unavailable; ``reason`` tells why.
    """

    path: str
    digest: str
    files: Sequence[DataFile] | None
    reason: str = ""


@dataclass(frozen=True)
class Trace:
    """Where a version comes from. Commit, params and data are those of its training.

    Attributes:
        registered: time, UTC.
        git_dirty: ``true`` when files differed from the commit; ``unknown`` without a record.
        is_recreated: the run was created from files later, so the commit may be a later one.
        params: dotted key -> value as JSON, with ``evaluate.*`` of its evaluation.
        metrics: that it was registered with, named as in eval/metrics.json.
        evaluations: of its run, the last one first.
        videos: split -> stratum (such as the class) -> number of rows of the catalog; None
            when the catalog is not recorded.
    """

    title: str
    name: str
    version: int
    registered: str
    run_id: str
    model_sha256: str
    git_commit: str
    git_branch: str
    git_dirty: str
    is_recreated: bool
    host: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    evaluations: Sequence[Evaluation]
    data: Mapping[str, TracedData]
    videos: Mapping[str, Mapping[str, int]] | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def trace(version: ModelVersion) -> Trace:
    """Collect what the registry, the run and DVC record of a version."""
    run = existing_run(version.run_id)
    run_tags = run.data.tags if run else {}
    tags = {**version.tags, **run_tags}
    # The version keeps those of its registration, the run has those of its last evaluation.
    settings = _with_prefix(version.tags, SETTINGS) or _with_prefix(run_tags, SETTINGS)
    params = (run.data.params if run else {}) | {
        SETTINGS + key: value for key, value in settings.items()
    }
    scores = _with_prefix(version.tags, SCORES)
    if not scores and run:
        scores = _with_prefix(run.data.metrics, "test/")
    with open_objects() as objects:
        data = {
            name: _trace_data(tags.get(f"dvc.{stage}"), objects)
            for name, stage in DATA_STAGES.items()
        }
    return Trace(
        title=version_title(version),
        name=version.name,
        version=int(version.version),
        registered=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        ),
        run_id=version.run_id or UNKNOWN,
        model_sha256=version.tags.get(MODEL_SHA256, UNKNOWN),
        git_commit=tags.get("git.commit", UNKNOWN),
        git_branch=tags.get("git.branch", UNKNOWN),
        git_dirty=tags.get("git.dirty", UNKNOWN),
        is_recreated=tags.get(RECREATED) == "true",
        host=tags.get("process.host", UNKNOWN),
        params=dict(sorted(params.items())),
        metrics={name: float(value) for name, value in sorted(scores.items())},
        evaluations=recorded_evaluations(version.run_id),
        data=data,
        videos=_count_videos(version, params.get("task.type", TaskSection().type)),
    )


def _with_prefix(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the values whose key has the prefix, by the rest of the key."""
    return {key.removeprefix(prefix): values[key] for key in values if key.startswith(prefix)}


def _trace_data(recorded: str | None, objects: DvcObjects) -> TracedData:
    if recorded is None:
        return TracedData("", UNKNOWN, None, "neither the run nor the version recorded them")
    path, _, digest = recorded.rpartition(" ")
    if digest == UNKNOWN:
        return TracedData(path, UNKNOWN, None, "DVC did not run the stage")
    files = objects.files(digest, Path(path))
    if files is not None:
        return TracedData(path, digest, files)
    reason = "; ".join(objects.failures)
    reason = reason or "neither the DVC cache nor the DVC remote has the list"
    return TracedData(path, digest, None, reason)


def _count_videos(version: ModelVersion, task_type: str) -> dict[str, dict[str, int]] | None:
    records = recorded_records(version)
    if records is None:
        return None
    strata = targets_of(task_type).strata([record.target for record in records])
    counts = Counter(zip((record.split for record in records), strata, strict=True))
    names = sorted(set(strata))
    return {split: {name: counts[split, name] for name in names} for split in SPLITS}


def trace_lines(trace: Trace, *, all_files: bool = False) -> list[str]:
    """Return a trace as text, with the first files of each output or all of them."""
    uncommitted = {"true": ", with uncommitted changes", "false": ""}.get(
        trace.git_dirty, ", uncommitted changes unknown"
    )
    lines = [
        f"{trace.title}, registered {trace.registered}",
        f"  run     {trace.run_id} on {trace.host}{' (recreated)' if trace.is_recreated else ''}",
        f"  model   sha256 {trace.model_sha256}",
        f"  commit  {trace.git_commit} on {trace.git_branch}{uncommitted}",
    ]
    scores = {name: f"{value:.6g}" for name, value in trace.metrics.items()}
    for title, values in (("params", trace.params), ("test scores", scores)):
        lines.append(title)
        lines += align_columns(list(values.items()), "<<") if values else ["  not recorded"]
    lines.append("evaluations of its run")
    lines += [
        f"  {evaluation.time[:19]}Z at commit {evaluation.git_commit[:10]}, test data "
        f"{evaluation.test_data[:10]}, files in {evaluation.folder}"
        for evaluation in trace.evaluations
    ] or ["  not recorded"]
    lines.append("data")
    for name, data in trace.data.items():
        files = data.files or ()
        count = f"files unknown: {data.reason}" if data.reason else count_of(len(files), "file")
        lines.append(f"  {name:<8}{data.path} {data.digest}, {count}")
        if len(files) > 1:
            shown = len(files) if all_files else _SHOWN_FILES
            lines += [f"          {file.md5}  {file.path}" for file in files[:shown]]
            if len(files) > shown:
                lines.append(f"          and {len(files) - shown} more (--files lists them)")
    if trace.videos is None:
        return [*lines, "  videos  not recorded"]
    for split, counts in trace.videos.items():
        by_stratum = shorten_list(
            [f"{stratum} {count}" for stratum, count in counts.items()], shown=_SHOWN_STRATA
        )
        lines.append(f"  {split:<8}{count_of(sum(counts.values()), 'video')}: {by_stratum}")
    return lines
