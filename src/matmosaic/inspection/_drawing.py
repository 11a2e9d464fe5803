"""What displays share in drawing: new axes, colours that fit any style, series that differ without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES = ("-", "--", "-.", ":")
# Luminance at which black and white text have the same contrast, by the definition of WCAG 2.
_LEGIBLE_IN_BLACK = 0.179
# Small numbers take colours from here on, as the end of the map can hardly be told from the page.
_SEEN_ON_PAGE = 0.12
# Series are drawn this part of the axis apart, so that their bars do not cover each other.
_APART = 0.012
# Numbers that differ by more than this factor are drawn on a logarithmic axis.
_WIDE = 4.0
# Ticks that are nearer than this part of the axis would overlap in their numbers.
_TICKS_APART = 0.09


def new_axes(size: tuple[float, float]) -> Axes:
    """Return axes on a new figure of that width and height in inches, which makes room for every label."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Drawing needs matplotlib; install it with: pip install "matmosaic[plot]"'
        ) from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def ink(ax: Axes) -> Any:
    """Return the colour of text on these axes, which the user's style chose to stand out from the page."""
    return ax.xaxis.label.get_color()


def is_dark(ax: Axes) -> bool:
    """Whether the style draws light on dark."""
    from matplotlib.colors import to_rgb

    return luminance(to_rgb(ink(ax))) > _LEGIBLE_IN_BLACK


def colour_map(ax: Axes) -> Colormap:
    """Return colours for numbers from small to large, of which the largest stand out most from the page."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    whole = colormaps["Blues_r" if is_dark(ax) else "Blues"]
    return ListedColormap(whole(np.linspace(_SEEN_ON_PAGE, 1, 256)))


def luminance(colour: Any) -> float:
    """Return the relative luminance of a colour in sRGB, 0 (black) to 1 (white), by WCAG 2."""
    channels = np.asarray(colour)[:3]
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def text_on(colour: Any) -> str:
    """Return black or white, whichever is more legible on that colour."""
    return "black" if luminance(colour) > _LEGIBLE_IN_BLACK else "white"


def series_style(place: int) -> dict[str, Any]:
    """Return the look of one series among several; neighbours differ in colour, marker and line."""
    return {
        "color": f"C{place}",
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[place % len(LINES)],
    }


def spread_out(x: np.ndarray, place: int, n_series: int, *, among: np.ndarray) -> np.ndarray:
    """Move the points of one series aside, along an axis that shows the sizes ``among``."""
    shift = (place - (n_series - 1) / 2) * _APART
    low, high = among.min(), among.max()
    return x * (high / low) ** shift if is_wide(among) else x + shift * ((high - low) or low)


def is_wide(sizes: np.ndarray) -> bool:
    """Whether sizes belong on a logarithmic axis."""
    return bool(sizes.max() > _WIDE * sizes.min())


def size_axis(ax: Axes, sizes: np.ndarray) -> None:
    """Scale the x axis for sizes, and write these themselves on it, if there is room for all."""
    wide = is_wide(sizes)
    if wide:
        ax.set_xscale("log")
    ticks = np.unique(sizes)
    places = np.log(ticks) if wide else ticks
    if (np.diff(places) >= _TICKS_APART * np.ptp(places)).all():
        ax.set_xticks(ticks, labels=[f"{tick:,.0f}" for tick in ticks])
        ax.minorticks_off()


def with_unit(text: str, unit: str | None) -> str:
    """Return the label of an axis, such as "Error (eV)"."""
    return f"{text} ({unit})" if unit else text


def number(value: float) -> str:
    """Return a number with three digits that count, as text."""
    return f"{value:#.3g}".rstrip(".") if 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def slant_names(ax: Axes) -> None:
    """Turn the names on the x axis, so that long ones do not overlap."""
    ax.tick_params(axis="x", rotation=45)
    for tick in ax.get_xticklabels():
        tick.set(ha="right", rotation_mode="anchor")


def legend_beside(ax: Axes) -> None:
    """Put the legend to the right of the axes, where it covers no data."""
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def room_beside(names: Sequence[str]) -> float:
    """Return the width in inches of a legend with these names."""
    return 0.7 + 0.075 * max(map(len, names), default=0)
