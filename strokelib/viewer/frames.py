"""One slice as pixels and as PNG bytes, fast enough to scroll: numpy and Pillow, no figure library."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from strokelib.viewer.geometry import Directions
from strokelib.viewer.look import Look
from strokelib.viewer.scene import REFERENCES, Scene

PANEL_PX = 400
GAP_PX = 8
LINE_PX = 2
LETTER_PX = 15
INK = (230, 230, 230)
HEAT_OPACITY = 0.7


def rgb(colour: str) -> np.ndarray:
    """(3,) float32 in [0, 255] of ``#rrggbb``."""
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], np.float32)


def grey(image: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """A slice (H, W) through a window: float32 in [0, 255]; what is not a number is black."""
    low, high = limits
    share = (np.asarray(image, np.float32) - low) / (high - low)
    return np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1) * 255


@cache
def heat_colours() -> np.ndarray:
    """(256, 3) float32: the colours of a probability from 0 to 1."""
    from matplotlib import colormaps

    return (colormaps["magma"](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.float32)


def mixed(below: np.ndarray, colour: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """``colour`` over ``below`` (H, W, 3), with the share (a number or (H, W)) that covers it."""
    alpha = np.asarray(share, np.float32)[..., None]
    return below + (colour - below) * alpha


def boundary(mask: np.ndarray, width: int, *, outside: bool = False) -> np.ndarray:
    """The pixels of a mask (H, W) that touch what is not of it, ``width`` pixels deep.

    Args:
        mask: Bool; the picture's edge counts as not of it.
        width: In pixels.
        outside: The pixels around the mask instead.
    """
    grown = ~mask if outside else mask
    kept = grown
    for _ in range(width):
        padded = np.pad(kept, 1, constant_values=outside)
        kept = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return grown & ~kept


def panel_size(scene: Scene) -> tuple[int, int]:
    """Height and width of one panel in pixels: square millimetres, the longer side ``PANEL_PX``."""
    rows, columns = scene.image[0][scene.box].shape
    height_mm, width_mm = rows * scene.spacing[1], columns * scene.spacing[2]
    scale = PANEL_PX / max(height_mm, width_mm)
    return max(1, round(height_mm * scale)), max(1, round(width_mm * scale))


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.NEAREST))


def composed(image: np.ndarray, scene: Scene, z: int, look: Look, *, heat: bool) -> tuple[np.ndarray, dict]:
    """One slice through the window, with the heat map or the filled masks, and the masks that are left to outline.

    Args:
        image: (D, H, W), the scan or its mirror image.
        scene: Of :func:`strokelib.viewer.scene.compose`.
        z: Number of the slice.
        look: Window and overlays. Below a heat map masks are outlined, whatever the style: a fill would tint it.
        heat: Draw the heat map where the look names one.

    Returns:
        (H, W, 3) uint8 of the field shown, and name -> (H, W) bool.
    """
    colour = np.repeat(grey(image[z][scene.box], look.limits)[..., None], 3, axis=2)
    masks = {name: scene.mask(name, z, look.threshold) for name in scene.names if name in look.shown}
    if heat and look.heat:
        probability = scene.probabilities[look.heat][z][scene.box]
        index = (probability * 255).round().astype(np.uint8)
        colour = mixed(colour, heat_colours()[index], np.sqrt(probability) * max(look.opacity, HEAT_OPACITY))
    elif look.style == "fill":
        for name, mask in masks.items():
            colour = mixed(colour, rgb(scene.colours[name]), mask * look.opacity)
        masks = {}
    return colour.round().astype(np.uint8), masks


def _panel(image: np.ndarray, scene: Scene, z: int, look: Look, *, heat: bool) -> np.ndarray:
    colour, outlined = composed(image, scene, z, look, heat=heat)
    size = panel_size(scene)
    pixels = _resized(colour, size).copy()
    for name, mask in outlined.items():
        edge = boundary(_resized(mask.astype(np.uint8), size) > 0, LINE_PX, outside=name in REFERENCES)
        pixels[edge] = rgb(scene.colours[name]).astype(np.uint8)
    return pixels


@cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(LETTER_PX)


def _lettered(picture: Image.Image, left_px: int, size: tuple[int, int], letters: Directions) -> None:
    height, width = size
    draw, middle, half = ImageDraw.Draw(picture), left_px + width // 2, height // 2
    places = ((letters.left, left_px + 3, half, "lm"), (letters.right, left_px + width - 3, half, "rm"))
    places += ((letters.top, middle, 3, "mt"), (letters.bottom, middle, height - 3, "mb"))
    for letter, x, y, anchor in places:
        draw.text((x, y), letter, INK, _font(), anchor, stroke_width=1, stroke_fill=(0, 0, 0))


def picture(scene: Scene, z: int, look: Look) -> np.ndarray:
    """One slice with what is drawn on it, and its mirror image beside it.

    Args:
        scene: Of :func:`strokelib.viewer.scene.compose`.
        z: Number of the slice, from 0.
        look: Window and overlays.

    Returns:
        (height, width, 3) uint8. Outlines stay in place on the mirror image: there the same line surrounds the tissue
        of the other side. The heat map is drawn on the scan alone.
    """
    size, panels = panel_size(scene), [(scene.image, scene.directions)]
    if look.mirror and scene.mirror is not None:
        panels.append((scene.mirror, scene.directions.flipped))
    whole = Image.new("RGB", (size[1] * len(panels) + GAP_PX * (len(panels) - 1), size[0]), "white")
    for number, (image, letters) in enumerate(panels):
        left = number * (size[1] + GAP_PX)
        whole.paste(Image.fromarray(_panel(image, scene, z, look, heat=number == 0)), (left, 0))
        _lettered(whole, left, size, letters)
    return np.asarray(whole)


def png(pixels: np.ndarray) -> bytes:
    """PNG bytes, written fast rather than small; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
