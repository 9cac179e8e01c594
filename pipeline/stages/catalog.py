"""catalog: list the videos with their targets, content hashes, groups and splits."""

import logging
from collections import Counter
from collections.abc import Sequence

from pipeline.common.command import run_command
from pipeline.common.paths import CATALOG
from pipeline.common.records import SPLITS, VideoRecord, write_catalog
from pipeline.dataset.catalog import build_catalog
from pipeline.params import load_params
from pipeline.tasks.targets import Targets, targets_of

logger = logging.getLogger(__name__)

_SHOWN = 100  # classes, or other strata, in the log


def main() -> None:
    params = load_params()
    targets = targets_of(params.task.type).configured(params.task)
    records = build_catalog(params.data, params.catalog, targets)
    write_catalog(CATALOG, records)
    _log_counts(records, targets)


def _log_counts(records: Sequence[VideoRecord], targets: Targets) -> None:
    groups = {record.group for record in records}
    logger.info("%d videos in %d groups:", len(records), len(groups))
    if unused := sum(record.split is None for record in records):
        logger.info("  %d of them in no split: only other official folds use them", unused)
    texts = [record.target for record in records]
    # A video with several labels counts for each; one without counts by its stratum.
    strata = [
        own or (stratum,)
        for own, stratum in zip(targets.split_strata(texts), targets.strata(texts), strict=True)
    ]
    counts = Counter(
        (stratum, record.split)
        for own, record in zip(strata, records, strict=True)
        for stratum in own
    )
    names = sorted({stratum for own in strata for stratum in own})
    for stratum in names[:_SHOWN]:
        by_split = ", ".join(f"{counts[stratum, split]} {split}" for split in SPLITS)
        logger.info("  %s: %s", stratum, by_split)
    if len(names) > _SHOWN:
        logger.info("  and %d more, see %s", len(names) - _SHOWN, CATALOG)


if __name__ == "__main__":
    run_command(main)
