"""Names in labels: of classes, groups and columns."""

import unicodedata

from pipeline.common.errors import PipelineError

_CONTROL_CHARACTERS = ("Cc", "Zl", "Zp")  # Unicode categories; line breaks are among them


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


def simplified(column: str) -> str:
    """Return a column without case, spaces, invisible characters, hyphens and underscores."""
    text = unicodedata.normalize("NFKC", column).casefold()
    return "".join(
        letter for letter in text if unicodedata.category(letter) not in ("Cf", "Pc", "Pd", "Zs")
    )
