"""Tables and lists as text: aligned columns for a terminal, Markdown, shortened lists."""

import re
from collections.abc import Iterable, Sequence


def align_columns(
    rows: Sequence[Sequence[str]], alignment: str, *, indent: str = "  "
) -> list[str]:
    """Return one line a row, columns separated by two spaces.

    Args:
        rows: cells of each row, all of the same length.
        alignment: one character a column: ``<`` left, ``>`` right.

    >>> align_columns([("a", "1"), ("bcd", "20")], "<>", indent="")
    ['a     1', 'bcd  20']
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, alignment, widths, strict=True)
        padded = "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells)
        lines.append(f"{indent}{padded}".rstrip())
    return lines


def shorten_list(items: Sequence[str], *, shown: int = 5, separator: str = ", ") -> str:
    """Join the first items and count the rest.

    >>> shorten_list(["a", "b", "c"], shown=2)
    'a, b and 1 more'
    """
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return separator.join(items[:shown]) + more


def count_of(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun.

    >>> count_of(1, "video"), count_of(1200, "class", "classes")
    ('1 video', '1,200 classes')
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def markdown_escape(text: str) -> str:
    """Escape the characters that Markdown interprets and join the lines."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def markdown_code(text: str) -> str:
    """Format ``text`` as Markdown code; a backtick becomes ', a vertical bar becomes ¦."""
    text = " ".join(text.split()).replace("`", "'").replace("|", "¦")
    return f"`{text}`" if text else ""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
