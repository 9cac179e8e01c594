"""register: make the model a version of the registered model, as the challenger."""

import logging

from pipeline.base.command import run_command
from pipeline.base.dotted import flat_params
from pipeline.base.files import read_json, write_json
from pipeline.base.paths import CLIPS, METRICS, MODEL, MODEL_METADATA, REGISTRATION, REVIEW
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.shards import ClipArrays
from pipeline.model.saving import model_digest
from pipeline.params import load_params
from pipeline.serving.contract import ServingConfig
from pipeline.stages.results import log_results
from pipeline.tracking.aliases import CHALLENGER
from pipeline.tracking.provenance import provenance_tags
from pipeline.tracking.registry import register_model
from pipeline.tracking.scores import SCORES, SETTINGS
from pipeline.video.writing import encode_mp4

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    name = params.register_.name
    sha256 = model_digest(MODEL, MODEL_METADATA)
    scores = {f"{SCORES}{key}": f"{value:.6g}" for key, value in read_json(METRICS).items()}
    settings = flat_params(params.evaluate.model_dump(), SETTINGS)
    version = register_model(
        log_results(params, REVIEW),
        name=name,
        model_sha256=sha256,
        model_path=MODEL,
        metadata_path=MODEL_METADATA,
        example_video=_example_video(),
        tags={**provenance_tags(), **scores, **settings},
        config=ServingConfig(timeout_seconds=params.decode.timeout_seconds),
    )
    write_json(
        REGISTRATION,
        {"name": name, "version": version, "alias": CHALLENGER, "model_sha256": sha256},
    )
    logger.info("registered %s version %d as @%s", name, version, CHALLENGER)


def _example_video() -> bytes:
    """Return the first test clip as a small video file."""
    clips = ClipArrays(CLIPS / "test")
    frames = clips.frames(0)[clips.mask(0)]
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2  # H.264 wants even sizes
    fps = ClipsMetadata.read(MODEL_METADATA).preprocessing.frames.fps
    return encode_mp4(frames[:, :height, :width], fps=fps)


if __name__ == "__main__":
    run_command(main)
