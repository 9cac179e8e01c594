"""decode: store the frames of every video at one rate and size; decode only new videos."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.common.command import run_command
from pipeline.common.errors import PipelineError
from pipeline.common.paths import CATALOG, DECODE_ATTEMPT, DECODE_INDEX, FRAMES
from pipeline.common.records import VideoRecord, read_catalog, write_decode_index
from pipeline.common.tables import shorten_list
from pipeline.params import load_params
from pipeline.video.batch import decode_records, prune_store
from pipeline.video.store import stored_path, write_frame_settings

logger = logging.getLogger(__name__)

_SHOWN = 10  # quarantined videos in a message; the decode index has all of them


def main() -> None:
    params = load_params()
    records = decode_records(
        FRAMES,
        read_catalog(CATALOG),
        videos=Path(params.data.videos),
        decode=params.decode,
        compute=params.compute,
    )
    _check_quarantined(records, params.decode.max_bad_fraction)
    write_frame_settings(FRAMES, params.decode)
    write_decode_index(DECODE_INDEX, records)
    _ask_for_another_run(records)
    # Last: a run that fails deletes nothing.
    prune_store(FRAMES, {record.facts.key for record in records if record.facts is not None})


def _ask_for_another_run(records: Sequence[VideoRecord]) -> None:
    """Let the next ``dvc repro`` run the stage if videos failed for a reason that may pass.

    The store has no file of them: a time-out, a crash, too much memory, an unreadable file.
    """
    failed = [
        record.name
        for record in records
        if record.facts is not None and not stored_path(FRAMES, record.facts.key).exists()
    ]
    if not failed:
        return
    text = DECODE_ATTEMPT.read_text()
    number = re.compile(r"(?<=^decode_attempt: )\d+$", re.MULTILINE)
    DECODE_ATTEMPT.write_text(number.sub(lambda match: str(int(match[0]) + 1), text))
    logger.warning(
        "The next dvc repro tries %d of them again: %s",
        len(failed),
        shorten_list(failed, shown=_SHOWN),
    )


def _check_quarantined(records: Sequence[VideoRecord], max_bad_fraction: float) -> None:
    """Log the quarantined videos; refuse too many of them."""
    reasons = [
        f"{record.name}: {record.facts.reason}"
        for record in records
        if record.facts is not None and not record.is_usable
    ]
    if not reasons:
        return
    if len(reasons) > max_bad_fraction * len(records):
        raise PipelineError(
            f"{len(reasons)} of {len(records)} videos cannot be used, more than "
            f"decode.max_bad_fraction = {max_bad_fraction:g} allows. Repair or remove them, or "
            "raise the limit. "
            f"{shorten_list(reasons, shown=_SHOWN, separator='; ')}"
        )
    logger.warning(
        "%d of %d videos quarantined, see %s: %s",
        len(reasons),
        len(records),
        DECODE_INDEX,
        shorten_list(reasons, shown=_SHOWN, separator="; "),
    )


if __name__ == "__main__":
    run_command(main)
