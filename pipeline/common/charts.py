"""Colours, axes and PNG files of all charts.

Figures are built without pyplot, which keeps global state.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pipeline.common.files import replacing_file
from pipeline.common.tables import printable

# The palette of Okabe and Ito, distinguishable with every kind of colour vision. Yellow and black
# are left out: yellow is hard to see on white, black is the colour of text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
NEUTRAL = "#767676"
PALE = "#D9D9D9"  # of parts without a label

_DPI = 120
_LONGEST_NAME = 24  # characters


@dataclass(frozen=True)
class Chart:
    """A chart of the review.

    Attributes:
        name: of its file.
        title: heading.
        alt: text alternative for screen readers.
        caption: how to read the chart.
        draw: builds the figure.
    """

    name: str
    title: str
    alt: str
    caption: str
    draw: Callable[[], Figure]


def png_bytes(figure: Figure) -> bytes:
    """Encode ``figure`` as PNG: the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    encoded = io.BytesIO()
    # Without this, matplotlib writes its version into the file.
    figure.savefig(encoded, format="png", dpi=_DPI, metadata={"Software": None})
    return encoded.getvalue()


def save_png(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG file."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(png_bytes(figure))


def style_axes(axes: Axes) -> None:
    """Add a grid and remove the frame on two sides."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain_tick_labels(axes: Axes) -> None:
    """Show tick labels literally, not as formulas: a class may be called ``$x^$``."""
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)


def name_colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name; more than six names have the colours of tab20."""
    colours: Sequence[str] = PALETTE
    if len(names) > len(PALETTE):
        colours = [to_hex(colour) for colour in colormaps["tab20"](range(20))]
    return {name: colours[index % len(colours)] for index, name in enumerate(names)}


def shorten_name(name: str, longest: int = _LONGEST_NAME) -> str:
    """Return a name on one line; a long one ends with an ellipsis."""
    name = printable(name)
    return name if len(name) <= longest else name[: longest - 1] + "…"
