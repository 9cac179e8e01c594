"""Read text and csv files that people wrote; name a wrong encoding or separator."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import LONGEST_CELL

_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'"}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # first bytes of xlsx and ods, and of xls
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HEADER_BYTES = 1 << 16


def text_of(path: Path) -> str:
    """Return the text of a file in UTF-8, without a byte order mark.

    Raises:
        PipelineError: the file has another encoding.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    kind = "a csv file" if path.suffix.lower() == ".csv" else "text"
    if content.startswith(_WORKBOOKS):
        raise PipelineError(
            f"{path}: expected {kind} in UTF-8. Received: a workbook or another packed file. Open "
            "it in a spreadsheet and save the sheet as csv in UTF-8, with commas."
        )
    if content.startswith(_UTF16_MARKS) or b"\0" in content:
        raise PipelineError(
            f"{path}: expected {kind} in UTF-8. Received: UTF-16, or no text. Save the file as "
            "UTF-8."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PipelineError(
            f"{path}, line {line}: expected {kind} in UTF-8. Received: the byte "
            f"{content[error.start]:#x}, as in Latin-1 or Windows-1252. Save the file as UTF-8."
        ) from None


def csv_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the cells of each line with commas, the header first, with file and line.

    Lines without a cell are skipped, but not as the header.

    Raises:
        PipelineError: the file is not a csv file in UTF-8 with commas.
        OSError: the file cannot be read.
    """
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
    n_columns = 0
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            _check_separator(where, cells, n_columns)
            if not n_columns:
                n_columns = max(len(cells), 1)
                yield f"{path}, line 1", cells
            elif cells:
                yield where, cells
    except csv.Error as error:
        raise PipelineError(
            f"{path}, line {reader.line_num}: expected csv. Received: {error}. Close each quoted "
            "cell, and double a quotation mark inside it."
        ) from None


def likely_columns(path: Path) -> list[str]:
    """Return the names of the columns, whatever the encoding and the separator are.

    They tell which files are meant as tables; ``csv_lines`` then refuses a wrong format.
    """
    with path.open("rb") as content:
        start = content.read(_HEADER_BYTES)
    encoding = "utf-16" if start.startswith(_UTF16_MARKS) else "utf-8-sig"
    lines = start.decode(encoding, "replace").replace("\0", "").splitlines()
    if not lines:
        return []
    separator = max((",", *_SEPARATORS), key=lines[0].count)
    return [cell.strip() for cell in next(csv.reader(lines[:1], delimiter=separator), [])]


def _check_separator(where: str, cells: Sequence[str], n_columns: int) -> None:
    """Refuse a line of a single cell that should be several.

    Args:
        n_columns: of the header; 0 for the header itself.
    """
    if len(cells) != 1:
        return
    if "," in cells[0] and not n_columns:
        raise PipelineError(
            f"{where}: the whole line is quoted, so it is one cell. Expected quotes around cells "
            f"only. Received: {cells[0]!r} in quotes. Save the table without them."
        )
    for separator, name in _SEPARATORS.items():
        count = cells[0].count(separator)
        if count and (not n_columns or (n_columns > 1 and count == n_columns - 1)):
            raise PipelineError(
                f"{where}: the cells are separated by {name}. Expected commas. Received: "
                f"{cells[0]!r}. Save the table with commas as separators."
            )
