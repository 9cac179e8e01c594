"""Names in labels, of classes, groups, columns and splits: their spelling."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pipeline.common.csv_columns import simplified
from pipeline.common.errors import PipelineError
from pipeline.common.records import Split, VideoRecord
from pipeline.tasks.targets import Targets

_CONTROL_CHARACTERS = ("Cc", "Zl", "Zp")  # Unicode categories; line breaks are among them

_SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}


def clean_text(text: str, *, where: str) -> str:
    """Return a name as the catalog stores it: stripped, in Unicode NFC.

    Two byte sequences that show the same letters become one name.

    Raises:
        PipelineError: the name contains a line break or another control character.
    """
    cleaned = unicodedata.normalize("NFC", text.strip())
    if any(unicodedata.category(character) in _CONTROL_CHARACTERS for character in cleaned):
        raise PipelineError(
            f"{where}: expected a name without line breaks, tabs and other control characters. "
            f"Received: {cleaned!a}. Delete them."
        )
    return cleaned


def split_named(name: str) -> Split | None:
    """Return the split that a name of other tools means, in any case; None if it means none.

    >>> split_named("Validation"), split_named("clap")
    ('val', None)
    """
    return _SPLIT_NAMES.get(name.strip().casefold())


def alike_names(names: Iterable[str]) -> list[list[str]]:
    """Return the names that differ only in case, spaces, hyphens or underscores, sorted.

    >>> alike_names(["Left", "left", "right"])
    [['Left', 'left']]
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for name in names:
        spellings[simplified(name) or name].add(name)
    return sorted(sorted(own) for own in spellings.values() if len(own) > 1)


def spelling_remarks(records: Sequence[VideoRecord], targets: Targets) -> list[str]:
    """Return a sentence for each set of classes, or other strata, that may be one."""
    strata = targets.required_strata([record.target for record in records])
    return [
        f"{' and '.join(map(repr, names))} differ only in case, spaces, hyphens or underscores: "
        f"if they are one {targets.stratum_name}, write them alike"
        for names in alike_names(name for own in strata for name in own)
    ]
