"""Figure 10 of Sun et al. 2024: what the decoder puts out and what is predicted, over the epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor, nn

from strokelib.errors import DataError
from strokelib.figures.image_grids import Picture, PictureRow, image_grid
from strokelib.infer import evaluating, model_device
from strokelib.papl.examples import inner
from strokelib.papl.losses import sharpened_prediction
from strokelib.papl.slice_tiles import LESION_ABOVE, PROBABILITY, top_of

FEATURES = "viridis"
PARTS = {"TP": "#009E73", "FP": "#D55E00", "FN": "#F0E442"}


@dataclass(frozen=True)
class RefinementStep:
    """One slice as a network saw it after some epochs.

    Args:
        epoch: Passed so far; or steps, see :attr:`RefinementExample.unit`.
        features: Maps of the decoder from coarse to fine, each (h, w), 0 or more.
        probability: (H, W) in [0, 1].
    """

    epoch: int
    features: Sequence[np.ndarray]
    probability: np.ndarray

    @classmethod
    def of(cls, backbone: nn.Module, image: Tensor, epoch: int, levels: int = 4) -> RefinementStep:
        """Run a slice through a backbone and keep what each part of its decoder puts out: the root mean square over
        the channels.

        Args:
            backbone: With a ``decoder`` of several parts, as U-Net, CE-Net and U-Net++ have it.
            image: (1, 1, H, W), z-scored.
            epoch: Of its weights.
            levels: The finest maps, at most so many.

        Raises:
            DataError: The backbone has no decoder of several parts.
        """
        parts = _parts(getattr(backbone, "decoder", nn.ModuleList()))
        if not parts:
            found, step = type(backbone).__name__, "give a UNet, CENet or UNetPlusPlus"
            raise DataError("backbone", found=found, wanted="a decoder of several parts", next_step=step)
        maps: list[Tensor] = []
        hooks = [part.register_forward_hook(lambda _, __, out: maps.append(out)) for part in parts]
        try:
            with evaluating(backbone), torch.no_grad():
                logits = backbone(image.to(model_device(backbone)))
        finally:
            for hook in hooks:
                hook.remove()
        sized = {tuple(one.shape[2:]): one for one in maps}
        kept = sorted(sized.values(), key=lambda one: one.shape[2])[-levels:]
        energies = [one[0].float().square().mean(dim=0).sqrt().cpu().numpy() for one in kept]
        return cls(epoch, energies, sharpened_prediction(logits)[0].cpu().numpy())


def _parts(module: nn.Module) -> list[nn.Module]:
    """What a decoder is made of: lists and dictionaries are never called themselves."""
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return [part for child in module.children() for part in _parts(child)]
    return [module]


@dataclass(frozen=True)
class RefinementExample:
    """One slice over the epochs of several trainings.

    Args:
        brain: (H, W) bool.
        lesion: (H, W) bool.
        image: (H, W), shown below the errors.
        trainings: Name of a training -> its steps, by epoch.
        spacing_yx: (dy, dx) in mm.
        name: Of the scan.
        unit: What the steps count, as the titles say it.
    """

    brain: np.ndarray
    lesion: np.ndarray
    image: np.ndarray
    trainings: Mapping[str, Sequence[RefinementStep]]
    spacing_yx: tuple[float, float]
    name: str = ""
    unit: str = "epoch"


def fig10_feature_maps(example: RefinementExample) -> Figure:
    """What the decoder puts out and what is predicted, over the epochs, a block of columns a training.

    Source: Fig. 10, Sun et al. 2024.
    Deviation: true positives, false positives and false negatives are one picture with the numbers of their pixels; no
        arrows. Feature maps are root mean squares over the channels, on one scale in a row.

    Args:
        example: With as many feature maps in each step.

    Raises:
        DataError: There is no step, or the steps differ in the number of feature maps.
    """
    steps = [(name, step) for name, of_one in example.trainings.items() for step in of_one]
    depths = {len(step.features) for _, step in steps}
    if len(depths) != 1:
        found, next_step = f"{len(steps)} steps with {sorted(depths)} maps", "make all steps with one kind of network"
        raise DataError(f"steps of {example.name or 'a scan'}", found=found, wanted="one number", next_step=next_step)
    rows: list[list[Picture]] = []
    for level in range(depths.pop()):
        maps = [step.features[level] for _, step in steps]
        limits = (0.0, top_of(maps))
        rows.append([Picture(_enlarged(one, example.brain.shape), "", "", limits, FEATURES) for one in maps])
    rows.append([Picture(_within(step.probability, example.brain), "", "", (0.0, 1.0), PROBABILITY)
                 for _, step in steps])  # fmt: skip
    counts = [_counts(step.probability > LESION_ABOVE, example.lesion, example.brain) for _, step in steps]
    inside = example.image[inner(example.brain, example.spacing_yx)]
    grey = (float(inside.min()), top_of([inside]))
    rows.append([Picture(_within(example.image, example.brain), "", " / ".join(str(int(m.sum())) for m in masks), grey)
                 for masks in counts])  # fmt: skip
    titles = [f"{name}\n{example.unit} {step.epoch:,}" for name, step in steps]
    rows[0] = [dataclasses.replace(picture, title=title) for picture, title in zip(rows[0], titles, strict=True)]
    labels = [f"decoder {level + 1}" for level in range(len(rows) - 2)] + ["probability", "TP / FP / FN"]
    drawn = [PictureRow(row, example.brain, example.spacing_yx, label) for row, label in zip(rows, labels, strict=True)]
    figure = image_grid(drawn, bars=[(0, PROBABILITY, (0.0, 1.0))], key=())
    _errors(figure, counts)
    _blocks(figure, [len(of_one) for of_one in example.trainings.values()])
    return figure


def _within(values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    return np.where(brain, values, np.nan)


def _enlarged(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A coarse map on the slice's grid, each value as a block."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(shape, values.shape, strict=True))
    return values[np.ix_(rows, columns)]


def _counts(mask: np.ndarray, lesion: np.ndarray, brain: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives, false negatives, (H, W) bool each."""
    mask, lesion = mask & brain, lesion & brain
    return mask & lesion, mask & ~lesion, lesion & ~mask


def _errors(figure: Figure, counts: Sequence[Sequence[np.ndarray]]) -> None:
    """Colours on the pictures of the last row, and their key."""
    last = figure.axes[-1 - len(counts) : -1]
    for ax, masks in zip(last, counts, strict=True):
        for mask, colour in zip(masks, PARTS.values(), strict=True):
            ax.imshow(np.where(mask[..., None], (*to_rgb(colour), 0.85), 0.0), aspect="auto", interpolation="nearest")
    words = {"TP": "true positive (TP)", "FP": "false positive (FP)", "FN": "false negative (FN)"}
    handles = [Patch(color=colour, label=words[name]) for name, colour in PARTS.items()]
    place = {"loc": "lower right", "bbox_to_anchor": (0.995, 0.0)}
    figure.legend(handles=handles, ncols=3, frameon=False, handlelength=1.0, borderpad=0.2, **place)


def _blocks(figure: Figure, widths: Sequence[int]) -> None:
    """A thin line between two trainings, over all rows."""
    columns, ends = figure.axes[: sum(widths)], np.cumsum(widths)[:-1]
    bottom = figure.axes[-2].get_position().y0
    for end in ends:
        x = (columns[end - 1].get_position().x1 + columns[end].get_position().x0) / 2
        figure.add_artist(Line2D([x, x], [bottom, 1.0], color="black", linewidth=0.8, transform=figure.transFigure))
