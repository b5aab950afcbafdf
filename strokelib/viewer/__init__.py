"""A slice viewer for JupyterLab: scroll, window, overlays of several methods, the mirror image beside the head.

Where a kernel runs it is a widget; a stored notebook, GitHub and the book show a still picture of the same slices.
"""

from __future__ import annotations

import importlib.util
import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from strokelib.data.cases import Case, Volume
from strokelib.errors import ParameterError
from strokelib.viewer.frames import picture, png
from strokelib.viewer.look import WINDOWS, Look, level_and_width
from strokelib.viewer.scene import Scene, compose
from strokelib.viewer.still import still, still_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from strokelib.viewer.panel import Panel

STATIC = "STROKELIB_VIEWER"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MAX_COLUMNS = 8

__all__ = ["WINDOWS", "Look", "Scene", "Viewer", "show"]


def widgets_work() -> bool:
    """Whether a widget can be made: ipywidgets is installed and ``STROKELIB_VIEWER`` is not ``static``."""
    return os.environ.get(STATIC) != "static" and importlib.util.find_spec("ipywidgets") is not None


@dataclass(frozen=True)
class Viewer:
    """A scene and how it is looked at. As the last expression of a cell it shows itself.

    Args:
        scene: What is shown.
        look: Window and overlays at the start.
        start: Slice at the start, from 0.
        columns: Slices of the still picture.
    """

    scene: Scene
    look: Look
    start: int
    columns: int

    @cached_property
    def panel(self) -> Panel:
        """The widget's parts; made when first asked for.

        Raises:
            ParameterError: ipywidgets is not installed.
        """
        if importlib.util.find_spec("ipywidgets") is None:
            step = "pip install 'strokelib[workflow]'; the still picture needs nothing"
            raise ParameterError("viewer", found="no ipywidgets", wanted="the package ipywidgets", next_step=step)
        from strokelib.viewer.panel import Panel

        return Panel(self.scene, self.look, self.start)

    def frame(self, z: int | None = None, **changes: Any) -> bytes:
        """One slice as PNG bytes, as the widget shows it.

        Args:
            z: Number of the slice, from 0; None for the start.
            changes: Fields of :class:`Look` to change.
        """
        chosen = self.start if z is None else _slice(z, self.scene.depth, "z")
        return png(picture(self.scene, chosen, replace(self.look, **changes)))

    def figure(self) -> Figure:
        """The still picture, to save with ``run.save_figure``."""
        return still(self.scene, self.look, self.scene.spread(self.columns, self.start, self.look.threshold))

    def __repr__(self) -> str:
        drawn = ", ".join(self.scene.names) or "nothing overlaid"
        place = f"slice {self.start + 1} of {self.scene.depth}"
        return f"{self.scene.title or 'scan'}: {place}; {drawn}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = {"text/plain": repr(self), "image/png": b64encode(still_png(self.figure())).decode() + "\n"}
        if widgets_work():
            model = self.panel.box.model_id
            bundle[WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": model}
        return bundle


def _slice(z: int, depth: int, name: str) -> int:
    if not isinstance(z, int | np.integer) or isinstance(z, bool) or not 0 <= z < depth:
        wanted = f"a slice from 0 to {depth - 1}"
        raise ParameterError(name, found=repr(z), wanted=wanted, next_step="leave it out for the largest lesion")
    return int(z)


def show(
    scan: Case | Volume | np.ndarray,
    masks: Mapping[str, np.ndarray] | None = None,
    *,
    probabilities: Mapping[str, np.ndarray] | None = None,
    mirror: bool | str = True,
    window: str | tuple[float, float] = "brain",
    style: str = "contour",
    opacity: float = 0.35,
    threshold: float = 0.5,
    heat: str = "",
    start: int | None = None,
    columns: int = 4,
    reference: bool = True,
    colours: Mapping[str, str] | None = None,
    spacing: tuple[float, float, float] | None = None,
    crop: bool = True,
    title: str | None = None,
    unit: str = "HU",
) -> Viewer:
    """Look through the slices of a head, with what several methods find on them.

    Args:
        scan: A case, a volume, or an array (D, H, W) in LPS order with ``spacing``.
        masks: Name -> (D, H, W) of 0 and 1 on the scan's grid. ``reference`` and ``truth`` are orange.
        probabilities: Name -> (D, H, W) in [0, 1] on the scan's grid: a heat map each, and an outline above
            ``threshold`` where there is no mask of that name.
        mirror: The head flipped left to right beside it: about the mid-sagittal plane found in a case's brain, else
            about the middle column; ``"plane"`` or ``"column"`` for one of them, False for none. Outlines stay in
            place: on the mirror image they surround the tissue of the other side.
        window: One of ``WINDOWS``, or (level, width) in the image's unit.
        style: ``contour`` or ``fill``.
        opacity: Of filled masks and heat maps, in [0, 1].
        threshold: A probability above it is lesion.
        heat: Name of the probability drawn as a heat map at the start.
        start: Slice at the start, from 0; None for the one with most lesion.
        columns: Slices of the still picture, 1 to 8.
        reference: Add a case's own reference.
        colours: Name -> ``#rrggbb``, instead of the colours given by order.
        spacing: (dz, dy, dx) in mm, with a bare array alone.
        crop: Show a case's brain and 16 mm around it, not the whole field.
        title: None for the case's name.
        unit: Of the image; windows with names are for HU.

    Returns:
        A viewer that shows itself as the last expression of a cell, or by ``display``.

    Raises:
        ParameterError: An argument has another type or value than can be shown.
        DataError: An array does not fit; names it.
    """
    scene = compose(
        scan,
        masks,
        probabilities,
        mirror=mirror,
        reference=reference,
        spacing=spacing,
        colours=colours,
        crop=crop,
        title=title,
        unit=unit,
    )
    if heat and heat not in scene.probabilities:
        wanted = ", ".join(scene.probabilities) or "none: no probability is given"
        raise ParameterError("heat", found=repr(heat), wanted=wanted, next_step="check the spelling")
    if not isinstance(columns, int) or not 1 <= columns <= MAX_COLUMNS:
        raise ParameterError("columns", found=columns, wanted=f"1 to {MAX_COLUMNS}", next_step="choose a number")
    level, width = level_and_width(window)
    look = Look(level, width, scene.names, style, opacity, threshold, heat, scene.mirror is not None)
    at = scene.largest(threshold) if start is None else _slice(start, scene.depth, "start")
    return Viewer(scene, look, at, columns)
