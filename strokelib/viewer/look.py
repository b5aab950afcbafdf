"""How a scene is looked at: window, overlays, threshold. Checked where it is made."""

from __future__ import annotations

from dataclasses import dataclass

from strokelib.errors import ParameterError
from strokelib.options import chosen

# Level and width in HU. Source: names and numbers are customary at CT consoles; papl is [30, 100] HU of Sun et al.
WINDOWS = {
    "brain": (40.0, 80.0),
    "stroke": (35.0, 40.0),
    "narrow": (32.0, 8.0),
    "papl": (65.0, 70.0),
    "subdural": (80.0, 200.0),
    "bone": (600.0, 2800.0),
}
STYLES = ("contour", "fill")


@dataclass(frozen=True)
class Look:
    """How a scene is drawn.

    Args:
        level: Middle of the grey scale, in the image's unit.
        width: Width of the grey scale, above 0.
        shown: Names of the masks drawn.
        style: ``contour`` or ``fill``.
        opacity: Of filled masks and of the heat map, in [0, 1].
        threshold: A probability above it is lesion.
        heat: Name of the probability drawn as a heat map, or empty.
        mirror: Draw the mirror image beside the scan.
    """

    level: float
    width: float
    shown: tuple[str, ...]
    style: str = "contour"
    opacity: float = 0.35
    threshold: float = 0.5
    heat: str = ""
    mirror: bool = True

    def __post_init__(self) -> None:
        chosen("style", self.style, STYLES)
        for name in ("opacity", "threshold"):
            if not 0 <= getattr(self, name) <= 1:
                step = "give a number in that range"
                raise ParameterError(name, found=getattr(self, name), wanted="0 to 1", next_step=step)

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper end of the grey scale."""
        return self.level - self.width / 2, self.level + self.width / 2


def level_and_width(given: str | tuple[float, float]) -> tuple[float, float]:
    """Level and width of a window by its name or as two numbers.

    Raises:
        ParameterError: An unknown name, or a width that is not above 0.
    """
    if isinstance(given, str):
        chosen("window", given, tuple(WINDOWS))
        return WINDOWS[given]
    try:
        level, width = (float(v) for v in given)
    except (TypeError, ValueError):
        level, width = float("nan"), float("nan")
    if not (abs(level) < float("inf") and 0 < width < float("inf")):
        wanted = f"(level, width) with a width above 0, or one of {', '.join(WINDOWS)}"
        raise ParameterError("window", found=repr(given), wanted=wanted, next_step="give two numbers, e.g. (40, 80)")
    return level, width
