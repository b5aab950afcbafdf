"""The widget: sliders, check boxes and one picture, redrawn in the kernel whenever one of them moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

from strokelib.viewer.frames import picture, png
from strokelib.viewer.look import STYLES, WINDOWS, Look
from strokelib.viewer.scene import REFERENCES, Scene

OWN_WINDOW = "own"
NO_HEAT = "none"
SAME_HU = 0.25
HU_LEVELS = (-100.0, 1000.0)
HU_WIDTHS = (1.0, 3000.0)


def value_range(image: np.ndarray, unit: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """(lowest, highest, step) of the level and of the width: of CT in HU fixed, else from the image."""
    if unit == "HU":
        return (*HU_LEVELS, 1.0), (*HU_WIDTHS, 1.0)
    finite = image[np.isfinite(image)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    span = (high - low) or 1.0
    return (low, low + span, span / 200), (span / 200, 2 * span, span / 200)


class Panel:
    """The widget of a scene; ``box`` is what JupyterLab shows.

    Args:
        scene: Of :func:`strokelib.viewer.scene.compose`.
        look: Window and overlays at the start.
        start: Slice at the start, from 0.
    """

    def __init__(self, scene: Scene, look: Look, start: int) -> None:
        import ipywidgets

        self._make = ipywidgets
        self.scene, self.look = scene, look
        self._quiet = False
        self.image = ipywidgets.Image(
            format="png", layout={"max_width": "100%", "width": "auto", "align_self": "flex-start"}
        )
        self.facts = ipywidgets.HTML()
        self.slice = ipywidgets.IntSlider(start + 1, 1, scene.depth, 1, description="slice", layout={"width": "26em"})
        self.methods = {name: self._check_box(name) for name in scene.names}
        self._build_look()
        self.box = ipywidgets.VBox(self._rows(), layout={"width": "fit-content", "max_width": "100%"})
        self.box.add_class("strokelib-viewer")
        for control in self._controls():
            control.observe(self._changed, names="value")
        self.redraw()

    def _check_box(self, name: str) -> Any:
        shown = name in self.look.shown
        box = self._make.Checkbox(shown, description=name, indent=False, layout={"width": "auto"})
        swatch = (
            f'<span style="display:inline-block;width:1em;height:1em;background:{self.scene.colours[name]}"></span>'
        )
        return box, self._make.HTML(swatch)

    def _preset(self, level: float, width: float) -> str:
        """The name of a window; a page may send a slider's value back with another last digit."""
        if self.scene.unit == "HU":
            for name, pair in WINDOWS.items():
                if np.allclose((level, width), pair, rtol=0, atol=SAME_HU):
                    return name
        return OWN_WINDOW

    def _build_look(self) -> None:
        make, look, narrow = self._make, self.look, {"width": "20em"}
        levels, widths = value_range(self.scene.image, self.scene.unit)
        presets = [*WINDOWS, OWN_WINDOW] if self.scene.unit == "HU" else [OWN_WINDOW]
        preset = self._preset(look.level, look.width)
        self.preset = make.Dropdown(options=presets, value=preset, description="window", layout={"width": "14em"})
        self.level, self.width = (
            make.FloatSlider(
                value, min=min(low, value), max=max(high, value), step=step, description=name, layout=narrow
            )
            for name, value, (low, high, step) in (("level", look.level, levels), ("width", look.width, widths))
        )
        self.style = make.ToggleButtons(options=STYLES, value=look.style, style={"button_width": "7em"})
        self.opacity = make.FloatSlider(look.opacity, min=0, max=1, step=0.05, description="opacity", layout=narrow)
        self.threshold = make.FloatSlider(
            look.threshold, min=0, max=1, step=0.01, description="threshold", layout=narrow
        )
        heats = [NO_HEAT, *self.scene.probabilities]
        self.heat = make.Dropdown(
            options=heats, value=look.heat or NO_HEAT, description="heat map", layout={"width": "16em"}
        )
        self.mirror = make.Checkbox(look.mirror, description="mirror", indent=False, layout={"width": "auto"})

    def _button(self, text: str, tip: str, target: Callable[[], int]) -> Any:
        button = self._make.Button(description=text, tooltip=tip, layout={"width": "auto"})
        button.on_click(lambda _: self._go(target()))
        return button

    def _rows(self) -> list[Any]:
        make, scene = self._make, self.scene
        turn = [
            self._button("◀", "one slice down", lambda: self.slice.value - 2),
            self._button("▶", "one slice up", lambda: self.slice.value),
            self._button("largest", "the slice with most lesion", lambda: scene.largest(self.threshold.value)),
        ]
        rows = [make.HBox([self.slice, *turn])]
        ticks = [widget for pair in self.methods.values() for widget in reversed(pair)]
        ticks += [self.mirror] if scene.mirror is not None else []
        rows.append(make.HBox(ticks, layout={"flex_flow": "row wrap", "grid_gap": "0.4em"}))
        rows += [self.image, self.facts, make.HBox([self.preset, self.level, self.width])]
        if scene.names:
            rows.append(make.HBox([self.style, self.opacity]))
        if scene.probabilities:
            rows.append(make.HBox([self.heat, self.threshold]))
        for row in rows:
            if isinstance(row, make.HBox):
                row.layout.flex_flow = "row wrap"
        return rows

    def _controls(self) -> list[Any]:
        ticks = [box for box, _ in self.methods.values()]
        look = [self.preset, self.level, self.width, self.style, self.opacity, self.threshold, self.heat, self.mirror]
        return [self.slice, *ticks, *look]

    def _go(self, z: int) -> None:
        self.slice.value = min(max(z, 0), self.scene.depth - 1) + 1

    def _changed(self, change: Any) -> None:
        if self._quiet:
            return
        self._quiet = True
        try:
            if change.owner is self.preset and self.preset.value in WINDOWS:
                self.level.value, self.width.value = WINDOWS[self.preset.value]
            elif change.owner in (self.level, self.width):
                self.preset.value = self._preset(self.level.value, self.width.value)
        finally:
            self._quiet = False
        self.redraw()

    def current(self) -> Look:
        """What the controls say."""
        shown = tuple(name for name, (box, _) in self.methods.items() if box.value)
        heat = "" if self.heat.value == NO_HEAT else self.heat.value
        window = {"level": self.level.value, "width": self.width.value, "mirror": self.mirror.value}
        drawn = {"style": self.style.value, "opacity": self.opacity.value, "threshold": self.threshold.value}
        return replace(self.look, shown=shown, heat=heat, **window, **drawn)

    def redraw(self) -> None:
        """Draw the slice that the slider stands at."""
        z, look = self.slice.value - 1, self.current()
        self.image.value = png(picture(self.scene, z, look))
        self.facts.value = facts(self.scene, z, look)


def facts(scene: Scene, z: int, look: Look) -> str:
    """The line below the picture: place, and the area of each mask on this slice, as HTML."""
    place = f"{scene.title}, " if scene.title else ""
    place += f"slice {z + 1} of {scene.depth}, {z * scene.spacing[0]:.0f} mm above the first"
    parts = [
        f"{escape(name)} {scene.area_cm2(name, z, look.threshold):.1f} cm²"
        for name in scene.names
        if name in look.shown
    ]
    kept = [f"right: {scene.mirror_name}, outlines in place"] if look.mirror and scene.mirror is not None else []
    known = any(name in REFERENCES for name in scene.names)
    note = [] if known or not scene.names else ["no reference"]
    return f"<small>{'; '.join([escape(place), *parts, *note, *kept])}</small>"
