"""Numbers in the cells of tables that people write."""

import math
import re

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def finite_number(text: str) -> float | None:
    """Return the number in a cell; None if it is not a finite decimal number.

    Stricter than ``float``, which reads ``1_000``, ``nan`` and the digits of all scripts.

    >>> finite_number("12.5"), finite_number("1_000")
    (12.5, None)
    """
    number = float(text) if _DECIMAL.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None
