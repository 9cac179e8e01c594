"""What the last commit says of stages, data and metrics."""

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.paths import CATALOG, METRICS
from pipeline.catalog.records import CatalogEntry, read_catalog
from pipeline.lineage.objects import open_objects
from pipeline.tracking.provenance import UNKNOWN, committed_data, git_output

_DVC_LOCK = Path("dvc.lock")


def changed_stages() -> list[str]:
    """Return the stages whose entry in dvc.lock is not the committed one, in its order."""
    here = _stages(_DVC_LOCK.read_text(encoding="utf-8") if _DVC_LOCK.exists() else "")
    committed = _stages(git_output("show", f"HEAD:./{_DVC_LOCK}") or "")
    return [name for name, entry in here.items() if committed.get(name) != entry]


def committed_catalog() -> list[CatalogEntry] | None:
    """Return the catalog of dvc.lock at HEAD: no rows if it has none, None if nobody has it."""
    digest = committed_data("catalog", CATALOG).md5
    if digest == UNKNOWN:
        return []
    with open_objects() as objects:
        content = objects.content(digest)
    if content is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, CATALOG.name)
        path.write_bytes(content)
        return read_catalog(path)


def committed_metrics() -> dict[str, float]:
    """Return eval/metrics.json at HEAD; empty if it is not there."""
    text = git_output("show", f"HEAD:./{METRICS.as_posix()}")
    return {} if text is None else {key: float(value) for key, value in json.loads(text).items()}


def _stages(lock: str) -> dict[str, Any]:
    content = yaml.safe_load(lock) or {}
    return dict(content.get("stages", {}))
