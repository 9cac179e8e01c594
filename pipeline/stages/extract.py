"""extract: cut every usable video into fixed-length, right-padded, masked clips, in shards."""

import logging
from contextlib import nullcontext
from functools import partial

from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.shards import clip_target, write_clips
from pipeline.common.command import run_command
from pipeline.common.files import replacing_folder
from pipeline.common.paths import (
    CATALOG,
    CLIPS,
    DECODE_INDEX,
    FRAMES,
    PREPROCESSING,
    UNUSED_CLIPS,
)
from pipeline.common.records import SPLITS, read_decoded
from pipeline.compute.ray_cluster import ray_cluster
from pipeline.params import load_params
from pipeline.tasks.targets import targets_of
from pipeline.video.store import load_record, read_frame_settings

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    extract, decode = params.extract, read_frame_settings(FRAMES)
    records = read_decoded(CATALOG, DECODE_INDEX)
    targets = targets_of(params.task.type)
    targets.check_decoded(records, fps=decode.fps)
    usable = []
    for record in records:
        if record.is_usable and targets.has_target(record, fps=decode.fps):
            usable.append(record)
        elif record.is_usable:
            logger.warning("%s: left out, no kept frame has a label", record.name)
    longest = max((record.facts.frames for record in usable if record.facts), default=0)
    if 0 < longest < extract.frames:
        logger.warning(
            "extract.frames = %d is more than any video has at %g fps, %d: every clip is padded. "
            "Set extract.frames to %d, or raise decode.fps.",
            extract.frames,
            decode.fps,
            longest,
            longest,
        )
    if targets.covers_videos:
        extract = extract.model_copy(update={"sampling": "consecutive"})

    address, workers = params.compute.address, params.compute.workers
    is_ray = params.compute.engine == "ray"
    cluster = ray_cluster(address, cpus=workers or None) if is_ray else nullcontext()
    with cluster, replacing_folder(CLIPS) as folder:
        members = {
            CLIPS / split: [record for record in usable if record.split == split]
            for split in SPLITS
        }
        if unused := [record for record in usable if record.split is None]:
            members[UNUSED_CLIPS] = unused  # only vidpipe crossval reads them
        for path, videos in members.items():
            n_clips = write_clips(
                folder / path.name,
                videos,
                load=partial(load_record, folder=FRAMES, decode=decode),
                extract=extract,
                frame_size=(decode.height, decode.width),
                target_of=partial(
                    clip_target, targets=targets, length=extract.frames, fps=decode.fps
                ),
                side_inputs=params.data.side_inputs,
                compute=params.compute,
            )
            logger.info("%s: %d clips of %d frames", path.name, n_clips, extract.frames)
        Preprocessing(decode, extract).write(folder / PREPROCESSING.name)


if __name__ == "__main__":
    run_command(main)
