"""Read text and csv files that people wrote; name a wrong encoding or separator."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import LONGEST_CELL

_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'"}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # first bytes of xlsx and ods, and of xls
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE_END = re.compile(rb"\r\n|\r|\n")  # as csv counts lines
_HEADER_BYTES = 1 << 16


def text_of(path: Path) -> str:
    """Return the text of a file in UTF-8, without a byte order mark.

    Raises:
        PipelineError: the file has another encoding.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    kind = "a csv file" if path.suffix.lower() == ".csv" else "text"
    _check_encoding(path, content, kind)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong_byte(path, error, kind) from None


def csv_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the cells of each row with commas, the header first, with file and first line.

    Lines without a cell are skipped, but not as the header. The file is read as a stream.

    Raises:
        PipelineError: the file is not a csv file in UTF-8 with commas.
        OSError: the file cannot be read.
    """
    csv.field_size_limit(LONGEST_CELL)
    with path.open("rb") as content:
        _check_encoding(path, content.peek(), "a csv file")
        lines = _Lines(path, io.TextIOWrapper(content, encoding="utf-8-sig", newline=""))
        reader = csv.reader(lines, strict=True)
        n_columns = 0
        line = 1
        try:
            for cells in reader:
                where = f"{path}, line {line}"
                _check_separator(where, cells, n_columns)
                if not n_columns or cells:
                    yield where, cells
                n_columns = n_columns or max(len(cells), 1)
                line = reader.line_num + 1
        except csv.Error as error:
            if reader.line_num == line:
                _check_quoted_cells(f"{path}, line {line}", lines.latest, n_columns)
            last = f" in line {reader.line_num}" if reader.line_num > line else ""
            raise PipelineError(
                f"{path}, line {line}: expected csv. Received: {error}{last}. Close each quoted "
                "cell, and double a quotation mark inside it."
            ) from None
        except UnicodeDecodeError as error:
            raise _wrong_byte(path, error, "a csv file", lines_before=reader.line_num) from None


def _check_encoding(path: Path, start: bytes, kind: str) -> None:
    """Refuse a file whose first bytes are those of a workbook or of UTF-16."""
    if start.startswith(_WORKBOOKS):
        raise PipelineError(
            f"{path}: expected {kind} in UTF-8. Received: a workbook or another packed file. Open "
            "it in a spreadsheet and save the sheet as csv in UTF-8, with commas."
        )
    if start.startswith(_UTF16_MARKS) or b"\0" in start:
        raise PipelineError(
            f"{path}: expected {kind} in UTF-8. Received: UTF-16, or no text. Save the file as "
            "UTF-8."
        )


class _Lines:
    """An iterator over the lines of a csv file, which keeps the latest one.

    It refuses a line with a zero, which the first bytes of the file lack.
    """

    def __init__(self, path: Path, lines: Iterable[str]) -> None:
        self._path, self._lines = path, enumerate(lines, start=1)
        self.latest = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, self.latest = next(self._lines)
        if "\0" in self.latest:
            raise PipelineError(
                f"{self._path}, line {number}: expected a csv file in UTF-8. Received: the byte "
                "0x0. Delete it."
            )
        return self.latest


def _wrong_byte(
    path: Path, error: UnicodeDecodeError, kind: str, lines_before: int = 0
) -> PipelineError:
    """Return the error for a byte that is not UTF-8.

    Args:
        lines_before: number of lines before the bytes of ``error``.
    """
    line = lines_before + 1 + len(_LINE_END.findall(error.object, 0, error.start))
    return PipelineError(
        f"{path}, line {line}: expected {kind} in UTF-8. Received: the byte "
        f"{error.object[error.start]:#x}, as in Latin-1 or Windows-1252. Save the file as UTF-8."
    )


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
    if _has_columns(_split_line(cells[0], ","), n_columns):
        raise PipelineError(
            f"{where}: the whole line is quoted, so it is one cell. Expected quotes around cells "
            f"only. Received: {cells[0]!r} in quotes. Save the table without them."
        )
    for separator in _SEPARATORS:
        if _has_columns(cells[0].split(separator), n_columns):
            raise _wrong_separator(where, separator, cells[0])


def _check_quoted_cells(where: str, line: str, n_columns: int) -> None:
    """Refuse a line that is csv with another separator: ``"video";"label"``."""
    for separator in _SEPARATORS:
        if _has_columns(_split_line(line, separator), n_columns):
            raise _wrong_separator(where, separator, line.rstrip())


def _split_line(line: str, separator: str) -> list[str]:
    """Return the cells of a line; none if it has an unclosed or misplaced quote."""
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return []


def _has_columns(cells: Sequence[str], n_columns: int) -> bool:
    """Return whether cells are as many as those of the header, or several in the header itself."""
    return len(cells) > 1 and len(cells) == (n_columns or len(cells))


def _wrong_separator(where: str, separator: str, line: str) -> PipelineError:
    return PipelineError(
        f"{where}: the cells are separated by {_SEPARATORS[separator]}. Expected commas. Received: "
        f"{line!r}. Save the table with commas as separators."
    )
