"""extract: fixed-length, right-padded, masked clips of every usable video, in shards."""

import logging
from collections.abc import Sequence

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.base.files import replacing_folder
from pipeline.base.paths import CATALOG, CLIPS, FRAMES
from pipeline.catalog.records import SPLITS, CatalogEntry, read_catalog
from pipeline.catalog.splits import check_every_class_everywhere
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.sampling import ClipSpec
from pipeline.clips.shards import ClipArrays, ClipSource, write_clips
from pipeline.params import load_params
from pipeline.video.ledger import Ledger
from pipeline.video.store import stored_path

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params().extract
    clip_spec = ClipSpec(
        frames=params.frames,
        sampling=params.sampling,
        stride=params.stride,
        clips_per_video=params.clips_per_video,
    )
    ledger = Ledger.read(FRAMES)
    stored = {row.name: row.stored for row in ledger.rows if row.is_usable}
    entries = read_catalog(CATALOG)
    usable = [entry for entry in entries if entry.name in stored]
    _check_classes(usable, quarantined=len(entries) - len(usable))
    with replacing_folder(CLIPS) as folder:
        for split in SPLITS:
            sources = [
                ClipSource(
                    name=entry.name,
                    label=entry.label,
                    group=entry.group,
                    key=stored[entry.name].key,
                    stored=stored_path(FRAMES, stored[entry.name].key),
                    n_frames=stored[entry.name].frames,
                )
                for entry in usable
                if entry.split == split
            ]
            write_clips(
                folder / split,
                sources,
                frame_spec=ledger.spec,
                clip_spec=clip_spec,
                n_shards=params.shards,
            )
            clips = len(ClipArrays(folder / split))
            logger.info("%s: %d clips of %d frames", split, clips, params.frames)
        ClipsMetadata(
            class_names=tuple(sorted({entry.label for entry in usable})),
            preprocessing=Preprocessing(ledger.spec, clip_spec, ledger.limits),
        ).write(folder / "metadata.json")


def _check_classes(usable: Sequence[CatalogEntry], *, quarantined: int) -> None:
    try:
        check_every_class_everywhere(usable)
    except PipelineError as error:
        if not quarantined:
            raise
        raise PipelineError(
            f"Without the {quarantined} quarantined videos ({FRAMES}/index.csv says why): {error}"
        ) from None


if __name__ == "__main__":
    run_command(main)
