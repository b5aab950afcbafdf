"""Block diagrams with pictures in them: one slice on its way through a method. Coordinates are inches."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patches import Circle, Rectangle

from strokelib.figures.diagrams import INK, PLAIN_COLOUR, write
from strokelib.figures.perfusion import crop_to

RADIUS_IN = 0.1


class Board:
    """A canvas with pictures of one slice, all cut to one box.

    Args:
        ax: Made by :func:`strokelib.figures.diagrams.canvas`.
        brain: (H, W) bool; the box holds it.
        spacing_yx: (dy, dx) in mm.
        tall: Largest height of a picture in inches.
        wide: Largest width.
        margin: Pixels of the box around the brain.
        mirrored: Whether the box holds the brain's mirror image too, and so the midline in its middle.
        frame: Colour of a thin frame around every picture, or none.
    """

    def __init__(
        self,
        ax: Axes,
        brain: np.ndarray,
        spacing_yx: tuple[float, float],
        tall: float,
        wide: float,
        *,
        margin: int = 2,
        mirrored: bool = True,
        frame: str = "",
    ) -> None:
        self.ax, self.layer, self.frame = ax, 2.0, frame
        self.box = crop_to(brain | brain[:, ::-1] if mirrored else brain, margin)
        height, width = (n * step for n, step in zip(brain[self.box].shape, spacing_yx, strict=True))
        self.half = np.array([min(tall * width / height, wide), min(tall, wide * height / width)]) / 2

    def picture(
        self,
        values: np.ndarray,
        x: float,
        y: float,
        symbol: str = "",
        cmap: str | Colormap = "gray",
        limits: tuple[float, float] = (0.0, 1.0),
        *,
        brain: np.ndarray | None = None,
        edge: str = "",
        share: float = 1.0,
    ) -> None:
        """A picture centred at a point.

        Args:
            values: (H, W).
            x: Of its middle.
            y: Of its middle.
            symbol: Stands in its upper left corner.
            cmap: Colour map.
            limits: Ends of the colour scale.
            brain: (H, W) bool; what lies outside is black.
            edge: Colour of a dashed frame in place of the board's, or none.
            share: Of the usual height and width.
        """
        (dx, dy), self.layer = self.half * share, self.layer + 1
        shown = values if brain is None else np.where(brain, values, np.nan)
        corner, layer = (x - dx, y - dy), self.layer
        self.ax.add_patch(Rectangle(corner, 2 * dx, 2 * dy, facecolor="black", linewidth=0, zorder=layer))
        how = {"cmap": cmap, "vmin": limits[0], "vmax": limits[1], "aspect": "auto", "interpolation": "nearest"}
        self.ax.imshow(shown[self.box], extent=(x - dx, x + dx, y - dy, y + dy), zorder=layer + 0.2, **how)
        if edge or self.frame:
            line = {"linewidth": 1.0, "linestyle": (0, (3, 1.6))} if edge else {"linewidth": 0.6}
            look = {"fill": False, "edgecolor": edge or self.frame, **line}
            self.ax.add_patch(Rectangle(corner, 2 * dx, 2 * dy, zorder=layer + 0.4, **look))
        where = {"ha": "left", "va": "top", "color": "white", "fontsize": 7.5, "zorder": layer + 0.5}
        where["bbox"] = {"facecolor": "black", "alpha": 0.6, "pad": 0.8, "linewidth": 0}
        if symbol:
            write(self.ax, x - dx + 0.04, y + dy - 0.04, symbol, **where)

    def word(self, x: float, y: float, text: str, *, above: bool = False) -> None:
        """What a picture is, below or above it."""
        off = self.half[1] + 0.05
        write(self.ax, x, y + off if above else y - off, text, va="bottom" if above else "top")


def sign(ax: Axes, x: float, y: float, text: str) -> None:
    """A small circle with an operator in it."""
    ax.add_patch(Circle((x, y), RADIUS_IN, facecolor=PLAIN_COLOUR, edgecolor=INK, linewidth=0.8, zorder=3))
    write(ax, x, y - 0.005, text, fontsize=9, zorder=4)
