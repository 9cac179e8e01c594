"""decode: the frames of every video at one rate and size; only what is new is decoded."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.base.paths import CATALOG, FRAMES
from pipeline.catalog.records import read_catalog
from pipeline.params import load_params
from pipeline.video.batch import DecodeTask, prune_store, update_store
from pipeline.video.ledger import Ledger, LedgerRow
from pipeline.video.reading import FrameSpec, Segment
from pipeline.video.source import Limits

logger = logging.getLogger(__name__)

_SHOWN = 10  # quarantined videos named in a message; the ledger has them all


def main() -> None:
    params = load_params()
    decode = params.decode
    spec = FrameSpec(decode.fps, decode.width, decode.height, decode.fit, decode.on_damage)
    limits = Limits(max_seconds=decode.max_seconds, max_pixels=decode.max_pixels)
    tasks = {
        entry.name: DecodeTask(
            source=Path(params.data.videos) / entry.video,
            source_sha256=entry.sha256,
            segment=Segment(entry.start_seconds, entry.end_seconds),
            spec=spec,
            limits=limits,
        )
        for entry in read_catalog(CATALOG)
    }
    stored = update_store(
        FRAMES,
        list(tasks.values()),
        workers=params.compute.workers,
        timeout_seconds=decode.timeout_seconds,
    )
    rows = [LedgerRow(name, stored[task.key]) for name, task in tasks.items()]
    _check_quarantined(rows, decode.max_bad_fraction)
    Ledger(rows, spec, limits).write(FRAMES)
    prune_store(FRAMES, stored.keys())  # last, so that a run that fails destroys nothing


def _check_quarantined(rows: Sequence[LedgerRow], max_bad_fraction: float) -> None:
    refused = [row for row in rows if not row.is_usable]
    if not refused:
        return
    shown = [f"{row.name}: {row.stored.reason}" for row in refused[:_SHOWN]]
    if len(refused) > _SHOWN:
        shown.append(f"and {len(refused) - _SHOWN} more")
    if len(refused) > max_bad_fraction * len(rows):
        raise PipelineError(
            f"{len(refused)} of {len(rows)} videos cannot be used, more than "
            f"decode.max_bad_fraction = {max_bad_fraction:g} allows. Mend or remove them, or "
            "raise it. " + "; ".join(shown)
        )
    logger.warning(
        "%d of %d videos quarantined, see %s/index.csv:", len(refused), len(rows), FRAMES
    )
    for line in shown:
        logger.warning("  %s", line)


if __name__ == "__main__":
    run_command(main)
