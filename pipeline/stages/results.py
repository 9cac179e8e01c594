"""What train and evaluate leave on disk, read by the stages after them, and its way to MLflow."""

import tempfile
from pathlib import Path

from pipeline.base.files import read_csv, read_json
from pipeline.base.paths import (
    AUDITS,
    CATALOG,
    CLIPS,
    FRAMES,
    FRAMES_INDEX,
    HISTORY,
    INTERVALS,
    LABEL_ISSUES,
    LEAKS,
    METRICS,
    MODEL,
    MODEL_METADATA,
    PER_CLASS,
    PLOTS,
    PREDICTIONS,
    SLICES,
)
from pipeline.catalog.records import SPLITS
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.shards import ClipArrays
from pipeline.model.saving import model_digest
from pipeline.params import Params
from pipeline.tracking.lineage import BRIGHTNESS, LEDGER, has_data, log_catalog, log_data
from pipeline.tracking.notes import note_results
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.scores import log_evaluation
from pipeline.video.brightness import brightness_by_name, write_brightness

_LOGGED = (PREDICTIONS, PER_CLASS, SLICES, AUDITS, LEAKS, LABEL_ISSUES, PLOTS)


def read_history() -> list[dict[str, float]]:
    """Return one row an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy."""
    return [{key: float(value) for key, value in row.items()} for row in read_csv(HISTORY)]


def log_frames(run_id: str) -> None:
    """Log what ``make data-check`` will compare later videos with: the ledger, and brightness."""
    log_data(run_id, FRAMES_INDEX, name=LEDGER)
    if has_data(run_id, BRIGHTNESS):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, BRIGHTNESS)
        write_brightness(path, brightness_by_name(FRAMES))
        log_data(run_id, path, name=BRIGHTNESS)


def log_results(params: Params, *others: Path) -> str:
    """Bring what lies in eval/ to the run of the model on disk; return its id.

    The run is made again if the store has none: it was deleted, or is another one.

    Args:
        others: files and folders to log beside those that evaluate writes.
    """
    run_id = ensure_run(
        model_digest(MODEL, MODEL_METADATA),
        params=params.of_model(),
        dataset=params.data.videos,
        history=read_history(),
    )
    log_catalog(run_id, CATALOG)
    scores, intervals = read_json(METRICS), read_json(INTERVALS)
    log_evaluation(
        run_id,
        scores=scores,
        intervals=intervals,
        settings=params.evaluate.model_dump(),
        files=[*(path for path in _LOGGED if path.exists()), *others],
    )
    note_results(
        run_id,
        scores=scores,
        intervals=intervals,
        confidence=params.evaluate.confidence,
        audits=read_json(AUDITS) if AUDITS.exists() else [],
        class_names=ClipsMetadata.read(MODEL_METADATA).class_names,
        clips={split: len(ClipArrays(CLIPS / split)) for split in SPLITS},
    )
    return run_id
