"""register: log the results and register the model as a version, the challenger."""

import logging

from pipeline.clips.arrays import ClipArrays
from pipeline.common import paths
from pipeline.common.command import run_command
from pipeline.common.files import read_csv, read_json, write_json
from pipeline.common.records import SPLITS
from pipeline.model.saving import ModelMetadata, model_digest
from pipeline.params import Params, load_params
from pipeline.registry.register import TEST_DATA, register_model
from pipeline.registry.versions import CHALLENGER
from pipeline.serving.request import ServingConfig
from pipeline.tracking.buffer import upload_buffered
from pipeline.tracking.notes import Results
from pipeline.tracking.provenance import provenance_tags
from pipeline.tracking.results import SCORES, log_results
from pipeline.tracking.runs import ensure_run, warned
from pipeline.tracking.store import StoreUnreachableError
from pipeline.video.writing import encode_mp4

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    model_sha256 = model_digest(paths.MODEL, paths.MODEL_METADATA)
    version = None  # pending
    try:
        version = _register(params, model_sha256)
    except StoreUnreachableError as error:
        if params.tracking.on_error == "fail":
            raise
        logger.warning("Not registered: %s When it is reachable, run: vidpipe sync", error)
    name = params.register_.name
    write_json(
        paths.REGISTRATION,
        {"name": name, "version": version, "alias": CHALLENGER, "model_sha256": model_sha256},
    )


def _register(params: Params, model_sha256: str) -> int:
    """Log the results to the run of the model and register it; return the version."""
    name = params.register_.name
    metadata = ModelMetadata.read(paths.MODEL_METADATA)
    scores: dict[str, float] = read_json(paths.METRICS)
    with warned("Runs of an earlier outage are not sent"):
        upload_buffered()
    run_id = ensure_run(
        model_sha256,
        params=params.training_params(),
        dataset=params.data.videos,
        history=[
            {key: float(cell) for key, cell in row.items()} for row in read_csv(paths.HISTORY)
        ],
    )
    results = Results(
        scores=scores,
        intervals=read_json(paths.INTERVALS),
        audits=read_json(paths.AUDITS),
        settings=params.evaluate.model_dump(),
        target_summary=metadata.task.summary(),
        clips={split: len(ClipArrays(paths.CLIPS / split)) for split in SPLITS},
        headline=metadata.task.headline_metrics,
    )
    files = [paths.METRICS, paths.INTERVALS, paths.TABLES, paths.PLOTS, paths.AUDITS, paths.REVIEW]
    evaluation = log_results(
        run_id, results, catalog=paths.CATALOG, decode_index=paths.DECODE_INDEX, files=files
    )
    version = register_model(
        run_id,
        name=name,
        model_sha256=model_sha256,
        model_path=paths.MODEL,
        metadata_path=paths.MODEL_METADATA,
        example_video=_example_video(metadata),
        tags={
            **provenance_tags(),
            **{f"{SCORES}{key}": f"{value:.6g}" for key, value in scores.items()},
            **evaluation.settings,
            TEST_DATA: evaluation.test_data,
        },
        config=ServingConfig(timeout_seconds=params.decode.timeout_seconds),
    )
    logger.info("registered %s version %d as @%s", name, version, CHALLENGER)
    return version


def _example_video(metadata: ModelMetadata) -> bytes:
    """Return the first test clip as a small video file."""
    clips = ClipArrays(paths.CLIPS / "test")
    frames = clips.frames(0)[clips.mask(0)]
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2  # H.264 needs even sizes
    return encode_mp4(frames[:, :height, :width], fps=metadata.preprocessing.decode.fps)


if __name__ == "__main__":
    run_command(main)
