"""extract: cut every usable video into fixed-length, right-padded, masked clips, in shards."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.sampling import Window
from pipeline.clips.shards import write_clips
from pipeline.common.command import run_command
from pipeline.common.files import replacing_folder
from pipeline.common.paths import CATALOG, CLIPS, DECODE_INDEX, FRAMES, PREPROCESSING
from pipeline.common.records import SPLITS, VideoRecord, read_decoded
from pipeline.params import load_params
from pipeline.tasks.intervals import ClipFrames
from pipeline.tasks.targets import targets_of
from pipeline.video.store import load_frames, read_frame_settings, stored_path

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
    if targets.covers_videos:
        extract = extract.model_copy(update={"sampling": "consecutive"})

    def load(record: VideoRecord, indices: Sequence[int]) -> NDArray[np.uint8]:
        assert record.facts is not None
        return load_frames(stored_path(FRAMES, record.facts.key), decode, indices)

    def target_of(record: VideoRecord, window: Window) -> str:
        return targets.of_clip(
            record.target, ClipFrames(range(*window), extract.frames, decode.fps)
        )

    with replacing_folder(CLIPS) as folder:
        for split in SPLITS:
            n_clips = write_clips(
                folder / split,
                [record for record in usable if record.split == split],
                load=load,
                extract=extract,
                frame_size=(decode.height, decode.width),
                target_of=target_of,
                side_inputs=params.data.side_inputs,
            )
            logger.info("%s: %d clips of %d frames", split, n_clips, extract.frames)
        Preprocessing(decode, extract).write(folder / PREPROCESSING.name)


if __name__ == "__main__":
    run_command(main)
