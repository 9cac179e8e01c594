"""What the charts of a review share: how they look on light and on dark pages, and their bytes."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

Scheme = Literal["light", "dark"]

# Okabe and Ito's palette, told apart by every kind of colour vision; without yellow, which
# does not show on white, and black, which does not on black.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
QUIET = "#808791"  # 3.6 to 1 on white, 4.9 to 1 on the dark page

_DPI = 144  # sharp on most screens
_CSS_DPI = 96
_INK = {"light": "#1b1f24", "dark": "#e6e9ee"}
_LINES = {"light": "#d4d8de", "dark": "#3a414c"}


@dataclass(frozen=True)
class Chart:
    """A chart that can be drawn for a light and for a dark page.

    name: of its file.
    title: above it.
    alt: what it shows, in words, for those who cannot see it.
    caption: how to read it.
    draw: makes the figure, in the colours that matplotlib is set to when it is called.
    """

    name: str
    title: str
    alt: str
    caption: str
    draw: Callable[[], Figure]

    def image(self, scheme: Scheme) -> Image.Image:
        """Draw it; the page shines through around what is drawn."""
        with mpl.rc_context(_settings(scheme)):
            figure = self.draw()
            FigureCanvasAgg(figure)
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=_DPI, transparent=True)
        return Image.open(drawn)

    @staticmethod
    def css_size(image: Image.Image) -> tuple[int, int]:
        """Return width and height, in CSS pixels, at which letters have their true size."""
        width, height = (round(side * _CSS_DPI / _DPI) for side in image.size)
        return width, height

    def figure(self) -> Figure:
        """Draw it on white, for a file of its own."""
        with mpl.rc_context(_settings("light")):
            return self.draw()


def _settings(scheme: Scheme) -> Any:  # matplotlib types them by name
    ink, lines = _INK[scheme], _LINES[scheme]
    return {
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "grid.color": lines,
        "legend.labelcolor": ink,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
    }


def finish(axes: Axes) -> None:
    """Give axes a grid and take their frame away."""
    axes.grid(alpha=0.6, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain(axes: Axes) -> None:
    """Take class names and the like as they are: one may be called $x^$."""
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
