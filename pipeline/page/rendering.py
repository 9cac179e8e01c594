"""From a template and values to one HTML file that needs nothing beside it."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_SHARED = Path(__file__).parent / "templates"


def render_page(template: Path, **values: object) -> str:
    """Fill in ``template``, which may extend ``base.html`` of this package.

    Values are escaped, and one that is missing is an error. Filters beside Jinja's own:
    ``percent`` (0.125 -> 12.5 %), ``decimals`` (three unless told) and ``number`` (three digits).
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "decimals": decimals, "number": number}
    return environment.get_template(template.name).render(**values)


def percent(value: float) -> str:
    """Write a share with three digits at most, and never a rare case as 0 or 100.

    >>> percent(0.1254), percent(0.9999), percent(1.0)
    ('12.5 %', '>99.9 %', '100 %')
    """
    if 0 < value < 0.0005:
        return "<0.1 %"
    if 0.9995 <= value < 1:
        return ">99.9 %"
    shown = f"{100 * value:.1f}"
    return f"{shown.removesuffix('.0')} %"


def decimals(value: float, places: int = 3) -> str:
    return f"{value:.{places}f}"


def number(value: float | None) -> str:
    """Write a number that may be anything, in three digits; a dash where there is none."""
    return "-" if value is None else f"{value:.3g}"


def data_uri(content: bytes, media_type: str) -> str:
    """Return ``content`` as an address that holds it, as in ``data:image/png;base64,...``."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
