"""The columns of csv files that people wrote: names that are misspelt or repeated, and cells."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pipeline.common.errors import PipelineError


def simplified(column: str) -> str:
    """Return a column without case, spaces, invisible characters, hyphens and underscores."""
    text = unicodedata.normalize("NFKC", column).casefold()
    return "".join(
        letter for letter in text if unicodedata.category(letter) not in ("Cf", "Pc", "Pd", "Zs")
    )


def check_columns(where: str, columns: Sequence[str], known: Iterable[str]) -> None:
    """Refuse a known column that is misspelt or repeated.

    Args:
        where: file and line of the header, for messages.
        columns: names in the header, stripped.
        known: columns that are used; the others are not checked.
    """
    spellings = {simplified(column): column for column in known}
    meant = {column: spellings.get(simplified(column), column) for column in columns}
    check_spelling(where, columns, meant)
    check_repeated(where, [column for column in columns if column in spellings.values()])


def check_spelling(where: str, columns: Sequence[str], meant: Mapping[str, str]) -> None:
    """Refuse columns of which ``meant`` has another spelling.

    Args:
        where: file and line of the header, for messages.
    """
    if wrong := [column for column in dict.fromkeys(columns) if meant[column] != column]:
        ending, verb = ("", "differs") if len(wrong) == 1 else ("s", "differ")
        raise PipelineError(
            f"{where}: unknown column{ending} {', '.join(map(repr, wrong))}. Expected "
            f"{', '.join(repr(meant[column]) for column in wrong)}, which {verb} only in case, "
            f"spaces, hyphens or underscores. Received: {','.join(columns)}. Rename the "
            f"column{ending}: names are lower case."
        )


def check_repeated(where: str, columns: Sequence[str]) -> None:
    """Refuse a column that occurs twice, unless it has no name."""
    repeated = [name for name, count in Counter(filter(None, columns)).items() if count > 1]
    if repeated:
        raise PipelineError(
            f"{where}: expected each column once. Received several columns "
            f"{', '.join(map(repr, repeated))}. Rename or delete all but one."
        )


def cells_by_column(where: str, cells: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Return the stripped cells of a row; cells that the row lacks are empty."""
    if len(cells) > len(columns) and not any(map(str.strip, cells[len(columns) :])):
        raise PipelineError(
            f"{where}: expected {len(columns)} cells, as in line 1. Received: {len(cells)} cells. "
            "Delete the commas at its end."
        )
    if len(cells) > len(columns):
        raise PipelineError(
            f"{where}: expected {len(columns)} cells, as in line 1. Received: {len(cells)} cells, "
            f'{",".join(cells)!r}. Quote a cell that contains a comma: "jump, high".'
        )
    row = dict.fromkeys(columns, "")
    for column, cell in zip(columns, cells, strict=False):
        if cell.strip() and not column:
            raise PipelineError(
                f"{where}: the column of the cell {cell.strip()!r} has no name in line 1. Name "
                "the column or delete the cell."
            )
        row[column] = cell.strip()
    return row
