"""What train and evaluate leave on disk, read by the stages after them, and its way to MLflow."""

from pipeline.base.files import read_csv, read_json
from pipeline.base.paths import CATALOG, HISTORY, INTERVALS, METRICS, MODEL, MODEL_METADATA, PLOTS
from pipeline.model.saving import model_digest
from pipeline.params import Params
from pipeline.tracking.lineage import log_catalog
from pipeline.tracking.runs import ensure_run
from pipeline.tracking.scores import log_evaluation


def read_history() -> list[dict[str, float]]:
    """Return one row an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy."""
    return [{key: float(value) for key, value in row.items()} for row in read_csv(HISTORY)]


def log_results(params: Params) -> str:
    """Bring the scores and pictures on disk to the run of the model on disk; return its id.

    The run is made again if the store has none: it was deleted, or is another one.
    """
    run_id = ensure_run(
        model_digest(MODEL, MODEL_METADATA),
        params=params.model_dump(by_alias=True),
        dataset=params.data.videos,
        history=read_history(),
    )
    log_catalog(run_id, CATALOG)
    log_evaluation(
        run_id, scores=read_json(METRICS), intervals=read_json(INTERVALS), pictures=PLOTS
    )
    return run_id
