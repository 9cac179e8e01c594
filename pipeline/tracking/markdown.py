"""Markdown of what may hold any character."""

import re
from collections.abc import Iterable, Sequence


def plain(text: str) -> str:
    """Escape what would not be shown as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Set in the font of code; a backtick becomes an apostrophe."""
    return f"`{text.replace('`', chr(39)).replace('|', '¦')}`"


def shown(value: str | None) -> str:
    """Set a value in the font of code, and none as nothing."""
    return code(value) if value else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
