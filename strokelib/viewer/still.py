"""The picture that stands where no kernel runs: a few slices with the same masks in the same colours."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from PIL import Image

from strokelib import plotting
from strokelib.viewer.frames import composed
from strokelib.viewer.geometry import Directions
from strokelib.viewer.look import Look
from strokelib.viewer.scene import REFERENCES, Scene

WIDTH_IN = 7.2
STILL_DPI = 100
HEAD_IN = 0.55
SIDE_IN = 0.36
PAD_IN = 0.03


def _letters(ax: Axes, letters: Directions) -> None:
    edge = [withStroke(linewidth=1.5, foreground="black")]
    for letter, x, align in ((letters.left, 0.02, "left"), (letters.right, 0.98, "right")):
        place = {"transform": ax.transAxes, "ha": align, "va": "center"}
        ax.text(x, 0.5, letter, color="white", fontsize=7, path_effects=edge, **place)


def _width(name: str) -> float:
    return 1.6 if name in REFERENCES else 1.0


def _draw(ax: Axes, image: np.ndarray, scene: Scene, z: int, look: Look, *, heat: bool) -> None:
    colour, outlined = composed(image, scene, z, look, heat=heat)
    ax.imshow(colour, aspect=scene.aspect, interpolation="nearest")
    for name, mask in outlined.items():
        plotting.outline(ax, mask, scene.colours[name], width=_width(name))
    plotting.bare(ax)


def _legend(figure: Figure, scene: Scene, look: Look) -> None:
    names = [name for name in scene.names if name in look.shown]
    if look.style == "fill" and not look.heat:
        handles = [Patch(color=scene.colours[name], alpha=look.opacity, label=name) for name in names]
    else:
        handles = [Line2D([], [], color=scene.colours[n], linewidth=_width(n), label=n) for n in names]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=min(7, len(handles)), frameon=False)


def _title(scene: Scene, z: int, look: Look) -> str:
    known = next((name for name in scene.names if name in REFERENCES), None)
    area = "" if known is None else f"\n{known} {scene.area_cm2(known, z, look.threshold):.1f} cm²"
    return f"slice {z + 1} of {scene.depth}{area}"


def still(scene: Scene, look: Look, slices: Sequence[int]) -> Figure:
    """Slices side by side, their mirror images below them, and a key.

    Args:
        scene: Of :func:`strokelib.viewer.scene.compose`.
        look: Window and overlays.
        slices: Numbers of the slices, from 0.

    Returns:
        As wide as a page. Not known to pyplot, so that a notebook does not draw it twice. The number in a title is
        the area of the reference on that slice.
    """
    kinds = [(scene.image, scene.directions, scene.title, bool(look.heat))]
    if look.mirror and scene.mirror is not None:
        kinds.append((scene.mirror, scene.directions.flipped, scene.mirror_name, False))
    rows, columns = scene.image[0][scene.box].shape
    width = min((WIDTH_IN - SIDE_IN * (1 + 2 * bool(look.heat))) / len(slices) - 2 * PAD_IN, 2.4)
    tall = width * rows * scene.aspect / columns + 2 * PAD_IN
    figure = Figure(figsize=(WIDTH_IN, tall * len(kinds) + HEAD_IN), layout="constrained")
    figure.get_layout_engine().set(w_pad=PAD_IN, h_pad=PAD_IN, wspace=0, hspace=0)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(kinds), len(slices), squeeze=False)
    for row, (image, letters, name, heat) in zip(axes, kinds, strict=True):
        for ax, z in zip(row, slices, strict=True):
            _draw(ax, image, scene, z, look, heat=heat)
            _letters(ax, letters)
        row[0].set_ylabel(name.replace(" about ", "\nabout "), fontsize=7)
    for ax, z in zip(axes[0], slices, strict=True):
        ax.set_title(_title(scene, z, look), fontsize=7)
    _legend(figure, scene, look)
    if look.heat:
        scale = ScalarMappable(cmap="magma")
        scale.set_clim(0, 1)
        figure.colorbar(scale, ax=axes, label=f"probability, {look.heat}", shrink=0.6, aspect=30)
    return figure


def still_png(figure: Figure) -> bytes:
    """The still picture with a palette of 256 colours, small enough for a notebook; the same bytes each time."""
    drawn, made = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=STILL_DPI, metadata={"Software": None})
    with Image.open(drawn) as opened:
        small = opened.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(made, format="PNG", optimize=True)
    return made.getvalue()
