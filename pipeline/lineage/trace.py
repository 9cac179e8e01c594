"""What is known of how a registered version came to be."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from pipeline.base.errors import PipelineError
from pipeline.catalog.records import CatalogEntry, read_catalog
from pipeline.lineage.objects import DataFile, DataObjects, open_objects
from pipeline.promotion.champions import existing_version, version_with
from pipeline.tracking.lineage import CATALOG, recorded_data
from pipeline.tracking.provenance import UNKNOWN
from pipeline.tracking.runs import MODEL_SHA256, RECREATED, existing_run
from pipeline.tracking.scores import SCORES, SETTINGS
from pipeline.tracking.store import shown_uri

STAGES = {"catalog": "catalog", "frames": "decode", "clips": "extract"}


@dataclass(frozen=True)
class TracedData:
    """An output of a stage, as it was when the model was trained.

    files: None when DVC's list of them cannot be had; ``why`` says why.
    """

    path: str
    digest: str
    files: Sequence[DataFile] | None
    why: str = ""


@dataclass(frozen=True)
class Trace:
    """Where a version comes from. Commit, params and data are those of its training.

    git_dirty: ``true``: files differed from the commit; ``unknown``: nobody looked.
    recreated: the run was made from files afterwards, so that the commit may be a later one.
    params: dotted key -> value, as in JSON: what made the model, and ``evaluate.*``.
    metrics: that it was registered with; the run has those of its last evaluation, perhaps by
        later code.
    videos: split -> label -> number of rows of the catalog; None when it is not recorded.
    """

    name: str
    version: int
    aliases: Sequence[str]
    registered: str  # UTC
    run_id: str
    model_sha256: str
    git_commit: str
    git_branch: str
    git_dirty: str
    recreated: bool
    host: str  # that trained it
    params: Mapping[str, str]
    metrics: Mapping[str, float]  # names as in eval/metrics.json
    data: Mapping[str, TracedData]  # catalog, frames, clips
    videos: Mapping[str, Mapping[str, int]] | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_version(name: str, wanted: str) -> ModelVersion:
    """Return a version by its number or by an alias, such as ``champion`` or ``@champion``.

    Raises:
        PipelineError: there is no such version, or the store cannot be read.
    """
    found = (
        existing_version(name, int(wanted))
        if wanted.isdigit()
        else version_with(name, wanted.removeprefix("@"))
    )
    if found is None:
        raise PipelineError(
            f"MLflow at {shown_uri()}: expected a version or an alias of {name}, such as 3 or "
            f"champion. Received: {wanted}. make ui shows what there is."
        )
    return found


def trace(version: ModelVersion) -> Trace:
    """Gather what the registry, the run and DVC know of a version.

    Raises:
        PipelineError: the store cannot be read.
    """
    run = existing_run(version.run_id)
    tags = {**version.tags, **(run.data.tags if run else {})}
    catalog = _catalog(version)
    with open_objects() as objects:
        data = {what: _data(tags, stage, objects) for what, stage in STAGES.items()}
    return Trace(
        name=version.name,
        version=int(version.version),
        aliases=sorted(version.aliases),
        registered=_utc(version.creation_timestamp),
        run_id=version.run_id or UNKNOWN,
        model_sha256=version.tags.get(MODEL_SHA256, UNKNOWN),
        git_commit=tags.get("git.commit", UNKNOWN),
        git_branch=tags.get("git.branch", UNKNOWN),
        git_dirty=tags.get("git.dirty", UNKNOWN),
        recreated=tags.get(RECREATED) == "true",
        host=tags.get("process.host", UNKNOWN),
        params=dict(sorted(((run.data.params if run else {}) | _settings(version, run)).items())),
        metrics=_registered_metrics(version) or _test_metrics(run),
        data=data,
        videos=None if catalog is None else _counts(catalog),
    )


def _data(tags: Mapping[str, str], stage: str, objects: DataObjects) -> TracedData:
    if (recorded := tags.get(f"dvc.{stage}")) is None:
        return TracedData("", UNKNOWN, None, "neither the run nor the version recorded them")
    path, _, digest = recorded.rpartition(" ")
    if digest == UNKNOWN:
        return TracedData(path, UNKNOWN, None, "the stage was not run by DVC")
    files = objects.files(digest, Path(path))
    missing = objects.failures or "neither DVC's cache nor its remote has the list"
    why = missing if files is None else ""
    return TracedData(path, digest, files, why)


def _catalog(version: ModelVersion) -> list[CatalogEntry] | None:
    with tempfile.TemporaryDirectory() as folder:
        path = recorded_data(version, CATALOG, Path(folder))
        return None if path is None else read_catalog(path)


def _counts(catalog: Sequence[CatalogEntry]) -> dict[str, dict[str, int]]:
    counts = Counter((entry.split, entry.label) for entry in catalog)
    labels = sorted({entry.label for entry in catalog})
    splits = dict.fromkeys(entry.split for entry in catalog)
    return {split: {label: counts[split, label] for label in labels} for split in sorted(splits)}


def _settings(version: ModelVersion, run: Run | None) -> dict[str, str]:
    """Return how it was evaluated: as it was registered, or else as its run says."""
    for tags in (version.tags, run.data.tags if run else {}):
        found = {key: value for key, value in tags.items() if key.startswith(SETTINGS)}
        if found:
            return found
    return {}


def _registered_metrics(version: ModelVersion) -> dict[str, float]:
    return {
        key.removeprefix(SCORES): float(value)
        for key, value in sorted(version.tags.items())
        if key.startswith(SCORES)
    }


def _test_metrics(run: Run | None) -> dict[str, float]:
    metrics = run.data.metrics if run else {}
    intervals = tuple(f"{name}{end}" for name in metrics for end in ("_low", "_high"))
    return {
        name.removeprefix("test/"): value
        for name, value in sorted(metrics.items())
        if name.startswith("test/") and name not in intervals
    }


def _utc(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
