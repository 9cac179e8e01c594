"""Render self-contained HTML pages: one file that opens from disk without a network."""

import base64
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.common.tables import printable

_CSS_PIXELS_PER_INCH = 96
_SHARED_TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: Path, **values: object) -> str:
    """Render ``template``, which may extend ``base.html`` of this package.

    Values are escaped and ``printable``; a missing value is an error. Filters beside Jinja's own:
    ``percent``, ``decimals``, ``number`` and ``words``, the functions below.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, _SHARED_TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"percent": percent, "decimals": decimals, "number": number, "words": words}
    environment.filters |= filters
    return environment.get_template(template.name).render(**values)


def _printable_text(value: object) -> object:
    """Escape the control characters of text, but not those of the HTML of a macro."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def percent(value: float) -> str:
    """Format a fraction as a percentage; only 0 is shown as 0 % and only 1 as 100 %.

    >>> percent(0.1254), percent(0.9999), percent(1.0)
    ('12.5 %', '>99.9 %', '100 %')
    """
    if 0 < value < 0.0005:
        return "<0.1 %"
    if 0.9995 <= value < 1:
        return ">99.9 %"
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def decimals(value: float, places: int = 3) -> str:
    """Format a number with a fixed number of decimals."""
    return f"{value:.{places}f}"


def number(value: float | None) -> str:
    """Format a number with three significant digits or all before the point; a dash for None.

    >>> number(0.12345), number(1001000), number(None)
    ('0.123', '1,001,000', '-')
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def words(name: str) -> str:
    """Return the name of a score, an audit or a column as text for readers.

    >>> words("macro_f1")
    'macro F1'
    """
    abbreviations = re.compile(r"\b(f1|mae|r2|rmse)\b")
    return abbreviations.sub(lambda match: match[0].upper(), name.replace("_", " "))


def data_uri(content: bytes, media_type: str) -> str:
    """Return ``content`` as a data URI, such as ``data:image/png;base64,...``."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def chart_image(png: bytes, width_inches: float, height_inches: float) -> dict[str, str | int]:
    """Return ``uri``, ``width`` and ``height`` (CSS pixels) of a chart for ``chart.html``."""
    return {
        "uri": data_uri(png, "image/png"),
        "width": round(width_inches * _CSS_PIXELS_PER_INCH),
        "height": round(height_inches * _CSS_PIXELS_PER_INCH),
    }
