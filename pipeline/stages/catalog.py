"""catalog: which videos there are, their labels, content hashes, groups and splits."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.command import run_command
from pipeline.base.paths import CATALOG
from pipeline.catalog.hashing import content_hashes
from pipeline.catalog.layouts import read_folders, read_table
from pipeline.catalog.records import SPLITS, CatalogEntry, LabelledVideo, Split, write_catalog
from pipeline.catalog.splits import SplitRule, build_entries
from pipeline.params import DataParams, load_params

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    labelled = _read_layout(params.data)
    folder = Path(params.data.videos)
    files = sorted({video.video for video in labelled})
    hashes = dict(zip(files, content_hashes([folder / file for file in files]), strict=True))
    rule = SplitRule(
        val_share=params.catalog.val_share,
        test_share=params.catalog.test_share,
        seed=params.catalog.seed,
    )
    entries = build_entries(labelled, [hashes[video.video] for video in labelled], rule)
    write_catalog(CATALOG, entries)
    _log_counts(entries)
    if labelled[0].split is None:
        _warn_of_small_splits(entries, rule)


def _read_layout(data: DataParams) -> list[LabelledVideo]:
    if data.layout == "folders":
        return read_folders(Path(data.videos))
    return read_table(Path(data.videos), Path(data.labels))


def _log_counts(entries: Sequence[CatalogEntry]) -> None:
    counts = Counter((entry.label, entry.split) for entry in entries)
    groups = len({entry.group for entry in entries})
    logger.info("%d videos in %d groups:", len(entries), groups)
    for label in sorted({entry.label for entry in entries}):
        by_split = ", ".join(f"{counts[label, split]} {split}" for split in SPLITS)
        logger.info("  %s: %s", label, by_split)


def _warn_of_small_splits(entries: Sequence[CatalogEntry], rule: SplitRule) -> None:
    counts = Counter(entry.split for entry in entries)
    asked: dict[Split, float] = {"val": rule.val_share, "test": rule.test_share}
    for split, share in asked.items():
        got = counts[split] / len(entries)
        if got < share / 2:
            logger.warning(
                "The %s split has %.0f %% of the videos, catalog.%s_share asks for %.0f %%: the "
                "groups are few or uneven. Another catalog.seed draws another split.",
                split,
                100 * got,
                split,
                100 * share,
            )


if __name__ == "__main__":
    run_command(main)
