"""Tables and lists as text: csv for spreadsheets, aligned columns, Markdown, shortened lists."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from pipeline.common.files import read_csv, replacing_file

# Text that a spreadsheet takes for a formula, or for the start of a quoted one.
# Source: owasp.org/www-community/attacks/CSV_Injection.
_FORMULA = re.compile(r"'*(\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
# Control characters, line and paragraph separators, and overrides of the direction of text.
_NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def table_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return a csv table for people, who open it in a spreadsheet.

    Text that a spreadsheet would take for a formula, such as ``=A1``, begins with ``'``. Numbers
    are unchanged; None and a missing cell are empty. Lines end with ``\\n``.
    """
    return "".join(_csv_lines(columns, rows))


def write_table_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]
) -> None:
    """Write the text of ``table_csv``; ``read_table_csv`` reads the same cells back."""
    with (
        replacing_file(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as out,
    ):
        out.writelines(_csv_lines(columns, rows))


def read_table_csv(path: Path) -> list[dict[str, str]]:
    """Read a file of ``write_table_csv``: one dict a row, by column."""
    return [
        {_unescape_formula(column): _unescape_formula(cell) for column, cell in row.items()}
        for row in read_csv(path)
    ]


def _csv_lines(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    for cells in chain([columns], ([row.get(column) for column in columns] for row in rows)):
        line = io.StringIO()
        writer = csv.writer(line, lineterminator="\r\n")  # quotes cells with either character
        writer.writerow(map(_escape_formula, cells))
        yield line.getvalue().removesuffix("\r\n") + "\n"


def _escape_formula(cell: object) -> str:
    text = "" if cell is None else str(cell)
    is_formula = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def _unescape_formula(cell: str) -> str:
    # A row with too many or too few cells has a column or a cell of another type.
    is_escaped = isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell)
    return cell[1:] if is_escaped else cell


def align_columns(
    rows: Sequence[Sequence[str]], alignment: str, *, indent: str = "  "
) -> list[str]:
    """Return one line a row, ``printable`` cells separated by two spaces.

    Args:
        rows: cells of each row, all of the same length.
        alignment: one character a column: ``<`` left, ``>`` right.

    >>> align_columns([("a", "1"), ("bcd", "20")], "<>", indent="")
    ['a     1', 'bcd  20']
    """
    rows = [[printable(cell) for cell in row] for row in rows]
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

    >>> count_of(1, "video"), count_of(1200, "class"), count_of(2, "stratum", "strata")
    ('1 video', '1,200 classes', '2 strata')
    """
    plural = plural or singular + ("es" if singular.endswith("s") else "s")
    return f"{count:,} {singular if count == 1 else plural}"


def duration(seconds: float) -> str:
    """Return a duration for a person, with two significant digits or so.

    >>> [duration(seconds) for seconds in (0.42, 14.2, 100, 900, 20_000)]
    ['0.4 s', '14 s', '1.7 min', '15 min', '5.6 h']
    """
    for limit, size, unit in ((90.0, 1.0, "s"), (5400.0, 60.0, "min"), (math.inf, 3600.0, "h")):
        if seconds < limit:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    raise AssertionError


def size_text(size_bytes: float) -> str:
    """Return a number of bytes for a person, with a decimal unit and three significant digits.

    >>> size_text(999), size_text(1_500_000)
    ('999 bytes', '1.5 MB')
    """
    if size_bytes < 1000:
        return count_of(round(size_bytes), "byte")
    value = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5:  # otherwise 1e+03
            return f"{value:.3g} {unit}"
    return f"{value / 1000:,.0f} PB"


def printable(text: str) -> str:
    """Return text for one line of a terminal or a log, with escapes such as ``\\n`` or ``\\xff``.

    It escapes control characters, line separators, characters that change the direction of text,
    and bytes of file names that are not UTF-8.
    """
    return _NOT_PRINTABLE.sub(
        lambda match: match[0].encode("unicode_escape").decode("ascii"), valid_unicode(text)
    )


def valid_unicode(name: str) -> str:
    """Return a file name with escapes such as ``\\xff`` for bytes that are not UTF-8.

    Python keeps such bytes as surrogates, U+DC80 to U+DCFF, which cannot be written as UTF-8.
    """
    return re.sub(r"[\ud800-\udfff]", _escape_surrogate, name)


def _escape_surrogate(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def markdown_escape(text: str) -> str:
    """Escape the characters that Markdown interprets and join the lines."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", printable(" ".join(text.split())))


def markdown_code(text: str) -> str:
    """Format ``text`` as Markdown code; a backtick becomes ', a vertical bar becomes ¦."""
    text = printable(" ".join(text.split())).replace("`", "'").replace("|", "¦")
    return f"`{text}`" if text else ""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
